# SPDX-License-Identifier: Apache-2.0
"""The torch backend: the reference that exported graphs are compared with."""

from __future__ import annotations

import time

import numpy as np
import safetensors
import safetensors.torch
import torch

from proto_mtl_ros.errors import EngineError, one_line
from proto_mtl_ros.model import ProtoMTL, build_from_manifest
from proto_mtl_ros.model.deploy import DeployGraph

from .bundle import Bundle
from .engine import (
    EngineNotBuilt,
    EngineOptions,
    check_images,
    check_outputs,
    grey_images,
    promised_outputs,
)


class TorchEngine:
    """Runs ``weights.safetensors``. Used by one thread at a time; see ``engine.Engine``.

    ``threads`` other than 0 sets the number of threads of all of torch in this process.
    """

    name = "torch"
    not_built: EngineNotBuilt | None = None

    def __init__(self, bundle: Bundle, options: EngineOptions) -> None:
        """Build the network and load its weights; see ``engine.create_engine``."""
        self._manifest = bundle.manifest
        self._outputs = promised_outputs(bundle.manifest)
        if options.threads:
            torch.set_num_threads(options.threads)
        self.device, self.fallback = _choose_device(options.device)
        self.choice = f"{self.name} on {self.device}"
        graph = DeployGraph(_network(bundle), bundle.manifest.temperature).eval()
        graph.requires_grad_(False)
        graph.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        try:
            graph.to(self.device)
        except RuntimeError as error:
            self.fallback = (
                f"torch cannot use {self.device} ({one_line(error)}); running on the CPU"
            )
            self.device = "cpu"
            graph.to(self.device)
        on_gpu = self.device != "cpu"
        self.precision = options.precision
        if self.precision == "auto":
            self.precision = "fp16" if on_gpu else "fp32"
        if self.precision == "int8" or (self.precision == "fp16" and not on_gpu):
            raise EngineError(
                f"torch does not run {self.precision} on {self.device}: choose fp32"
                + (" or fp16" if on_gpu else "")
            )
        self._graph: DeployGraph | None = graph

    def infer(self, images: np.ndarray) -> dict[str, np.ndarray]:
        """See ``engine.Engine``."""
        if self._graph is None:
            raise EngineError("the engine was closed: create another one")
        images = check_images(images, self._manifest.size_multiple)
        if not images.flags.writeable:
            images = images.copy()  # torch warns of memory that it might write to
        try:
            half = torch.autocast("cuda", torch.float16, enabled=self.precision == "fp16")
            with torch.inference_mode(), half:
                maps = self._graph(torch.from_numpy(images).to(self.device))
                named = dict(zip(self._graph.outputs, maps, strict=True))
                arrays = {
                    name: _as_promised(named[name]).contiguous().cpu().numpy()
                    for name in self._outputs
                    if name in named
                }
        except RuntimeError as error:
            raise EngineError(f"torch failed on {list(images.shape)}: {one_line(error)}") from None
        return check_outputs(arrays, self._outputs, images)

    def warm_up(self, batch: int = 1, size: tuple[int, int] | None = None) -> float:
        """See ``engine.Engine``."""
        start = time.perf_counter()
        self.infer(grey_images(self._manifest, batch, size))
        return time.perf_counter() - start

    def close(self) -> None:
        """See ``engine.Engine``."""
        self._graph = None
        if self.device.startswith("cuda"):
            torch.cuda.empty_cache()


def load(bundle: Bundle, options: EngineOptions) -> TorchEngine:
    """Create the engine; see ``engine.create_engine``."""
    return TorchEngine(bundle, options)


def _as_promised(values: torch.Tensor) -> torch.Tensor:
    return values.float() if values.is_floating_point() else values


def _choose_device(wanted: str) -> tuple[str, str | None]:
    """Return the device to use, and why it is not the wanted one."""
    if wanted == "cpu":
        return "cpu", None
    if not torch.cuda.is_available():
        why = "torch finds no CUDA GPU (check the driver, and that this torch is a CUDA build)"
        return "cpu", None if wanted == "auto" else f"{why}; running on the CPU"
    index = int(wanted.partition(":")[2] or 0)
    if index >= torch.cuda.device_count():
        return (
            "cpu",
            f"there is no GPU {index}, only {torch.cuda.device_count()}; running on the CPU",
        )
    return f"cuda:{index}", None


def _network(bundle: Bundle) -> ProtoMTL:
    """Build the network of ``bundle`` in fp32 with its weights.

    Raises:
        EngineError: this release cannot build the architecture, or the weights are of another.
    """
    path = bundle.weights_path
    try:
        network = build_from_manifest(dict(bundle.manifest.architecture))
    except Exception as error:  # whatever free-form keys lead to
        raise EngineError(
            f"this release cannot build the architecture of {bundle.name}"
            f" ({type(error).__name__}: {one_line(error)}): update proto_mtl_ros, or use the"
            " onnxruntime backend"
        ) from None
    try:
        stored = safetensors.torch.load_file(path)
        weights = {
            name: tensor.float() if tensor.is_floating_point() else tensor
            for name, tensor in stored.items()
        }
        network.load_state_dict(weights)
    except (safetensors.SafetensorError, RuntimeError, OSError) as error:
        raise EngineError(
            f"{path} does not hold the weights of its architecture ({one_line(error)}):"
            " export the model again"
        ) from None
    return network
