# SPDX-License-Identifier: Apache-2.0
"""Writes config/perception.yaml and the pages on parameters, topics and diagnostics.

    python -m tools.interface_pages

They are made from the tables that the node itself goes by; a test holds the files equal to them.
"""

from __future__ import annotations

import json
import textwrap
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from proto_mtl_ros.ros import diagnostic_table as table
from proto_mtl_ros.ros.parameters import READ_ONLY, TABLE
from proto_mtl_ros.ros.topics import LABEL_INFO, result_topics
from proto_mtl_ros.tasks import ResultTopic

REPOSITORY = Path(__file__).resolve().parents[1]
COMMAND = "`python -m tools.interface_pages`"


@dataclass(frozen=True)
class Interface:
    """A topic or a service; its name is relative to the camera, or to the node (~)."""

    name: str
    type: str
    text: str


INPUTS = (
    Interface(
        "image",
        "sensor_msgs/Image",
        "rgb8 bgr8 rgba8 bgra8 mono8 yuv422 (uyvy, yuyv) bayer_*8, any step, "
        "either endianness; other encodings through cv_bridge where it is installed",
    ),
    Interface(
        "image/compressed",
        "sensor_msgs/CompressedImage",
        "jpeg or png, instead of image when image_transport is compressed; a remapping of image "
        "carries it along",
    ),
    Interface(
        "camera_info",
        "sensor_msgs/CameraInfo",
        "metric scale and points; K[0] = 0 means uncalibrated; without it depth is for the model's "
        "canonical camera, with a WARN on /diagnostics",
    ),
)

NODE_TOPICS = (
    Interface(
        "/diagnostics",
        "diagnostic_msgs/DiagnosticArray",
        "once a second: the engine, and for each camera rates in and out, drops by cause, latency "
        "p50 and p95 by stage",
    ),
)

SERVICES = (
    Interface("~/enable", "std_srvs/SetBool", "process images or not"),
    Interface(
        "~/reload_model",
        "std_srvs/Trigger",
        "load the model that the parameters name; the old one keeps running if that fails",
    ),
)

_LEVELS = {table.OK: "OK", table.WARN: "WARN", table.ERROR: "ERROR", table.STALE: "STALE"}


def rows(header: str, cells: Iterable[Iterable[str]]) -> list[str]:
    """Lines of a markdown table; header: the names of its columns, such as "a | b"."""
    lines = ["", f"| {header} |", "|---" * (header.count("|") + 1) + "|"]
    return lines + [f"| {' | '.join(row)} |" for row in cells]


def perception_yaml() -> str:
    """Every parameter that can be set, at its default."""
    lines = [
        "# Parameters of the node, at their defaults. Made by python -m tools.interface_pages",
        "/**:",
        "  ros__parameters:",
    ]
    for row in TABLE:
        if row.change == READ_ONLY:
            continue
        limits = f" [{row.range_text}]" if row.range_text else ""
        text = f"{row.text}{limits} ({row.change})"
        lines += [f"    # {part}" for part in textwrap.wrap(text, 92)]
        lines.append(f"    {row.name}: {json.dumps(row.default)}")
    lines += [
        "    # Reliability, history and depth of any topic (full name) can be overridden, e.g.",
        "    # qos_overrides./camera/image.subscription.reliability: reliable",
        "    # qos_overrides./camera/depth/image.publisher.reliability: best_effort",
    ]
    return "\n".join(lines) + "\n"


def parameters_page() -> str:
    """The table of the parameters."""
    cells = (
        (
            f"`{row.name}`",
            row.kind,
            f"`{json.dumps(row.default)}`",
            row.range_text.replace("|", "\\|") or "-",
            row.change,
            row.text,
        )
        for row in TABLE
    )
    header = "parameter | type | default | range | change | meaning"
    return "\n".join(
        [
            "# Parameters",
            "",
            f"Made from the table of the parameters by {COMMAND}.",
            *rows(header, cells),
            "",
            "A value of the wrong type or out of range is refused with a reason and nothing "
            "changes; an unknown name given at start ends the node with one line. A parameter of "
            "an earlier version gives a WARN that says what happens instead.",
            "",
            "QoS of every topic: `qos_overrides.<full topic name>.publisher|subscription."
            "reliability|history|depth`, read when the topic is created.",
            "",
        ]
    )


