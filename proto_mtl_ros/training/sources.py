# SPDX-License-Identifier: Apache-2.0
"""The data sets of a training: what is learnt from, what is held out, what is reported on."""

from __future__ import annotations

from pathlib import Path

from ..data.nyuv2 import hold_out
from ..data.registry import open_source
from ..data.source import FrameSource
from .config import TrainConfig


def split_frames(config: TrainConfig, data: Path) -> tuple[FrameSource, FrameSource]:
    """Return (train, held out) of the train split; held-out frames keep every label.

    Args:
        config: the run.
        data: folder (or file) of the data set.

    Raises:
        DataError: the data set is incomplete or too small.
    """
    options = config.data
    everything = open_source(options.kind, data, options.train_split, options=options.options)
    ids = everything.frame_ids[: options.limit]
    kept, held = hold_out(ids, options.held_out_blocks, options.held_out_length)
    manifest = None if options.manifest is None else Path(options.manifest)
    if manifest is not None and not manifest.is_absolute():
        manifest = (data if data.is_dir() else data.parent) / manifest
    return (
        _open(config, data, options.train_split, kept, manifest),
        _open(config, data, options.train_split, held),
    )


def val_frames(config: TrainConfig, data: Path) -> FrameSource:
    """Return the split that figures are reported on, with every label."""
    return _open(config, data, config.data.val_split)


def _open(
    config: TrainConfig,
    data: Path,
    split: str,
    frame_ids: list[str] | None = None,
    manifest: Path | None = None,
) -> FrameSource:
    options = config.data
    return open_source(
        options.kind, data, split, manifest=manifest, frame_ids=frame_ids, options=options.options
    )
