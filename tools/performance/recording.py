# SPDX-License-Identifier: Apache-2.0
"""How fast the offline pass over a recording is beside its engine, and what memory it takes."""

from __future__ import annotations

import os
import statistics
import sys
import time
from pathlib import Path

from rich.progress import track

from proto_mtl_ros.data.bags.bag import Bag
from proto_mtl_ros.data.bags.calibration import Calibration
from proto_mtl_ros.data.bags.recording import BagRecording
from proto_mtl_ros.data.bags.stamp_log import shifted
from proto_mtl_ros.data.bags.topics import CAMERA_INFO, COMPRESSED_IMAGE, IMAGE
from proto_mtl_ros.data.bags.writer import BagWriter
from proto_mtl_ros.errors import DataError
from proto_mtl_ros.evaluation.bag_pass import BagPass
from proto_mtl_ros.files import ScratchFolder
from proto_mtl_ros.runtime.predictor import Predictor


def pass_speed(recording: Path, predictor: Predictor, rounds: int = 3) -> dict[str, float]:
    """Return frames per second of the offline pass and of its engine alone, medians of rounds.

    Both get the same pictures; they take turns, so that what else the machine does hits both.
    """
    found: dict[str, list[float]] = {"pass": [], "engine": []}
    with BagRecording(recording) as opened, ScratchFolder("bench") as folder:
        run = BagPass(opened, predictor, Calibration.of(opened))
        pictures = [frame.rgb for frame, _ in zip(run.frames, range(8))]
        inputs = [predictor.prepare(picture).pixels[None] for picture in pictures]
        predictor.warm_up()
        for turn in track(range(rounds), "speed"):
            start = time.perf_counter()
            count = run.run(folder / f"{turn}.jsonl")
            found["pass"].append(count / (time.perf_counter() - start))
            start = time.perf_counter()
            for number in range(count):
                predictor.engine.infer(inputs[number % len(inputs)])
            found["engine"].append(count / (time.perf_counter() - start))
    speed, own = (statistics.median(found[name]) for name in ("pass", "engine"))
    return {"pass_fps": speed, "engine_fps": own, "pass_over_engine": speed / own}


def peak_memory(recording: Path, model: str, times: int = 10) -> dict[str, float]:
    """Return the peak memory of `bag evaluate` in MiB, on a recording and on one so much longer.

    Raises:
        DataError: `bag evaluate` failed; it has said why.
    """
    with ScratchFolder("bench") as folder:
        longer = repeated(recording, folder / "longer", times)
        return {
            "peak_mib": _peak(recording, model, folder / "one"),
            "peak_mib_longer": _peak(longer, model, folder / "many"),
            "longer": times,
        }


def repeated(recording: Path, out: Path, times: int) -> Path:
    """Write a recording that goes through another one several times, time going on."""
    with Bag(recording) as bag, BagWriter(out) as writer:
        used = (IMAGE, COMPRESSED_IMAGE, CAMERA_INFO)
        topics = [topic for topic in bag.topics if topic.type in used]
        for topic in topics:
            writer.add_topic(topic.name, topic.type)
        names = [topic.name for topic in topics]
        period = round((bag.duration + 0.1) * 1e9)
        for turn in range(times):
            for message in bag.messages(names):
                moved = turn * period
                cdr = shifted(bytes(message.cdr), moved)
                writer.write(message.topic, message.time + moved, cdr)
    return out


def _peak(recording: Path, model: str, out: Path) -> float:
    """Run `bag evaluate` in a process of its own and return its largest resident size in MiB."""
    command = [sys.executable, "-m", "proto_mtl_ros.cli", "bag", "evaluate", str(recording)]
    command += ["--model", model, "--out", str(out)]
    quiet = os.open(os.devnull, os.O_WRONLY)
    try:
        process = os.posix_spawn(
            sys.executable, command, os.environ, file_actions=[(os.POSIX_SPAWN_DUP2, quiet, 1)]
        )
        _, status, used = os.wait4(process, 0)
    finally:
        os.close(quiet)
    if status != 0:
        raise DataError(f"`bag evaluate` failed on {recording}")
    return used.ru_maxrss / 1024
