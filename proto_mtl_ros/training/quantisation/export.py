# SPDX-License-Identifier: Apache-2.0
"""A bundle with an int8 graph beside its fp32 one, written only if the loss is small enough."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np

from proto_mtl_ros.data.sample import FrameSource
from proto_mtl_ros.errors import BundleError, DataError, one_line
from proto_mtl_ros.evaluation.frame_album import spread
from proto_mtl_ros.files import MAX_JSON, ScratchFolder, read_text
from proto_mtl_ros.geometry import Letterbox
from proto_mtl_ros.runtime.bundle import CARD, INT8_GRAPHS, INT8_ONNX, Bundle
from proto_mtl_ros.runtime.engine import create_engine
from proto_mtl_ros.runtime.predictor import Predictor
from proto_mtl_ros.training.quantisation.accuracy import Loss, compare
from proto_mtl_ros.training.quantisation.int8 import QuantisationError, int8_graph


def export_int8(
    bundle: Bundle,
    source: FrameSource,
    out: Path,
    target: str = "cpu",
    frames: int = 100,
    check: int = 100,
    most: float = 1.0,
    progress: Callable[[str, int, int], None] = lambda what, done, of: None,
    judged_by: FrameSource | None = None,
    say: Callable[[str], None] = lambda line: None,
) -> Bundle:
    """Write ``bundle`` with an int8 graph for ``target`` to ``out``, which may be its own folder.

    Calibrated with at most ``frames`` frames of ``source``, judged on at most ``check`` others, or
    on those of ``judged_by``: a network fits the frames that it was trained on more closely, and
    loses more on them. A graph for TensorRT is judged by ONNX Runtime, which computes what it says.
    QuantisationError where a figure loses more than ``most`` percent: nothing is written then.
    """
    labelled = source.label_set.classes and "segmentation" in bundle.manifest.tasks
    if labelled and tuple(source.label_set.classes) != bundle.classes:
        raise QuantisationError(
            f"the data has other classes than {bundle.name}: calibrate with a recording, or with"
            " data in the model's classes"
        )
    chosen, others = divided(source, frames, check)
    if judged_by is not None:
        others = spread(range(len(judged_by)), min(check, len(judged_by)))
    judges = judged_by or source
    progress("calibrating", 0, len(chosen))
    images = network_images(source, chosen, bundle.manifest.input_size)
    graph = int8_graph(bundle.onnx_path.read_bytes(), images, target)
    files: dict[str, Path | bytes] = {name: bundle.path / name for name in bundle.manifest.files}
    files[INT8_GRAPHS[target]] = graph
    with ScratchFolder("int8") as folder:
        # judged from a bundle whose only graph is the new one, as engines load it
        judged = Bundle.write(folder / bundle.name, bundle.manifest, {INT8_ONNX: graph})
        backend = "onnxruntime" if target == "tensorrt" else "auto"
        quantised = create_engine(judged, backend, "cpu", precision="int8")
        reference = create_engine(bundle, "onnxruntime", "cpu", precision="fp32")
        loss = compare(
            Predictor(bundle, reference),
            Predictor(judged, quantised),
            (judges[index] for index in others),
            lambda done: progress("checking", done, len(others)),
        )
        quantised.close()
        reference.close()
    for line in loss.lines():
        say(f"  {line}")
    loss.check(most)
    metrics = {
        **bundle.manifest.metrics,
        f"int8_{target}": {
            "frames": loss.frames,
            "loss_percent": loss.percent,
            "disagreement": loss.agreement,
        },
    }
    if CARD in bundle.manifest.files:
        files[CARD] = _card(bundle.path / CARD, target, len(chosen), loss)
    return Bundle.write(out, bundle.manifest.model_copy(update={"metrics": metrics}), files)


def _card(path: Path, target: str, calibrated: int, loss: Loss) -> bytes:
    """Return the model card with a section on the int8 graph, which replaces an earlier one."""
    head = f"\n## int8 graph for {target}\n"
    text = read_text(path, MAX_JSON, BundleError)
    before, found, after = text.partition(head)
    rest = ""
    if found:
        _, more, rest = after.partition("\n## ")
        rest = more + rest
    lines = "\n".join(map(one_line, loss.lines()))
    section = (
        f"{head}\nCalibrated with {calibrated} frames, judged on {loss.frames} others against"
        f" fp32:\n\n```\n{lines}\n```\n"
    )
    return (before.rstrip("\n") + "\n" + section + rest).encode()


def divided(source: FrameSource, calibrate: int, check: int) -> tuple[list[int], list[int]]:
    """Return the indices of frames to calibrate with and of others to judge by.

    Both are spread evenly: in a recording a frame that judges is as far as possible from those that
    calibrate, yet shows the same place. DataError for fewer than two frames.
    """
    count = len(source)
    if count < 2:
        raise DataError(f"{count} frames are not enough to calibrate and to check: give more")
    calibrate = min(calibrate, count // 2)
    check = min(check, count - calibrate)
    chosen = spread(range(count), calibrate)
    others = sorted(set(range(count)) - set(chosen))
    return chosen, spread(others, check)


def network_images(
    source: FrameSource, indices: Sequence[int], size: tuple[int, int]
) -> Iterator[np.ndarray]:
    """Yield uint8 [1, H, W, 3], the frames as the network sees them at ``size`` (height, width)."""
    for index in indices:
        rgb = source[index].rgb
        box = Letterbox.fit(rgb.shape[1], rgb.shape[0], size[1], size[0])
        yield box.apply(rgb)[None]
