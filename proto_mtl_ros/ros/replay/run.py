# SPDX-License-Identifier: Apache-2.0
"""A replay with everything around it: play, record, compare, draw, report."""

from __future__ import annotations

import os
import shlex
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import yaml

from proto_mtl_ros.data.bags.calibration import is_rectified
from proto_mtl_ros.data.bags.recording import Recording, given_camera
from proto_mtl_ros.data.bags.recording_kinds import open_recording
from proto_mtl_ros.data.bags.stamp_log import write_json
from proto_mtl_ros.drawing.contact_sheet import contact_sheet
from proto_mtl_ros.encodings import encode_compressed
from proto_mtl_ros.errors import ConfigError, file_trouble
from proto_mtl_ros.evaluation.frame_album import spread
from proto_mtl_ros.evaluation.replay_report import (
    live_verdict,
    replay_figures,
    write_replay_report,
)
from proto_mtl_ros.evaluation.report import machine_facts
from proto_mtl_ros.files import sole_use, write_bytes
from proto_mtl_ros.ros.replay.comparison import ResultReader
from proto_mtl_ros.ros.replay.session import (
    CAMERA,
    RESULT_IMAGES,
    Progress,
    ReplayLogs,
    ReplayOptions,
    ReplaySession,
)
from proto_mtl_ros.runtime.bundle import Bundle
from proto_mtl_ros.runtime.engine import create_engine
from proto_mtl_ros.runtime.predictor import Predictor

_REPORT = "report.html"
_FIGURES = "results.json"
_SHEET = "contact_sheet.png"

_MOMENTS = 5
"""Moments on the contact sheet and at the top of the report."""


def run_replay(options: ReplayOptions, say: Callable[[str], None], progress: Progress) -> Path:
    """Replay a recording and return the path of the report; ``say`` takes lines for the user.

    Raises ProtoMtlError of one line: what was given cannot be used, or a process failed.
    """
    options.check()
    bundle = Bundle.load(options.parameters["model"])
    given = given_camera(options.camera, options.no_camera)
    recording = open_recording(options.recording, options.fps, options.image_topic, camera=given)
    if recording.kind == "bag" and given is None:  # one rule for all commands
        rectified = str(is_rectified(recording.topics.image.name)).lower()
        options = replace(options, parameters={"rectified": rectified, **options.parameters})
    with recording, _prepared(options.out):
        load = os.getloadavg()[0]
        say(_inventory(recording))
        for note in recording.notes:
            say(f"note: {note}")
        logs = ReplaySession(options, recording, progress).run()
        settings = {name: yaml.safe_load(value) for name, value in options.parameters.items()}
        predictor = _predictor(bundle, logs, settings)
        reader = ResultReader(recording, logs, predictor, settings)
        reader.read(options.results, lambda done, of: progress("comparing", done, of))
        predictor.close()
        figures = {
            "title": f"{bundle.name} on {recording.path.name or recording.path}",
            "recording": _description(recording),
            "made_with": _made_with(options, bundle, logs, load),
            **replay_figures(logs.sent, logs.received, logs.status, RESULT_IMAGES),
            **reader.figures(),
        }
        report = _report(options.out, figures, reader, bundle)
    say(live_verdict(figures["live_and_offline"]))
    return report


def _report(out: Path, figures: Mapping[str, Any], reader: ResultReader, bundle: Bundle) -> Path:
    write_json(out / _FIGURES, figures)
    frames = reader.album.chosen()
    through = frames["through"]
    moments = [through[place] for place in spread(range(len(through)), _MOMENTS)]
    if moments:
        sheet = contact_sheet(moments, bundle.classes, bundle.palette)
        write_bytes(out / _SHEET, encode_compressed(sheet, "png").tobytes())
    report = out / _REPORT
    frames = {"moments": moments, **frames}
    write_replay_report(report, figures, frames, bundle.classes, bundle.palette)
    return report


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


def _predictor(bundle: Bundle, logs: ReplayLogs, settings: Mapping[str, Any]) -> Predictor:
    """Return one of the same backend, precision and threads as the node's."""
    engine = logs.status_of("engine")
    size = settings.get("input_size", [0, 0])
    input_size = (int(size[0]), int(size[1])) if size[0] else None
    return Predictor(
        bundle,
        create_engine(
            bundle,
            engine.get("backend", "auto"),
            engine.get("device", "auto"),
            int(settings.get("threads", 0)),
            precision=engine.get("precision", "auto"),
            input_size=input_size,
        ),
        input_size,
        settings.get("output_size", "input"),
        settings.get("confidence_threshold", 0) / 255,
    )


def _inventory(recording: Recording) -> str:
    topics = recording.topics
    info, depth = topics.camera_info, topics.depth
    rate = f", {recording.rate:.1f} Hz" if recording.rate else ""
    camera = f"camera_info {info.name}" if info else "no camera_info"
    without = "" if info else ": depth is for the model's own camera"
    compared = f"depth {depth.name}" if depth else "no depth to compare with"
    images = f"{recording.path}: {recording.frames} images of {topics.image.name}{rate}"
    return f"{images}, {camera}{without}, {compared}"


def _description(recording: Recording) -> dict[str, Any]:
    topics = {name: one and one.name for name, one in vars(recording.topics).items()}
    return {
        "path": str(recording.path),
        "kind": recording.kind,
        "images": recording.frames,
        "duration_s": recording.duration,
        "rate_hz": recording.rate,
        **{f"{name}_topic": topics[name] for name in ("image", "camera_info", "depth")},
    }


def _made_with(
    options: ReplayOptions, bundle: Bundle, logs: ReplayLogs, load: float
) -> dict[str, str]:
    engine, camera = logs.status_of("engine"), logs.status_of(CAMERA)
    late = logs.sent.notes.get("late_ms", 0.0)
    return {
        "model": f"{bundle.name}, trained on {bundle.manifest.training.data}",
        "engine": f"{engine.get('backend', '?')} {engine.get('precision', '')} on "
        f"{engine.get('device', '?')}, network input {engine.get('input_size', '')}",
        "camera_info": camera.get("camera_info", "?"),
        "playing speed": f"{options.rate:g}, at most {late:.0f} ms behind time",
        "load average": f"{load:.1f} before the start",
        **machine_facts(),
        "command": shlex.join(options.command),
    }
