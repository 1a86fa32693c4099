# SPDX-License-Identifier: Apache-2.0
"""From a training checkpoint to a bundle that a robot can run."""

from __future__ import annotations

import logging
import math
import warnings
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from torch.nn import functional as F

from proto_mtl_ros.evaluation.before_after import BeforeAfter, compare_models
from proto_mtl_ros.evaluation.engine_check import compare
from proto_mtl_ros.files import ScratchFolder
from proto_mtl_ros.model import ProtoMTL
from proto_mtl_ros.model.deploy import DeployGraph
from proto_mtl_ros.model.network import NetworkOutput
from proto_mtl_ros.model.torch_tasks import torch_task
from proto_mtl_ros.runtime.bundle import CARD, ONNX, WEIGHTS, Bundle
from proto_mtl_ros.runtime.engine import create_engine
from proto_mtl_ros.runtime.half import halve_weights
from proto_mtl_ros.runtime.predictor import Predictor
from proto_mtl_ros.tasks import IGNORE_INDEX, Scalar, UnitVector
from proto_mtl_ros.training.card import manifest, model_card
from proto_mtl_ros.training.checkpoint import is_half, network_from_checkpoint
from proto_mtl_ros.training.config import TrainConfig
from proto_mtl_ros.training.frames import evaluation_loader
from proto_mtl_ros.training.sources import reported_frames, split_frames
from proto_mtl_ros.training.trainer import held_out_store

Progress = Callable[[str, int, int], None]
"""Called with what is being done, how many frames are done, and of how many."""


def export_checkpoint(
    config: Path,
    checkpoint: Path,
    data: Path,
    out: Path,
    figures: bool = True,
    say: Callable[[str], None] = print,
    progress: Progress = lambda what, done, of: None,
) -> tuple[Bundle, BeforeAfter | None]:
    """Write the bundle of a checkpoint to ``out``; return it, and where asked for what it is worth
    beside the model that it started from.

    Figures are of the val split, without one of the held-out frames. EngineError where ONNX and
    torch differ: nothing is written then.
    """
    settings = TrainConfig.read(config)
    network, epochs = network_from_checkpoint(checkpoint, settings)
    frames, held_out = split_frames(settings, data)
    loader = evaluation_loader(held_out_store(settings, held_out), settings)
    start = Bundle.load(settings.start_from) if settings.start_from else None
    before = 1.0 if start is None else start.manifest.temperature
    judged = _outputs(network, loader)
    temperature = fit_temperature(network, judged, settings.seed, before)
    confidence = fit_confidence(network, judged)
    say(f"{epochs} of {settings.epochs} epochs; confidence temperature {temperature}")
    files: dict[str, Path | bytes] = {
        WEIGHTS: weights_file(network),
        ONNX: onnx_file(DeployGraph(network, temperature, confidence), *settings.size),
    }
    made_by = (
        f"proto-mtl train <data> --config {config} --out {checkpoint.parent}"
        f" && proto-mtl export --config {config} --checkpoint {checkpoint} --data <data>"
        f" --out {out}"
    )
    counts = len(frames), len(held_out)
    record = manifest(settings, network, temperature, confidence, epochs, counts, made_by)
    result = None
    with ScratchFolder("export") as folder:
        # judged as a robot would load it; only then written to where a robot finds it
        draft = Bundle.write(folder / settings.name, record, files)
        engine = create_engine(draft, "onnxruntime")
        batches = (batch["image"].numpy() for batch, _ in judged)
        parity = compare(create_engine(draft, "torch"), engine, batches)
        say("\n  ".join(["ONNX against torch, relative error per output:", *parity.lines()]))
        parity.check()
        if figures:
            samples, reported_on = reported_frames(settings, data)
            rival = None if start is None else Predictor(start, create_engine(start, "onnxruntime"))
            result = compare_models(
                rival,
                Predictor(draft, engine),
                samples,
                reported_on,
                lambda done: progress(reported_on, done, len(samples)),
                {task for frame in frames.frame_ids for task in frames.has(frame)},
            )
            record = record.model_copy(update={"metrics": result.after.metrics})
    files[CARD] = model_card(record, settings, parity.lines(), result).encode()
    return Bundle.write(out, record, files), result


def weights_file(network: ProtoMTL) -> bytes:
    """Return the content of ``weights.safetensors``."""
    return safetensors.torch.save(
        {
            key: (value.half() if is_half(value) else value).contiguous()
            for key, value in network.state_dict().items()
        }
    )


def onnx_file(graph: DeployGraph, height: int, width: int) -> bytes:
    """Return the content of ``model.onnx``: the deployed graph with fp16 initialisers.

    Batch, height and width are dynamic (height and width in multiples of 32). Initialisers are
    cast to fp32 in the graph; runtimes fold the cast when they load it.
    """
    import onnx

    graph = graph.eval()
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
    model = program.model_proto
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


