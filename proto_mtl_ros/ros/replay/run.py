# SPDX-License-Identifier: Apache-2.0
"""A replay with everything around it: play, record, compare, draw, report."""

from __future__ import annotations

import json
import os
import platform
import shlex
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

import proto_mtl_ros
from proto_mtl_ros.data.bags.recording import (
    Recording,
    open_recording,
)
from proto_mtl_ros.data.bags.stamp_log import (
    StampLog,
    write_json,
)
from proto_mtl_ros.drawing import (
    SheetRow,
    contact_sheet,
)
from proto_mtl_ros.encodings import encode_compressed
from proto_mtl_ros.errors import (
    ConfigError,
    file_trouble,
)
from proto_mtl_ros.evaluation.replay_figures import replay_figures
from proto_mtl_ros.evaluation.replay_pictures import (
    complete_stamps,
    far_limit,
    replay_rows,
    spread,
)
from proto_mtl_ros.evaluation.report import (
    ReportFrames,
    live_verdict,
    write_report,
)
from proto_mtl_ros.evaluation.report_frames import best_and_worst
from proto_mtl_ros.files import write_bytes
from proto_mtl_ros.locks import sole_use
from proto_mtl_ros.ros.replay.live_comparison import (
    LiveComparison,
    compare_live,
)
from proto_mtl_ros.ros.replay.player import check_rate
from proto_mtl_ros.ros.replay.session import (
    CAMERA,
    ReplayLogs,
    ReplayOptions,
    ReplaySession,
)
from proto_mtl_ros.runtime.bundle import Bundle
from proto_mtl_ros.runtime.machine import processor

_REPORT = "report.html"
_FIGURES = "results.json"
_SHEET = "contact_sheet.png"

_MOMENTS = 5
"""Moments on the contact sheet and at the top of the report."""

_THROUGH = 24
"""Moments that the report's slider goes through; about 60 kB each."""


@dataclass(frozen=True)
class RunOptions:
    """What the command line says; see the help of `proto-mtl bag replay`.

    Attributes:
        command: the words that started it, for the report.
    """

    recording: Path
    out: Path
    parameters: dict[str, str]
    rate: float = 1.0
    seconds: float | None = None
    fps: float | None = None
    image_topic: str | None = None
    info_topic: str | None = None
    depth_topic: str | None = None
    domain_id: int | None = None
    start: float = 0.0
    loops: int = 1
    sim_time: bool = False
    compare: bool = True
    command: tuple[str, ...] = ()


def run_replay(options: RunOptions, console: Console | None = None) -> Path:
    """Replay a recording and return the path of the report.

    Raises:
        ProtoMtlError: what was given cannot be used, or a process failed; one line each.
    """
    console = console or Console()
    _check(options)
    bundle = Bundle.load(options.parameters["model"])
    recording = open_recording(
        options.recording,
        options.fps,
        options.image_topic,
        options.info_topic,
        options.depth_topic,
    )
    with recording, _prepared(options.out):
        load = os.getloadavg()[0]
        console.print(_inventory(recording), highlight=False, soft_wrap=True)
        for note in recording.notes:
            console.print(f"note: {note}", highlight=False, soft_wrap=True)
        replay = ReplayOptions(
            recording=recording.path,
            topics=recording.topics,
            out=options.out,
            parameters={k: _yaml(k, v) for k, v in options.parameters.items()},
            rate=options.rate,
            seconds=options.seconds,
            start=options.start,
            loops=options.loops,
            sim_time=options.sim_time,
            fps=options.fps,
            domain_id=options.domain_id,
        )
        with (
            _progress(console, _expected(recording, options)) as progress,
            ReplaySession(replay, progress) as session,
        ):
            logs = session.run()
        live = None
        if options.compare:
            with _bar(console, "offline pass", logs.sent) as update:
                live = compare_live(
                    recording, replay.results, logs, bundle, options.parameters, update
                )
        with console.status("measuring and drawing"):
            report = _report(options, replay, recording, bundle, logs, load, live)
        if live is not None:
            console.print(live_verdict(live.figures()), highlight=False, soft_wrap=True)
        return report


def _report(
    options: RunOptions,
    replay: ReplayOptions,
    recording: Recording,
    bundle: Bundle,
    logs: ReplayLogs,
    load: float,
    live: LiveComparison | None,
) -> Path:
    figures = replay_figures(
        recording, logs.sent, logs.received, logs.status, replay.results, CAMERA
    )
    figures["title"] = f"{bundle.name} on {recording.path.name or recording.path}"
    figures["recording"] = _description(recording)
    figures["made_with"] = _made_with(options, bundle, logs, load)
    figures["live_and_offline"] = None if live is None else live.figures()
    frames = _frames(recording, replay.results, logs, figures["depth"])
    write_json(options.out / _FIGURES, figures)
    if frames.moments:
        sheet = contact_sheet(frames.moments, bundle.classes, bundle.palette, far=frames.far)
        write_bytes(options.out / _SHEET, encode_compressed(sheet, "png").tobytes())
    report = options.out / _REPORT
    write_report(report, figures, frames, bundle.classes, bundle.palette)
    return report


