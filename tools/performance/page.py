# SPDX-License-Identifier: Apache-2.0
"""``docs/performance.md`` and ``docs/performance.json`` from the files that the benches write."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from proto_mtl_ros.errors import ConfigError
from proto_mtl_ros.files import read_json, write_bytes, write_text
from tools.performance.node_suite import MOST_LOSS, SATURATING
from tools.performance.plot import camera_series, cost_plot, size_series, slope
from tools.performance.ratios import RATIO_HEADS, ratio_rows, ratios

PARTS = ("engine", "node", "compare", "accuracy")
MAIN_METRICS = ("miou", "abs_err", "mean_deg")
"""The main metric of each task, in its own unit."""

COMMAND = "python -m tools.performance"
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
        found[part] = read_json(path, ConfigError)
    if not found:
        raise ConfigError(f"{folder} has no figures: run `{COMMAND} engine --out {folder}`")
    return found


def write_page(folder: Path, docs: Path) -> dict[str, Any]:
    """Write the page and its data into ``docs``; return the data."""
    parts = read_parts(folder)
    data = {"ratios": ratios(parts), **parts}
    sections = [
        "# Performance",
        "Written by `python -m tools.performance page` from the files in "
        f"`{folder.as_posix() if not folder.is_absolute() else folder.name}`, which the commands"
        " below have made; the same figures as data: [performance.json](performance.json). The"
        " ratios compare what ran in turn in one go: machines are never quiet.",
        table(RATIO_HEADS, ratio_rows(data["ratios"])),
    ]
    rows = parts.get("node", {}).get("rows", ())
    picture = cost_plot(rows)
    if picture is not None:
        write_bytes(docs / PLOT, picture)
        sections += [f"![cost by input size and number of cameras]({PLOT})", _cost(rows)]
    if any(map(_is_thirty_hertz, rows)):
        sections.append(_thirty_hertz(parts))
    sections += [_SECTIONS[part](parts[part]) for part in PARTS if part in parts]
    write_text(docs / DATA, json.dumps(data, indent=1, ensure_ascii=False) + "\n")
    write_text(docs / PAGE, "\n\n".join(sections) + "\n")
    return data


def _thirty_hertz(parts: Mapping[str, Any]) -> str:
    """Say what keeps up with a camera of 30 Hz, and what that costs in accuracy."""
    rows = [row for row in parts["node"]["rows"] if _is_thirty_hertz(row)]
    accuracy = {tuple(row["size"]): row for row in parts.get("accuracy", {}).get("rows", ())}
    lines: list[list[Any]] = []
    for row in sorted(rows, key=lambda row: (len(row["case"]["results"]), _pixels(row))):
        height, width = row["engine"]["size"]
        line = [
            ", ".join(row["case"]["results"]), f"{width}x{height}",
            "one of its own" if row["pinned"] else "all", row["case"]["threads"],
            f"{row['rate']:.1f}", f"{100 * row['loss']:.1f}",
            "yes" if row["loss"] <= MOST_LOSS else "no",
            *_metrics(accuracy.get((height, width), {})),
        ]  # fmt: skip
        if line[:4] not in [known[:4] for known in lines]:
            lines.append(line)
    heads = ("results", "input", "CPUs of the node", "threads", "answered, Hz", "no result, %",
             "keeps up", *MAIN_METRICS)  # fmt: skip
    every = [row for row in rows if not row["pinned"]]
    own = parts["engine"]["input_size"] if "engine" in parts else None
    said = []
    losses = [row["loss"] for row in every if row["engine"]["size"] == own]
    if losses:
        said.append(
            f"At the model's own input {100 * min(losses):.0f} % of the images go without the three"
            " results at best."
        )
    kept = [row for row in every if row["loss"] <= MOST_LOSS]
    if kept:
        height, width = max(kept, key=_pixels)["engine"]["size"]
        said.append(f"The largest input measured that keeps up is {width}x{height}.")
    engine = rows[0]["engine"]
    text = (
        f"A camera of 640x480 at 30 Hz, {engine['backend']} {engine['precision']}, camera and"
        f" listener included in the {parts['node']['machine']['cores']} CPUs; it is kept up with"
        f" where at most {100 * MOST_LOSS:.0f} % of the images go without result. {' '.join(said)}"
        " The metrics are of the same weights at that input size"
        f" (`{COMMAND} accuracy`)."
    )
    return "\n\n".join(["## 30 Hz", text, table(heads, lines)])


def _is_thirty_hertz(row: Row) -> bool:
    return row["case"]["name"] in ("rate", "30 Hz") and row["rate_offered"] == 30.0


def _pixels(row: Row) -> int:
    height, width = row["engine"]["size"]
    return int(height * width)


def _metrics(row: Row) -> list[str]:
    """Return the cells of the main metrics; empty for those that were not measured."""
    return [f"{row[name]:.3f}" if name in row else "" for name in MAIN_METRICS]


def _cost(rows: Sequence[Row]) -> str:
    """Say the slopes in words."""
    said = []
    sizes = size_series(rows)
    if len(sizes["node"]) > 1:
        engine, node = (slope(sizes[name]) for name in ("engine alone", "node"))
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
    return section("The engine alone", f"{COMMAND} engine", content, table(heads, rows))


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
    return section("The node", f"{COMMAND} node", content, text, table(heads, rows))


def _compare(content: Row) -> str:
    heads = ("", "frames a second", "memory, MiB")
    names = {"multi": "one node, all tasks", "single": "three nodes, a task each"}
    rows = [
        [text, f"{content['frames_per_second'][name]:.1f}", f"{content['memory_mib'][name]:.0f}"]
        for name, text in names.items()
    ]
    text = (
        "The same backbone, decoders and heads, fp32, on all CPUs: the one with an engine thread"
        " for each of them, the three with one each. The same images at 640x480, more of them"
        " than either can take; medians over runs in turn. A frame of the three counts at the pace"
        " of the slowest of them. Memory is divided where processes share it."
    )
    return section(
        "One network against three",
        f"{COMMAND} compare",
        content,
        text,
        table(heads, rows),
    )


def _accuracy(content: Row) -> str:
    rows = [
        ["{1}x{0}".format(*row["size"]), row["engine"], *_metrics(row)] for row in content["rows"]
    ]
    text = (
        f"On {content['frames']} frames of {content['data']}: the weights are those of one training"
        " at the model's own size; at another size nothing was trained again."
    )
    found = table(("input", "engine", *MAIN_METRICS), rows)
    return section("Accuracy by input size", f"{COMMAND} accuracy", content, text, found)


_SECTIONS = {"engine": _engine, "node": _node, "compare": _compare, "accuracy": _accuracy}


def section(title: str, command: str, content: Row, *parts: str) -> str:
    """Return a section: its heading, how its figures were made and on what, and the parts."""
    return "\n\n".join([f"## {title}", facts(command, content), *parts])


def facts(command: str, content: Row) -> str:
    """Return how figures were made, and on what."""
    machine = content["machine"]
    versions = ", ".join(f"{name} {number}" for name, number in machine["versions"].items())
    return (
        f"`{command}`, model {content['model']}, on {machine['processor']}, {machine['cores']}"
        f" CPUs, {machine['gpu'] or 'no GPU'}; Python {machine['python']}, {versions}."
    )


def table(heads: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    """Return a Markdown table; rows that are too short are filled with empty cells."""
    lines = ["| " + " | ".join(heads) + " |", "|" + " --- |" * len(heads)]
    for row in rows:
        cells = [str(cell).replace("|", "\\|") for cell in row] + [""] * (len(heads) - len(row))
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)
