# SPDX-License-Identifier: Apache-2.0
"""Write README.md's tables from the results.

python -m benchmark.experiments.table
"""

from __future__ import annotations

import json
import statistics
from pathlib import Path
from typing import Any

from benchmark.experiments.rows import ROWS, TASKS

HERE = Path(__file__).parent
START, END = "<!-- table -->", "<!-- end of table -->"
COLUMNS = (
    ("mIoU", "segmentation", "miou", 4),
    ("abs err", "depth", "abs_err", 4),
    ("rel err", "depth", "rel_err", 4),
    ("d<1.25", "depth", "delta1", 3),
    ("mean deg", "normals", "mean_deg", 2),
    ("median deg", "normals", "median_deg", 2),
)


def read() -> dict[str, list[dict[str, Any]]]:
    """Return the results by row."""
    found: dict[str, list[dict[str, Any]]] = {}
    for path in sorted((HERE / "results").glob("*-seed*.json")):
        content = json.loads(path.read_text())
        if "row" in content:
            found.setdefault(content["row"], []).append(content)
    return found


def _spread(values: list[float], digits: int) -> str:
    text = f"{statistics.mean(values):.{digits}f}"
    if len(values) > 1:
        text += f" ± {statistics.stdev(values):.{digits}f}"
    return text


def _line(label: str, results: list[dict[str, Any]]) -> str:
    cells = [label, ", ".join(str(r["seed"]) for r in results)]
    for _, task, key, digits in COLUMNS:
        values = [r["figures"][task][key] for r in results if task in r["figures"]]
        cells.append(_spread(values, digits) if values else "")
    deltas = [r["delta"] for r in results if "delta" in r]
    cells.append(_spread(deltas, 2) if deltas else "")
    shares = [
        statistics.mean(r["retrieval_share"].values()) for r in results if r.get("retrieval_share")
    ]
    cells.append(_spread(shares, 2) if shares else "")
    effects = [r["retrieval_effect"] for r in results if "retrieval_effect" in r]
    cells.append(_spread(effects, 2) if effects else "")
    cells.append(f"{results[0]['parameters'] / 1e6:.2f}")
    minutes = [r["minutes"] for r in results if "minutes" in r]
    cells.append(f"{statistics.mean(minutes):.1f}" if minutes else "")
    return "| " + " | ".join(cells) + " |"


def table(names: list[str], found: dict[str, list[dict[str, Any]]]) -> str:
    """Return a table of rows that have results."""
    head = [
        "row",
        "seeds",
        *(c[0] for c in COLUMNS),
        "delta %",
        "share %",
        "effect",
        "M par.",
        "min",
    ]
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    for name in names:
        if name in found:
            label = f"`{name}` {ROWS[name].label}" if name in ROWS else f"`{name}`"
            lines.append(_line(label, found[name]))
    return "\n".join(lines)


def main() -> None:
    """Write."""
    found = read()
    single = [f"single_{t}" for t in TASKS]
    whole = [n for n in ROWS if not n.startswith("screen_") and not ROWS[n].tasks]
    screen = [n for n in ROWS if n.startswith("screen_")]
    alone = [n for n in ROWS if ROWS[n].tasks]
    text = "\n\n".join(
        [
            "### Trained as a whole",
            table(single + whole, found),
            "### Screening: one frozen backbone (that of `off0`), all else trained for 10 epochs",
            table(screen, found),
            "### One task",
            table(single + alone, found),
        ]
    )
    path = HERE / "README.md"
    before = path.read_text() if path.is_file() else f"{START}\n{END}\n"
    first, rest = before.split(START)
    path.write_text(f"{first}{START}\n\n{text}\n\n{END}{rest.split(END)[1]}")
    print(text)


if __name__ == "__main__":
    main()
