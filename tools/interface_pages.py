# SPDX-License-Identifier: Apache-2.0
"""Writes config/perception.yaml and the tables in the pages on parameters, topics and diagnostics.

    python -m tools.interface_pages

They are made from the tables that the node itself goes by; a test holds the files equal to them.
In a page, a table follows the line `<!-- table: its name -->`; what stands around it is written by
hand.
"""

from __future__ import annotations

import json
import re
import textwrap
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from proto_mtl_ros.ros import diagnostic_table as diagnostics
from proto_mtl_ros.ros.parameters import READ_ONLY, TABLE
from proto_mtl_ros.ros.topics import LABEL_INFO, result_topics
from proto_mtl_ros.tasks import ResultTopic

REPOSITORY = Path(__file__).resolve().parents[1]


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

_LEVELS = {diagnostics.OK: "OK", diagnostics.WARN: "WARN", diagnostics.ERROR: "ERROR"}


def _table(header: str, cells: Iterable[Iterable[str]]) -> str:
    lines = [f"| {header} |", "|---" * (header.count("|") + 1) + "|"]
    return "\n".join(lines + [f"| {' | '.join(row)} |" for row in cells]) + "\n"


def _interfaces(kind: str, rows: Iterable[Interface | ResultTopic]) -> str:
    return _table(f"{kind} | type | content", ([f"`{i.name}`", i.type, i.text] for i in rows))


def _diagnostics(rows: Iterable[diagnostics.Diagnostic]) -> str:
    cells = ([f"`{d.cause}`", _LEVELS[d.level], d.meaning, d.action] for d in rows)
    return _table("message begins with | level | said when | what to do", cells)


def _parameters() -> str:
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
    return _table("parameter | type | default | range | change | meaning", cells)


TABLES: dict[str, Callable[[], str]] = {
    "parameters": _parameters,
    "inputs": lambda: _interfaces("input", INPUTS),
    "outputs": lambda: _interfaces("output", (*result_topics(), LABEL_INFO)),
    "node": lambda: _interfaces("of the node", (*NODE_TOPICS, *SERVICES)),
    "camera diagnostics": lambda: _diagnostics(diagnostics.CAMERA),
    "bad images": lambda: _diagnostics(diagnostics.IMAGES),
    "information": lambda: _diagnostics(diagnostics.INFO),
    "node diagnostics": lambda: _diagnostics(diagnostics.NODE),
}


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


def with_tables(name: str) -> str:
    """The text of a page, each of its tables made anew."""
    text = (REPOSITORY / name).read_text(encoding="utf-8")
    return re.sub(
        r"(<!-- table: (.+) -->\n)(?:\|.*\n)*", lambda found: found[1] + TABLES[found[2]](), text
    )


PAGES: dict[str, Callable[[], str]] = {
    "config/perception.yaml": perception_yaml,
    "docs/parameters.md": lambda: with_tables("docs/parameters.md"),
    "docs/topics.md": lambda: with_tables("docs/topics.md"),
    "docs/diagnostics.md": lambda: with_tables("docs/diagnostics.md"),
}


if __name__ == "__main__":
    for name, text in PAGES.items():
        (REPOSITORY / name).write_text(text(), encoding="utf-8")
