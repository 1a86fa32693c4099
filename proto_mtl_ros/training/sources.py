# SPDX-License-Identifier: Apache-2.0
"""The data sets of a training: what is learnt from, what is held out, what is reported on."""

from __future__ import annotations

from pathlib import Path

from proto_mtl_ros.data.label_set import LABEL_SETS
from proto_mtl_ros.data.registry import open_source
from proto_mtl_ros.data.sample import FrameSource
from proto_mtl_ros.data.table import NoSplitError, hold_out
from proto_mtl_ros.errors import ConfigError
from proto_mtl_ros.training.config import TrainConfig


def split_frames(config: TrainConfig, data: Path) -> tuple[FrameSource, FrameSource]:
    """Return (train, held out) of the train split; held-out frames keep every label.

    Raises:
        ConfigError: the configuration asks for something that the data set does not have.
        DataError: the data set is incomplete or too small.
    """
    options = config.data
    ids = _open(config, data, "train").frame_ids[: options.limit]
    kept, held = hold_out(ids, options.held_out_blocks, options.held_out_length)
    manifest = None
    if options.manifest is not None:  # an absolute path stands alone
        manifest = (data if data.is_dir() else data.parent) / options.manifest
    return _open(config, data, "train", kept, manifest), _open(config, data, "train", held)


def reported_frames(config: TrainConfig, data: Path) -> tuple[FrameSource, str]:
    """Return the frames that figures are reported on, with every label, and what they are.

    The val split; in a data set without one of its own, the frames held out of train.
    """
    train, held_out = split_frames(config, data)
    try:
        val = _open(config, data, "val")
    except NoSplitError:
        val = train
    if set(val.frame_ids) & {*train.frame_ids, *held_out.frame_ids}:
        return held_out, f"{len(held_out)} frames held out of training"
    return val, "val split"


def _open(
    config: TrainConfig,
    data: Path,
    split: str,
    frame_ids: list[str] | None = None,
    manifest: Path | None = None,
) -> FrameSource:
    options = config.data
    if options.label_set is not None and options.label_set not in LABEL_SETS:
        raise ConfigError(
            f"data.label_set: {options.label_set!r} is not known; there are {', '.join(LABEL_SETS)}"
        )
    return open_source(
        options.kind,
        data,
        split,
        manifest=manifest,
        frame_ids=frame_ids,
        class_map=options.class_map,
        label_set=LABEL_SETS[options.label_set] if options.label_set else None,
        options=options.options,
    )
