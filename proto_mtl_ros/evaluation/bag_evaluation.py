# SPDX-License-Identifier: Apache-2.0
"""A model judged by a recording, from the bag to its figures and the report."""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from proto_mtl_ros.data.bags.calibration import Calibration
from proto_mtl_ros.data.bags.pictures import IMAGE, decode_ids
from proto_mtl_ros.data.bags.recording import BagRecording
from proto_mtl_ros.errors import BagError, ConfigError, DataError
from proto_mtl_ros.evaluation.bag_pass import BagPass, PassOptions, Progress
from proto_mtl_ros.evaluation.depth_error import fair_mask
from proto_mtl_ros.evaluation.recording_report import write_recording_report
from proto_mtl_ros.evaluation.report import filled, machine_facts
from proto_mtl_ros.files import read_yaml, sole_use, write_text
from proto_mtl_ros.geometry.registration import rigid_transform
from proto_mtl_ros.runtime.predictor import Predictor
from proto_mtl_ros.tasks import IGNORE_INDEX

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

    A pass that was stopped in the folder ``out`` goes on. Labels that are recorded beside the
    images are used where their ids can be the model's. Raises DataError when there are no label
    images in the topic that the options name.
    """
    labels, said = recorded_labels(recording, options.labels_topic, len(predictor.bundle.classes))
    options = replace(options, labels_topic=labels)
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
                "notes": [*recording.notes, *calibration.notes, *said, *frames.notes()],
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


def recorded_labels(
    recording: BagRecording, asked: str | None, classes: int
) -> tuple[str | None, list[str]]:
    """Return the topic of class ids to compare with, and what was decided."""
    if asked is not None:
        first = next(recording.messages_of([asked]), None)
        if first is None or first.type != IMAGE:
            raise DataError(
                f"{recording.path} has no images of class ids in {asked}: see `proto-mtl bag info`"
            )
        return asked, []
    if recording.topics.labels is None:
        return None, []
    name = recording.topics.labels.name
    for message in recording.messages_of([name]):
        with suppress(BagError):
            ids = decode_ids(message)
            if ids[ids != IGNORE_INDEX].max(initial=0) < classes:
                return name, [f"labels of {name} are read as ids of the model's classes"]
            return None, [f"labels of {name} have ids beyond the model's {classes}: not used"]
    return None, []


def read_extrinsics(path: Path) -> np.ndarray:
    """Return the 4x4 matrix of a YAML with translation [x, y, z] and rotation [x, y, z, w]."""
    content = read_yaml(path, ConfigError)
    try:
        return rigid_transform(content["translation"], content.get("rotation", (0, 0, 0, 1)))
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise ConfigError(
            f"{path} has no extrinsics ({error}): give translation: [x, y, z] and rotation:"
            " [x, y, z, w]"
        ) from None


def summary(figures: Mapping[str, Any]) -> str:
    """Return the main figures, a line each."""
    mask = fair_mask(figures["recording"]["registration"] != "none")
    return filled("summary.txt", **figures, mask=mask)
