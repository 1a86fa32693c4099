# SPDX-License-Identifier: Apache-2.0
"""``docs/performance.md`` and ``docs/performance.json`` from the files that the benches write."""

from __future__ import annotations

import json
import statistics
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from ..errors import ConfigError
from ..files import write_bytes, write_text
from .node_suite import MOST_LOSS, SATURATING
from .plot import camera_series, cost_plot, size_series, slope

PARTS = ("engine", "node", "compare")
PAGE, DATA, PLOT = "performance.md", "performance.json", "images/performance.png"

Row = Mapping[str, Any]


def read_parts(folder: Path) -> dict[str, Any]:
    """Return the content of the files that are there, by part.

    Raises:
        ConfigError: there is none, or one is damaged.
    """
    found = {}
    for part in PARTS:
        path = folder / f"{part}.json"
        if not path.is_file():
            continue
        try:
            found[part] = json.loads(path.read_text())
        except ValueError as error:
            raise ConfigError(f"{path} is damaged ({error}): measure again") from None
    if not found:
        raise ConfigError(f"{folder} has no figures: run `proto-mtl bench engine --out {folder}`")
    return found


def write_page(folder: Path, docs: Path) -> dict[str, Any]:
    """Write the page and its data into ``docs``; return the data."""
    parts = read_parts(folder)
    data = {"ratios": ratios(parts), **parts}
    sections = [
        "# Performance",
        "Written by `proto-mtl bench page` from the files in "
        f"`{folder.as_posix() if not folder.is_absolute() else folder.name}`, which the commands"
        " below have made; the same figures as data: [performance.json](performance.json). The"
        " ratios compare what ran in turn in one go: machines are never quiet.",
        _ratio_table(data["ratios"]),
    ]
    rows = parts.get("node", {}).get("rows", ())
    picture = cost_plot(rows)
    if picture is not None:
        write_bytes(docs / PLOT, picture)
        sections += [f"![cost by input size and number of cameras]({PLOT})", _cost(rows)]
    sections += [_SECTIONS[part](parts[part]) for part in PARTS if part in parts]
    write_text(docs / DATA, json.dumps(data, indent=1, ensure_ascii=False) + "\n")
    write_text(docs / PAGE, "\n\n".join(sections) + "\n")
    return data


def ratios(parts: Mapping[str, Any]) -> dict[str, Any]:
    """Return the figures that sum it up; None for those that were not measured."""
    found: dict[str, Any] = {}
    rows = [row for row in parts.get("engine", {}).get("rows", ()) if "error" not in row]
    usual = [
        row
        for row in rows
        if row["batch"] == 1
        and row["size"] == parts["engine"]["input_size"]
        and row["threads"] == 2
    ]
    eager = _best(row for row in usual if row["backend"] == "torch")
    best = _best(r for r in usual if r["precision"] == "fp32" and r["backend"] != "torch")
    int8 = _best(row for row in usual if row["precision"] == "int8")
    found["best_fp32_over_eager"] = _ratio(eager, best)
    found["int8_over_best_fp32"] = _ratio(best, int8)
    found["int8_metric_loss_percent"] = parts.get("engine", {}).get("int8_metric_loss_percent")
    loads = parts.get("node", {}).get("rows", ())
    rate = [row for row in loads if row["case"]["name"] == "rate"]
    full = [row for row in rate if row["loss"] > MOST_LOSS]
    found["node_over_engine_throughput"] = max(
        (row["rate"] / row["engine"]["images_per_second"] for row in full), default=None
    )
    slow = [row for row in rate if row["rate_offered"] == 10.0 and row["latency_ms"]]
    found["p95_overhead_ms"] = (
        statistics.median(row["latency_ms"]["p95"] - row["engine"]["ms_p95"] for row in slow)
        if slow
        else None
    )
    compare = parts.get("compare", {})
    for name in ("multi_over_three_single_fps", "multi_over_three_single_memory"):
        found[name] = compare.get(name)
    lost: dict[str, int] = {}
    for row in loads:
        size = f"{row['case']['width']}x{row['case']['height']}"
        lost[size] = lost.get(size, 0) + row["lost_out"]
    found["lost_frames"] = lost or None
    return found


def _best(rows: Iterable[Row]) -> float | None:
    return min((row["ms_p50"] for row in rows), default=None)


def _ratio(slow: float | None, fast: float | None) -> float | None:
    return None if slow is None or fast is None else slow / fast


_MEANINGS = {
    "best_fp32_over_eager": "fastest fp32 engine over torch eager, model's input, two threads",
    "int8_over_best_fp32": "int8 over the fastest fp32 engine, the same",
    "int8_metric_loss_percent": "what int8 costs, relative, on frames it was not calibrated with",
    "node_over_engine_throughput": "node on one CPU over the engine alone on it, images a second",
    "p95_overhead_ms": "p95 from image to results at 10 Hz beyond the engine's own p95, ms",
    "multi_over_three_single_fps": "one node over three single-task nodes, frames a second",
    "multi_over_three_single_memory": "the same, memory",
    "lost_frames": "results published by the node that did not arrive",
}


def _ratio_table(values: Mapping[str, Any]) -> str:
    rows = [[_MEANINGS[name], f"`{name}`", _said(value)] for name, value in values.items()]
    return table(("what", "in `ratios`", "value"), rows)


