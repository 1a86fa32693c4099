# SPDX-License-Identifier: Apache-2.0
"""`proto-mtl bag learn`: a model fine-tuned on a robot's own recording, and what that was worth."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from proto_mtl_ros.cli import comma_list
from proto_mtl_ros.cli.engine_options import (
    SHIPPED_MODEL,
    open_predictor,
)
from proto_mtl_ros.cli.train import own_robot_config
from proto_mtl_ros.errors import ConfigError

FIGURES = "recordings.json"


def learn(
    recording: Annotated[Path, typer.Argument(help="A rosbag2 with colour and depth.")],
    out: Annotated[Path, typer.Option(help="Folder of data, runs and models.")],
    init: Annotated[str, typer.Option(help="Bundle to start from.")] = SHIPPED_MODEL,
    config: Annotated[
        Path | None, typer.Option(help="YAML file of the run; own_robot.yaml without it.")
    ] = None,
    learn_from: Annotated[
        float, typer.Option("--learn", min=0.05, max=0.9, help="First part, to learn from.")
    ] = 0.5,
    judge: Annotated[float, typer.Option(min=0.05, max=0.9, help="Last part, to judge by.")] = 1
    / 3,
    motion: Annotated[float, typer.Option(min=0, help="See `dataset convert`.")] = 0.008,
    steps: Annotated[
        int, typer.Option(min=10, help="Optimiser steps, about, whatever the number of frames.")
    ] = 600,
    seeds: Annotated[str, typer.Option(help="With commas between.")] = "0,1",
    keep: Annotated[
        Path | None,
        typer.Option(help="NYUv2 pack: is what the model knew of classes still there?"),
    ] = None,
    registered: Annotated[
        bool, typer.Option(help="Depth pixels are the image's, although the frames differ.")
    ] = False,
    docs: Annotated[
        Path | None, typer.Option(help="Folder whose recordings.json gets the figures.")
    ] = None,
) -> None:
    """Fine-tune a model on the first part of a recording and judge it by the last part.

    Depth and the normals derived from it are what the recording teaches; the classes stay exactly
    as they are. Beside the fine-tuned models stand honest
    rivals: the model as it was, the same with one scale that fits the first part best, and both
    with every frame scaled to fit. What is finished is not done again.
    """
    if learn_from + judge > 1:
        raise ConfigError("--learn and --judge are more than the whole recording")
    from proto_mtl_ros.locks import sole_use

    numbers = comma_list.numbers(seeds, "--seeds")
    with sole_use(out):
        found = _learnt(
            recording, out, init, config, learn_from, judge, motion, steps, numbers, keep,
            registered, docs,
        )  # fmt: skip
    for line in _said(found):
        typer.echo(line)


def _learnt(
    recording: Path,
    out: Path,
    init: str,
    config: Path | None,
    learn_from: float,
    judge: float,
    motion: float,
    steps: int,
    numbers: list[int],
    keep: Path | None,
    registered: bool,
    docs: Path | None,
) -> dict[str, Any]:
    """Do what is not done yet; return the figures, which are written down."""
    from proto_mtl_ros.data.bags.conversion import convert_recording
    from proto_mtl_ros.data.bags.recording import BagRecording
    from proto_mtl_ros.files import write_json_part
    from proto_mtl_ros.training.learn import fine_tune

    with BagRecording(recording) as opened:
        if opened.topics.depth is None:
            raise ConfigError(f"{recording} has no depth topic to learn from")

    data = out / "data"
    between = 1 - learn_from - judge
    skip = [("skip", round(between, 6))] if between > 0.01 else []
    blocks = [("train", round(learn_from, 6)), *skip, ("test", round(judge, 6))]
    options = {"registered": registered}
    convert_recording(recording, data, blocks, motion, options, say=typer.echo)
    run = config or own_robot_config()
    models = {seed: fine_tune(run, init, data, out, seed, steps) for seed in numbers}
    last, first = (1 - judge, 1.0), (0.0, learn_from)
    scale = _judged(recording, init, out / "first-part", first, registered)["median_scale"]
    found: dict[str, Any] = {
        "recording": recording.name,
        "model": init,
        "learnt_from": list(first),
        "judged_on": list(last),
        "seeds": numbers,
        "before": _judged(recording, init, out / "before", last, registered),
        "before_with_one_scale": {
            "scale": scale,
            **_judged(recording, init, out / "scaled", last, registered, scale),
        },
        "after": [
            _judged(recording, str(models[seed]), out / f"after-seed{seed}", last, registered)
            for seed in numbers
        ],
    }
    found |= _summed(found)
    if keep is not None:
        before, *after = (
            _miou(keep, name) for name in (init, *(str(models[seed]) for seed in numbers))
        )
        found |= {"nyuv2_val_miou_before": before, "nyuv2_val_miou_after": after}
    for folder in (out, docs):
        if folder is not None:
            write_json_part(folder / FIGURES, "fine_tune", found)
    return found


def _judged(
    recording: Path,
    model: str,
    out: Path,
    part: tuple[float, float],
    registered: bool,
    scale: float = 1.0,
) -> dict[str, Any]:
    """Return the figures of a model on a part of the recording."""
    from proto_mtl_ros.data.bags.calibration import Calibration
    from proto_mtl_ros.data.bags.recording import BagRecording
    from proto_mtl_ros.evaluation.bag_evaluation import RECORDS
    from proto_mtl_ros.evaluation.bag_pass import BagPass, PassOptions
    from proto_mtl_ros.evaluation.depth_error import fair_mask

    with BagRecording(recording) as opened:
        calibration = Calibration.of(opened, registered=registered)
        predictor = open_predictor(model, "onnxruntime", "cpu")
        options = PassOptions(part=part, depth_scale=scale)
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
    """Return the mIoU of a model on the val split of NYUv2."""
    from proto_mtl_ros.data.nyuv2 import NYUv2
    from proto_mtl_ros.evaluation.dataset import evaluate

    frames = NYUv2(data, "val")
    predictor = open_predictor(model, "onnxruntime", "cpu")
    samples = (frames[index] for index in range(len(frames)))
    result = evaluate(predictor, samples, frames.label_set.classes)
    predictor.close()
    return result.metrics["segmentation"]["miou"]


def _summed(found: dict[str, Any]) -> dict[str, Any]:
    """Return the figures that stand for all seeds, the mean over them."""
    before, after = found["before"], found["after"]

    def mean(name: str) -> float | None:
        values = [one[name] for one in after]
        return None if None in values else sum(values) / len(values)

    error = mean("depth_abs_err")
    assert error is not None
    one_scale = found["before_with_one_scale"]["depth_abs_err"]
    aligned = mean("depth_abs_err_aligned")
    assert aligned is not None
    return {
        "depth_abs_err_before": before["depth_abs_err"],
        "depth_abs_err_after": error,
        "depth_reduction_percent": 100 * (1 - error / before["depth_abs_err"]),
        "depth_reduction_beyond_one_scale_percent": 100 * (1 - error / one_scale),
        "depth_reduction_aligned_percent": 100 * (1 - aligned / before["depth_abs_err_aligned"]),
        "normals_mean_deg_before": before["normals_mean_deg"],
        "normals_mean_deg_after": mean("normals_mean_deg"),
    }


def _said(found: dict[str, Any]) -> list[str]:
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
        lines.append(
            f"mIoU on NYUv2 val: {found['nyuv2_val_miou_before']:.3f} before, {after} after"
        )
    return lines
