# SPDX-License-Identifier: Apache-2.0
"""Predictions lie on the picture's pixels, are in metres, and face the camera."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_bundle import (
    CANONICAL_FX,
    CONFIDENCE,
    INPUT_SIZE,
    expected,
    tiny_graph,
    tiny_manifest,
    write_tiny_bundle,
)

from proto_mtl_ros.errors import EngineError
from proto_mtl_ros.geometry import Camera, Letterbox
from proto_mtl_ros.runtime.bundle import Bundle
from proto_mtl_ros.runtime.engine import create_engine
from proto_mtl_ros.runtime.predictor import Prediction, Predictor
from proto_mtl_ros.tasks import DEPTH, View
from proto_mtl_ros.tasks.depth import DEPTH_STEP
from proto_mtl_ros.tasks.normals import face_camera, unit

HEIGHT, WIDTH = INPUT_SIZE
ALL = frozenset({"segmentation", "confidence", "depth", "normals"})


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return Bundle.load(write_tiny_bundle(tmp_path_factory.mktemp("models")))


@pytest.fixture(scope="module")
def predictor(bundle: Bundle) -> Predictor:
    return Predictor(bundle, create_engine(bundle, "onnxruntime", "cpu", threads=1))


def camera(width: int, height: int, fx: float, fy: float | None = None) -> Camera:
    matrix = np.array([[fx, 0, width / 2 - 0.5], [0, fy or fx, height / 2 - 0.5], [0, 0, 1.0]])
    return Camera(matrix, width, height)


def picture(width: int, height: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)


def plain(width: int, height: int, colour: tuple[int, int, int]) -> np.ndarray:
    return np.full((height, width, 3), colour, np.uint8)


def assert_same(a: Prediction, b: Prediction) -> None:
    for name in ALL:
        np.testing.assert_array_equal(a[name], b[name])


def test_at_the_networks_size_maps_are_those_of_the_graph(predictor: Predictor) -> None:
    rgb = picture(WIDTH, HEIGHT)
    rgb[..., 2] |= 1  # no pixel without depth
    prediction = predictor.predict(rgb, camera(WIDTH, HEIGHT, fx=450.0))
    reference = expected(rgb[None])
    np.testing.assert_array_equal(prediction["segmentation"], reference["segmentation"][0])
    np.testing.assert_array_equal(prediction["confidence"], reference["confidence"][0])
    metres = reference["depth"][0] * 450.0 / CANONICAL_FX
    np.testing.assert_allclose(prediction["depth"], metres, rtol=1e-6)
    np.testing.assert_allclose(prediction["normals"], reference["normals"][0], atol=1e-6)
    assert prediction.metric


@settings(max_examples=25, deadline=None)
@given(width=st.integers(1, 300), height=st.integers(1, 300), full=st.booleans())
def test_padding_never_shows_whatever_the_shape(
    predictor: Predictor, width: int, height: int, full: bool
) -> None:
    # The padding is grey 127, class 6 at 4.98 m: any other value in the maps would be a leak.
    sized = Predictor(
        predictor.bundle, predictor.engine, output_size="input" if full else "network"
    )
    prediction = sized.predict(plain(width, height, (45, 0, 51)))
    size = (height, width)
    if not full:
        box = Letterbox.fit(width, height, WIDTH, HEIGHT)
        size = (box.new_h, box.new_w)
    assert prediction["segmentation"].shape == prediction["depth"].shape == size
    assert (prediction["segmentation"] == 2).all()
    np.testing.assert_allclose(prediction["depth"], 2.0, rtol=1e-6)
    np.testing.assert_allclose(prediction["normals"], np.broadcast_to([0, 0, -1], (*size, 3)))


def test_maps_lie_on_the_pixels_that_they_describe(predictor: Predictor) -> None:
    """A square on a wide picture comes out where it was, not shifted by the padding."""
    rgb = plain(800, 300, (30, 0, 51))
    rgb[100:180, 600:700] = (230, 0, 204)
    prediction = predictor.predict(rgb)
    inside = np.zeros((300, 800), bool)
    inside[100:180, 600:700] = True
    rows, columns = np.nonzero(prediction["segmentation"] == 11)
    # One pixel of the network has 6.25 of the picture: blending may move a border by that.
    for found, edge in zip(
        (rows.min(), rows.max(), columns.min(), columns.max()), (100, 179, 600, 699), strict=True
    ):
        assert abs(found - edge) <= 7
    assert abs(rows.mean() - 139.5) < 3.2
    assert abs(columns.mean() - 649.5) < 3.2


@settings(max_examples=20, deadline=None)
@given(scale=st.integers(1, 4), fx=st.floats(50, 2000), aspect=st.floats(0.5, 2))
def test_metres_do_not_depend_on_the_pictures_resolution(
    predictor: Predictor, scale: int, fx: float, aspect: float
) -> None:
    """The same scene with s times the pixels has s times the focal length, and equal depth."""
    width, height = WIDTH * scale, HEIGHT * scale
    rgb = plain(width, height, (0, 0, 102))
    prediction = predictor.predict(rgb, camera(width, height, fx * scale, aspect * fx * scale))
    np.testing.assert_allclose(prediction["depth"], 4.0 * fx / CANONICAL_FX, rtol=1e-5)


def test_without_a_camera_depth_is_not_called_metric(predictor: Predictor) -> None:
    prediction = predictor.predict(plain(640, 480, (0, 0, 51)))
    assert not prediction.metric
    assert prediction.camera is None
    assert set(prediction.timings) == {"preprocess", "infer", "postprocess"}
    assert all(0 < milliseconds < 10_000 for milliseconds in prediction.timings.values())
    np.testing.assert_allclose(prediction["depth"], 2.0, rtol=1e-6)


def test_maps_of_the_networks_size_come_with_their_camera(bundle: Bundle) -> None:
    engine = create_engine(bundle, "onnxruntime", "cpu", threads=1)
    small = Predictor(bundle, engine, output_size="network")
    lens = camera(800, 300, 700.0)
    prediction = small.predict(picture(800, 300), lens)
    assert prediction.camera is not None
    assert prediction["depth"].shape == (48, 128)
    assert (prediction.camera.width, prediction.camera.height) == (128, 48)
    # The corner of the picture is the corner of the map: pixel edges, not centres, coincide.
    assert prediction.camera.fx == pytest.approx(700.0 * 128 / 800)
    assert prediction.camera.cx == pytest.approx((lens.cx + 0.5) * 128 / 800 - 0.5)
    assert prediction.camera.cy == pytest.approx((lens.cy + 0.5) * 48 / 300 - 0.5)


def test_only_wanted_maps_are_made(predictor: Predictor) -> None:
    rgb = picture(160, 120)
    everything = predictor.predict(rgb)
    for name in ALL:
        prediction = predictor.predict(rgb, outputs={name})
        np.testing.assert_array_equal(prediction[name], everything[name])
        assert set(prediction) == {name}
    assert not predictor.predict(rgb, outputs=set())


def test_a_model_without_a_task_leaves_its_map_out(tmp_path: Path) -> None:
    manifest = tiny_manifest("only").model_copy(update={"tasks": ("depth",)})
    only = Bundle.write(
        tmp_path / "only", manifest, {"model.onnx": tiny_graph().SerializeToString()}
    )
    predictor = Predictor(only, create_engine(only, threads=1), confidence_threshold=0.5)
    prediction = predictor.predict(picture(64, 64), outputs={"depth", "segmentation"})
    assert set(prediction) == {"depth"}


def test_a_batch_gives_what_its_pictures_give_alone(predictor: Predictor) -> None:
    images = [picture(640, 480), picture(100, 300, 1), picture(WIDTH, HEIGHT, 2)]
    cameras = [camera(640, 480, 525.0), None, camera(WIDTH, HEIGHT, 200.0)]
    batch = predictor.predict_batch(images, cameras)
    for image, lens, prediction in zip(images, cameras, batch, strict=True):
        assert_same(prediction, predictor.predict(image, lens))
    some = predictor.predict_batch(images, cameras, [{"depth"}, set(), None])
    assert "segmentation" not in some[0] and "depth" in some[0]
    assert "depth" not in some[1]
    assert_same(some[2], batch[2])
    assert predictor.predict_batch([]) == []


def test_ids_of_low_confidence_become_unlabelled(bundle: Bundle) -> None:
    engine = create_engine(bundle, "onnxruntime", "cpu", threads=1)
    strict = Predictor(bundle, engine, confidence_threshold=(CONFIDENCE + 1) / 255)
    rgb = plain(64, 48, (45, 0, 0))
    prediction = strict.predict(rgb, outputs={"segmentation"})
    assert (prediction["segmentation"] == 255).all()
    strict.confidence_threshold = CONFIDENCE / 255
    prediction = strict.predict(rgb)
    assert (prediction["segmentation"] == 2).all()
    assert (prediction["confidence"] == CONFIDENCE).all()
    for value in (1.5, float("nan")):
        with pytest.raises(EngineError, match=r"is not in 0\.\.1"):
            strict.confidence_threshold = value


def test_steps_in_depth_leave_nothing_in_the_air(predictor: Predictor) -> None:
    rgb = plain(WIDTH * 4, HEIGHT * 4, (0, 0, 51))
    rgb[:, WIDTH * 2 :, 2] = 204
    depth = predictor.predict(rgb)["depth"]
    np.testing.assert_allclose(depth[:, : WIDTH * 2], 2.0, rtol=1e-5)
    np.testing.assert_allclose(depth[:, WIDTH * 2 :], 8.0, rtol=1e-5)


def test_slopes_in_depth_are_not_stairs() -> None:
    box = Letterbox.fit(512, 384, 128, 96)
    raw = np.tile(np.linspace(2.0, 4.0, 128, dtype=np.float32), (96, 1))
    depth = DEPTH.fit({"depth": raw}, ALL, View(box))["depth"]
    exact = np.interp((np.arange(512) + 0.5) / 4 - 0.5, np.arange(128), raw[0])
    np.testing.assert_allclose(depth, np.tile(exact, (384, 1)), rtol=1e-5)


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 2**16), width=st.integers(20, 90), height=st.integers(20, 90))
def test_depth_stays_close_to_a_pixel_of_the_network(seed: int, width: int, height: int) -> None:
    rng = np.random.default_rng(seed)
    raw = rng.uniform(0.5, 9.0, (32, 32)).astype(np.float32)
    raw[rng.random((32, 32)) < 0.1] = rng.choice([np.nan, np.inf, 0.0, -1.0])
    box = Letterbox.fit(width, height, 32, 32)
    depth = DEPTH.fit({"depth": raw}, ALL, View(box, factor=2.0))["depth"]
    pixels = np.arange(32 * 32, dtype=np.int32).reshape(32, 32)
    nearest = 2 * raw.reshape(-1)[box.undo(pixels, "nearest")]
    valid = np.isfinite(nearest) & (nearest > 0)
    np.testing.assert_array_equal(np.isnan(depth), ~valid)
    assert (np.abs(depth - nearest)[valid] <= (DEPTH_STEP + 1e-5) * nearest[valid]).all()


def test_normals_face_the_camera_even_if_the_network_errs(tmp_path: Path) -> None:
    graph = tiny_graph(direction=(0.8, 0.0, -0.6)).SerializeToString()
    odd = Bundle.write(tmp_path / "odd", tiny_manifest("odd"), {"model.onnx": graph})
    predictor = Predictor(odd, create_engine(odd, threads=1))
    # So wide a lens that rays at its right edge go along this normal.
    lens = camera(320, 240, 60.0)
    normals = predictor.predict(picture(320, 240), lens)["normals"]
    rays = lens.rays() / np.linalg.norm(lens.rays(), axis=-1, keepdims=True)
    along = (normals * rays).sum(-1)
    assert along.max() < 0
    np.testing.assert_allclose(np.linalg.norm(normals, axis=-1), 1.0, atol=1e-5)
    left = normals[:, :160]
    np.testing.assert_allclose(left, np.broadcast_to([0.8, 0, -0.6], left.shape), atol=1e-5)
    assert (rays * [0.8, 0.0, -0.6]).sum(-1).max() > 0.5
    unaware = predictor.predict(picture(320, 240))["normals"]
    np.testing.assert_allclose(unaware, np.broadcast_to([0.8, 0, -0.6], unaware.shape), atol=1e-5)


VECTOR = st.tuples(*[st.floats(-1, 1, width=32)] * 3).filter(lambda v: np.linalg.norm(v) > 0.1)


@settings(max_examples=80, deadline=None)
@given(direction=VECTOR, x=st.floats(-3, 3), y=st.floats(-3, 3))
def test_a_normal_is_turned_no_more_than_needed(
    direction: tuple[float, float, float], x: float, y: float
) -> None:
    ray = np.array([x, y, 1.0], np.float32)
    before = unit(np.array(direction, np.float32).reshape(1, 1, 3))
    after = face_camera(before.copy(), ray.reshape(1, 1, 3))[0, 0]
    sight = ray / np.linalg.norm(ray)
    excess = float(before[0, 0] @ sight)
    assert after @ sight < 0
    assert np.linalg.norm(after) == pytest.approx(1.0, abs=1e-4)
    turn = np.arccos(np.clip(float(after @ before[0, 0]), -1, 1))
    if excess < -0.01:
        assert turn < 1e-3
    elif excess < 0.99:
        # To the plane across the ray and not much further.
        assert turn <= np.arcsin(excess) + 0.1


def test_no_normal_stays_no_normal() -> None:
    vectors = np.zeros((1, 3, 3), np.float32)
    vectors[0, 1] = np.nan
    vectors[0, 2] = (0, 0, -7)
    rays = np.ones((1, 3, 3), np.float32)
    result = face_camera(unit(vectors), rays)
    np.testing.assert_array_equal(result[0], [[0, 0, 0], [0, 0, 0], [0, 0, -1]])


def test_another_input_size_may_be_chosen(bundle: Bundle) -> None:
    engine = create_engine(bundle, "onnxruntime", "cpu", threads=1)
    predictor = Predictor(bundle, engine, input_size=(64, 96))
    assert predictor.warm_up(batch=2) > 0
    rgb = plain(96, 64, (0, 0, 51))
    prediction = predictor.predict(rgb, camera(96, 64, 150.0))
    # The focal length at this input counts: the picture was not enlarged to 128 pixels.
    np.testing.assert_allclose(prediction["depth"], 2.0 * 150.0 / CANONICAL_FX, rtol=1e-6)


@pytest.mark.parametrize("size", [(100, 128), (0, 128), (96,), (-32, 32)])
def test_an_input_size_that_does_not_fit_is_refused(predictor: Predictor, size: tuple) -> None:
    with pytest.raises(EngineError, match=r"two multiples of 32: use for example \[96, 128\]"):
        Predictor(predictor.bundle, predictor.engine, input_size=size)


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda p: Predictor(p.bundle, p.engine, output_size="huge"), "use input or network"),
        (
            lambda p: p.predict(picture(320, 240), camera(640, 480, 500.0)),
            "calibrated for 640x480 and the image has 320x240",
        ),
        (
            lambda p: p.predict(picture(64, 64), outputs={"smell"}),
            "no map 'smell': use segmentation, confidence, depth",
        ),
        (
            lambda p: p.predict_batch([picture(8, 8), picture(8, 8)], [None]),
            "2 images come with 1 cameras",
        ),
    ],
)
def test_what_does_not_fit_together_is_refused(
    predictor: Predictor, call: Callable[[Predictor], object], said: str
) -> None:
    with pytest.raises(EngineError, match=said):
        call(predictor)


@pytest.mark.parametrize(
    "rgb",
    [
        np.zeros((48, 64), np.uint8),
        np.zeros((48, 64, 4), np.uint8),
        np.zeros((48, 64, 3), np.float32),
        np.zeros((0, 64, 3), np.uint8),
    ],
    ids=lambda rgb: f"{rgb.dtype}{rgb.shape}",
)
def test_what_is_no_picture_is_refused(predictor: Predictor, rgb: np.ndarray) -> None:
    with pytest.raises(EngineError, match="an image is uint8"):
        predictor.predict(rgb)


def test_pictures_that_are_read_only_or_not_contiguous_are_taken(predictor: Predictor) -> None:
    bgr = picture(200, 150)
    bgr.setflags(write=False)
    assert_same(predictor.predict(bgr[..., ::-1]), predictor.predict(bgr[..., ::-1].copy()))