def _said(value: Any) -> str:
    if value is None:
        return "not measured"
    if isinstance(value, dict):
        return ", ".join(f"{key} {_said(one)}" for key, one in value.items())
    return f"{value:.2f}" if isinstance(value, float) else str(value)


def _cost(rows: Sequence[Row]) -> str:
    """Say the slopes in words."""
    said = []
    sizes = size_series(rows)
    if len(sizes["node"]) > 1:
        engine, node = (slope(sizes[name]) for name in ("engine", "node"))
        said.append(
            f"Ten thousand pixels more of network input cost {10 * engine:.1f} ms in the engine and"
            f" {10 * node:.1f} ms in the node."
        )
    for name, points in camera_series(rows).items():
        if len(points) > 1:
            (few, slow), (many, fast) = points[0], points[-1]
            said.append(
                f"{name.capitalize()}, {many:g} cameras together get {fast:.1f} images a second,"
                f" {few:g} gets {slow:.1f}."
            )
    return " ".join(said)


def _engine(content: Row) -> str:
    heads = ("backend", "precision", "input", "batch", "threads", "ms/call p50", "p95", "images/s",
             "peak MiB", "first output, s")  # fmt: skip
    rows = []
    for row in content["rows"]:
        asked = row["asked"]
        if "error" in row:
            rows.append([asked["backend"], asked["precision"], "", "", "", row["error"]])
            continue
        rows.append(
            [
                row["backend"], row["precision"], "{1}x{0}".format(*row["size"]), row["batch"],
                row["threads"] or "auto", f"{row['ms_p50']:.1f}", f"{row['ms_p95']:.1f}",
                f"{row['images_per_second']:.1f}", f"{row['peak_memory_mib']:.0f}",
                f"{row['first_output_seconds']:.1f}",
            ]
        )  # fmt: skip
    return section("The engine alone", "proto-mtl bench engine", content, table(heads, rows))


def _node(content: Row) -> str:
    heads = ("case", "results", "image", "input", "cameras (batch)", "offered, Hz", "answered, Hz",
             "no result, %", "engine alone, images/s", "latency p50 / p95, ms", "CPU of the node",
             "node, MiB", "lost in, out")  # fmt: skip
    rows = []
    for row in content["rows"]:
        case, latency = row["case"], row["latency_ms"]
        size = row["engine"]["size"]
        rows.append(
            [
                case["name"] + ("" if row["pinned"] else f", {case['threads']} threads, unpinned"),
                ", ".join(case["results"]),
                f"{case['width']}x{case['height']}",
                f"{size[1]}x{size[0]}",
                f"{case['cameras']} ({case['max_batch']})",
                f"{row['rate_offered']:.1f}",
                f"{row['rate']:.1f}",
                f"{100 * row['loss']:.1f}",
                f"{row['engine']['images_per_second']:.1f}",
                f"{latency['p50']:.1f} / {latency['p95']:.1f}" if latency else "-",
                f"{100 * row['share']['node0']:.0f} %",
                f"{row['memory_mib']['node0']:.0f}",
                f"{row['lost_in']}, {row['lost_out']}",
            ]
        )
    text = (
        "Cameras and listener run on another CPU than the node, unless a row says unpinned."
        f" A rate of {SATURATING:g} times the engine's own shows what the node can do. `offered`"
        " is per camera, `answered` of all cameras together; `no result` counts images that a"
        " newer one has replaced. Latency runs from just before an image is published to the"
        " arrival of its last result. `lost` are images or results that the transport did not"
        " deliver."
    )
    return section("The node", "proto-mtl bench node", content, text, table(heads, rows))


def _compare(content: Row) -> str:
    heads = ("", "frames a second", "memory, MiB")
    names = {"multi": "one node, all tasks", "single": "three nodes, a task each"}
    rows = [
        [text, f"{content['frames_per_second'][name]:.1f}", f"{content['memory_mib'][name]:.0f}"]
        for name, text in names.items()
    ]
    text = (
        "The same backbone, decoders and heads, one engine thread each, the same images at 640x480,"
        " more of them than either can take; medians over runs in turn. A frame of the three"
        " counts at the pace of the slowest of them. Memory is divided where processes share it."
    )
    return section(
        "One network against three", "proto-mtl bench compare", content, text, table(heads, rows)
    )


_SECTIONS = {"engine": _engine, "node": _node, "compare": _compare}


def section(title: str, command: str, content: Row, *parts: str) -> str:
    """Return a section: its heading, how its figures were made and on what, and the parts."""
    machine = content["machine"]
    versions = ", ".join(f"{name} {number}" for name, number in machine["versions"].items())
    facts = (
        f"`{command}`, model {content['model']}, on {machine['processor']}, {machine['cores']}"
        f" CPUs, {machine['gpu'] or 'no GPU'}; Python {machine['python']}, {versions}."
    )
    return "\n\n".join([f"## {title}", facts, *parts])


def table(heads: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    """Return a Markdown table; rows that are too short are filled with empty cells."""
    lines = ["| " + " | ".join(heads) + " |", "|" + " --- |" * len(heads)]
    lines += [
        "| " + " | ".join(str(cell) for cell in (*row, *[""] * (len(heads) - len(row)))) + " |"
        for row in rows
    ]
    return "\n".join(lines)
