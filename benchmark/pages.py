# SPDX-License-Identifier: Apache-2.0
"""The tables and the chart of all protocols that lie beside each other in a folder."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from benchmark import tables
from benchmark.protocol import ManifestConfig, MethodConfig, Protocol
from benchmark.rows import BASELINES, HELD_OUT, VAL, Result, Row, read_results, rows_of
from proto_mtl_ros.errors import ConfigError
from proto_mtl_ros.files import write_bytes, write_text

ROWS, PAGE, ABLATION_PAGE = "benchmark.json", "benchmark.md", "benchmark_ablation.md"
CHART = Path("images") / "benchmark.png"


def write_tables(protocol: Path, results: Path, docs: Path | None = None) -> str:
    """Return the tables of ``protocol`` as text.

    ``docs`` gets rows, pages and chart of every protocol beside it that has results. ConfigError
    for a wrong protocol; another one that is wrong is left out, and said."""
    rows: list[Row] = []
    sections: list[str] = []
    ablations: list[str] = []
    said: list[str] = []
    for path in sorted({*protocol.parent.glob("*.yaml"), protocol}):
        try:
            of_path = Protocol.read(path)
        except ConfigError as error:
            if path == protocol:
                raise
            said.append(f"left out: {error}")
            continue
        found = read_results(results / of_path.name)
        if not found:
            continue
        main = main_rows(of_path, found)
        rows += main
        text = _main_tables(of_path, main)
        sections.append(_section(path, of_path, found, text))
        ablation = _ablation(of_path, found)
        ablations += [ablation] if ablation else []
        if path == protocol:
            said = [text, *([ablation] if ablation else []), *said]
    if not rows and not ablations:
        return "\n\n".join([f"no result below {results} yet", *said])
    if docs is not None:
        _write(docs, rows, sections, ablations)
    return "\n\n".join(said)


def _write(docs: Path, rows: Sequence[Row], sections: list[str], ablations: list[str]) -> None:
    write_text(docs / ROWS, json.dumps(rows, indent=1, ensure_ascii=False) + "\n")
    chart = tables.delta_chart(rows)
    if chart is not None:
        write_bytes(docs / CHART, chart)
    page = [
        "# Benchmark",
        "Written by `python -m benchmark` from the result files in `benchmark/`; the same rows as"
        f" data: [{ROWS}]({ROWS}). Figures compare within a table, not with published ones: data,"
        " sizes and schedules differ.",
        tables.DELTA,
        *([f"![delta against single-task]({CHART.as_posix()})"] if chart is not None else []),
    ]
    if ablations:
        page.append(
            f"What each part of the method contributes: [{ABLATION_PAGE}]({ABLATION_PAGE})."
        )
        ablation_page = [
            "# Ablation",
            "Written by `python -m benchmark`. Choices were made on these frames, held out of the"
            " train split; the val split was not looked at for any row that stands here alone.",
            tables.DELTA,
            "The entropy of the affinity A lies between 0 (one-hot: retrieval is a constant) and"
            " log 3 = 1.099 (every task alike), in the mean over tokens, tasks and held-out"
            " frames.",
        ]
        write_text(docs / ABLATION_PAGE, "\n\n".join([*ablation_page, *ablations]) + "\n")
    write_text(docs / PAGE, "\n\n".join([*page, *sections]) + "\n")


def main_rows(protocol: Protocol, results: Sequence[Result]) -> list[Row]:
    rows = []
    for manifest in protocol.manifests:
        methods = {
            name: (method.label or name, _of(results, manifest, name))
            for name, method in protocol.methods.items()
        }
        identity = {"protocol": protocol.name, "manifest": manifest}
        baselines = {name: _of(results, manifest, name) for name in BASELINES}
        rows += rows_of(identity, methods, baselines, VAL, protocol.shared.tasks)
    return rows


def _of(
    results: Sequence[Result], manifest: str, method: str, ablation: bool = False
) -> list[Result]:
    wanted = (manifest, method, ablation)
    return [r for r in results if (r["manifest"], r["method"], r["ablation"]) == wanted]


def _main_tables(protocol: Protocol, rows: Sequence[Row]) -> str:
    parts: list[str] = []
    of = {name: [row for row in rows if row["manifest"] == name] for name in protocol.manifests}
    for name, manifest in protocol.manifests.items():
        if of[name]:
            parts.append(f"### {protocol.name}, {name}: {_labels(manifest)}, val split")
            parts += [tables.main_table(of[name]), "Task by task:", tables.task_table(of[name])]
    full = next((name for name, m in protocol.manifests.items() if m.labels is None), "")
    for name in protocol.manifests:
        shares = tables.share_table(of[name], of.get(full, []))
        if shares and name != full:
            parts += [
                f"### {protocol.name}: what {name} reaches of {full}",
                "Share of the quality of the multi-task network that learnt from every label (mIoU;"
                " inverse of the errors), val split:",
                shares,
            ]
    return "\n\n".join(parts)


def _labels(manifest: ManifestConfig) -> str:
    return "every label" if manifest.labels is None else f"labels of `{manifest.labels}`"


def _section(path: Path, protocol: Protocol, results: Sequence[Result], text: str) -> str:
    frames = {r["figures"][VAL]["frames"] for r in results if VAL in r["figures"]}
    count = f" ({', '.join(map(str, sorted(frames)))} frames)" if frames else ""
    shown = path.name if path.is_absolute() else path.as_posix()
    lines = [
        f"## Protocol {protocol.name}",
        protocol.notes.strip(),
        f"```\npython -m benchmark --protocol {shown} --data <nyuv2>\n```",
        f"Figures on the val split{count} at the size of the labels, of the network after the last"
        " epoch. Minutes are those of the training alone, of all networks of a row together,"
        " with other runs on the same machine. Made on:",
        "\n".join(f"- {line}" for line in tables.environment_lines(results)),
        text,
    ]
    return "\n\n".join(line for line in lines if line)


def _ablation(protocol: Protocol, results: Sequence[Result]) -> str:
    """Return the ablation table of one protocol, "" without a finished row."""
    ablations = protocol.ablations
    if ablations is None:
        return ""
    manifest, tasks, seeds = ablations.manifest, protocol.shared.tasks, ablations.seeds
    baselines = {name: _of(results, manifest, name) for name in BASELINES}
    identity = {"protocol": protocol.name, "manifest": manifest}
    methods = {}
    for name, row in ablations.rows.items():
        found = _of(results, manifest, row.like or "") if row.is_alias else None
        found = _of(results, manifest, name, ablation=True) if found is None else found
        label = _ablation_label(protocol, name, row)
        methods[name] = (label, [result for result in found if result["seed"] in seeds])
    rows = rows_of(identity, methods, baselines, HELD_OUT, tasks)
    if not rows:
        return ""
    main = {name: (name, _of(results, manifest, name)) for name in protocol.methods}
    data = protocol.shared.data
    return "\n\n".join(
        [
            f"## Protocol {protocol.name}, {manifest}: held-out frames",
            f"{_labels(protocol.manifests[manifest])}; judged on"
            f" {data.held_out_blocks * data.held_out_length} frames of the train split, in"
            f" {data.held_out_blocks} contiguous blocks, that no row was trained on. Seeds:"
            f" {', '.join(map(str, seeds))}.",
            tables.noise_line(rows_of(identity, main, baselines, HELD_OUT, tasks)),
            tables.ablation_table(rows),
        ]
    )


def _ablation_label(protocol: Protocol, name: str, row: MethodConfig) -> str:
    if row.label or row.like is None:
        return row.label or name
    return (protocol.methods[row.like].label or row.like) if row.is_alias else name
