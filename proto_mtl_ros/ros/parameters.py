# SPDX-License-Identifier: Apache-2.0
"""The node's parameters: one typed table gives values, checks, descriptors, YAML and docs.

Run `python -m tools.interface_pages` after a change. ROS is needed only in `descriptor`.
"""

from __future__ import annotations

import difflib
import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Any

from proto_mtl_ros.errors import ConfigError

DYNAMIC = "dynamic"
RELOAD = "at configure and ~/reload_model"
CONFIGURE = "while unconfigured"
START = "at start"
READ_ONLY = "read-only"


@dataclass(frozen=True)
class Row:
    """One row of the table.

    kind: "bool", "int", "double", "string", "string[]", "int[]" or "double[]".
    change: when a new value takes effect: DYNAMIC, RELOAD, CONFIGURE, START or READ_ONLY.
    within: inclusive range of a number, or of every element of a list.
    choices: the allowed values of a string, empty for any.
    """

    name: str
    kind: str
    default: Any
    change: str
    text: str
    within: tuple[float, float] | None = None
    choices: tuple[str, ...] = ()

    @property
    def range_text(self) -> str:
        """The allowed values in words, empty where there is no limit."""
        if self.choices:
            return " | ".join(self.choices)
        return f"{self.within[0]:g}..{self.within[1]:g}" if self.within else ""


def _row(default: Any, change: str, text: str, **limits: Any) -> Any:
    return field(default=default, metadata={"change": change, "text": text, **limits})


@dataclass(frozen=True)
class Parameters:
    """Values that have been checked; lists are tuples."""

    cameras: tuple[str, ...] = _row(
        ("camera",),
        CONFIGURE,
        "Namespaces of the cameras. Each has its own subscriptions and results; all share one "
        "engine.",
    )
    image_transport: str = _row(
        "raw",
        CONFIGURE,
        "raw subscribes to <camera>/image, compressed (jpeg or png) to <camera>/image/compressed.",
        choices=("raw", "compressed"),
    )
    rectified: bool = _row(
        False,
        CONFIGURE,
        "The images are rectified: use P of camera_info. Otherwise K with the distortion D.",
    )
    model: str = _row(
        "nyu13-lite0",
        RELOAD,
        "Name of a bundle that ships with the package, or the path of a bundle's folder.",
    )
    backend: str = _row(
        "auto",
        RELOAD,
        "auto takes the fastest that is installed; tensorrt, onnxruntime, openvino or "
        "torch asks for one.",
    )
    device: str = _row(
        "auto", RELOAD, "auto, cpu, or a device of the backend such as cuda or cuda:0."
    )
    precision: str = _row(
        "auto",
        RELOAD,
        "Arithmetic of the network. auto: int8 where the model has it and it is faster, fp16 on a "
        "GPU, else fp32.",
        choices=("auto", "fp32", "fp16", "int8"),
    )
    while_building: str = _row(
        "fallback",
        RELOAD,
        "While a missing TensorRT engine is built. fallback: run on the next fastest engine. wait: "
        "no results until it is ready.",
        choices=("fallback", "wait"),
    )
    threads: int = _row(
        0,
        RELOAD,
        "Threads of the engine on a CPU, 0 = the backend's choice. Leave a core to the transport.",
        within=(0, 256),
    )
    input_size: tuple[int, ...] = _row(
        (0, 0),
        RELOAD,
        "Height and width of the network's input in pixels, [0, 0] = the model's own.",
        within=(0, 8192),
    )
    output_size: str = _row(
        "input",
        CONFIGURE,
        "input: results at the size of the camera's image. network: at the network's size, with "
        "camera_info scaled along (less to publish).",
        choices=("input", "network"),
    )
    max_batch: int = _row(
        1,
        DYNAMIC,
        "Maximum batch size: cameras whose images are inferred together.",
        within=(1, 32),
    )
    max_rate: tuple[float, ...] = _row(
        (0.0,),
        DYNAMIC,
        "Maximum rate in Hz at which a camera's images are processed, 0 = all. In the order of "
        "`cameras`; the last value holds for the rest.",
        within=(0.0, 1000.0),
    )
    load_timeout: float = _row(
        60.0,
        CONFIGURE,
        "Seconds after which loading a model counts as failed.",
        within=(0.1, 3600.0),
    )
    engine_timeout: float = _row(
        10.0,
        DYNAMIC,
        "Seconds after which an engine that has not returned, or has only failed, is replaced by a "
        "new one. Well above the slowest image.",
        within=(0.5, 3600.0),
    )
    on_engine_failure: str = _row(
        "stay",
        DYNAMIC,
        "When three new engines have failed, too. stay: ERROR on /diagnostics until "
        "~/reload_model or another configure. exit: the process ends with status 5, for whoever "
        "restarts it.",
        choices=("stay", "exit"),
    )
    enabled: bool = _row(True, DYNAMIC, "Process images. The service ~/enable sets it.")
    force_inference: bool = _row(
        False,
        DYNAMIC,
        "Infer and publish everything even without subscribers (to measure, or to keep the engine "
        "warm).",
    )
    confidence_threshold: int = _row(
        0,
        DYNAMIC,
        "Pixels of a lower confidence become 255 (unlabelled) in the segmentation, 0 = off.",
        within=(0, 255),
    )
    min_depth: float = _row(
        0.0,
        DYNAMIC,
        "Nearer than this many metres is published as -inf (too close), 0 = off.",
        within=(0.0, 1000.0),
    )
    max_depth: float = _row(
        0.0,
        DYNAMIC,
        "Farther than this many metres is published as +inf (out of range), 0 = off.",
        within=(0.0, 1000.0),
    )
    input_timeout: float = _row(
        2.0,
        DYNAMIC,
        "Seconds without an image after which /diagnostics warns.",
        within=(0.1, 3600.0),
    )
    read_only: bool = _row(
        False,
        START,
        "Refuse every change over the network: of parameters, by ~/enable and ~/reload_model, and "
        "transitions other than configure and activate. docs/security.md",
    )
    class_names: tuple[str, ...] = _row(
        ("",),
        READ_ONLY,
        "Names of the classes of the loaded model, the id is the position. [''] while "
        "unconfigured.",
    )

    def max_rate_of(self, camera: str) -> float:
        """The limit on a camera's rate in Hz, 0 for none."""
        return self.max_rate[min(self.cameras.index(camera), len(self.max_rate) - 1)]


