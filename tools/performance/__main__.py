# SPDX-License-Identifier: Apache-2.0
"""Measurements for docs/performance.md.

python -m tools.performance engine | node | compare | accuracy | recording | page
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.progress import track

import proto_mtl_ros
from proto_mtl_ros.cli import comma_list
from proto_mtl_ros.cli.dataset import Data, Kind, Options, Split, open_dataset
from proto_mtl_ros.cli.engine_options import SHIPPED_MODEL, Backend, Model, Precision, Threads
from proto_mtl_ros.cli.group import command_group
from proto_mtl_ros.cli.main import run_tool
from proto_mtl_ros.errors import ConfigError

app = command_group("Measure engines, the node, and one network against three.")

Out = Annotated[Path, typer.Option(help="Folder of the figures; the page is made from it.")]

FIGURES = Path("tools/performance/results")
BACKENDS = "torch,onnxruntime,openvino,tensorrt"


@app.command()
def engine(
    model: Model = SHIPPED_MODEL,
    backends: Annotated[str, typer.Option(help="With commas between.")] = BACKENDS,
    precisions: Annotated[str, typer.Option(help="With commas between.")] = "fp32,fp16,int8",
    threads: Annotated[str, typer.Option(help="With commas between.")] = "1,2",
    sizes: Annotated[
        str, typer.Option(help="HxW with commas between; default: the model's own.")
    ] = "",
    batches: Annotated[str, typer.Option(help="With commas between.")] = "1,4",
    device: Annotated[str, typer.Option(help="cpu or cuda.")] = "cpu",
    rounds: Annotated[int, typer.Option(min=1, help="Turns that each engine gets.")] = 10,
    frames: Annotated[int, typer.Option(min=1, help="Calls in a turn.")] = 10,
    out: Out = FIGURES,
) -> None:
    """Milliseconds per call of engines alone, by precision, size, batch and threads.

    Every engine has a process of its own; they take turns. A combination that this machine cannot
    run stands in the table with its reason.
    """
    from proto_mtl_ros.runtime.bundle import Bundle
    from tools.performance.engine import EngineSetting, measure

    bundle = Bundle.load(model)
    own = bundle.manifest.input_size
    chosen = _sizes(sizes, "--sizes") or [own]
    settings = [
        EngineSetting(model, backend, precision, device, number, size, batch)
        for size in chosen
        for batch in comma_list.numbers(batches, "--batches")
        for number in comma_list.numbers(threads, "--threads")
        for backend in comma_list.parts(backends)
        for precision in comma_list.parts(precisions)
    ]
    rows = measure(settings, rounds, frames)
    loss = bundle.manifest.metrics.get("int8_cpu", {}).get("loss_percent")
    found = {"input_size": list(own), "int8_metric_loss_percent": loss, "rows": rows}
    _write(out / "engine.json", bundle.name, **found)
    for row in rows:
        asked = row["asked"]
        name = f"{asked['backend']} {asked['precision']} {asked['size']} x{asked['batch']}"
        if "error" in row:
            typer.echo(f"{name}: {row['error']}")
        else:
            typer.echo(
                f"{name}, {row['threads']} threads: {row['ms_p50']:.1f} ms"
                f" (p95 {row['ms_p95']:.1f}), {row['images_per_second']:.1f} images/s"
            )


@app.command()
def node(
    model: Model = SHIPPED_MODEL,
    backend: Annotated[str, typer.Option(help="Of the node.")] = "auto",
    precision: Annotated[str, typer.Option(help="Of the node.")] = "auto",
    only: Annotated[
        list[str] | None, typer.Option(help="Name of a case, such as rate; may be given again.")
    ] = None,
    input_sizes: Annotated[
        str, typer.Option(help="HxW with commas between, for the case `input size`.")
    ] = "96x128,192x256,288x384,480x640",
    seconds: Annotated[float, typer.Option(min=1.0, help="Of every load.")] = 10.0,
    picture: Annotated[str, typer.Option(help="Image file that the cameras show.")] = "",
    out: Out = FIGURES,
) -> None:
    """Rate, latency, losses, CPU and memory of the node, end to end over DDS.

    With --only, the rows of other cases in an earlier node.json stay.
    """
    from proto_mtl_ros.files import read_json
    from proto_mtl_ros.runtime.bundle import Bundle
    from tools.performance.node_suite import cases, run_cases

    bundle = Bundle.load(model)
    chosen = cases(_sizes(input_sizes, "--input-sizes"))
    names = sorted({case.name for case in chosen})
    for name in only or ():
        if name not in names:
            raise ConfigError(f"there is no case {name!r}: use {', '.join(names)}")
    chosen = [case for case in chosen if not only or case.name in only]
    measured = {case.name for case in chosen}
    known = read_json(path, ConfigError)["rows"] if (path := out / "node.json").is_file() else []
    rows = [row for row in known if row["case"]["name"] not in measured]
    for row in run_cases(model, chosen, backend, precision, seconds, picture):
        rows.append(row)
        latency = row["latency_ms"].get("p95", float("nan"))
        typer.echo(
            f"{row['case']['name']}: {row['rate_offered']:.1f} Hz offered,"
            f" {row['rate']:.1f} answered, p95 {latency:.1f} ms"
        )
        _write(out / "node.json", bundle.name, rows=rows)


@app.command()
def compare(
    model: Model = SHIPPED_MODEL,
    backend: Annotated[str, typer.Option(help="Of all nodes.")] = "auto",
    rounds: Annotated[int, typer.Option(min=1, help="Turns that each of the two gets.")] = 3,
    seconds: Annotated[float, typer.Option(min=1.0, help="Of every load.")] = 10.0,
    out: Out = FIGURES,
) -> None:
    """One multi-task node against three single-task nodes of the same backbone."""
    from proto_mtl_ros.files import ScratchFolder
    from proto_mtl_ros.runtime.bundle import Bundle
    from tools.performance import comparison

    bundle = Bundle.load(model)
    with ScratchFolder("bench") as folder:
        singles = [
            comparison.single_task_bundle(bundle, name, folder)
            for name in track(bundle.manifest.tasks, "exporting")
        ]
        found = comparison.compare(bundle, singles, backend, rounds, seconds)
    _write(out / "compare.json", **found)
    fps, memory = found["frames_per_second"], found["memory_mib"]
    typer.echo(
        f"one node {fps['multi']:.1f} frames/s, {memory['multi']:.0f} MiB; three"
        f" {fps['single']:.1f} frames/s, {memory['single']:.0f} MiB"
    )


@app.command()
def accuracy(
    data: Data,
    model: Model = SHIPPED_MODEL,
    kind: Kind = "nyuv2",
    split: Split = "val",
    option: Options = None,
    backend: Backend = "auto",
    precision: Precision = "fp32",
    sizes: Annotated[
        str, typer.Option(help="HxW with commas between, of the network's input.")
    ] = "96x128,192x256,288x384",
    out: Out = FIGURES,
) -> None:
    """What smaller and larger inputs are worth: the metrics of a model on labelled frames."""
    from proto_mtl_ros.evaluation.dataset import evaluate
    from tools.performance.page import MAIN_METRICS

    frames = open_dataset(data, kind, split, None, option)
    rows: list[dict[str, Any]] = []
    for size in _sizes(sizes, "--sizes"):
        predictor = proto_mtl_ros.load(model, backend, precision=precision, input_size=size)
        samples = (frames[index] for index in track(range(len(frames)), f"{size[0]}x{size[1]}"))
        found = evaluate(predictor, samples, frames.label_set.classes)
        figures = {name: value for one in found.metrics.values() for name, value in one.items()}
        rows.append({"size": size, "engine": predictor.engine.choice, **figures})
        name = predictor.bundle.name
        predictor.close()
    _write(out / "accuracy.json", name, data=f"{kind} {split}", frames=len(frames), rows=rows)
    for row in rows:
        metrics = (f"{key} {row[key]:.3f}" for key in MAIN_METRICS if key in row)
        typer.echo(f"{row['size'][0]}x{row['size'][1]}: {', '.join(metrics)}")


@app.command()
def recording(
    recording: Annotated[Path, typer.Argument(help="A bag with colour and depth.")],
    model: Model = SHIPPED_MODEL,
    backend: Backend = "auto",
    threads: Threads = 1,
    rounds: Annotated[int, typer.Option(min=1, help="Turns of the pass and of the engine.")] = 3,
    times: Annotated[int, typer.Option(min=2, help="How much longer the long one is.")] = 10,
    docs: Annotated[
        Path | None, typer.Option(help="Folder whose recordings.json gets the figures.")
    ] = None,
) -> None:
    """`bag evaluate`: frames per second beside the engine's own, and memory of long recordings."""
    from proto_mtl_ros.files import write_json_part
    from proto_mtl_ros.runtime.machine import machine
    from tools.performance.recording import pass_speed, peak_memory

    predictor = proto_mtl_ros.load(model, backend, "cpu", threads=threads)
    engine = predictor.engine.choice
    found: dict[str, Any] = {"recording": recording.name, "engine": engine, "threads": threads}
    found |= pass_speed(recording, predictor, rounds)
    predictor.close()
    found |= peak_memory(recording, model, times)
    if docs is not None:
        write_json_part(docs / "recordings.json", "offline_pass", {**found, "machine": machine()})
    typer.echo(
        f"{found['pass_fps']:.1f} frames/s, the engine alone {found['engine_fps']:.1f}"
        f" ({100 * found['pass_over_engine']:.0f} %); at most {found['peak_mib']:.0f} MiB,"
        f" {found['peak_mib_longer']:.0f} MiB on a recording {times} times as long"
    )


