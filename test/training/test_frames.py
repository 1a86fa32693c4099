# SPDX-License-Identifier: Apache-2.0
"""Training batches: what a crop does to picture, labels and camera, and in which order frames come.

The oracle is the numpy geometry of the robot's side: cameras that are cropped, resized and flipped
there, and a scene whose labels follow from the camera alone.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils.data import DataLoader

from proto_mtl_ros.data.sample import Sample
from proto_mtl_ros.geometry import Camera, resize
from proto_mtl_ros.tasks import NYU13, TASKS
from proto_mtl_ros.training.augmentation import Crop, Windows, crop_images, jitter_colours
from proto_mtl_ros.training.config import TrainConfig
from proto_mtl_ros.training.frames import EpochBatches, training_batch, training_loader
from proto_mtl_ros.training.store import FrameStore

ALL = list(TASKS.values())
CANONICAL = 50.0
NORMAL = np.array([0.48, -0.36, -0.8])  # of the wall that every camera here looks at
DISTANCE = 2.0


class Walls:
    """Pictures of one slanted wall by cameras of several sizes; some frames lack labels."""

    label_set = NYU13
    tasks = tuple(TASKS)

    def __init__(self, sizes: list[tuple[int, int]], labels: list[tuple[str, ...]]) -> None:
        self.sizes, self.labels = sizes, labels
        self.frame_ids = [f"wall{index}" for index in range(len(sizes))]

    def __len__(self) -> int:
        return len(self.sizes)

    def has(self, frame_id: str) -> tuple[str, ...]:
        return self.labels[self.frame_ids.index(frame_id)]

    def camera(self, index: int) -> Camera:
        height, width = self.sizes[index]
        matrix = np.array([[1.1 * width, 0, 0.47 * width], [0, 1.1 * width, 0.52 * height]])
        return Camera(np.vstack([matrix, [0, 0, 1]]), width, height)

    def __getitem__(self, index: int) -> Sample:
        camera = self.camera(index)
        height, width = self.sizes[index]
        columns = np.linspace(0, 255, width).astype(np.uint8)
        rgb = np.zeros((height, width, 3), np.uint8)
        rgb[..., 0], rgb[..., 1], rgb[..., 2] = columns, 255 - columns, 40
        ids = np.full((height, width), 3, np.uint8)
        ids[:, : width // 2] = 7
        every = {
            "segmentation": ids,
            "depth": wall_depth(camera),
            "normals": np.broadcast_to(NORMAL.astype(np.float32), (height, width, 3)),
        }
        labels = {name: every[name] for name in self.labels[index]}
        return Sample(self.frame_ids[index], rgb, camera, labels)


def wall_depth(camera: Camera, normal: np.ndarray = NORMAL) -> np.ndarray:
    """Depth float32 [H, W] of the wall."""
    return (-DISTANCE / (camera.rays().astype(np.float64) @ normal)).astype(np.float32)


def _store(source: Walls, smallest: float = 0.5) -> FrameStore:
    return FrameStore(source, ALL, (64, 96), smallest)


SOURCE = Walls([(120, 160)] * 2 + [(90, 160)], [tuple(TASKS), ("depth",), ("normals",)])
STORE = _store(SOURCE)

crops = st.builds(
    Crop,
    size=st.floats(0.5, 2),
    x=st.floats(0, 1),
    y=st.floats(0, 1),
    mirrored=st.booleans(),
)


@settings(max_examples=40, deadline=None)
@given(crop=crops)
def test_labels_of_a_crop_are_those_that_its_camera_sees(crop):
    """Depth follows from the camera of the batch and the wall; so do mirrored normals.

    Around a frame that is seen from farther away there is grey, and no label.
    """
    batch = STORE.batch([0], [crop], CANONICAL)
    fx, fy, cx, cy = batch["camera"][0].double().tolist()
    camera = Camera(np.array([[fx, 0, cx], [0, fy, cy], [0, 0, 1]]), 96, 64)
    normal = NORMAL * (-1 if crop.mirrored else 1, 1, 1)
    known = batch["depth"][0].numpy() > 0
    rows, columns = (np.flatnonzero(known.any(axis)) for axis in (1, 0))
    assert known.sum() == len(rows) * len(columns)  # a rectangle
    assert len(rows) / 64 == pytest.approx(min(1, 120 / (crop.size * 160 * 64 / 96)), abs=0.04)
    assert len(columns) / 96 == pytest.approx(min(1, 1 / crop.size), abs=0.03)
    assert np.all(batch["image"][0].numpy()[:, ~known] == 127)
    assert np.all(batch["segmentation"][0].numpy()[~known] == 255)
    assert np.allclose(batch["normals"][0].numpy()[known], normal, atol=2e-3)
    assert float(batch["depth_factor"][0]) == pytest.approx(fx / CANONICAL)
    metres = batch["depth"][0].numpy() * fx / CANONICAL
    # the nearest stored pixel is up to half a pixel away, and stored as float16
    expected = wall_depth(camera, normal)
    slope = max(np.abs(np.gradient(expected)).max() * 1.5, 0.002 * expected.max())
    assert np.abs(metres - expected)[known].max() <= slope
    assert np.abs(metres - expected)[known].mean() <= slope / 3


@settings(max_examples=40, deadline=None)
@given(crop=crops)
def test_camera_of_a_crop_is_that_of_geometry(crop):
    stored = SOURCE.camera(0).resized(160, 120)
    windows = Windows.of([crop], 120, 160, 64, 96)
    found = windows.cameras(torch.tensor([[stored.fx, stored.fy, stored.cx, stored.cy]]))[0]
    # four corners' rays, through the numpy camera: magnify so that the window is whole pixels
    left, top, scale = float(windows.left[0]), float(windows.top[0]), float(windows.scale[0])
    u, v = 0.0, 63.0
    source_u = left + (((95 - u) if crop.mirrored else u) + 0.5) * scale - 0.5
    source_v = top + (v + 0.5) * scale - 0.5
    x = (source_u - stored.cx) / stored.fx * (-1 if crop.mirrored else 1)
    y = (source_v - stored.cy) / stored.fy
    fx, fy, cx, cy = found.double().tolist()
    assert (u - cx) / fx == pytest.approx(x, abs=1e-4)
    assert (v - cy) / fy == pytest.approx(y, abs=1e-4)


@settings(max_examples=20, deadline=None)
@given(x=st.integers(0, 64), y=st.integers(0, 56), mirrored=st.booleans())
def test_window_of_whole_pixels_is_a_slice(x, y, mirrored):
    rng = np.random.default_rng(0)
    image = rng.integers(0, 256, (120, 160, 3), np.uint8)
    crop = Crop(size=96 / 160, x=x / 64, y=y / 56, mirrored=mirrored)
    windows = Windows.of([crop], 120, 160, 64, 96)
    found = crop_images(torch.from_numpy(image.transpose(0, 2, 1).copy())[None], windows)[0]
    expected = image[y : y + 64, x : x + 96]
    expected = expected[:, ::-1] if mirrored else expected
    assert np.abs(found.numpy().transpose(1, 2, 0) - expected).max() < 1e-2


def test_whole_frame_is_resized_as_on_the_robot():
    """Away from the border a halved picture is what the node's letterbox makes of it."""
    rng = np.random.default_rng(0)
    image = resize(rng.integers(0, 256, (20, 30, 3), np.uint8), 192, 128, "linear")
    windows = Windows.of([Crop()], 128, 192, 64, 96)
    found = crop_images(torch.from_numpy(image.transpose(0, 2, 1).copy())[None], windows)[0]
    expected = resize(image, 96, 64, "linear").astype(np.float32)
    difference = np.abs(found.numpy().transpose(1, 2, 0) - expected)[2:-2, 2:-2]
    assert difference.mean() < 2.0


