# SPDX-License-Identifier: Apache-2.0
"""The node's parameters: one typed table gives descriptors, checks, YAML and docs.

`python -m proto_mtl_ros.ros.parameters --yaml` prints config/perception.yaml and `--markdown`
prints docs/parameters.md; a test holds both files equal to the table. ROS is needed only in
`descriptor`, so the documents are made on any machine.
"""

from __future__ import annotations

import argparse
import difflib
import math
import re
import sys
from collections.abc import Iterable
from typing import Any

from proto_mtl_ros.errors import ConfigError
from proto_mtl_ros.ros.parameter_table import (
    BY_NAME,
    CONFIGURE,
    READ_ONLY,
    START,
    TABLE,
    Parameter,
)

_CAMERA = re.compile(r"^/?[A-Za-z_][A-Za-z0-9_]*(/[A-Za-z_][A-Za-z0-9_]*)*$")
_PYTHON_TYPES: dict[str, type] = {"bool": bool, "int": int, "double": float, "string": str}
_BUILT_IN = ("use_sim_time", "start_type_description_service")


def coerce(name: str, value: Any) -> Any:
    """The value as its row's type: an integer is taken for a double, sequences become lists."""
    row = BY_NAME[name]
    if row.kind == "double" and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if row.kind.endswith("[]") and not isinstance(value, (str, bytes)) and value is not None:
        if not isinstance(value, Iterable):
            return value
        whole = row.kind == "double[]"
        return [float(v) if whole and type(v) is int else v for v in value]
    return value


def problem(name: str, value: Any) -> str | None:
    """What is wrong with a value in one line, None when it is good."""
    row = BY_NAME[name]
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
        if (row.low is not None and v < row.low) or (row.high is not None and v > row.high):
            return f"{name} must be in {row.range_text}, not {v}"
    if name == "cameras":
        return _cameras_problem(values)
    if name == "input_size" and (
        len(values) != 2 or any(v % 32 for v in values) or (values[0] == 0) != (values[1] == 0)
    ):
        return f"input_size must be [height, width] in multiples of 32, or [0, 0], not {values}"
    if name == "max_rate" and not values:
        return "max_rate must have at least one value, [0.0] for no limit"
    if name in ("model", "backend", "device") and not value.strip():
        return f"{name} must not be empty"
    return None


def _cameras_problem(cameras: list[str]) -> str | None:
    if not cameras:
        return "cameras must name at least one camera"
    for camera in cameras:
        if not _CAMERA.fullmatch(camera):
            return f"cameras: {camera!r} is not a ROS namespace, such as camera or /robot/front"
    doubles = {c for c in cameras if cameras.count(c) > 1}
    if doubles:
        return f"cameras: {sorted(doubles)[0]!r} is there twice"
    return None


def conflict(values: dict[str, Any]) -> str | None:
    """What is wrong with good values taken together, None when they agree."""
    near, far = values["min_depth"], values["max_depth"]
    if far > 0.0 and near >= far:
        return f"min_depth ({near:g} m) must be less than max_depth ({far:g} m)"
    return None


def max_rate(values: dict[str, Any], camera: str) -> float:
    """The limit on a camera's rate in Hz, 0 for none."""
    rates = values["max_rate"]
    return float(rates[min(values["cameras"].index(camera), len(rates) - 1)])


def checked_overrides(overrides: dict[str, Any]) -> dict[str, Any]:
    """The overrides given at start, coerced.

    Raises ConfigError, one line, at the first unknown name or bad value. `qos_overrides.*` and
    what every ROS node takes pass through.
    """
    good: dict[str, Any] = {}
    for name, value in overrides.items():
        if name in _BUILT_IN or name.startswith("qos_overrides."):
            continue
        if name not in BY_NAME:
            close = difflib.get_close_matches(name, BY_NAME, n=1)
            hint = f"did you mean {close[0]}?" if close else f"there are: {', '.join(BY_NAME)}"
            raise ConfigError(f"unknown parameter {name}; {hint}")
        if BY_NAME[name].change == READ_ONLY:
            raise ConfigError(f"parameter {name} is set by the node; leave it out")
        good[name] = coerce(name, value)
        reason = problem(name, good[name])
        if reason:
            raise ConfigError(f"parameter {reason}")
    reason = conflict({row.name: good.get(row.name, row.default) for row in TABLE})
    if reason:
        raise ConfigError(f"parameter {reason}")
    return good