Judged = Sequence[tuple[dict[str, Any], NetworkOutput]]
"""Batches of frames that were not trained on, and what the network gives for them."""


@torch.no_grad()
def _outputs(network: ProtoMTL, batches: Iterable[dict[str, Any]]) -> Judged:
    """Run the network once over the batches; what no confidence is fitted to is not kept."""
    outputs = ((batch, network(network.normalise(batch["image"]))) for batch in batches)
    return [(batch, replace(out, pyramid=(), features={}, logits={})) for batch, out in outputs]


_PIXELS_PER_FRAME = 2000


def fit_temperature(network: ProtoMTL, judged: Judged, seed: int, otherwise: float = 1.0) -> float:
    """Return the temperature with the smallest cross entropy on labelled pixels of the stride-4
    logits, which the deployed graph takes its confidence from; 1 without segmentation.

    "On Calibration of Modern Neural Networks" (Guo et al., ICML 2017): one scalar, fitted on frames
    that were not trained on. ``otherwise`` is returned where no pixel is labelled.
    """
    if "segmentation" not in network.names:
        return 1.0
    generator = torch.Generator().manual_seed(seed)
    logits, targets = [], []
    for batch, out in judged:
        raw = out.raw["segmentation"].permute(0, 2, 3, 1)
        # the pixel of the label that lies at the centre of each stride-4 cell
        for scores, label in zip(
            raw.flatten(1, 2), batch["segmentation"][:, 2::4, 2::4].flatten(1)
        ):
            chosen = torch.nonzero(label != IGNORE_INDEX).squeeze(1)
            chosen = chosen[torch.randperm(len(chosen), generator=generator)[:_PIXELS_PER_FRAME]]
            logits.append(scores[chosen])
            targets.append(label[chosen].long())
    if not sum(map(len, targets)):
        return otherwise
    all_logits, all_targets = torch.cat(logits), torch.cat(targets)
    candidates = torch.logspace(-0.5, 0.7, 121)
    losses = [float(F.cross_entropy(all_logits / t, all_targets)) for t in candidates]
    return round(float(candidates[int(torch.tensor(losses).argmin())]), 4)


_RIGHT = {Scalar: math.log(1.25), UnitVector: math.radians(22.5)}
"""Kind of task to how far a prediction may be off and still count as right: the usual thresholds,
in log metres and radians."""


def fit_confidence(network: ProtoMTL, judged: Judged) -> dict[str, tuple[float, float]]:
    """Return, for each regression with a spread, a and b of the probability that it is right:
    sigmoid(a + b * log spread).

    Logistic regression on labelled pixels of frames that were not trained on (after Platt:
    "Probabilistic Outputs for Support Vector Machines", 1999). b is at most 0; tasks without a
    label among the frames are left out.
    """
    spreads: dict[str, list[torch.Tensor]] = {}
    rights: dict[str, list[torch.Tensor]] = {}
    for batch, out in judged:
        for task in network.tasks:
            if task.name not in out.spread or type(task) not in _RIGHT:
                continue
            kind = torch_task(task)
            # the pixel of the label that lies at the centre of each stride-4 cell
            label, raw = batch[task.name][:, 2::4, 2::4], out.raw[task.name]
            valid = kind.valid(label)
            if label.ndim == 4:
                cosine = (kind.map(raw) * label.permute(0, 3, 1, 2)).sum(1)
                error = cosine.clamp(-1, 1).acos()
            else:
                error = (raw[:, 0].log() - torch.where(valid, label, 1.0).log()).abs()
            spreads.setdefault(task.name, []).append(out.spread[task.name][:, 0][valid])
            rights.setdefault(task.name, []).append((error < _RIGHT[type(task)])[valid])
    found = {}
    for name, parts in spreads.items():
        x, right = torch.cat(parts).double(), torch.cat(rights[name]).double()
        if not 0 < float(right.mean() if len(right) else 0) < 1:
            continue
        design = torch.stack([torch.ones_like(x), x], 1)
        weights = torch.zeros(2, dtype=torch.float64)
        for _ in range(20):  # Newton's method; a little ridge where all spreads are alike
            p = torch.sigmoid(design @ weights)
            slope = design.t() @ (right - p) - 1e-3 * weights
            curve = (design * (p * (1 - p))[:, None]).t() @ design + 1e-3 * torch.eye(2).double()
            weights = weights + torch.linalg.solve(curve, slope)
        if weights[1] > 0:  # that a wide spread is right more often is chance
            weights = torch.stack([torch.logit(right.mean()), weights[1] * 0])
        found[name] = (round(float(weights[0]), 4), round(float(weights[1]), 4))
    return found
