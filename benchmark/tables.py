# SPDX-License-Identifier: Apache-2.0
"""The tables and the picture of all protocols that lie beside each other in a folder."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmark import page as page
from benchmark.plot import delta_plot
from benchmark.protocol import (
    ManifestConfig,
    MethodConfig,
    Protocol,
)
from benchmark.table import (
    BASELINES,
    HELD_OUT,
    VAL,
    read_results,
    rows_of,
)
from proto_mtl_ros.files import (
    write_bytes,
    write_text,
)

ROWS, PAGE, ABLATION_PAGE = "benchmark.json", "benchmark.md", "benchmark_ablation.md"
PLOT = Path("images") / "benchmark.png"

Result = Mapping[str, Any]


def write_tables(protocol: Path, results: Path, docs: Path | None = None) -> str:
    """Write rows, pages and picture of every protocol beside ``protocol`` that has results.

    Args:
        protocol: a protocol file; those beside it are in the tables too.
        results: folder of the result files.
        docs: folder to write to; None: nothing is written.

    Returns:
        The tables of ``protocol`` itself as text.

    Raises:
        ConfigError: a protocol file is wrong.
        DataError: a result file is none.
    """
    rows: list[dict[str, Any]] = []
    sections: list[str] = []
    ablations: list[str] = []
    text = ""
    for path in sorted({*protocol.parent.glob("*.yaml"), protocol}):
        of_path = Protocol.read(path)
        found = read_results(results / of_path.name)
        if not found:
            continue
        main = main_rows(of_path, found)
        rows += main
        tables = _main_tables(of_path, main)
        sections.append(_section(path, of_path, found, tables))
        ablation = _ablation(of_path, found)
        if ablation:
            ablations.append(ablation)
        if path == protocol:
            text = f"{tables}\n\n{ablation}" if ablation else tables
    if not rows and not ablations:
        return f"no result below {results} yet"
    if docs is None:
        return text
    write_text(docs / ROWS, json.dumps(rows, indent=1, ensure_ascii=False) + "\n")
    picture = delta_plot(rows)
    if picture is not None:
        write_bytes(docs / PLOT, picture)
    write_text(docs / PAGE, _page(sections, picture is not None, bool(ablations)))
    if ablations:
        write_text(docs / ABLATION_PAGE, _ablation_page(ablations))
    return text


def main_rows(protocol: Protocol, results: Sequence[Result]) -> list[dict[str, Any]]:
    """Return the rows of the main tables, on the test split."""
    rows = []
    for manifest in protocol.manifests:
        methods = {
            name: (method.label or name, _of(results, manifest, name))
            for name, method in protocol.methods.items()
        }
        identity = {"protocol": protocol.name, "manifest": manifest}
        rows += rows_of(
            identity, methods, _baselines(results, manifest), VAL, protocol.shared.tasks
        )
    return rows


def _of(
    results: Sequence[Result], manifest: str, method: str, ablation: bool = False
) -> list[Result]:
    """Return the results of one row."""
    return [
        result
        for result in results
        if (result["manifest"], result["method"], result["ablation"])
        == (manifest, method, ablation)
    ]


def _baselines(results: Sequence[Result], manifest: str) -> dict[str, list[Result]]:
    return {name: _of(results, manifest, name) for name in BASELINES}


def _main_tables(protocol: Protocol, rows: Sequence[Result]) -> str:
    """Return the tables of every manifest, and how much fewer labels reach."""
    parts: list[str] = []
    for name, manifest in protocol.manifests.items():
        mine = [row for row in rows if row["manifest"] == name]
        if mine:
            labels = _labels(manifest)
            parts.append(f"### {protocol.name}, {name}: {labels}, val split")
            parts += [page.main_table(mine), "Task by task:", page.task_table(mine)]
    return "\n\n".join([*parts, *_share_tables(protocol, rows)])


def _share_tables(protocol: Protocol, rows: Sequence[Result]) -> list[str]:
    """Return what each manifest reaches of the one with every label, if there is one."""
    full = next((name for name, m in protocol.manifests.items() if m.labels is None), None)
    every = [row for row in rows if row["manifest"] == full]
    parts: list[str] = []
    for name in protocol.manifests:
        shares = page.share_table([row for row in rows if row["manifest"] == name], every)
        if shares and name != full:
            parts += [
                f"### {protocol.name}: what {name} reaches of {full}",
                "Share of the quality of the multi-task network that learnt from every label (mIoU;"
                " inverse of the errors), val split:",
                shares,
            ]
    return parts


def _labels(manifest: ManifestConfig) -> str:
    return "every label" if manifest.labels is None else f"labels of `{manifest.labels}`"


def _section(path: Path, protocol: Protocol, results: Sequence[Result], tables: str) -> str:
    """Return what the page says of one protocol."""
    frames = {r["figures"][VAL]["frames"] for r in results if VAL in r["figures"]}
    count = f" ({', '.join(map(str, sorted(frames)))} frames)" if frames else ""
    lines = [
        f"## Protocol {protocol.name}",
        protocol.notes.strip(),
        f"```\n{_command(path)}\n```",
        f"Figures on the val split{count} at the size of the labels, of the network after the last"
        " epoch. Minutes are those of the training alone, of all networks of a row together,"
        " with other runs on the same machine. Made on:",
        "\n".join(f"- {line}" for line in page.environment_lines(results)),
        tables,
    ]
    return "\n\n".join(line for line in lines if line)


def _command(path: Path) -> str:
    shown = path.name if path.is_absolute() else path.as_posix()
    return f"python -m benchmark --protocol {shown} --data <nyuv2>"


def _page(sections: Sequence[str], picture: bool, ablations: bool) -> str:
    parts = [
        "# Benchmark",
        "Written by `python -m benchmark` from the result files in `benchmark/`; the same rows as"
        f" data: [{ROWS}]({ROWS}). Figures compare within a table, not with published ones: data,"
        " sizes and schedules differ.",
        page.DELTA,
    ]
    if picture:
        parts.append(f"![delta against single-task]({PLOT.as_posix()})")
    if ablations:
        parts.append(
            f"What each part of the method contributes: [{ABLATION_PAGE}]({ABLATION_PAGE})."
        )
    return "\n\n".join([*parts, *sections]) + "\n"


def _ablation(protocol: Protocol, results: Sequence[Result]) -> str:
    """Return the ablation table of one protocol, "" without a finished row."""
    ablations = protocol.ablations
    if ablations is None:
        return ""
    manifest, tasks = ablations.manifest, protocol.shared.tasks
    baselines = _baselines(results, manifest)
    identity = {"protocol": protocol.name, "manifest": manifest}
    methods = {
        name: (_ablation_label(protocol, name, row), _results_of(results, manifest, name, row))
        for name, row in ablations.rows.items()
    }
    seeds = ablations.seeds
    chosen = {
        name: (label, [result for result in found if result["seed"] in seeds])
        for name, (label, found) in methods.items()
    }
    rows = rows_of(identity, chosen, baselines, HELD_OUT, tasks)
    if not rows:
        return ""
    main = {name: (name, _of(results, manifest, name)) for name in protocol.methods}
    noise = page.noise_line(rows_of(identity, main, baselines, HELD_OUT, tasks))
    data = protocol.shared.data
    return "\n\n".join(
        [
            f"## Protocol {protocol.name}, {manifest}: held-out frames",
            f"{_labels(protocol.manifests[manifest])}; judged on"
            f" {data.held_out_blocks * data.held_out_length} frames of the train split, in"
            f" {data.held_out_blocks} contiguous blocks, that no row was trained on. Seeds:"
            f" {', '.join(map(str, seeds))}.",
            noise,
            page.ablation_table(rows),
        ]
    )


def _ablation_label(protocol: Protocol, name: str, row: MethodConfig) -> str:
    if row.label or row.like is None:
        return row.label or name
    return (protocol.methods[row.like].label or row.like) if row.is_alias else name


def _results_of(
    results: Sequence[Result], manifest: str, name: str, row: MethodConfig
) -> list[Result]:
    if row.is_alias:
        return _of(results, manifest, str(row.like))
    return _of(results, manifest, name, ablation=True)


def _ablation_page(sections: Sequence[str]) -> str:
    parts = [
        "# Ablation",
        "Written by `python -m benchmark`. Choices were made on these frames, held out of the train"
        " split; the val split was not looked at for any row that stands here alone.",
        page.DELTA,
        "The entropy of the affinity A lies between 0 (one-hot: retrieval is a constant) and log 3"
        " = 1.099 (every task alike), in the mean over tokens, tasks and held-out frames.",
    ]
    return "\n\n".join([*parts, *sections]) + "\n"
