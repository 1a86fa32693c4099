# SPDX-License-Identifier: Apache-2.0
"""What is written down of a configuration, and whether it is still the one that is asked for."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmark.runs import Run
from proto_mtl_ros.errors import ConfigError
from proto_mtl_ros.training.checkpoint import differences
from proto_mtl_ros.training.config import TrainConfig
from proto_mtl_ros.training.upgrade import upgraded

TRAINED = "trained.json"
"""Written beside the checkpoint when the training is complete."""

_OF_NO_ACCOUNT = {"name", "notes", "threads"}
"""Keys of a configuration that change neither the network nor its figures."""


def recorded(config: TrainConfig) -> dict[str, Any]:
    """Return a configuration as files hold it: without paths of this machine."""
    content = config.model_dump(mode="json")
    content["distillation"].pop("teachers", None)
    return content


def difference(before: Mapping[str, Any], config: TrainConfig) -> str | None:
    """Return how a recorded configuration differs from ``config``, None where it does not.

    A key that is younger than the record counts with its default, which is how it was then.
    """
    try:
        old = recorded(TrainConfig.model_validate(upgraded(_renamed(before))))
    except ValueError as error:
        return f"a configuration of another version ({type(error).__name__})"
    for key, was, now in differences(old, recorded(config)):
        if key not in _OF_NO_ACCOUNT:
            return f"{key} = {was}, not {now}"
    return None


def _renamed(record: Mapping[str, Any]) -> dict[str, Any]:
    """Return a record with the retrievals that were options of their own in the first release."""
    model = dict(record.get("model", {}))
    if model.pop("class_chain", False):
        model["retrieval"] = "class_chain"
    if model.pop("attention", "softmax") == "linear":
        model["retrieval"] = "linear_attention"
    return {**record, "model": model}


def check_results(runs: Sequence[Run], results: Path) -> None:
    """Refuse figures that were made with another configuration than the protocol's.

    Raises:
        ConfigError: the first such file and key are named.
    """
    for run in runs:
        path = run.result(results)
        if path.is_file():
            differs = difference(json.loads(path.read_text())["config"], run.config())
            if differs is not None:
                raise ConfigError(f"{path} was made with {differs}; delete it to run again")


def is_trained(folder: Path, config: TrainConfig) -> bool:
    """Return whether ``folder`` holds a network that was trained to the end with ``config``."""
    path = folder / TRAINED
    return path.is_file() and difference(json.loads(path.read_text())["config"], config) is None
