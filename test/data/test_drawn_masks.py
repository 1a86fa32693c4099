# SPDX-License-Identifier: Apache-2.0
"""Masks drawn in labelling tools, against rectangles and an encoder written down once more."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from proto_mtl_ros.data.bags.frames import BagFrames
from proto_mtl_ros.data.bags.masks import (
    _coco_shape,
    read_coco,
    read_labelme,
    read_masks,
    stamp_of,
)
from proto_mtl_ros.errors import DataError
from recordings import START, write_recording

WIDTH, HEIGHT = 160, 120


def square(left: int, top: int, right: int, bottom: int) -> list[list[int]]:
    return [[left, top], [right, top], [right, bottom], [left, bottom]]


def labelme(path: Path, *shapes: tuple[str, str, list[list[int]]]) -> Path:
    content = {
        "imagePath": "elsewhere.jpg",
        "imageWidth": WIDTH,
        "imageHeight": HEIGHT,
        "shapes": [
            {"label": label, "shape_type": kind, "points": points} for label, kind, points in shapes
        ],
    }
    path.write_text(json.dumps(content))
    return path


def runs_of(mask: np.ndarray) -> list[int]:
    """Run lengths down the columns, zeros first, pixel by pixel."""
    counts, value = [0], 0
    for pixel in mask.T.reshape(-1):
        if pixel != value:
            counts.append(0)
            value = pixel
        counts[-1] += 1
    return counts


def compressed(counts: list[int]) -> str:
    text = ""
    for place, count in enumerate(counts):
        value = count - counts[place - 2] if place > 2 else count
        while True:
            group, value = value & 31, value >> 5
            last = (value == 0 and not group & 16) or (value == -1 and bool(group & 16))
            text += chr(48 + (group if last else group | 32))
            if last:
                break
    return text


@given(arrays(np.uint8, st.tuples(st.integers(1, 40), st.integers(1, 30)),
              elements=st.integers(0, 1)), st.booleans())  # fmt: skip
def test_run_lengths_are_the_mask(mask: np.ndarray, packed: bool) -> None:
    height, width = mask.shape
    counts: Any = runs_of(mask)
    shape = {"counts": compressed(counts) if packed else counts, "size": [height, width]}
    np.testing.assert_array_equal(_coco_shape(shape, width, height), mask)


def test_long_runs_survive_compression() -> None:
    mask = np.zeros((480, 640), np.uint8)
    mask[100:300, 50:600] = 1
    shape = {"counts": compressed(runs_of(mask))}
    np.testing.assert_array_equal(_coco_shape(shape, 640, 480), mask)


def test_labelme_shapes_cover_each_other_in_order(tmp_path: Path) -> None:
    path = labelme(
        tmp_path / f"{START}.json",
        ("table", "polygon", square(10, 10, 60, 50)),
        ("cup", "rectangle", [[20, 20], [29, 29]]),
        ("note", "point", [[5, 5]]),
    )
    ids = read_labelme(path).draw(("cup", "table"))
    assert ids.shape == (HEIGHT, WIDTH)
    assert (ids[20:30, 20:30] == 0).all()
    assert ids[15, 15] == 1 and ids[45, 55] == 1
    assert ids[5, 5] == 255 and (ids == 255).sum() == WIDTH * HEIGHT - 51 * 41


def coco(path: Path, **changes: Any) -> Path:
    cup, table = (np.ravel(square(*box)).tolist() for box in ((20, 20, 29, 29), (10, 10, 60, 50)))
    content = {
        "categories": [{"id": 7, "name": "cup"}, {"id": 3, "name": "table"}],
        "images": [
            {"id": 1, "file_name": f"frames/{START}.jpg", "width": WIDTH, "height": HEIGHT},
            {"id": 2, "file_name": f"{START + 100_000_000}.jpg", "width": WIDTH, "height": HEIGHT},
        ],
        "annotations": [
            {"image_id": 1, "category_id": 7, "area": 100, "segmentation": [cup]},
            {"image_id": 1, "category_id": 3, "area": 2000, "segmentation": [table]},
        ],
        **changes,
    }  # fmt: skip
    path.write_text(json.dumps(content))
    return path


def test_coco_draws_what_is_large_first(tmp_path: Path) -> None:
    masks, names = read_coco(coco(tmp_path / "coco.json"))
    assert names == ("table", "cup")  # by id
    ids = masks[0].draw(names)
    assert (ids[20:30, 20:30] == 1).all() and ids[15, 15] == 0
    assert not masks[1].shapes


def test_masks_of_every_kind_join_a_recording(tmp_path: Path) -> None:
    bag = write_recording(tmp_path / "bag", frames=3)
    folder = tmp_path / "labelme"
    folder.mkdir()
    labelme(folder / f"{START + 100_000_000}.json", ("table", "polygon", square(10, 10, 60, 50)))
    pictures = tmp_path / "png"
    pictures.mkdir()
    ids = np.full((HEIGHT, WIDTH), 255, np.uint8)
    ids[10:51, 10:61] = 1
    cv2.imwrite(str(pictures / f"{START // 10**9}.{START % 10**9:09d}.png"), ids)
    (pictures / "classes.txt").write_text("cup\ntable\n")
    for where, frame, classes in (
        (folder, 1, ("table",)),
        (pictures, 0, ("cup", "table")),
        (coco(tmp_path / "coco.json"), 0, ("table", "cup")),
    ):
        frames = BagFrames(bag, masks=where)
        assert frames.label_set.classes == classes
        have = [n for n, i in enumerate(frames.frame_ids) if "segmentation" in frames.has(i)]
        assert have == [frame]
        mask = frames[frame].labels["segmentation"]
        assert mask[45, 55] == classes.index("table") and mask[80, 80] == 255
        frames.close()


def test_classes_that_are_named_beside_the_masks_count(tmp_path: Path) -> None:
    labelme(tmp_path / f"{START}.json", ("table", "polygon", square(10, 10, 60, 50)))
    (tmp_path / "classes.txt").write_text("floor\ntable\n")
    masks, label_set = read_masks(tmp_path)
    assert label_set.classes == ("floor", "table")
    assert masks[START]()[20, 20] == 1
    (tmp_path / "classes.txt").write_text("floor\n")
    masks, _ = read_masks(tmp_path)
    with pytest.raises(DataError, match="'table', which classes.txt does not name"):
        masks[START]()


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("{", "is not valid JSON"),
        ("[]", "neither a COCO nor a LabelMe"),
        ("{}", "is not a COCO file"),
        (json.dumps({"categories": [], "images": [{"id": 1}], "annotations": []}), "not a COCO"),
    ],
)
def test_what_is_no_coco_file_is_said_in_one_line(content: str, said: str, tmp_path: Path) -> None:
    path = tmp_path / "coco.json"
    path.write_text(content)
    with pytest.raises(DataError, match=said) as caught:
        read_masks(path)
    assert "\n" not in str(caught.value)


def test_run_lengths_of_another_size_are_refused(tmp_path: Path) -> None:
    annotation = {"image_id": 1, "category_id": 7, "segmentation": {"counts": [5, 5]}}
    with pytest.raises(DataError, match="do not cover 160x120"):
        read_coco(coco(tmp_path / "coco.json", annotations=[annotation]))


def test_names_are_stamps() -> None:
    assert stamp_of("1700000000100000000.png") == 1_700_000_000_100_000_000
    assert stamp_of("1700000000.1.png") == 1_700_000_000_100_000_000
    assert stamp_of("1700000000.100000007") == 1_700_000_000_100_000_007
    with pytest.raises(DataError, match="not named by a stamp"):
        stamp_of("left.png")
