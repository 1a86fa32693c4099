# SPDX-License-Identifier: Apache-2.0
"""A model taught by the few frames of one recording, and what that was worth."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import proto_mtl_ros
from proto_mtl_ros.data.bags.calibration import Calibration
from proto_mtl_ros.data.bags.conversion import convert_recording
from proto_mtl_ros.data.bags.recording import BagRecording
from proto_mtl_ros.data.folder import Folder
from proto_mtl_ros.errors import ConfigError
from proto_mtl_ros.evaluation.bag_evaluation import RECORDS
from proto_mtl_ros.evaluation.bag_pass import BagPass, PassOptions
from proto_mtl_ros.evaluation.depth_error import fair_mask
from proto_mtl_ros.files import sole_use, write_json_part
from proto_mtl_ros.training.config import TrainConfig
from proto_mtl_ros.training.plan import planned
from proto_mtl_ros.training.run import Say, train_model
from proto_mtl_ros.training.start import continued_from

FIGURES = "recordings.json"
_LEAST = 5


@dataclass(frozen=True)
class Lesson:
    """What is learnt from a recording, and how."""

    config: Path
    init: str
    learn: float = 0.5
    judge: float = 1 / 3
    motion: float = 0.008
    steps: int = 600
    seeds: tuple[int, ...] = (0,)
    registered: bool = False


def learn_from_bag(recording: Path, out: Path, lesson: Lesson, say: Say = print) -> dict[str, Any]:
    """Do what is not done yet; return the figures, which are in ``out/recordings.json`` then.

    ConfigError where the recording has no depth, or too few frames.
    """
    if lesson.learn + lesson.judge > 1:
        raise ConfigError("--learn and --judge are more than the whole recording")
    with BagRecording(recording) as opened:
        if opened.topics.depth is None:
            raise ConfigError(f"{recording} has no depth topic to learn from")
    with sole_use(out):
        between = 1 - lesson.learn - lesson.judge
        skip = [("skip", round(between, 6))] if between > 0.01 else []
        blocks = [("train", round(lesson.learn, 6)), *skip, ("val", round(lesson.judge, 6))]
        options = {"registered": lesson.registered}
        convert_recording(recording, out / "data", blocks, lesson.motion, options, say=say)
        count = len(Folder(out / "data", "train"))
        if count < _LEAST:
            raise ConfigError(
                f"only {count} frames to learn from: take more with a smaller --motion, or a larger"
                " part with --learn"
            )
        models = [str(fine_tune(out / "data", out, lesson, seed, say)) for seed in lesson.seeds]
        found = _compared(recording, out, lesson, models)
        write_json_part(out / FIGURES, "fine_tune", found)
    return found


def fine_tune(data: Path, out: Path, lesson: Lesson, seed: int, say: Say) -> Path:
    """Return the bundle ``out/models/seed<seed>``, after making it where it is not there yet."""
    bundle = out / "models" / f"seed{seed}"
    if not (bundle / "model.json").is_file():
        settings = continued_from(TrainConfig.read(lesson.config), lesson.init)
        name = f"{settings.name}-seed{seed}"
        update = {"seed": seed, "name": name, "steps": lesson.steps}
        plan = planned(settings.model_copy(update=update), data)
        train_model(plan, data, out / f"seed{seed}", say, bundle)
    return bundle


def _compared(recording: Path, out: Path, lesson: Lesson, models: list[str]) -> dict[str, Any]:
    last, first = (1 - lesson.judge, 1.0), (0.0, lesson.learn)

    def judged(
        model: str, name: str, part: tuple[float, float] = last, scale: float = 1.0
    ) -> dict[str, Any]:
        options = PassOptions(part=part, depth_scale=scale)
        return _judged(recording, model, out / name, options, lesson.registered)

    scale = judged(lesson.init, "first-part", first)["median_scale"]
    return {
        "recording": recording.name,
        "model": lesson.init,
        "learnt_from": list(first),
        "judged_on": list(last),
        "seeds": list(lesson.seeds),
        "before": judged(lesson.init, "before"),
        "before_with_one_scale": {"scale": scale, **judged(lesson.init, "scaled", scale=scale)},
        "after": [judged(m, f"after-seed{s}") for s, m in zip(lesson.seeds, models, strict=True)],
    }


def _judged(
    recording: Path, model: str, out: Path, options: PassOptions, registered: bool
) -> dict[str, Any]:
    with BagRecording(recording) as opened:
        calibration = Calibration.of(opened, registered=registered)
        predictor = proto_mtl_ros.load(model, "onnxruntime", "cpu")
        figures = BagPass(opened, predictor, calibration, options).figures(out / RECORDS)
        predictor.close()
    mask = fair_mask(calibration.registration != "none")
    depth, normals = figures["depth"], figures["normals"]
    return {
        "frames": figures["frames"],
        "pixels": "smooth surroundings" if mask == "tolerant" else "all",
        "median_scale": depth["median_scale"],
        "depth_abs_err": depth[mask]["abs_err"],
        "depth_abs_err_aligned": depth[f"{mask}_aligned"]["abs_err"],
        "depth_rel_err": depth[mask]["rel_err"],
        "normals_mean_deg": None if normals is None else normals["mean_deg"],
    }


def summary(found: dict[str, Any]) -> list[str]:
    """Return who is how wrong on the last part, a line each, the mean of all seeds."""
    before, one_scale = found["before"], found["before_with_one_scale"]

    def line(text: str, name: str, rival: dict[str, Any], unit: str = "m") -> str:
        after = sum(one[name] for one in found["after"]) / len(found["after"])
        less = 100 * (1 - after / rival[name])
        return f"{text}: {rival[name]:.3f} {unit} before, {after:.3f} after ({less:.1f} % less)"

    lines = [
        line(f"depth, {before['pixels']}", "depth_abs_err", before),
        line("before with one scale, fitted where it learnt", "depth_abs_err", one_scale),
        line("every frame scaled to fit", "depth_abs_err_aligned", before),
    ]
    if before["normals_mean_deg"] is not None:
        lines.append(line("normals", "normals_mean_deg", before, "degrees"))
    return lines