def _frames(
    recording: Recording, results: Path, logs: ReplayLogs, depth: Mapping[str, Any]
) -> ReportFrames:
    """Return the moments to show, of the first round: later ones show the same again."""
    start = min((stamps[0] for stamps in logs.sent.stamps.values()), default=0)
    stop = start + int(logs.sent.notes.get("period_ns", 0))
    whole = [stamp for stamp in complete_stamps(results, CAMERA) if stamp < stop]
    known = set(whole)
    best, worst = best_and_worst(
        (error, stamp) for stamp, error in depth.get("abs_err_m_by_stamp", ()) if stamp in known
    )
    moments, through = spread(whole, _MOMENTS), spread(whole, _THROUGH)
    rows = replay_rows(recording, results, CAMERA, start, {*moments, *through, *best, *worst})

    def shown(stamps: list[int]) -> list[SheetRow]:
        return [rows[stamp] for stamp in stamps]

    return ReportFrames(
        shown(moments), shown(through), shown(best), shown(worst), far_limit(list(rows.values()))
    )


def _check(options: RunOptions) -> None:
    check_rate(options.rate)
    if options.seconds is not None and options.seconds <= 0:
        raise ConfigError(f"--seconds {options.seconds:g} plays nothing: give more than 0")
    for name in ("cameras", "image_transport", "use_sim_time"):
        if name in options.parameters:
            raise ConfigError(f"parameter {name} is set by the replay itself: leave it out")


def _yaml(name: str, value: str) -> str:
    """Return a parameter as ROS parses it: a model named 2024 is text all the same."""
    return json.dumps(value) if name in ("model", "backend", "device") else value


@contextmanager
def _prepared(out: Path) -> Iterator[None]:
    """Make the folder; what an earlier replay left there must not pass for this one's."""
    with ExitStack() as stack:
        try:
            stack.enter_context(sole_use(out))
        except OSError as error:
            trouble = file_trouble(error, out, "give another --out")
            raise ConfigError(f"cannot write to {trouble}") from None
        if not os.access(out, os.W_OK):
            raise ConfigError(f"cannot write to {out}: give another --out")
        for name in (_REPORT, _FIGURES, _SHEET):
            (out / name).unlink(missing_ok=True)
        yield


def _inventory(recording: Recording) -> str:
    topics = recording.topics
    parts = [f"{recording.path}: {recording.frames} images of {topics.image.name}"]
    if recording.rate:
        parts.append(f"{recording.rate:.1f} Hz")
    parts.append(
        f"camera_info {topics.camera_info.name}"
        if topics.camera_info
        else "no camera_info: depth is for the model's own camera"
    )
    parts.append(f"depth {topics.depth.name}" if topics.depth else "no depth to compare with")
    return ", ".join(parts)


def _expected(recording: Recording, options: RunOptions) -> int:
    """Return about how many images will be played."""
    if not recording.rate:
        return recording.frames * options.loops
    frames = max(1, recording.frames - round(options.start * recording.rate))
    if options.seconds is not None:
        frames = min(frames, round(options.seconds * recording.rate) + 1)
    return frames * options.loops


@contextmanager
def _progress(console: Console, images: int) -> Iterator[Any]:
    """Give a callback that shows how far a replay is."""
    columns = (
        TextColumn("{task.description:<32}"),
        BarColumn(bar_width=36),
        MofNCompleteColumn(),
        TextColumn("images, {task.fields[results]} results"),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=console) as bar:
        task = bar.add_task("starting", total=images, results=0)

        def update(stage: str, played: int, results: int) -> None:
            bar.update(task, description=stage, completed=played, results=results)

        yield update


@contextmanager
def _bar(console: Console, text: str, sent: StampLog) -> Iterator[Callable[[int, int], None]]:
    """Give a callback that shows how far something is, of all images that were sent."""
    columns = (TextColumn("{task.description:<32}"), BarColumn(bar_width=36), MofNCompleteColumn(),
               TimeRemainingColumn())  # fmt: skip
    with Progress(*columns, console=console) as bar:
        task = bar.add_task(text, total=sum(map(len, sent.stamps.values())))
        yield lambda done, of: bar.update(task, completed=done, total=of)


def _description(recording: Recording) -> dict[str, Any]:
    topics = recording.topics
    return {
        "path": str(recording.path),
        "kind": recording.kind,
        "images": recording.frames,
        "duration_s": recording.duration,
        "rate_hz": recording.rate,
        "image_topic": topics.image.name,
        "camera_info_topic": topics.camera_info.name if topics.camera_info else None,
        "depth_topic": topics.depth.name if topics.depth else None,
    }


def _made_with(
    options: RunOptions, bundle: Bundle, logs: ReplayLogs, load: float
) -> dict[str, str]:
    engine = next((v for k, v in logs.status.items() if k.endswith(": engine")), {})
    camera = next((v for k, v in logs.status.items() if k.endswith(f": {CAMERA}")), {})
    size = engine.get("input_size", "")
    return {
        "model": f"{bundle.name}, trained on {bundle.manifest.training.data}",
        "engine": f"{engine.get('backend', '?')} {engine.get('precision', '')} on "
        f"{engine.get('device', '?')}, network input {size}",
        "camera_info": camera.get("camera_info", "?"),
        "playing speed": f"{options.rate:g}, at most {logs.late_ms:.0f} ms behind time",
        "machine": f"{processor()}, {os.cpu_count()} cores, "
        f"load average {load:.1f} before the start",
        "versions": f"proto_mtl_ros {proto_mtl_ros.__version__}, Python "
        f"{platform.python_version()}, numpy {np.__version__}, OpenCV {cv2.__version__}",
        "command": shlex.join(options.command),
    }