@app.command()
def page(
    out: Out = FIGURES,
    docs: Annotated[Path, typer.Option(help="Folder of the page.")] = Path("docs"),
) -> None:
    """Write docs/performance.md and docs/performance.json from the figures."""
    from tools.performance.page import PAGE, write_page

    for name, value in write_page(out, docs)["ratios"].items():
        typer.echo(f"{name}: {value}")
    typer.echo(f"wrote {docs / PAGE}")


def _write(path: Path, model: str, **content: Any) -> None:
    from proto_mtl_ros.files import write_text
    from proto_mtl_ros.runtime.machine import machine

    path.parent.mkdir(parents=True, exist_ok=True)
    whole = {"model": model, "machine": machine(), **content}
    write_text(path, json.dumps(whole, indent=1) + "\n")


def _sizes(text: str, option: str) -> list[tuple[int, int]]:
    """Return (height, width) of each part, such as 192x256; there may be none."""
    found = []
    for part in comma_list.parts(text):
        height, _, width = part.partition("x")
        if not (part.isascii() and height.isdigit() and width.isdigit()):
            raise ConfigError(
                f"{option} {text!r}: {part!r} is not a size: give height x width, such as 192x256"
            )
        found.append((int(height), int(width)))
    return found


if __name__ == "__main__":
    run_tool("tools.performance", app)
