# SPDX-License-Identifier: Apache-2.0
"""int8: what is quantised, who judges it, and that nothing is written that lost too much."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import sources
from hypothesis import given
from hypothesis import strategies as st
from tiny_bundle import write_tiny_bundle

from proto_mtl_ros.data.bags.recording import decode_picture
from proto_mtl_ros.data.bags.recording_kinds import open_recording
from proto_mtl_ros.errors import DataError
from proto_mtl_ros.geometry import resize
from proto_mtl_ros.runtime.bundle import INT8_GRAPHS, Bundle
from proto_mtl_ros.runtime.engine import create_engine
from proto_mtl_ros.runtime.half import fold_casts
from proto_mtl_ros.training.quantisation.accuracy import Loss, disagreement
from proto_mtl_ros.training.quantisation.export import divided, export_int8
from proto_mtl_ros.training.quantisation.int8 import QuantisationError, kept_in_float, make_signed


@pytest.fixture(scope="module")
def shipped() -> Bundle:
    return Bundle.load("nyu13-lite0")


def export(*arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "proto_mtl_ros.cli", "export", "--precision", "int8"]
    return subprocess.run(
        [*command, *map(str, arguments)], capture_output=True, text=True, timeout=170
    )


# --- which frames --------------------------------------------------------------------------------


@given(st.integers(2, 300), st.integers(1, 200), st.integers(1, 200))
def test_no_frame_both_calibrates_and_judges(count: int, calibrate: int, check: int) -> None:
    chosen, others = divided(range(count), calibrate, check)  # type: ignore[list-item]
    assert chosen and others and not set(chosen) & set(others)
    assert set(chosen) | set(others) <= set(range(count))
    assert len(chosen) <= calibrate and len(others) <= check
    if count >= calibrate + check and calibrate <= count // 2:
        assert (len(chosen), len(others)) == (calibrate, check)


def test_one_frame_is_too_few() -> None:
    with pytest.raises(DataError, match="1 frames are not enough"):
        divided(range(1), 10, 10)  # type: ignore[list-item]


# --- what is lost --------------------------------------------------------------------------------


def test_a_loss_is_what_became_worse_whichever_way_that_is() -> None:
    loss = Loss(
        before={"segmentation": 0.5, "depth": 0.4, "normals": 20.0},
        after={"segmentation": 0.49, "depth": 0.41, "normals": 19.0},
    )
    assert loss.percent == pytest.approx({"segmentation": 2.0, "depth": 2.5, "normals": -5.0})
    loss.check(2.5 + 1e-9)
    with pytest.raises(QuantisationError, match="depth abs_err, more than 2.2 %"):
        loss.check(2.2)
    loss.after["normals"] = float("nan")
    with pytest.raises(QuantisationError, match="normals"):
        loss.check(5.0)


def test_disagreement_is_in_each_task_s_own_terms() -> None:
    up = np.zeros((2, 2, 3), np.float32)
    up[..., 1] = -1
    turned = up.copy()
    turned[0, :] = (0, 0, -1)
    assert disagreement(up, turned) == pytest.approx(45.0)
    depth = np.full((2, 2), 2.0, np.float32)
    assert disagreement(depth, depth * np.float32(1.1)) == pytest.approx(0.1)
    assert disagreement(np.zeros((2, 2), np.uint8), np.array([[0, 1], [0, 0]], np.uint8)) == 0.25


# --- the graph -----------------------------------------------------------------------------------


def test_the_first_layers_and_what_computes_depth_alone_stay_in_float(shipped: Bundle) -> None:
    model = onnx.load_model(shipped.onnx_path)
    fold_casts(model)
    kept = kept_in_float(model)
    nodes = {node.name: node for node in model.graph.node}
    convolutions = [name for name in kept if nodes[name].op_type == "Conv"]
    every = [node.name for node in model.graph.node if node.op_type == "Conv"]
    assert 0 < len(convolutions) < len(every) / 2
    assert set(every[:2]) < set(kept)
    # depth is computed by what is kept
    frame = np.random.default_rng(0).integers(0, 255, (1, 64, 96, 3), np.uint8)
    before = run_graph(model, frame)
    initialisers = {tensor.name: tensor for tensor in model.graph.initializer}
    for name in set(kept) - set(every[:2]):
        for value in nodes[name].input[1:]:
            if nodes[name].op_type in ("Conv", "MatMul") and value in initialisers:
                zeros = np.zeros_like(onnx.numpy_helper.to_array(initialisers[value]))
                initialisers[value].CopyFrom(onnx.numpy_helper.from_array(zeros, value))
    after = run_graph(model, frame)
    assert not np.array_equal(before["depth"], after["depth"])


def test_of_a_model_without_depth_less_stays_in_float(shipped: Bundle) -> None:
    model = onnx.load_model(shipped.onnx_path)
    fold_casts(model)
    whole = kept_in_float(model)
    (depth,) = (output for output in model.graph.output if output.name == "depth")
    model.graph.output.remove(depth)
    assert set(kept_in_float(model)) < set(whole)


def test_values_are_the_same_in_signed_steps_of_twice_the_width() -> None:
    """TensorRT takes signed ones alone; those that were signed stay as they are."""

    def graph() -> onnx.ModelProto:
        constants = {
            "scale": np.float32(0.02), "zero": np.uint8(0),
            "own_scale": np.float32(0.01), "own_zero": np.int8(0),
        }  # fmt: skip
        nodes = [
            onnx.helper.make_node("QuantizeLinear", ["image", "scale", "zero"], ["q"]),
            onnx.helper.make_node("DequantizeLinear", ["q", "scale", "zero"], ["unsigned"]),
            onnx.helper.make_node("QuantizeLinear", ["image", "own_scale", "own_zero"], ["p"]),
            onnx.helper.make_node("DequantizeLinear", ["p", "own_scale", "own_zero"], ["signed"]),
        ]
        value = onnx.helper.make_tensor_value_info
        content = onnx.helper.make_graph(
            nodes,
            "g",
            [value("image", onnx.TensorProto.FLOAT, ["n"])],
            [value(name, onnx.TensorProto.FLOAT, ["n"]) for name in ("unsigned", "signed")],
            [onnx.numpy_helper.from_array(np.array(v), name) for name, v in constants.items()],
            value_info=[value("q", onnx.TensorProto.UINT8, ["n"])],
        )
        opset = [onnx.helper.make_opsetid("", 17)]
        return onnx.helper.make_model(content, opset_imports=opset, ir_version=8)

    values = np.linspace(0, 6, 500, dtype=np.float32)
    model = graph()
    make_signed(model)
    onnx.checker.check_model(model)
    zeros = [onnx.numpy_helper.to_array(i) for i in model.graph.initializer if "zero" in i.name]
    assert [zero.dtype for zero in zeros] == [np.int8, np.int8]
    before, after = run_graph(graph(), values), run_graph(model, values)
    assert np.abs(before["unsigned"] - after["unsigned"]).max() <= 0.031  # half of both steps
    assert after["unsigned"].max() == pytest.approx(255 * 0.02)
    np.testing.assert_array_equal(before["signed"], after["signed"])


def test_data_of_other_classes_is_refused(shipped: Bundle, tmp_path: Path) -> None:
    frames = sources.Frames({"a": ["segmentation"], "b": ["segmentation"]})
    with pytest.raises(QuantisationError, match="other classes than nyu13-lite0: calibrate with"):
        export_int8(shipped, frames, tmp_path / "int8")
    assert not (tmp_path / "int8").exists()


@pytest.mark.slow
def test_the_card_tells_of_the_latest_graph_of_each_target(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What quantises takes its time, and is the tests' below: here the graph stays as it is."""
    monkeypatch.setattr(
        "proto_mtl_ros.training.quantisation.export.int8_graph", lambda model, *_: model
    )
    frames = sources.Frames({"a": ["depth"], "b": ["depth"], "c": ["depth"]}, classes=())
    bundle = Bundle.load(str(write_tiny_bundle(tmp_path)))
    plain = export_int8(bundle, frames, tmp_path / "plain")
    assert set(plain.manifest.files) == {"model.onnx", INT8_GRAPHS["cpu"]}  # it had no card

    # a network loses more on frames that it did not learn from: others may judge
    others = sources.Frames({"d": ["depth"], "e": ["depth"], "f": ["depth"]}, classes=())
    card = {"model.onnx": bundle.onnx_path, "README.md": b"# tiny\n\n## Use\n\nNo.\n"}
    bundle = Bundle.write(tmp_path / "carded", bundle.manifest, card)
    for target, check in (("cpu", 1), ("tensorrt", 1), ("cpu", 2)):
        out = tmp_path / "carded"
        bundle = export_int8(bundle, frames, out, target, 1, check, judged_by=others)
    text = (tmp_path / "carded" / "README.md").read_text()
    heads = [line for line in text.splitlines() if line.startswith("#")]
    assert heads == ["# tiny", "## Use", "## int8 graph for cpu", "## int8 graph for tensorrt"]
    judged = [line for line in text.splitlines() if line.startswith("Calibrated")]
    assert judged == [
        "Calibrated with 1 frames, judged on 2 others against fp32:",
        "Calibrated with 1 frames, judged on 1 others against fp32:",
    ]


