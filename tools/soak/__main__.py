# SPDX-License-Identifier: Apache-2.0
"""Does the node go on working: `python -m tools.soak --minutes 30`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from proto_mtl_ros.cli import comma_list
from proto_mtl_ros.cli.engine_options import SHIPPED_MODEL, Backend, Model, Threads
from proto_mtl_ros.cli.main import run_tool
from proto_mtl_ros.errors import ConfigError

RELIABILITY = Path("tools/reliability")

Page = Annotated[Path, typer.Option(help="Folder of the plot.")]


def soak(
    minutes: Annotated[float, typer.Option(min=0.1, help="How long.")] = 30.0,
    recording: Annotated[
        Path | None, typer.Option(help="Played over and over; the shipped one without it.")
    ] = None,
    rate: Annotated[float, typer.Option(min=0, help="Images a second, 0 as recorded.")] = 0.0,
    faults: Annotated[str, typer.Option(help="With commas between; all without it.")] = "",
    seed: Annotated[int, typer.Option(help="Of the schedule of faults.")] = 0,
    every: Annotated[float, typer.Option(min=0.1, help="Seconds between samples.")] = 5.0,
    model: Model = SHIPPED_MODEL,
    backend: Backend = "auto",
    threads: Threads = 1,
    results: Annotated[
        str, typer.Option(help="That are subscribed to, with commas between.")
    ] = "segmentation,confidence,depth,normals,points",
    out: Annotated[
        Path, typer.Option(help="Folder of soak.json, and of soak.jsonl while it runs.")
    ] = RELIABILITY / "results",
    docs: Page = RELIABILITY,
) -> None:
    """The node under faults for long: memory, descriptors, threads, rate, latency, every image.

    A recording is played to the node over DDS, again and again, while the camera stops, floods it,
    sends rubbish, changes size; while parameters change, the model is reloaded, the node is
    deactivated, a subscriber hangs. In the end every image sent must be accounted for, every result
    must have arrived, and memory must not grow. Ctrl-C ends it early with what there is.

    Ends with status 1 when something is wrong.
    """
    from proto_mtl_ros.files import write_bytes, write_text
    from proto_mtl_ros.files.installation import shared_file
    from proto_mtl_ros.runtime.bundle import Bundle
    from proto_mtl_ros.runtime.machine import machine
    from tools.soak.plot import soak_plot
    from tools.soak.schedule import KINDS, SoakSetting
    from tools.soak.soak import Soak, verdict

    recording = recording or shared_file("recordings/room")
    if recording is None:
        raise ConfigError("the shipped recording is not installed: give --recording")
    bundle = Bundle.load(model)
    setting = SoakSetting(
        recording=str(recording.resolve()),
        seconds=60 * minutes,
        rate=rate,
        seed=seed,
        faults=tuple(comma_list.parts(faults)) or tuple(KINDS),
        every=every,
        model=str(bundle.path),
        backend=backend,
        threads=threads,
        results=tuple(comma_list.parts(results)),
    )

    def tell(sample: dict[str, float]) -> None:
        rates = "/".join(f"{sample.get(f'rate_{way}_hz', 0):.1f}" for way in ("in", "out"))
        typer.echo(
            f"{sample['t'] / 60:6.2f} min  {sample['rss_mib']:6.1f} MiB  {sample['fds']:.0f} files"
            f"  {sample['threads']:.0f} threads  {100 * sample['cpu']:3.0f} % CPU  {rates} Hz"
            f"  p95 {sample.get('latency_ms.total.p95', float('nan')):.0f} ms"
        )

    figures = Soak(setting, out / "soak.jsonl", tell).run()
    whole = {"model": bundle.name, "recording": recording.name, "machine": machine(), **figures}
    write_text(out / "soak.json", json.dumps(whole, indent=1) + "\n")
    write_bytes(docs / "soak.png", soak_plot(figures))
    balance = figures["accounts"]
    typer.echo(
        f"{balance['sent']} images, {balance['processed']} processed; unexplained"
        f" {figures['unexplained_drops']}; lost in transport {balance['lost_in_transport']};"
        f" while inactive {balance['while_inactive']}; causes {balance['causes']}"
    )
    slope = figures["memory_slope_mib_per_hour"]
    if slope is None:
        typer.echo("memory: too short to tell a slope")
    else:
        low, high = figures["memory_slope_interval"]
        typer.echo(f"memory: {slope:+.2f} MiB an hour ({low:+.2f} to {high:+.2f})")
    typer.echo(f"wrote {out / 'soak.json'} and {docs / 'soak.png'}")
    found = verdict(figures)
    for line in found:
        typer.echo(f"not well: {line}", err=True)
    if found:
        raise typer.Exit(1)


if __name__ == "__main__":
    run_tool("tools.soak", soak)
