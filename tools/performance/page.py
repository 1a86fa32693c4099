# SPDX-License-Identifier: Apache-2.0
"""``docs/performance.md`` and ``docs/performance.json`` from the files that the benches write."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

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
    rows = parts.get("node", {}).get("rows", ())
    picture = cost_plot(rows)
    if picture is not None:
        write_bytes(docs / PLOT, picture)
    text = render(
        Path(__file__).with_name("page.md.j2"),
        **{part: parts.get(part) for part in PARTS},
        folder=folder.as_posix() if not folder.is_absolute() else folder.name,
        command=COMMAND,
        ratio_heads=RATIO_HEADS,
        ratio_rows=ratio_rows(data["ratios"]),
        plot=PLOT if picture is not None else "",
        cost=_cost(rows),
        thirty=_thirty_hertz(parts) if any(map(_is_thirty_hertz, rows)) else None,
        metrics=MAIN_METRICS,
        metric_cells=_metrics,
        most_loss=MOST_LOSS,
        saturating=f"{SATURATING:g}",
    )
    write_text(docs / DATA, json.dumps(data, indent=1, ensure_ascii=False) + "\n")
    write_text(docs / PAGE, text)
    return data


def _thirty_hertz(parts: Mapping[str, Any]) -> dict[str, Any]:
    """Return what keeps up with a camera of 30 Hz, and what that costs in accuracy."""
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
    return {
        "engine": rows[0]["engine"],
        "said": " ".join(said),
        "heads": heads,
        "lines": lines,
    }


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
        cells = [cell(value) for value in row] + [""] * (len(heads) - len(row))
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def render(template: Path, **content: Any) -> str:
    """Return the Markdown that a template makes of figures; see ``cell``, ``facts``, ``table``."""
    environment = Environment(
        loader=FileSystemLoader(template.parent), undefined=StrictUndefined,
        trim_blocks=True, lstrip_blocks=True,
    )  # fmt: skip
    environment.filters["cell"] = cell
    environment.globals |= {"facts": facts, "table": table}
    text = environment.get_template(template.name).render(**content)
    return re.sub(r"\n{3,}", "\n\n", text).strip() + "\n"


def cell(value: Any) -> str:
    """Return text that does not end a cell of a table."""
    return str(value).replace("|", "\\|").replace("\n", " ")
