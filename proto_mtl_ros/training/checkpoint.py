# SPDX-License-Identifier: Apache-2.0
"""From a training checkpoint to a network, and to the two files of a bundle."""

from __future__ import annotations

import logging
import warnings
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from proto_mtl_ros.errors import ConfigError
from proto_mtl_ros.files import ScratchFolder
from proto_mtl_ros.model import ProtoMTL
from proto_mtl_ros.model.deploy import DeployGraph
from proto_mtl_ros.runtime.onnx_weights import halve_weights
from proto_mtl_ros.tasks import (
    NYU13,
    LabelSet,
    tasks_over,
)
from proto_mtl_ros.tensor_file import read_torch
from proto_mtl_ros.training.config import TrainConfig
from proto_mtl_ros.training.start import starting_network

LABEL_SET = "label_set"
"""Key of a checkpoint: name, classes and palette of the segmentation labels."""


def _label_set(checkpoint: dict[str, Any]) -> LabelSet:
    """Return the label set of a checkpoint; those of earlier versions are NYUv2's."""
    if LABEL_SET not in checkpoint:
        return NYU13
    stored = checkpoint[LABEL_SET]
    palette = tuple(tuple(colour) for colour in stored["palette"])
    return LabelSet(stored["name"], tuple(stored["classes"]), palette)


def network_from_checkpoint(path: Path, config: TrainConfig) -> tuple[ProtoMTL, int]:
    """Return the network with the averaged (EMA) weights and the epochs it was trained for.

    Of the weights that it started from, ``config.start_share`` is mixed in. Matrices and kernels
    are rounded to fp16, as a bundle stores them, so that everything measured on the result holds
    for the bundle.

    Raises:
        ConfigError: the file is missing or does not fit the configuration.
    """
    if not path.is_file():
        raise ConfigError(f"checkpoint {path} not found; `proto-mtl train` writes it")
    checkpoint = read_torch(path, ConfigError, "train again")
    try:
        # Lightning's averaging callback stores the averaged weights as the state of the model
        state = {
            key.removeprefix("network."): value
            for key, value in checkpoint["state_dict"].items()
            if key.startswith("network.")
        }
        epochs = int(checkpoint["epoch"]) + 1
        label_set = _label_set(checkpoint)
        tasks = tasks_over(config.tasks, label_set)
    except (AttributeError, KeyError, TypeError, ValueError, OverflowError) as error:
        raise ConfigError(
            f"{path} cannot be read as a checkpoint ({type(error).__name__}); train again"
        ) from None
    if config.start_share:
        state = _mixed(state, starting_network(config, tasks).state_dict(), config.start_share)
    network = ProtoMTL(tasks, **config.model.model_dump())
    try:
        network.load_state_dict({key: _rounded(value) for key, value in state.items()})
    except (RuntimeError, AttributeError, TypeError) as error:
        line = str(error).splitlines()[-1].strip()
        raise ConfigError(f"{path} was trained with another configuration: {line}") from None
    return network.eval(), epochs


def _mixed(learnt: dict[str, Tensor], start: dict[str, Tensor], share: float) -> dict[str, Tensor]:
    """Return the learnt weights with so much of those they started from; counters stay."""
    return {
        key: torch.lerp(value, start[key], share)
        if key in start and start[key].shape == value.shape and value.is_floating_point()
        else value
        for key, value in learnt.items()
    }


def _is_half(tensor: Tensor) -> bool:
    """Matrices and kernels are stored as fp16; norms, biases and statistics keep fp32."""
    return tensor.is_floating_point() and tensor.ndim >= 2


def _rounded(tensor: Tensor) -> Tensor:
    return tensor.half().float() if _is_half(tensor) else tensor


def weights_file(network: ProtoMTL) -> bytes:
    """Return the content of ``weights.safetensors``."""
    import safetensors.torch

    return safetensors.torch.save(
        {
            key: (value.half() if _is_half(value) else value).contiguous()
            for key, value in network.state_dict().items()
        }
    )


def onnx_file(network: ProtoMTL, temperature: float, height: int, width: int) -> bytes:
    """Return the content of ``model.onnx``: the deployed graph with fp16 initialisers.

    Batch, height and width are dynamic (height and width in multiples of 32). Initialisers are
    cast to fp32 in the graph; runtimes fold the cast when they load it.
    """
    import onnx

    graph = DeployGraph(network, temperature).eval()
    example = torch.zeros(2, height, width, 3, dtype=torch.uint8)
    dim = torch.export.Dim
    shapes = {"image": {0: dim("batch"), 1: 32 * dim("rows"), 2: 32 * dim("columns")}}
    # what it says of torchvision and of its own inside is no news to anybody
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        program = torch.onnx.export(
            graph,
            (example,),
            dynamo=True,
            input_names=["image"],
            output_names=list(graph.outputs),
            dynamic_shapes=shapes,
            opset_version=20,
            verbose=False,
        )
    assert program is not None
    with ScratchFolder("export") as folder:
        path = folder / "model.onnx"
        program.save(str(path), external_data=False)
        model = onnx.load(str(path))
    halve_weights(model)
    for node in model.graph.node:
        # source locations of the exporting machine do not belong in a published file
        del node.metadata_props[:]
        node.doc_string = ""
    for value in (*model.graph.value_info, *model.graph.input, *model.graph.output):
        del value.metadata_props[:]
    del model.metadata_props[:], model.graph.metadata_props[:]
    onnx.checker.check_model(model)
    return model.SerializeToString()
