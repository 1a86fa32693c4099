# SPDX-License-Identifier: Apache-2.0
"""A bundle with an int8 graph beside its fp32 one, written only if the loss is small enough."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from proto_mtl_ros.data.sample import FrameSource
from proto_mtl_ros.errors import BundleError, one_line
from proto_mtl_ros.files import MAX_JSON, ScratchFolder, read_text
from proto_mtl_ros.runtime.bundle import CARD, INT8_GRAPHS, INT8_ONNX, Bundle
from proto_mtl_ros.runtime.engine import create_engine
from proto_mtl_ros.runtime.predictor import Predictor
from proto_mtl_ros.training.quantisation.accuracy import Loss, compare
from proto_mtl_ros.training.quantisation.frames import divided, network_images, spread
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
    """Write ``bundle`` with an int8 graph to ``out``.

    The graph is calibrated with some frames of ``source`` and judged on others. A graph for
    TensorRT is judged by ONNX Runtime, which computes what the graph says.

    Args:
        bundle: with an fp32 graph.
        source: frames, with labels or without.
        out: folder of the bundle; may be that of ``bundle``.
        target: what the graph shall run on, one of ``INT8_GRAPHS``.
        frames: most frames to calibrate with.
        check: most frames to judge by.
        most: percent that a figure may lose.
        progress: called with what is being done, how many frames are done, and of how many.
        judged_by: frames to judge by, where they are not others of ``source``. A network fits the
            frames that it was trained on more closely than any others, and loses more on them.
        say: called with lines on the loss, before a bundle is written or refused.

    Raises:
        QuantisationError: the graph cannot be quantised, or loses too much; nothing is written.
        DataError: the frames cannot be read, or have other classes than the model.
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
