# SPDX-License-Identifier: Apache-2.0
"""A model judged by a recording, from the bag to its figures and the report."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from proto_mtl_ros.data.bags.calibration import Calibration
from proto_mtl_ros.data.bags.recording import BagRecording
from proto_mtl_ros.data.bags.topics import IMAGE
from proto_mtl_ros.errors import ConfigError, DataError
from proto_mtl_ros.evaluation.bag_pass import BagPass, PassOptions, Progress
from proto_mtl_ros.evaluation.depth_error import REGISTRATIONS, fair_mask
from proto_mtl_ros.evaluation.recording_report import write_recording_report
from proto_mtl_ros.evaluation.report import machine_facts
from proto_mtl_ros.files import read_yaml, sole_use, write_text
from proto_mtl_ros.geometry.registration import rigid_transform
from proto_mtl_ros.runtime.predictor import Predictor

RECORDS, RESULTS, REPORT = "frames.jsonl", "results.json", "report.html"


def evaluate_bag(
    recording: BagRecording,
    calibration: Calibration,
    predictor: Predictor,
    out: Path,
    options: PassOptions,
    progress: Progress = lambda done, of: None,
) -> dict[str, Any]:
    """Run a model over a recording; write records, figures and the report, return the figures.

    Args:
        out: folder; a pass that was stopped there goes on.

    Raises:
        DataError: there are no label images in the topic that the options name.
    """
    if options.labels_topic is not None:
        first = next(recording.messages_of([options.labels_topic]), None)
        if first is None or first.type != IMAGE:
            raise DataError(
                f"{recording.path} has no images of class ids in {options.labels_topic}: see"
                " `proto-mtl bag info`"
            )
    bundle, engine = predictor.bundle, predictor.engine
    with sole_use(out):
        run = BagPass(recording, predictor, calibration, options)
        predictor.warm_up()
        found = run.figures(out / RECORDS, progress)
        frames, topics = run.frames, recording.topics
        figures = {
            "recording": {
                "path": recording.path.name,
                "seconds": recording.duration,
                "images": frames.passed,
                "damaged_images": found.pop("damaged"),
                "repeated_stamps": frames.repeated,
                "image_topic": topics.image.name,
                "depth_topic": topics.depth.name if topics.depth else None,
                "matched": frames.matched,
                "registration": calibration.registration,
                "notes": [*recording.notes, *calibration.notes, *frames.notes()],
            },
            "model": {"name": bundle.name, "engine": engine.choice},
            "metric": calibration.camera is not None,
            **found,
        }
        write_text(out / RESULTS, json.dumps(figures, indent=1, allow_nan=False) + "\n")
        facts = {
            "model": f"{bundle.name}, trained on {bundle.manifest.training.data}",
            "engine": engine.choice,
            **machine_facts(),
        }
        report = out / REPORT
        write_recording_report(report, figures, run.rows(), bundle.classes, bundle.palette, facts)
    return figures


def read_extrinsics(path: Path) -> np.ndarray:
    """Return the 4x4 matrix of a YAML with translation [x, y, z] and rotation [x, y, z, w].

    Raises:
        ConfigError: it has none.
    """
    content = read_yaml(path, ConfigError)
    try:
        return rigid_transform(content["translation"], content.get("rotation", (0, 0, 0, 1)))
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise ConfigError(
            f"{path} has no extrinsics ({error}): give translation: [x, y, z] and rotation:"
            " [x, y, z, w]"
        ) from None


def summary(figures: Mapping[str, Any]) -> list[str]:
    """Return the main figures, a line each."""
    lines = [f"{figures['frames']} frames, engine p50 {figures['ms']['infer']['p50']:.1f} ms"]
    lines += [f"note: {note}" for note in figures["recording"]["notes"]]
    depth = figures["depth"]
    if depth is not None:
        registration = figures["recording"]["registration"]
        lines.append(REGISTRATIONS[registration])
        name = fair_mask(registration != "none")
        for key, text in (("", "as it is"), ("_aligned", "scaled"), ("_affine", "scaled, shifted")):
            own = depth[name + key]
            lines.append(
                f"depth, {text}: abs {own['abs_err']:.3f} m, rel {own['rel_err']:.3f}, delta <"
                f" 1.25 {own['delta1']:.3f}"
            )
        lines.append(f"median scale of the frames: {depth['median_scale']:.3f}")
    for name, text in (("normals", "measured"), ("consistency", "predicted")):
        if figures[name] is not None:
            mean, median = figures[name]["mean_deg"], figures[name]["median_deg"]
            lines.append(
                f"normals against those of {text} depth: mean {mean:.1f}, median {median:.1f} deg"
            )
    if figures["segmentation"] is not None:
        lines.append(f"mIoU {figures['segmentation']['miou']:.3f}")
    for name, text in (("flicker", "classes that change"), ("jitter", "depth that changes")):
        if name in figures["stability"]:
            lines.append(f"{text} along the flow: {100 * figures['stability'][name]:.1f} %")
    return lines
