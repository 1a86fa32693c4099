# SPDX-License-Identifier: Apache-2.0
"""A model taught by the few frames of one recording, and what that was worth."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import proto_mtl_ros
from proto_mtl_ros.data.bags.calibration import Calibration
from proto_mtl_ros.data.bags.conversion import convert_recording
from proto_mtl_ros.data.bags.recording import BagRecording
from proto_mtl_ros.data.folder import Folder
from proto_mtl_ros.data.nyuv2 import NYUv2
from proto_mtl_ros.errors import ConfigError
from proto_mtl_ros.evaluation.bag_evaluation import RECORDS
from proto_mtl_ros.evaluation.bag_pass import BagPass, PassOptions
from proto_mtl_ros.evaluation.dataset import evaluate
from proto_mtl_ros.evaluation.depth_error import fair_mask
from proto_mtl_ros.files import sole_use, write_json_part
from proto_mtl_ros.training.config import CONFIG, TrainConfig
from proto_mtl_ros.training.export import export_checkpoint
from proto_mtl_ros.training.start import continued_from
from proto_mtl_ros.training.trainer import train

FIGURES = "recordings.json"


@dataclass(frozen=True)
class Lesson:
    """What is learnt from a recording, and how."""

    config: Path
    init: str
    learn: float = 0.5
    judge: float = 1 / 3
    motion: float = 0.008
    steps: int = 600
    seeds: tuple[int, ...] = (0, 1)
    keep: Path | None = None
    registered: bool = False


def learn_from_bag(
    recording: Path, out: Path, lesson: Lesson, say: Callable[[str], None] = print
) -> dict[str, Any]:
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
        blocks = [("train", round(lesson.learn, 6)), *skip, ("test", round(lesson.judge, 6))]
        options = {"registered": lesson.registered}
        convert_recording(recording, out / "data", blocks, lesson.motion, options, say=say)
        models = [
            str(fine_tune(lesson.config, lesson.init, out / "data", out, seed, lesson.steps))
            for seed in lesson.seeds
        ]
        found = _compared(recording, out, lesson, models)
        if lesson.keep is not None:
            before, *after = (_miou(lesson.keep, name) for name in (lesson.init, *models))
            found |= {"nyuv2_val_miou_before": before, "nyuv2_val_miou_after": after}
        write_json_part(out / FIGURES, "fine_tune", found)
    return found


def fine_tune(config: Path, init: str, data: Path, out: Path, seed: int, steps: int) -> Path:
    """Return the bundle ``out/models/seed<seed>``, after making it where it is not there yet.

    It learns from the train split of the folder data set ``data``, a tenth of which is held out, in
    about ``steps`` steps of the optimiser.
    """
    bundle = out / "models" / f"seed{seed}"
    if not (bundle / "model.json").is_file():
        settings = continued_from(TrainConfig.read(config), init)
        settings = for_few_frames(settings, len(Folder(data, "train")), steps)
        name = f"{settings.name}-seed{seed}"
        settings = settings.model_copy(update={"seed": seed, "name": name})
        run = out / f"seed{seed}"
        checkpoint = train(settings, data, run)
        export_checkpoint(run / CONFIG, checkpoint, data, bundle, figures=False)
    return bundle


def for_few_frames(settings: TrainConfig, frames: int, steps: int) -> TrainConfig:
    """Return a run of so many steps, a tenth of the frames held out, and the last half decaying."""
    held_out = max(1, frames // 20)
    batch, learnt = settings.optimiser.batch, frames - 2 * held_out
    if learnt < batch:
        raise ConfigError(
            f"only {frames} frames to learn from: take more with a smaller --motion, or a larger"
            " part with --learn"
        )
    epochs = max(2, round(steps * batch / max(1, learnt)))
    data = {"held_out_blocks": 2, "held_out_length": held_out}
    return settings.model_copy(
        update={
            "epochs": epochs,
            "validations": 3,
            "data": settings.data.model_copy(update=data),
            "optimiser": settings.optimiser.model_copy(
                update={"decay_epochs": max(1, epochs // 2)}
            ),
        }
    )


def _compared(recording: Path, out: Path, lesson: Lesson, models: list[str]) -> dict[str, Any]:
    last, first = (1 - lesson.judge, 1.0), (0.0, lesson.learn)

    def judged(
        model: str, name: str, part: tuple[float, float] = last, scale: float = 1.0
    ) -> dict[str, Any]:
        options = PassOptions(part=part, depth_scale=scale)
        return _judged(recording, model, out / name, options, lesson.registered)

    scale = judged(lesson.init, "first-part", first)["median_scale"]
    before = judged(lesson.init, "before")
    one_scale = judged(lesson.init, "scaled", scale=scale)
    named = zip(lesson.seeds, models, strict=True)
    after = [judged(model, f"after-seed{seed}") for seed, model in named]

    def mean(name: str) -> float:
        return sum(one[name] for one in after) / len(after)

    def reduction(name: str, rival: dict[str, Any]) -> float:
        return 100 * (1 - mean(name) / rival[name])

    normals = before["normals_mean_deg"] is not None
    return {
        "recording": recording.name,
        "model": lesson.init,
        "learnt_from": list(first),
        "judged_on": list(last),
        "seeds": list(lesson.seeds),
        "before": before,
        "before_with_one_scale": {"scale": scale, **one_scale},
        "after": after,
        "depth_abs_err_before": before["depth_abs_err"],
        "depth_abs_err_after": mean("depth_abs_err"),
        "depth_reduction_percent": reduction("depth_abs_err", before),
        "depth_reduction_beyond_one_scale_percent": reduction("depth_abs_err", one_scale),
        "depth_reduction_aligned_percent": reduction("depth_abs_err_aligned", before),
        "normals_mean_deg_before": before["normals_mean_deg"],
        "normals_mean_deg_after": mean("normals_mean_deg") if normals else None,
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


def _miou(data: Path, model: str) -> float:
    frames = NYUv2(data, "val")
    predictor = proto_mtl_ros.load(model, "onnxruntime", "cpu")
    samples = (frames[index] for index in range(len(frames)))
    result = evaluate(predictor, samples, frames.label_set.classes)
    predictor.close()
    return result.metrics["segmentation"]["miou"]


def summary(found: dict[str, Any]) -> list[str]:
    lines = [
        f"depth, {found['before']['pixels']}: {found['depth_abs_err_before']:.3f} m before,"
        f" {found['depth_abs_err_after']:.3f} m after"
        f" ({found['depth_reduction_percent']:.1f} % less)",
        "beyond one scale, fitted where it learnt"
        f" ({found['before_with_one_scale']['depth_abs_err']:.3f} m):"
        f" {found['depth_reduction_beyond_one_scale_percent']:.1f} % less",
        f"with every frame scaled to fit: {found['depth_reduction_aligned_percent']:.1f} % less",
    ]
    if found["normals_mean_deg_before"] is not None:
        lines.append(
            f"normals: {found['normals_mean_deg_before']:.1f} degrees before,"
            f" {found['normals_mean_deg_after']:.1f} after"
        )
    if "nyuv2_val_miou_before" in found:
        after = ", ".join(f"{value:.3f}" for value in found["nyuv2_val_miou_after"])
        before = found["nyuv2_val_miou_before"]
        lines.append(f"mIoU on NYUv2 val: {before:.3f} before, {after} after")
    return lines