def refusal(name: str, value: Any, configured: bool) -> str | None:
    """Why a change at run time is refused, None when it is taken."""
    row = BY_NAME[name]
    if row.change == READ_ONLY:
        return f"{name} is set by the node from the model"
    if row.change == START:
        return f"{name} is taken when the node starts: start it anew with {name}:=<value>"
    if row.change == CONFIGURE and configured:
        return f"{name} can be changed only while the node is unconfigured: run cleanup first"
    return problem(name, coerce(name, value))


def descriptor(row: Parameter) -> Any:
    """rcl_interfaces/ParameterDescriptor of a row."""
    from rcl_interfaces.msg import FloatingPointRange, IntegerRange, ParameterDescriptor

    constraints = [f"taken {row.change}"]
    if row.range_text:
        constraints.append(row.range_text)
    result = ParameterDescriptor(
        name=row.name, description=row.text, additional_constraints="; ".join(constraints)
    )
    if row.low is not None and row.high is not None:
        if row.kind == "int":
            result.integer_range = [
                IntegerRange(from_value=int(row.low), to_value=int(row.high), step=1)
            ]
        elif row.kind == "double":
            result.floating_point_range = [
                FloatingPointRange(from_value=float(row.low), to_value=float(row.high), step=0.0)
            ]
    return result


def _literal(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, list):
        return "[" + ", ".join(_literal(v) for v in value) + "]"
    return f'"{value}"' if isinstance(value, str) else repr(value)


def yaml_text() -> str:
    """config/perception.yaml: every parameter that can be set, at its default."""
    lines = [
        "# Parameters of the node, at their defaults. Made from the parameter table by",
        "#   python -m proto_mtl_ros.ros.parameters --yaml > config/perception.yaml",
        "/**:",
        "  ros__parameters:",
    ]
    for row in TABLE:
        if row.change == READ_ONLY:
            continue
        limits = f" [{row.range_text}]" if row.range_text else ""
        lines += [f"    # {part}" for part in _wrapped(f"{row.text}{limits} Taken {row.change}.")]
        lines.append(f"    {row.name}: {_literal(row.default)}")
    lines += [
        "    # Reliability, history and depth of any topic (full name) can be overridden, e.g.",
        "    # qos_overrides./camera/image.subscription.reliability: reliable",
        "    # qos_overrides./camera/depth/image.publisher.reliability: best_effort",
    ]
    return "\n".join(lines) + "\n"


def _wrapped(text: str) -> list[str]:
    import textwrap

    return textwrap.wrap(text, 92)


def markdown_text() -> str:
    """docs/parameters.md: the table for people."""
    lines = [
        "# Parameters",
        "",
        "Made from the parameter table by `python -m proto_mtl_ros.ros.parameters --markdown`.",
        "",
        "| parameter | type | default | range | changes are taken | meaning |",
        "|---|---|---|---|---|---|",
    ]
    for row in TABLE:
        limits = row.range_text.replace("|", "\\|") or "-"
        lines.append(
            f"| `{row.name}` | {row.kind} | `{_literal(row.default)}` | {limits} "
            f"| {row.change} | {row.text} |"
        )
    lines += [
        "",
        "A value of the wrong type or out of range is refused with a reason and nothing "
        "changes; an unknown name given at start ends the node with one line.",
        "",
        "QoS of every topic: `qos_overrides.<full topic name>.publisher|subscription."
        "reliability|history|depth`, read when the topic is created.",
        "",
    ]
    return "\n".join(lines)


def main(argv: list[str] | None = None) -> int:
    """Print the YAML or the table in markdown."""
    parser = argparse.ArgumentParser(prog="parameters", description=main.__doc__)
    kind = parser.add_mutually_exclusive_group(required=True)
    kind.add_argument("--yaml", action="store_true", help="print config/perception.yaml")
    kind.add_argument("--markdown", action="store_true", help="print docs/parameters.md")
    arguments = parser.parse_args(argv)
    sys.stdout.write(yaml_text() if arguments.yaml else markdown_text())
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