def topics_page() -> str:
    """Topics and services."""

    def listed(interfaces: Iterable[Interface | ResultTopic]) -> list[list[str]]:
        return [[f"`{i.name}`", i.type, i.text] for i in interfaces]

    lifecycle = ["`~/change_state`, `~/get_state`, ...", "lifecycle_msgs", "the lifecycle"]
    return "\n".join(
        [
            "# Topics and services",
            "",
            f"Made from the tables of the topics by {COMMAND}. Every name is relative to a "
            "camera's namespace (parameter `cameras`) and can be remapped. A task that is added to "
            "the package, or by a plugin, adds its own.",
            *rows("input | type | content", listed(INPUTS)),
            *rows("output | type | content", listed((*result_topics(), LABEL_INFO))),
            "",
            "Every output carries its input's header unchanged. A topic without subscribers costs "
            "nothing; without any subscriber the network does not run (parameter "
            "`force_inference`).",
            *rows("of the node | type | content", [*listed((*NODE_TOPICS, *SERVICES)), lifecycle]),
            "",
            "Values of a camera's status on `/diagnostics`: `rate_in_hz`, `rate_out_hz`; "
            "`received` = `processed` + `dropped` + `skipped`, but for a frame in work; "
            "`drops.<cause>` (a newer frame came: `overwritten`), `bad.<cause>` (unusable images, "
            "dropped, too), `skipped.<cause>` (nobody wanted it, or it was more than `max_rate`); "
            "`info.<cause>` counts what costs no image: `bad_camera_info` (its numbers are no "
            "camera), `camera_info_size` (it is for images of another shape), "
            "`resolution_changed` (of the images, in the middle of the stream) and others of "
            "[diagnostics.md](diagnostics.md), which says what each message means and what to do; "
            "`camera_info.received` = `camera_info.calibrated` + `camera_info.uncalibrated` + "
            "`camera_info.bad`; `latency_ms.<stage>.p50|p95` of the stages wait, decode, "
            "preprocess, infer, postprocess, publish and total, over the newest 512 frames.",
            "",
            "QoS: inputs as sensor data (best effort), outputs reliable with depth 5, "
            "`label_info` reliable and transient local; `qos_overrides` changes each of them.",
            "",
        ]
    )


def diagnostics_page() -> str:
    """What /diagnostics can say."""

    def listed(diagnostics: Iterable[table.Diagnostic]) -> list[str]:
        cells = ((f"`{d.cause}`", _LEVELS[d.level], d.meaning, d.action) for d in diagnostics)
        return rows("message begins with | level | said when | what to do", cells)

    return "\n".join(
        [
            "# Diagnostics",
            "",
            f"Made from the table of the diagnostics by {COMMAND}. `/diagnostics` has one status "
            "of the node and its engine and one of each camera, once a second. The level of a "
            "status is the worst of its diagnostics; its message names all of them, the worst "
            "first: `cause: what was seen; what to do`. The counters of a status are described in "
            "[topics.md](topics.md).",
            "",
            "## Rules",
            "",
            "- A diagnostic is given as soon as it is seen.",
            "- It stays until it has not been seen for 5 s, and says `(3 s ago)` meanwhile, so "
            "that a level does not flap where a fault comes and goes.",
            "- Does it return within 60 s of its end, it stays twice as long, and so on, up to 60 "
            "s. After 60 s without it, 5 s hold again.",
            "- The log gets one line when a diagnostic begins and one when it is over, with the "
            "time it lasted; what lies between is only counted. So one fault writes eight lines in "
            "its first minute at most and three in each further minute, whatever the rate of the "
            "camera.",
            "- Thresholds that something is measured against have a gap: `too_slow` begins below "
            "one half and ends above 60 %.",
            "- All of it goes by a steady clock. Deactivating the node forgets a camera's "
            "diagnostics.",
            "",
            "Levels: OK, all is well. WARN, results come and are worth less than they could be, "
            "or some do not come. ERROR, no results. STALE, the camera has been silent so long "
            "that the rest of its status says nothing.",
            "",
            "## A camera",
            *listed(table.CAMERA),
            "",
            "Images that cannot be used, each counted in `bad.<cause>`:",
            *listed(table.IMAGES),
            "",
            "What costs no image but is not right; counted in `info.<cause>` where a message "
            "brings it:",
            *listed(table.INFO),
            "",
            "## The node and its engine",
            *listed(table.NODE),
            "",
            "Besides, the status of the engine says in words why configuring failed (ERROR), that "
            "another engine runs than the one asked for (WARN), and that an engine could not be "
            "built (ERROR).",
            "",
            "## What cannot be seen here",
            "",
            "A message that is no valid CDR (cut off, wrong lengths) never reaches the node: the "
            "middleware throws it away, with a line of its own on stderr. If that happens to all "
            "of them, the camera's status says `no_image` beside the number of publishers. Images "
            "that the transport loses are not counted either; a best-effort camera over a network "
            "loses some. A subscriber that hangs holds up neither the node nor other subscribers, "
            "and the middleware gives it up after 20 s without a sign of life: look at the "
            "subscriber.",
            "",
        ]
    )


PAGES: dict[str, Callable[[], str]] = {
    "config/perception.yaml": perception_yaml,
    "docs/parameters.md": parameters_page,
    "docs/topics.md": topics_page,
    "docs/diagnostics.md": diagnostics_page,
}


if __name__ == "__main__":
    for name, text in PAGES.items():
        (REPOSITORY / name).write_text(text(), encoding="utf-8")