def run_graph(model: onnx.ModelProto, frame: np.ndarray) -> dict[str, np.ndarray]:
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), providers=["CPUExecutionProvider"]
    )
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, session.run(names, {"image": frame}), strict=True))


@pytest.mark.slow
def test_a_recording_calibrates_and_the_bundle_runs_on_both_engines(
    shipped: Bundle, room_recording: Path, tmp_path: Path
) -> None:
    pytest.importorskip("nncf", reason="nncf is not installed")
    pytest.importorskip("openvino", reason="openvino is not installed")
    out = tmp_path / "int8"
    done = export(
        "--model", "nyu13-lite0", "--calibrate", room_recording, "--kind", "bag",
        "--frames", 6, "--check", 4, "--max-loss", 50, "--out", out,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "segmentation  differs by" in done.stdout  # which has no label there
    bundle = Bundle.load(out)
    assert set(bundle.manifest.files) == {*shipped.manifest.files, INT8_GRAPHS["cpu"]}
    judged = bundle.manifest.metrics["int8_cpu"]
    assert judged["frames"] == 4 and set(judged["loss_percent"]) == {"depth", "normals"}
    assert "## int8 graph for cpu" in (out / "README.md").read_text()
    graph = onnx.load_model(bundle.graph_path("int8"))
    assert sum(node.op_type == "QuantizeLinear" for node in graph.graph.node) > 40
    with open_recording(room_recording) as recording:
        first = next(m for m in recording.messages() if m.topic == recording.topics.image.name)
    image = resize(decode_picture(first), 256, 192)[None]
    ort, openvino = (
        create_engine(bundle, name, "cpu", precision="int8").infer(image)
        for name in ("onnxruntime", "openvino")
    )
    assert (ort["segmentation"] == openvino["segmentation"]).mean() > 0.95
    assert np.abs(ort["depth"] / openvino["depth"] - 1).mean() < 0.02
    # and back: the fp32 graph is the same file
    assert bundle.manifest.files["model.onnx"] == shipped.manifest.files["model.onnx"]
    # a second graph goes beside the first
    assert json.loads((out / "model.json").read_text())["metrics"]["depth"]


@pytest.mark.slow
def test_what_loses_too_much_is_not_written(room_recording: Path, tmp_path: Path) -> None:
    pytest.importorskip("nncf", reason="nncf is not installed")
    done = export(
        "--model", "nyu13-lite0", "--calibrate", room_recording, "--kind", "bag",
        "--frames", 2, "--check", 3, "--max-loss", 0, "--out", tmp_path / "int8",
        "--target", "tensorrt",
    )  # fmt: skip
    assert done.returncode == 3
    assert "nothing was written" in done.stderr and "--max-loss" in done.stderr
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--model", "nyu13-lite0"), "int8 needs --model and --calibrate"),
        (("--model", "nyu13-lite0", "--calibrate", "x", "--target", "gpu"), "use cpu or tensorrt"),
    ],
)
def test_what_is_missing_is_said(arguments: tuple[str, ...], said: str, tmp_path: Path) -> None:
    done = export(*arguments, "--out", tmp_path / "int8")
    assert done.returncode == 2 and said in done.stderr