def test_mirror_moves_pixels_of_all_maps_alike():
    plain, mirrored = Crop(x=0.2, y=0.3, size=0.7), Crop(x=0.2, y=0.3, size=0.7, mirrored=True)
    batch = STORE.batch([0, 0], [plain, mirrored], CANONICAL)
    assert torch.equal(batch["segmentation"][1], batch["segmentation"][0].flip(1))
    assert torch.equal(batch["depth"][1], batch["depth"][0].flip(1))
    assert torch.allclose(batch["image"][1], batch["image"][0].flip(2), atol=1e-3)


def test_frames_of_several_sizes_and_missing_labels_share_a_batch():
    batch = STORE.batch([2, 1, 0], [Crop()] * 3, CANONICAL)
    assert batch["frame_id"] == ["wall2", "wall1", "wall0"]
    assert batch["labelled"].tolist() == [
        [False, False, True],
        [False, True, False],
        [True, True, True],
    ]
    for row, name in ((0, "segmentation"), (0, "depth"), (1, "normals")):
        empty = TASKS[name].empty_label(64, 96)
        assert np.array_equal(batch[name][row].numpy(), empty)
    alone = STORE.batch([0], [Crop()], CANONICAL)
    for name in ("image", "segmentation", "depth", "normals", "camera"):
        assert torch.equal(batch[name][2], alone[name][0])


def test_ids_beyond_the_classes_are_unlabelled():
    class Odd(Walls):
        def __getitem__(self, index: int) -> Sample:
            sample = super().__getitem__(index)
            ids = np.full_like(sample.labels["segmentation"], 200)
            return Sample(sample.frame_id, sample.rgb, sample.camera, {"segmentation": ids})

    store = _store(Odd([(120, 160)], [("segmentation",)]))
    ids = store.batch([0], [Crop()], CANONICAL)["segmentation"]
    assert bool((ids == 255).all())
    assert int(store.class_counts("segmentation", 13).sum()) == 0