_KINDS = {"bool": "bool", "int": "int", "float": "double", "str": "string"}
_PYTHON_TYPES: dict[str, type] = {"bool": bool, "int": int, "double": float, "string": str}


def _table() -> Iterable[Row]:
    for one in fields(Parameters):
        kind, element = str(one.type), str(one.type).removeprefix("tuple[").split(",")[0]
        is_list = kind != element
        default: Any = one.default
        default = list(default) if is_list else default
        yield Row(one.name, _KINDS[element] + "[]" * is_list, default, **one.metadata)


TABLE: tuple[Row, ...] = tuple(_table())
BY_NAME: dict[str, Row] = {row.name: row for row in TABLE}

REMOVED: dict[str, str] = {
    "trouble_hold": "a diagnostic stays for 5 s after it was last seen",
    "stamp_tolerance": "stamps may differ from the node's clock by 5 s before /diagnostics warns",
    "engine_restarts": "3 new engines are tried",
    "engine_fallback": "the second new engine and those after it run on the CPU",
    "overlay_opacity": "classes and image are mixed half and half",
    "when_slow": "the newest image is processed and those between are dropped",
}
"""Parameters of earlier versions -> what happens instead."""

_CAMERA = re.compile(r"^/?[A-Za-z_][A-Za-z0-9_]*(/[A-Za-z_][A-Za-z0-9_]*)*$")
_BUILT_IN = ("use_sim_time", "start_type_description_service")


def coerced(row: Row, value: Any) -> Any:
    """The value as its row's type: an integer is taken for a double, sequences become lists."""
    if row.kind == "double" and type(value) is int:
        return float(value)
    is_list = row.kind.endswith("[]") and isinstance(value, Iterable) and not isinstance(value, str)
    if not is_list:
        return value
    return [float(v) if row.kind == "double[]" and type(v) is int else v for v in value]


