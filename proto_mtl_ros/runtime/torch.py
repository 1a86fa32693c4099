# SPDX-License-Identifier: Apache-2.0
"""The torch backend: the reference that exported graphs are compared with."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from proto_mtl_ros.errors import EngineError, one_line
from proto_mtl_ros.runtime.backend import Engine, EngineOptions, register_backend
from proto_mtl_ros.runtime.bundle import Bundle

if TYPE_CHECKING:
    from proto_mtl_ros.model import ProtoMTL
    from proto_mtl_ros.model.deploy import DeployGraph


@register_backend
class TorchEngine(Engine):
    """Runs ``weights.safetensors``.

    ``threads`` other than 0 sets the number of threads of all of torch in this process.
    """

    name = "torch"
    title = "torch"
    requires = (("torch",), ("safetensors",))
    install = "pip install torch safetensors"
    ranks = {("cuda", "fp16"): 30, ("cuda", "fp32"): 50, ("cpu", "fp32"): 40}

    def __init__(self, bundle: Bundle, options: EngineOptions) -> None:
        import torch

        from proto_mtl_ros.model.deploy import DeployGraph

        if options.threads:
            torch.set_num_threads(options.threads)
        device, fallback = _choose_device(options.device)
        said = bundle.manifest
        graph = DeployGraph(network_of(bundle), said.temperature, said.confidence).eval()
        graph.requires_grad_(False)
        graph.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        try:
            graph.to(device)
        except RuntimeError as error:
            fallback = f"torch cannot use {device} ({one_line(error)}); running on the CPU"
            device = "cpu"
            graph.to(device)
        on_gpu = device != "cpu"
        precision = options.precision
        if precision == "auto":
            precision = "fp16" if on_gpu else "fp32"
        if precision == "int8" or (precision == "fp16" and not on_gpu):
            raise EngineError(
                f"torch does not run {precision} on {device}: choose fp32"
                + (" or fp16" if on_gpu else "")
            )
        super().__init__(bundle.manifest, device, precision, fallback)
        self._graph: DeployGraph | None = graph

    def _run(self, images: np.ndarray) -> dict[str, np.ndarray]:
        assert self._graph is not None
        return run_graph(self._graph, images, self.device, half=self.precision == "fp16")

    def _release(self) -> None:
        self._graph = None
        if self.device.startswith("cuda"):
            import torch

            torch.cuda.empty_cache()


def run_graph(
    graph: DeployGraph, images: np.ndarray, device: str, half: bool = False
) -> dict[str, np.ndarray]:
    """Run a deployed graph on uint8[B, H, W, 3] images and return its maps by name."""
    import torch

    if not images.flags.writeable:
        images = images.copy()  # torch warns of memory that it might write to
    cast = torch.autocast("cuda", torch.float16, enabled=half)
    with torch.inference_mode(), cast:
        maps = graph(torch.from_numpy(images).to(device))
        return {
            name: (values.float() if half and values.is_floating_point() else values)
            .contiguous()
            .cpu()
            .numpy()
            for name, values in zip(graph.outputs, maps, strict=True)
        }


def _choose_device(wanted: str) -> tuple[str, str | None]:
    """Return the device to use, and why it is not the wanted one."""
    if wanted == "cpu":
        return "cpu", None
    import torch

    if not torch.cuda.is_available():
        why = "torch finds no CUDA GPU (check the driver, and that this torch is a CUDA build)"
        return "cpu", None if wanted == "auto" else f"{why}; running on the CPU"
    index, count = int(wanted.partition(":")[2] or 0), torch.cuda.device_count()
    if index >= count:
        return "cpu", f"there is no GPU {index}, only {count}; running on the CPU"
    return f"cuda:{index}", None


def network_of(bundle: Bundle) -> ProtoMTL:
    """Build the network of ``bundle`` in fp32 with its weights.

    Its size is compared with the header of the weights before anything is allocated. EngineError:
    this release cannot build the architecture, or the weights are of another.
    """
    import torch

    from proto_mtl_ros.files.tensors import read_safetensors, tensor_shapes
    from proto_mtl_ros.model import build_from_manifest

    path = bundle.weights_path
    advice = "export the model again"
    try:
        with torch.device("meta"):  # shapes alone
            state = build_from_manifest(dict(bundle.manifest.architecture)).state_dict()
        planned = {name: tuple(tensor.shape) for name, tensor in state.items()}
        stated = tensor_shapes(path, EngineError)
        if planned != stated:
            names = [n for n in {**planned, **stated} if planned.get(n) != stated.get(n)]
            raise EngineError(
                f"{path} does not hold the weights of its architecture ({one_line(names[0])} and"
                f" {len(names) - 1} more differ): {advice}"
            )
        network = build_from_manifest(dict(bundle.manifest.architecture))
    except EngineError:
        raise
    except Exception as error:  # whatever free-form keys lead to
        raise EngineError(
            f"this release cannot build the architecture of {bundle.name}"
            f" ({type(error).__name__}: {one_line(error)}): update proto_mtl_ros, or use the"
            " onnxruntime backend"
        ) from None
    network.load_state_dict(read_safetensors(path, EngineError, advice))  # as fp32
    return network