def test_attached_maps_are_cut_as_the_picture_is():
    """A teacher's map that repeats the picture shows what the picture shows."""
    store = _store(SOURCE)
    whole = store.batch([0], [Crop()], CANONICAL)["image"]
    coarse = torch.nn.functional.avg_pool2d(whole, 4).permute(0, 2, 3, 1) / 255
    maps = torch.cat([coarse, coarse[..., :1]], -1)
    store.attach("teacher_normals", [0], maps, vectors=True)
    crop = Crop(size=0.6, x=0.3, y=0.8, mirrored=True)
    batch = store.batch([0, 1], [crop, crop], CANONICAL)
    expected = torch.nn.functional.avg_pool2d(batch["image"][:1], 4).permute(0, 2, 3, 1) / 255
    found = batch["teacher_normals"]
    assert found.shape == (2, 16, 24, 4)
    assert torch.count_nonzero(found[1]) == 0
    inner = (slice(None), slice(1, -1), slice(1, -1))
    assert torch.allclose(-found[:1][inner][..., 0], expected[inner][..., 0], atol=0.02)
    assert torch.allclose(found[:1][inner][..., 1:3], expected[inner][..., 1:3], atol=0.02)


def test_features_of_the_mirror_image_are_taken_for_mirrored_crops():
    store = _store(SOURCE)
    plain, mirrored = torch.full((1, 4, 6, 2), 1.0), torch.full((1, 4, 6, 2), 2.0)
    mirrored[:, :, 0] = 4.0  # left in the frame, right in its mirror image
    store.attach("features", [1], plain, 16, mirrored=mirrored)
    crops = [Crop(), Crop(mirrored=True)]
    first, second = store.batch([1, 1], crops, CANONICAL)["features"]
    assert torch.equal(first, plain[0])
    assert torch.equal(second, mirrored[0].flip(1))
    assert store.nbytes > _store(SOURCE).nbytes


def test_colours_depend_on_the_frame_and_not_on_its_batch():
    images = torch.full((2, 3, 16, 16), 100.0)
    images[:, 0] = 180.0
    first, second = Crop(seed=5), Crop(seed=6)
    both = jitter_colours(images, [first, second], 1.0)
    assert both.dtype == torch.uint8 and both.shape == (2, 16, 16, 3)
    assert torch.equal(both[1], jitter_colours(images[1:], [second], 1.0)[0])
    assert not torch.equal(both[0], both[1])
    assert torch.equal(jitter_colours(images, [Crop(), Crop()], 1.0)[0, 0, 0],
                       torch.tensor([180, 100, 100], dtype=torch.uint8))  # fmt: skip


def _config(**changes: Any) -> TrainConfig:
    return TrainConfig.model_validate(
        {
            "name": "t",
            "canonical_fx": CANONICAL,
            "input_height": 64,
            "input_width": 96,
            "epochs": 3,
            "optimiser": {"batch": 2},
            **changes,
        }
    )


def test_epochs_differ_and_every_frame_comes_once_per_pass():
    sampler = EpochBatches(length=6, steps=3, batch=2, seed=0)
    epochs = []
    for epoch in range(2):
        sampler.set_epoch(epoch)
        epochs.append([index for keys in sampler for _, index in keys])
    assert sorted(epochs[0]) == sorted(epochs[1]) == list(range(6))
    assert epochs[0] != epochs[1]
    # fewer frames than an epoch has places: another pass, in another order
    more = [index for keys in EpochBatches(3, 3, 2, 0) for _, index in keys]
    assert sorted(more) == [0, 0, 1, 1, 2, 2]


def test_the_training_loop_is_told_the_epoch():
    """Lightning tells it to the loader's sampler; without that every epoch repeats the first."""
    from lightning.fabric.utilities.data import _set_sampler_epoch

    loader = training_loader(STORE, _config(), steps=1)
    assert isinstance(loader, DataLoader)
    pictures = []
    for epoch in range(2):
        _set_sampler_epoch(loader, epoch)
        pictures.append(next(iter(loader)))
    assert not torch.equal(pictures[0]["camera"], pictures[1]["camera"])


def test_batches_are_a_function_of_seed_and_step():
    keys = next(iter(EpochBatches(3, 1, 2, 0)))
    one, two = (training_batch(STORE, _config(), keys) for _ in range(2))
    other = training_batch(STORE, _config(seed=1), keys)
    assert all(torch.equal(one[name], two[name]) for name in ("image", "depth", "camera"))
    assert not torch.equal(one["image"], other["image"])
