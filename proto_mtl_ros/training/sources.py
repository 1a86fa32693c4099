# SPDX-License-Identifier: Apache-2.0
"""The data sets of a training: what is learnt from, held out, reported on; normals of depth
labels."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np

from proto_mtl_ros.data.label_set import LABEL_SETS
from proto_mtl_ros.data.registry import open_source
from proto_mtl_ros.data.sample import ClassMapped, FrameSource, Sample
from proto_mtl_ros.data.table import NoSplitError, hold_out
from proto_mtl_ros.errors import ConfigError
from proto_mtl_ros.geometry import height_at, resize
from proto_mtl_ros.geometry.normals import depth_to_normals
from proto_mtl_ros.runtime.bundle import Bundle
from proto_mtl_ros.tasks import LabelSet
from proto_mtl_ros.training.config import TrainConfig


def split_frames(config: TrainConfig, data: Path) -> tuple[FrameSource, FrameSource]:
    """Return (train, held out) of the train split; held-out frames keep every label."""
    options = config.data
    ids = open_split(config, data, "train").frame_ids[: options.limit]
    if options.held_out:
        held = [frame for frame in ids if frame in {*options.held_out}]
        kept = [frame for frame in ids if frame not in {*options.held_out}]
    else:
        kept, held = hold_out(ids, options.held_out_blocks, options.held_out_length)
    return (
        open_split(config, data, "train", kept, manifest_of(config, data)),
        open_split(config, data, "train", held),
    )


def manifest_of(config: TrainConfig, data: Path) -> Path | None:
    """Return the label manifest of a run; an absolute path stands alone."""
    name = config.data.manifest
    return None if name is None else (data if data.is_dir() else data.parent) / name


def reported_frames(config: TrainConfig, data: Path) -> tuple[FrameSource, str]:
    """Return the frames that figures are reported on, with every label, and what they are.

    The val split; in a data set without one of its own, the frames held out of train.
    """
    train, held_out = split_frames(config, data)
    try:
        val = open_split(config, data, "val")
    except NoSplitError:
        val = train
    if set(val.frame_ids) & {*train.frame_ids, *held_out.frame_ids}:
        count = len(held_out)
        return held_out, f"{count} frame{'s' if count != 1 else ''} held out of training"
    return val, "val split"


def open_split(
    config: TrainConfig,
    data: Path,
    split: str,
    frame_ids: list[str] | None = None,
    manifest: Path | None = None,
) -> FrameSource:
    """Return frames of a split; without masks their classes are those of the starting model."""
    options = config.data
    if options.label_set is not None and options.label_set not in LABEL_SETS:
        raise ConfigError(
            f"data.label_set: {options.label_set!r} is not known; there are {', '.join(LABEL_SETS)}"
        )
    source = open_source(
        options.kind,
        data,
        split,
        manifest=manifest,
        frame_ids=frame_ids,
        class_map=options.class_map,
        label_set=LABEL_SETS[options.label_set] if options.label_set else None,
        options=options.options,
    )
    if config.start_from is not None and "segmentation" not in source.tasks:
        start = Bundle.load(config.start_from).manifest
        label_set = LabelSet(start.name, start.classes, start.palette)
        return ClassMapped(source, label_set, None) if start.classes else source
    return source


_WIDTH = 320  # a quarter of the time of 640 pixels, and more than a training looks at
_WINDOW = 7
_PASSES = 40
_SIGMA = 1.5


def normals_of_depth(sample: Sample, step: float = 0.0) -> np.ndarray:
    """Return unit normals float32 [H, W, 3] of the sample's depth label; (0, 0, 0) is invalid.

    ``step`` is the quantisation of the label in metres. The staircase that it makes of a slanted
    plane is relaxed first: smoothed again and again, never leaving the step.
    """
    depth, camera = sample.labels["depth"], sample.camera
    height, width = depth.shape
    if width > _WIDTH:
        camera = camera.resized(_WIDTH, height_at(_WIDTH, depth))
        depth = resize(depth, camera.width, camera.height, "nearest")
    valid = np.isfinite(depth) & (depth > 0)
    depth = np.where(valid, depth, 0).astype(np.float32)
    noise: float | np.ndarray = 0.002
    if step > 0:
        low, high, smooth = depth - step / 2, depth + step / 2, depth
        weight = cv2.GaussianBlur(valid.astype(np.float32), (0, 0), _SIGMA)
        for _ in range(_PASSES):
            blurred = cv2.GaussianBlur(np.where(valid, smooth, 0), (0, 0), _SIGMA)
            smooth = np.clip(blurred / np.maximum(weight, 1e-6), low, high)
        depth = np.where(valid, smooth, 0).astype(np.float32)
        # relative to inverse depth, and what is left of the step after relaxing
        noise = (0.7 * step / np.maximum(depth, 0.1)).astype(np.float32)
    normals = depth_to_normals(depth, camera, window=_WINDOW, noise=noise)
    return resize(normals, width, height, "nearest")
