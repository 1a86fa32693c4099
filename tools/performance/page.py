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
from tools.performance.node_suite import SATURATING
from tools.performance.plot import MOST_LOSS, camera_series, cost_plot, size_series, slope
from tools.performance.ratios import ratio_rows, ratios

PARTS = ("engine", "node", "compare", "accuracy")
MAIN_METRICS = ("miou", "abs_err", "mean_deg")
"""The main metric of each task, in its own unit."""

COMMAND = "python -m tools.performance"
PAGE, DATA, PLOT = "performance.md", "performance.json", "images/performance.png"

Row = Mapping[str, Any]


def write_page(folder: Path, docs: Path) -> dict[str, Any]:
    """Write the page and its data from the files in ``folder`` into ``docs``; return the data.

    Raises:
        ConfigError: there is no file, or one is damaged.
    """
    files = {part: folder / f"{part}.json" for part in PARTS}
    parts = {part: read_json(f, ConfigError) for part, f in files.items() if f.is_file()}
    if not parts:
        raise ConfigError(f"{folder} has no figures: run `{COMMAND} engine --out {folder}`")
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
        ratio_rows=ratio_rows(data["ratios"]),
        plot=PLOT if picture is not None else "",
        sizes=size_series(rows),
        cameras=camera_series(rows),
        slope=slope,
        thirty=_thirty_hertz(rows),
        accuracies={tuple(row["size"]): row for row in parts.get("accuracy", {"rows": ()})["rows"]},
        metrics=MAIN_METRICS,
        most_loss=MOST_LOSS,
        saturating=f"{SATURATING:g}",
    )
    write_text(docs / DATA, json.dumps(data, indent=1, ensure_ascii=False) + "\n")
    write_text(docs / PAGE, text)
    return data


def _thirty_hertz(rows: Sequence[Row]) -> list[Row]:
    """Return the first load of each setting with cameras of 30 Hz, the least work first."""
    found: dict[tuple[Any, ...], Row] = {}
    for row in rows:
        case, (height, width) = row["case"], row["engine"]["size"]
        if case["name"] in ("rate", "30 Hz") and row["rate_offered"] == 30.0:
            key = (len(case["results"]), height * width, row["pinned"], case["threads"])
            found.setdefault((*key, *case["results"]), row)
    return sorted(found.values(), key=lambda r: (len(r["case"]["results"]), r["engine"]["size"]))


def facts(command: str, content: Row) -> str:
    """Return how figures were made, and on what."""
    machine = content["machine"]
    versions = ", ".join(f"{name} {number}" for name, number in machine["versions"].items())
    return (
        f"`{command}`, model {content['model']}, on {machine['processor']}, {machine['cores']}"
        f" CPUs, {machine['gpu'] or 'no GPU'}; Python {machine['python']}, {versions}."
    )


def render(template: Path, **content: Any) -> str:
    """Return the Markdown that a template makes of figures; with ``cell`` and ``facts``."""
    environment = Environment(
        loader=FileSystemLoader(template.parent), undefined=StrictUndefined,
        trim_blocks=True, lstrip_blocks=True,
    )  # fmt: skip
    environment.filters["cell"] = cell
    environment.globals["facts"] = facts
    text = environment.get_template(template.name).render(**content)
    return re.sub(r"\n{3,}", "\n\n", text).strip() + "\n"


def cell(value: Any) -> str:
    """Return text that does not end a cell of a table."""
    return str(value).replace("|", "\\|").replace("\n", " ")
