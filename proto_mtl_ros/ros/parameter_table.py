# SPDX-License-Identifier: Apache-2.0
"""The table of the node's parameters; checks and documents are made from it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

DYNAMIC = "at once"
RELOAD = "at configure or ~/reload_model"
CONFIGURE = "while unconfigured"
START = "at start only"
READ_ONLY = "never (set by the node)"


@dataclass(frozen=True)
class Parameter:
    """One row of the table.

    kind: "bool", "int", "double", "string", "string[]", "int[]" or "double[]".
    change: when a new value is taken: DYNAMIC, RELOAD, CONFIGURE, START or READ_ONLY.
    low, high: inclusive range of a number (or of every element), None where open.
    choices: the allowed values of a string, empty for any.
    """

    name: str
    kind: str
    default: Any
    change: str
    text: str
    low: float | None = None
    high: float | None = None
    choices: tuple[str, ...] = ()

    @property
    def range_text(self) -> str:
        """The allowed values in words, empty where there is no limit."""
        if self.choices:
            return " | ".join(self.choices)
        if self.low is None and self.high is None:
            return ""
        if self.high is None:
            return f">= {self.low:g}"
        return f"{self.low:g}..{self.high:g}"


TABLE: tuple[Parameter, ...] = (
    Parameter(
        "cameras",
        "string[]",
        ["camera"],
        CONFIGURE,
        "Namespaces of the cameras. Each gets its own subscriptions and its own results; all "
        "share one engine.",
    ),
    Parameter(
        "image_transport",
        "string",
        "raw",
        CONFIGURE,
        "raw subscribes to <camera>/image, compressed (jpeg or png) to <camera>/image/compressed.",
        choices=("raw", "compressed"),
    ),
    Parameter(
        "rectified",
        "bool",
        False,
        CONFIGURE,
        "The images are rectified: use P of camera_info. Otherwise K with the distortion D.",
    ),
    Parameter(
        "model",
        "string",
        "nyu13-lite0",
        RELOAD,
        "Name of a bundle that ships with the package, or the path of a bundle's folder.",
    ),
    Parameter(
        "backend",
        "string",
        "auto",
        RELOAD,
        "auto takes the fastest that is installed; tensorrt, onnxruntime, onnxruntime-tensorrt, "
        "openvino, torch or torch-compile asks for one.",
    ),
    Parameter(
        "device",
        "string",
        "auto",
        RELOAD,
        "auto, cpu, or a device of the backend such as cuda or cuda:0.",
    ),
    Parameter(
        "precision",
        "string",
        "auto",
        RELOAD,
        "Arithmetic of the network. auto: int8 where the model has it and it is faster, fp16 on a "
        "GPU, else fp32.",
        choices=("auto", "fp32", "fp16", "int8"),
    ),
    Parameter(
        "while_building",
        "string",
        "fallback",
        RELOAD,
        "A TensorRT engine that is missing is built beside the running node. fallback: run on the "
        "next fastest engine meanwhile. wait: give no results until it is there.",
        choices=("fallback", "wait"),
    ),
    Parameter(
        "threads",
        "int",
        0,
        RELOAD,
        "Threads of the engine on a CPU, 0 = the backend's choice. Leave a core to the transport.",
        0,
        256,
    ),
    Parameter(
        "input_size",
        "int[]",
        [0, 0],
        RELOAD,
        "Height and width of the network's input in pixels, [0, 0] = the model's own.",
        0,
        8192,
    ),
    Parameter(
        "output_size",
        "string",
        "input",
        CONFIGURE,
        "input: results at the size of the camera's image. network: at the network's size, "
        "with camera_info scaled along (less to publish).",
        choices=("input", "network"),
    ),
    Parameter(
        "max_batch",
        "int",
        1,
        DYNAMIC,
        "At most so many waiting cameras are inferred together.",
        1,
        32,
    ),
    Parameter(
        "max_rate",
        "double[]",
        [0.0],
        DYNAMIC,
        "Process at most so many images a second of a camera, 0 = all. In the order of `cameras`; "
        "the last value counts for all that follow.",
        0.0,
        1000.0,
    ),
    Parameter(
        "load_timeout",
        "double",
        60.0,
        CONFIGURE,
        "Seconds after which loading a model counts as failed.",
        0.1,
        3600.0,
    ),
    Parameter(
        "engine_timeout",
        "double",
        10.0,
        DYNAMIC,
        "Seconds after which an engine that has not returned, or has only failed, is replaced by a "
        "new one. Well above the slowest image.",
        0.5,
        3600.0,
    ),
    Parameter(
        "engine_restarts",
        "int",
        3,
        DYNAMIC,
        "How many new engines are tried one after the other, 1, 2, 4 ... seconds after a failure; "
        "counted anew after a minute of good work.",
        0,
        100,
    ),
    Parameter(
        "engine_fallback",
        "string",
        "cpu",
        DYNAMIC,
        "The second new engine and those after it. cpu: another one on the CPU, with a WARN on "
        "/diagnostics. none: the same again.",
        choices=("cpu", "none"),
    ),
    Parameter(
        "on_engine_failure",
        "string",
        "stay",
        DYNAMIC,
        "When engine_restarts are used up. stay: ERROR on /diagnostics until ~/reload_model or "
        "another configure. exit: the process ends with status 5, for whoever restarts it.",
        choices=("stay", "exit"),
    ),
    Parameter(
        "when_slow",
        "string",
        "drop_images",
        DYNAMIC,
        "When the engine cannot keep up with the images. drop_images: the newest image is "
        "processed and those between are dropped, which lowers the rate. smaller_input: besides, "
        "the network runs at two thirds of its input, less exactly, until it could keep up at the "
        "whole; with output_size input, and engines that take other sizes.",
        choices=("drop_images", "smaller_input"),
    ),
    Parameter("enabled", "bool", True, DYNAMIC, "Process images. The service ~/enable sets it."),
    Parameter(
        "force_inference",
        "bool",
        False,
        DYNAMIC,
        "Infer and publish everything even where nobody subscribes (to measure, or to keep "
        "the engine warm).",
    ),
    Parameter(
        "confidence_threshold",
        "int",
        0,
        DYNAMIC,
        "Pixels of a lower confidence become 255 (unlabelled) in the segmentation, 0 = off.",
        0,
        255,
    ),
    Parameter(
        "min_depth",
        "double",
        0.0,
        DYNAMIC,
        "Nearer than this many metres is published as -inf (too close), 0 = off.",
        0.0,
        1000.0,
    ),
    Parameter(
        "max_depth",
        "double",
        0.0,
        DYNAMIC,
        "Farther than this many metres is published as +inf (out of range), 0 = off.",
        0.0,
        1000.0,
    ),
    Parameter(
        "overlay_opacity",
        "double",
        0.5,
        DYNAMIC,
        "How much the class colours cover the image in segmentation/overlay.",
        0.0,
        1.0,
    ),
    Parameter(
        "input_timeout",
        "double",
        2.0,
        DYNAMIC,
        "Seconds without an image after which /diagnostics warns.",
        0.1,
        3600.0,
    ),
    Parameter(
        "read_only",
        "bool",
        False,
        START,
        "Refuse every change over the network: of parameters, by ~/enable and ~/reload_model, and "
        "transitions other than configure and activate. docs/security.md",
    ),
    Parameter(
        "stamp_tolerance",
        "double",
        5.0,
        DYNAMIC,
        "Seconds that an image's stamp may differ from the node's clock before /diagnostics warns, "
        "0 = any.",
        0.0,
        86400.0,
    ),
    Parameter(
        "trouble_hold",
        "double",
        5.0,
        DYNAMIC,
        "Seconds that a trouble stays on /diagnostics after it was last seen; longer, up to a "
        "minute, where it keeps returning.",
        1.5,
        60.0,
    ),
    Parameter(
        "class_names",
        "string[]",
        [""],
        READ_ONLY,
        "Names of the classes of the loaded model, the id is the position. [''] while "
        "unconfigured.",
    ),
)

BY_NAME: dict[str, Parameter] = {row.name: row for row in TABLE}
