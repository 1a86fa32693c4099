# SPDX-License-Identifier: Apache-2.0
"""The node's parameters: one typed table gives values, checks, descriptors, YAML and docs.

Run `python -m tools.interface_pages` after a change.
"""

from __future__ import annotations

import difflib
import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields, replace
from functools import partial
from typing import Any

from proto_mtl_ros.errors import ConfigError

DYNAMIC = "dynamic"
RELOAD = "at configure and ~/reload_model"
CONFIGURE = "while unconfigured"
START = "at start"
READ_ONLY = "read-only"


@dataclass(frozen=True)
class Row:
    """kind: of ROS, such as "string[]". change: when a new value takes effect.

    within: inclusive range of a number, or of every element of a list.
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


def _row(change: str, default: Any, text: str, **limits: Any) -> Any:
    return field(default=default, metadata={"change": change, "text": text, **limits})


_dynamic, _reload, _unconfigured = (partial(_row, c) for c in (DYNAMIC, RELOAD, CONFIGURE))


@dataclass(frozen=True)
class Parameters:
    """Values that have been checked; lists are tuples."""

    cameras: tuple[str, ...] = _unconfigured(
        ("camera",), "Namespaces of the cameras; each has its own topics, and all share one engine."
    )
    image_transport: str = _unconfigured(
        "raw",
        "raw subscribes to <camera>/image, compressed (jpeg or png) to <camera>/image/compressed.",
        choices=("raw", "compressed"),
    )
    rectified: bool = _unconfigured(
        False, "The images are rectified: use P of camera_info. Otherwise K with the distortion D."
    )
    model: str = _reload(
        "nyu13-lite0",
        "Name of a bundle that ships with the package, or the path of a bundle's folder.",
    )
    backend: str = _reload(
        "auto",
        "auto: the fastest that is installed; tensorrt, onnxruntime, openvino or torch: that one.",
    )
    device: str = _reload("auto", "auto, cpu, or a device of the backend such as cuda or cuda:0.")
    precision: str = _reload(
        "auto",
        "Arithmetic of the network. auto: int8 where the model has it and it is faster, fp16 on a "
        "GPU, else fp32.",
        choices=("auto", "fp32", "fp16", "int8"),
    )
    while_building: str = _reload(
        "fallback",
        "While a missing TensorRT engine is built. fallback: run on the next fastest engine. wait: "
        "no results until it is ready.",
        choices=("fallback", "wait"),
    )
    threads: int = _reload(
        0,
        "Threads of the engine on a CPU, 0 = the backend's choice. Leave a core to the transport.",
        within=(0, 256),
    )
    input_size: tuple[int, ...] = _reload(
        (0, 0),
        "Height and width of the network's input in pixels, [0, 0] = the model's own.",
        within=(0, 8192),
    )
    output_size: str = _unconfigured(
        "input",
        "input: results at the size of the camera's image. network: at the network's size, with "
        "camera_info scaled along (less to publish).",
        choices=("input", "network"),
    )
    max_batch: int = _dynamic(
        1, "Maximum batch size: cameras whose images are inferred together.", within=(1, 32)
    )
    max_rate: tuple[float, ...] = _dynamic(
        (0.0,),
        "Maximum rate in Hz at which a camera's images are processed, 0 = all. In the order of "
        "`cameras`; the last value holds for the rest.",
        within=(0.0, 1000.0),
    )
    load_timeout: float = _unconfigured(
        60.0, "Seconds after which loading a model counts as failed.", within=(0.1, 3600.0)
    )
    engine_timeout: float = _dynamic(
        10.0,
        "Seconds after which an engine that hangs or only fails is replaced. Well above one image.",
        within=(0.5, 3600.0),
    )
    on_engine_failure: str = _dynamic(
        "stay",
        "When three new engines have failed, too. stay: ERROR on /diagnostics until "
        "~/reload_model or another configure. exit: the process ends with status 5.",
        choices=("stay", "exit"),
    )
    enabled: bool = _dynamic(True, "Process images. The service ~/enable sets it.")
    max_pixels: int = _dynamic(
        4096 * 4096,
        "Largest image in pixels; a larger one is refused and counted as too_large. Its results "
        "take about 100 bytes a pixel.",
        within=(1, 64_000_000),
    )
    force_inference: bool = _dynamic(
        False, "Infer and publish everything even without subscribers, for example to measure."
    )
    confidence_threshold: int = _dynamic(
        0,
        "Pixels of a lower confidence become 255 (unlabelled) in the segmentation, 0 = off.",
        within=(0, 255),
    )
    min_depth: float = _dynamic(
        0.0,
        "Nearer than this many metres is published as -inf (too close), 0 = off.",
        within=(0.0, 1000.0),
    )
    max_depth: float = _dynamic(
        0.0,
        "Farther than this many metres is published as +inf (out of range), 0 = off.",
        within=(0.0, 1000.0),
    )
    input_timeout: float = _dynamic(
        2.0, "Seconds without an image after which /diagnostics warns.", within=(0.1, 3600.0)
    )
    read_only: bool = _row(
        START,
        False,
        "Refuse every change over the network: of parameters, by ~/enable and ~/reload_model, and "
        "transitions other than configure and activate. docs/security.md",
    )
    class_names: tuple[str, ...] = _row(
        READ_ONLY, ("",), "Names of the loaded model's classes by id. [''] while unconfigured."
    )

    def max_rate_of(self, camera: str) -> float:
        return self.max_rate[min(self.cameras.index(camera), len(self.max_rate) - 1)]


_TYPES: dict[str, type] = {"bool": bool, "int": int, "double": float, "string": str}
_KINDS = {python.__name__: kind for kind, python in _TYPES.items()}


def _table() -> Iterable[Row]:
    for one in fields(Parameters):
        element = str(one.type).removeprefix("tuple[").split(",")[0]
        is_list = isinstance(one.default, tuple)
        default: Any = list(one.default) if is_list else one.default  # type: ignore[arg-type]
        yield Row(one.name, _KINDS[element] + "[]" * is_list, default, **one.metadata)


TABLE: tuple[Row, ...] = tuple(_table())
BY_NAME: dict[str, Row] = {row.name: row for row in TABLE}

REMOVED: dict[str, str] = {  # parameter of an earlier version -> what happens instead
    "trouble_hold": "a diagnostic stays for 5 s after it was last seen",
    "stamp_tolerance": "stamps may differ from the node's clock by 5 s before /diagnostics warns",
    "engine_restarts": "3 new engines are tried",
    "engine_fallback": "the second new engine and those after it run on the CPU",
    "overlay_opacity": "classes and image are mixed half and half",
    "when_slow": "the newest image is processed and those between are dropped",
}

_CAMERA = re.compile(r"^/?[A-Za-z_][A-Za-z0-9_]*(/[A-Za-z_][A-Za-z0-9_]*)*$")
_BUILT_IN = ("use_sim_time", "start_type_description_service")


def coerced(row: Row, value: Any) -> Any:
    """The value as its row's type: an integer is taken for a double, sequences become lists."""
    if row.kind.endswith("[]") and isinstance(value, Iterable) and not isinstance(value, str):
        element = replace(row, kind=row.kind.removesuffix("[]"))
        return [coerced(element, v) for v in value]
    return float(value) if row.kind == "double" and type(value) is int else value


def problem(row: Row, value: Any) -> str | None:
    """What is wrong with a value in one line, None when it is good."""
    name = row.name
    is_list = row.kind.endswith("[]")
    element = _TYPES[row.kind.removesuffix("[]")]
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
    """The parameters with some values changed, other names ignored. Raises ConfigError."""
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
    if far and near >= far:
        raise ConfigError(f"min_depth ({near:g} m) must be less than max_depth ({far:g} m)")
    return result


def checked_at_start(overrides: Mapping[str, Any]) -> Parameters:
    """The parameters of a node that is started with these overrides.

    Raises ConfigError, one line, at the first unknown name or bad value. Removed names pass.
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
    """Why no new value is taken at run time, None when it is, or when the name is not ours."""
    if name in REMOVED:
        return f"there is no parameter {name} any more: {REMOVED[name]}"
    change = BY_NAME[name].change if name in BY_NAME else DYNAMIC
    if change == READ_ONLY:
        return f"{name} is set by the node from the model"
    if change == START:
        return f"{name} takes effect when the node starts: start it anew with {name}:=<value>"
    if change == CONFIGURE and configured:
        return f"{name} can be changed only while the node is unconfigured: run cleanup first"
    return None


def descriptor(row: Row) -> Any:
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