def problem(row: Row, value: Any) -> str | None:
    """What is wrong with a value in one line, None when it is good."""
    name = row.name
    is_list = row.kind.endswith("[]")
    element = _PYTHON_TYPES[row.kind.removesuffix("[]")]
    values = value if is_list else [value]
    if not isinstance(values, list) or any(type(v) is not element for v in values):
        return f"{name} must be of type {row.kind}, not {value!r}"
    for v in values:
        if row.choices and v not in row.choices:
            return f"{name} must be one of {', '.join(row.choices)}, not {v!r}"
        if isinstance(v, float) and not math.isfinite(v):
            return f"{name} must be finite, not {v}"
        if row.within and not row.within[0] <= v <= row.within[1]:
            return f"{name} must be in {row.range_text}, not {v}"
        if isinstance(v, str) and not v.strip() and row.change != READ_ONLY:
            return f"{name} must not be empty"
        if name == "cameras" and not _CAMERA.fullmatch(v):
            return f"cameras: {v!r} is not a ROS namespace, such as camera or /robot/front"
        if name == "cameras" and values.count(v) > 1:
            return f"cameras: {v!r} is there twice"
    if not values and row.change != READ_ONLY:
        return f"{name} must have at least one value"
    if name == "input_size" and (
        len(values) != 2 or any(v % 32 for v in values) or (values[0] == 0) != (values[1] == 0)
    ):
        return f"input_size must be [height, width] in multiples of 32, or [0, 0], not {values}"
    return None


def updated(current: Parameters, values: Mapping[str, Any]) -> Parameters:
    """The parameters with some values changed, which are checked; other nodes' names are ignored.

    Raises ConfigError, one line: a value that cannot be used, alone or beside the others.
    """
    good: dict[str, Any] = {}
    for name, value in values.items():
        row = BY_NAME.get(name)
        if row is None:
            continue
        value = coerced(row, value)
        reason = problem(row, value)
        if reason:
            raise ConfigError(reason)
        good[name] = tuple(value) if isinstance(value, list) else value
    result = replace(current, **good)
    near, far = result.min_depth, result.max_depth
    if far > 0.0 and near >= far:
        raise ConfigError(f"min_depth ({near:g} m) must be less than max_depth ({far:g} m)")
    return result


def checked_at_start(overrides: Mapping[str, Any]) -> Parameters:
    """The parameters of a node that is started with these overrides.

    Raises ConfigError, one line, at the first unknown name or bad value. `qos_overrides.*`, what
    every ROS node takes, and removed parameters pass.
    """
    for name in overrides:
        if name in (*_BUILT_IN, *REMOVED) or name.startswith("qos_overrides."):
            continue
        if name not in BY_NAME:
            close = difflib.get_close_matches(name, BY_NAME, n=1)
            hint = f"did you mean {close[0]}?" if close else f"there are: {', '.join(BY_NAME)}"
            raise ConfigError(f"unknown parameter {name}; {hint}")
        if BY_NAME[name].change == READ_ONLY:
            raise ConfigError(f"parameter {name} is set by the node; leave it out")
    try:
        return updated(Parameters(), overrides)
    except ConfigError as error:
        raise ConfigError(f"parameter {error}") from None


def refusal(name: str, configured: bool) -> str | None:
    """Why no new value is taken at run time, None when it is."""
    change = BY_NAME[name].change
    if change == READ_ONLY:
        return f"{name} is set by the node from the model"
    if change == START:
        return f"{name} takes effect when the node starts: start it anew with {name}:=<value>"
    if change == CONFIGURE and configured:
        return f"{name} can be changed only while the node is unconfigured: run cleanup first"
    return None


def descriptor(row: Row) -> Any:
    """rcl_interfaces/ParameterDescriptor of a row."""
    from rcl_interfaces.msg import FloatingPointRange, IntegerRange, ParameterDescriptor

    result = ParameterDescriptor(
        name=row.name,
        description=row.text,
        additional_constraints="; ".join(filter(None, (row.change, row.range_text))),
    )
    if row.within:
        limits = dict(zip(("from_value", "to_value"), row.within, strict=True))
        if row.kind == "int":
            result.integer_range = [IntegerRange(**limits, step=1)]
        elif row.kind == "double":
            result.floating_point_range = [FloatingPointRange(**limits, step=0.0)]
    return result
