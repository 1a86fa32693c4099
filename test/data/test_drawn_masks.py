# SPDX-License-Identifier: Apache-2.0
"""Masks drawn in labelling tools, against rectangles and an encoder written down once more."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import PIL.Image
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from typer.testing import CliRunner

from proto_mtl_ros.cli.dataset import app
from proto_mtl_ros.data.bags.frames import BagFrames, stamp_of
from proto_mtl_ros.data.drawn.masks import image_names, read_masks
from proto_mtl_ros.data.registry import open_source
from proto_mtl_ros.errors import DataError
from recordings import START, write_recording

WIDTH, HEIGHT = 160, 120


def square(left: int, top: int, right: int, bottom: int) -> list[list[int]]:
    return [[left, top], [right, top], [right, bottom], [left, bottom]]


def labelme(path: Path, *shapes: tuple[str, str, list[list[int]]], mask: str = "") -> Path:
    content = {
        "imagePath": "elsewhere.jpg",
        "imageWidth": WIDTH,
        "imageHeight": HEIGHT,
        "shapes": [
            {"label": label, "shape_type": kind, "points": points, "mask": mask}
            for label, kind, points in shapes
        ],
    }
    path.write_text(json.dumps(content))
    return path


def drawn(path: Path) -> tuple[np.ndarray, tuple[str, ...], tuple[str, ...]]:
    """The first mask of a file, its classes and notes."""
    found = read_masks(path)
    return next(iter(found.masks.values()))(), found.label_set.classes, found.notes


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


@settings(max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(arrays(np.uint8, st.tuples(st.integers(1, 40), st.integers(1, 30)),
              elements=st.integers(0, 1)), st.booleans())  # fmt: skip
def test_run_lengths_are_the_mask(tmp_path: Path, mask: np.ndarray, packed: bool) -> None:
    height, width = mask.shape
    counts: Any = runs_of(mask)
    shape = {"counts": compressed(counts) if packed else counts, "size": [height, width]}
    images = [{"id": 1, "file_name": "a.jpg", "width": width, "height": height}]
    annotation = {"image_id": 1, "category_id": 7, "segmentation": shape}
    ids, _, _ = drawn(coco(tmp_path / "coco.json", images=images, annotations=[annotation]))
    np.testing.assert_array_equal(ids, np.where(mask, 1, 255))


BALL = np.hypot(*np.mgrid[-30:31, -30:31]) < 30
BALL_PNG = base64.b64encode(cv2.imencode(".png", BALL.astype(np.uint8) * 255)[1]).decode()


@pytest.mark.parametrize(
    ("kind", "points", "pixels"),
    [
        ("circle", [[80, 60], [110, 60]], int(BALL.sum())),
        ("mask", [[50, 30], [110, 90]], int(BALL.sum())),
        ("oriented_rectangle", [[80, 30], [110, 60], [80, 90], [50, 60]], 1861),
        ("rectangle", [[50, 30], [110, 90]], 61 * 61),
    ],
)
def test_every_shape_of_labelme_covers_what_lies_below(
    kind: str, points: list[list[int]], pixels: int, tmp_path: Path
) -> None:
    floor = ("floor", "polygon", square(0, 0, WIDTH - 1, HEIGHT - 1))
    note = ("note", "point", [[5, 5]])
    path = labelme(tmp_path / "a.json", floor, ("ball", kind, points), note, mask=BALL_PNG)
    ids, classes, notes = drawn(path)
    assert classes == ("ball", "floor") and ids[60, 80] == 0 and ids[60, 20] == 1
    assert (ids == 0).sum() == pixels and not (ids == 255).any()
    assert notes == ("1 shapes of the kind point cover no pixels and are passed over.",)


def test_an_area_that_is_not_understood_is_refused(tmp_path: Path) -> None:
    path = labelme(tmp_path / "a.json", ("ball", "hexagon", square(1, 1, 9, 9)))
    with pytest.raises(DataError, match="shape_type 'hexagon' is not known"):
        read_masks(path)
    path = labelme(tmp_path / "a.json", ("ball", "mask", [[1, 1]]), mask=BALL_PNG[:40])
    with pytest.raises(DataError, match="understood: PNG does not begin"):
        read_masks(path)


CVAT = """<annotations><version>1.1</version><meta><task><labels>
<label><name>floor</name></label><label><name>ball</name></label></labels></task></meta>
<image id="0" name="a.jpg" width="160" height="120">
<mask label="ball" rle="1, 2, 1" left="3" top="110" width="2" height="2" z_order="2"/>
<ellipse label="ball" cx="80" cy="60" rx="30" ry="30" z_order="1"/>
<polygon label="floor" points="0.0,0.0;159.0,0.0;159.0,119.0;0.0,119.0" z_order="0"/>
<box label="ball" xtl="10" ytl="20" xbr="30" ybr="24" rotation="90" z_order="1"/>
<points label="floor" points="1,1"/></image></annotations>"""
VOC = """<annotation><filename>a.jpg</filename><size><width>160</width><height>120</height></size>
<object><name>ball</name><bndbox><xmin>1</xmin></bndbox><polygon><x1>50</x1><y1>30</y1><x2>110</x2>
<y2>30</y2><x3>110</x3><y3>90</y3></polygon></object>
<object><name>cup</name><bndbox><xmin>1</xmin></bndbox></object></annotation>"""


def test_cvat_and_voc(tmp_path: Path) -> None:
    (tmp_path / "annotations.xml").write_text(CVAT)
    ids, classes, notes = drawn(tmp_path / "annotations.xml")
    assert classes == ("floor", "ball") and notes[0].startswith("1 shapes of the kind points")
    assert ids[110, 3:5].tolist() == [0, 1] and ids[111, 3:5].tolist() == [1, 0]
    # the box is 20 across and 4 down before it is turned
    assert ids[13, 20] == ids[31, 20] == 1 and ids[22, 12] == ids[22, 28] == 0
    assert (ids == 1).sum() == BALL.sum() + 2 + 21 * 5
    (tmp_path / "annotations.xml").write_text(CVAT.replace("ellipse", "blob"))
    with pytest.raises(DataError, match="a shape of the kind 'blob' is not known"):
        read_masks(tmp_path / "annotations.xml")
    (tmp_path / "voc.xml").write_text(VOC)
    ids, classes, notes = drawn(tmp_path / "voc.xml")
    assert classes == ("ball",) and ids[40, 105] == 0 and ids[80, 60] == 255
    assert notes == ("1 objects with a box alone cover no pixels and are passed over.",)
    (tmp_path / "voc.xml").write_text("<!DOCTYPE a [<!ENTITY b 'c'>]><a>&b;</a>")
    with pytest.raises(DataError, match="it defines entities"):
        read_masks(tmp_path / "voc.xml")


def test_label_studio(tmp_path: Path) -> None:
    alpha = np.zeros((HEIGHT, WIDTH, 4), np.uint8)
    alpha[10:12, 20:24, 3] = 255
    # runs, each with a length of 16 bits
    flat = alpha.reshape(-1)
    head = f"{flat.size:032b}{7:05b}" + f"{15:04b}" * 4
    runs, start = [], 0
    for end in [*(np.flatnonzero(np.diff(flat)) + 1).tolist(), flat.size]:
        while start < end:
            count = min(end - start, 1 << 16)
            repeated = count > 2  # others one by one
            values = flat[start : start + (1 if repeated else count)]
            text = "".join(f"{value:08b}" for value in values)
            runs.append(f"{repeated:b}{3 * repeated:02b}{count - 1:016b}{text}")
            start += count
    bits = head + "".join(runs)
    bits += "0" * (-len(bits) % 8)
    rle = list(int(bits, 2).to_bytes(len(bits) // 8, "big"))
    size = {"original_width": WIDTH, "original_height": HEIGHT}

    def result(kind: str, label: str, **value: Any) -> dict[str, Any]:
        return {"type": kind, **size, "value": {**value, kind: [label]}}

    whole = {"x": 0, "y": 0, "width": 100, "height": 100}
    results = [
        result("rectanglelabels", "floor", **whole, rotation=0),
        result("ellipselabels", "ball", x=50, y=50, radiusX=18.75, radiusY=25, rotation=0),
        result("polygonlabels", "wall", points=[[50, 0], [75, 0], [75, 10]]),
        result("rectanglelabels", "wall", x=50, y=80, width=12.5, height=2.5, rotation=90),
        result("brushlabels", "cup", format="rle", rle=rle),
        {"type": "choices", "value": {"choices": ["indoors"]}},
        # one shape drawn without a class, and once more with it
        {"type": "polygon", **size, "value": {"points": [[0, 90], [10, 90], [10, 99], [0, 99]]}},
        result("labels", "wall", points=[[0, 90], [10, 90], [10, 99], [0, 99]]),
    ]
    task = {
        "data": {"note": "x", "image": "/data/local-files/?d=my%20photos/0a1b2c3d-a.jpg"},
        "annotations": [{"result": results}],
    }
    path = tmp_path / "project-1.json"
    path.write_text(json.dumps([task]))
    ids, classes, notes = drawn(path)
    assert classes == ("ball", "cup", "floor", "wall") and "choices" in notes[0]
    assert "1 results without a class" in notes[1] and ids[115, 5] == 3
    name = next(iter(read_masks(path).masks))
    assert name == "my photos/0a1b2c3d-a.jpg" and {"0a1b2c3d-a", "a"} < set(image_names(name))
    assert (ids == 0).sum() == BALL.sum() and (ids == 1).sum() == 8 and ids[11, 23] == 1
    assert ids[2, 115] == 3 and ids[2, 85] == 2
    assert ids[110, 79] == 3 and ids[98, 90] == 2  # turned about its upper left corner
    results[0]["type"] = results[0]["value"]["blob"] = "blob"
    del results[0]["value"]["width"]
    path.write_text(json.dumps([task]))
    with pytest.raises(DataError, match="project-1.json is not a Label Studio file"):
        read_masks(path)


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


def test_coco_draws_what_is_large_first_and_parts_as_a_union(tmp_path: Path) -> None:
    ids, classes, _ = drawn(coco(tmp_path / "coco.json"))
    assert classes == ("table", "cup")  # by id
    assert (ids[20:30, 20:30] == 1).all() and ids[15, 15] == 0
    parts = [np.ravel(square(*box)).tolist() for box in ((10, 10, 60, 50), (40, 30, 90, 70))]
    table = {"image_id": 1, "category_id": 3, "segmentation": parts}
    alone = {"image_id": 1, "category_id": 7, "bbox": [1, 1, 5, 5]}
    path = coco(
        tmp_path / "coco.json",
        annotations=[table, alone, {**alone, "segmentation": [[]]}, {**table, "image_id": 9}],
    )
    ids, _, notes = drawn(path)
    assert (ids == 0).sum() == 2 * 51 * 41 - 21 * 21
    said = "3 annotations without a segmentation, or of no image that is listed, cover no pixels"
    assert notes[0].startswith(said)


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
    found = read_masks(tmp_path)
    (mask,) = found.masks.values()
    assert found.label_set.classes == ("floor", "table")
    assert mask()[20, 20] == 1
    (tmp_path / "classes.txt").write_text("floor\n")
    (mask,) = read_masks(tmp_path).masks.values()
    with pytest.raises(DataError, match="'table', which the list of classes does not name"):
        mask()


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("{", "is not valid JSON"),
        ("[]", "is none of these: COCO"),
        ("{}", "is none of these: COCO"),
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
        read_masks(coco(tmp_path / "coco.json", annotations=[annotation]))


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    folder = tmp_path / "photos"
    folder.mkdir()
    for name in ("a", "b", "c"):
        picture = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
        picture[:40, :40] = 255
        cv2.imwrite(str(folder / f"{name}.jpg"), picture)
    return folder


def imported(*arguments: object) -> str:
    result = CliRunner().invoke(app, ["import", *map(str, arguments)])
    if result.exception:
        raise result.exception
    return result.output


@pytest.mark.parametrize("kind", ["labelme", "coco", "cvat", "voc", "png", "labelmap"])
def test_photos_and_masks_become_a_folder(kind: str, photos: Path, tmp_path: Path) -> None:
    masks, out = tmp_path / "masks", tmp_path / "out"
    masks.mkdir()
    ids = np.full((HEIGHT, WIDTH), 255, np.uint8)
    ids[10:51, 10:61] = 0
    if kind == "labelme":
        labelme(masks / "a.json", ("table", "polygon", square(10, 10, 60, 50)))
    elif kind == "coco":
        table = {"image_id": 1, "category_id": 3, "segmentation": [
            np.ravel(square(10, 10, 60, 50)).tolist()]}  # fmt: skip
        images = [{"id": 1, "file_name": "a_jpg.rf.0123456789abcdef.jpg", "width": WIDTH,
                   "height": HEIGHT}]  # fmt: skip
        coco(masks / "instances.json", images=images, annotations=[table],
             categories=[{"id": 3, "name": "table"}])  # fmt: skip
    elif kind == "cvat":
        (masks / "annotations.xml").write_text(
            '<annotations><image name="train/a.jpg" width="160" height="120"><box label="table"'
            ' xtl="10" ytl="10" xbr="60" ybr="50"/></image></annotations>'
        )
    elif kind == "png":
        # indices of a palette, as numpy and PIL write masks
        (masks / "classes.txt").write_bytes("\ufefftable;\r\n".encode())
        picture = PIL.Image.fromarray(ids, "P")
        picture.putpalette([255, 0, 0] * 256)
        picture.save(masks / "a.png")
    else:
        folder = masks / "SegmentationClass" if kind == "voc" else masks
        folder.mkdir(exist_ok=True)
        (masks / "labelmap.txt").write_text(
            "# label:color_rgb:parts:actions\nbackground:0,0,0::\ntable:250,50,83::\n"
        )
        colours = np.where((ids == 0)[..., None], [83, 50, 250], 0)
        cv2.imwrite(str(folder / "a.png"), colours)
    printed = imported(photos, masks, "--out", out)
    assert "3 photos, 1 with a mask, classes table" in printed
    assert "No camera is known: classes and normals can be learnt" in printed
    frames = open_source("folder", out, "train")
    assert [frames.has(name) for name in frames.frame_ids] == [("segmentation",), (), ()]
    np.testing.assert_array_equal(frames[0].labels["segmentation"], ids)
    assert any("No camera is known" in note for note in frames.notes)  # type: ignore[attr-defined]


def test_a_camera_turned_photos_and_what_cannot_be_used(photos: Path, tmp_path: Path) -> None:
    image = PIL.Image.open(photos / "a.jpg")
    exif = PIL.Image.Exif()
    exif[0x0112] = 6  # turn clockwise by 90 degrees: the white corner is then at the upper right
    image.save(photos / "a.jpg", exif=exif)
    (photos / "c.jpg").write_bytes(b"broken")
    masks = tmp_path / "masks"
    masks.mkdir()
    # drawn over the image as it is shown
    shown = {"imageWidth": HEIGHT, "imageHeight": WIDTH}
    shape = {"label": "white", "points": square(80, 0, 119, 39)}
    (masks / "a.json").write_text(json.dumps({**shown, "shapes": [shape]}))
    labelme(masks / "z.json", ("white", "polygon", square(0, 0, 39, 39)))
    printed = imported(photos, masks, "--out", tmp_path / "out", "--hfov", 60)
    assert "1 masks belong to no photo (first: z.json)" in printed
    assert "1 frames cannot be read and are left out" in printed and "c.jpg" in printed
    frames = open_source("folder", tmp_path / "out", "train")
    sample = frames[0]
    assert sample.rgb.shape == (WIDTH, HEIGHT, 3)
    np.testing.assert_array_equal(sample.labels["segmentation"] == 0, sample.rgb[..., 0] > 128)
    assert sample.camera.fx == pytest.approx(80 / np.tan(np.radians(30)))
    assert (frames[1].camera.width, frames[1].camera.height) == (WIDTH, HEIGHT)
    for arguments, said in (
        ((photos, masks, "--out", tmp_path / "o", "--hfov", 200), "is not between 1 and 179"),
        ((photos, tmp_path / "none", "--out", tmp_path / "o"), "there is nothing at"),
    ):
        with pytest.raises(DataError, match=said):
            imported(*arguments)


@pytest.mark.parametrize("degrees", [90, 180])
def test_masks_as_pixels_are_turned_with_their_photos(
    degrees: int, photos: Path, tmp_path: Path
) -> None:
    image, exif = PIL.Image.open(photos / "a.jpg"), PIL.Image.Exif()
    exif[0x0112] = {90: 6, 180: 3}[degrees]
    image.save(photos / "a.jpg", exif=exif)
    masks = photos / "masks"  # which are not photos
    masks.mkdir()
    (masks / "classes.txt").write_text("white\nblack\n")
    ids = np.ones((HEIGHT // 2, WIDTH // 2), np.uint16)  # drawn at half the size
    ids[:20, :20] = 0
    cv2.imwrite(str(masks / "a_mask.png"), ids)
    cv2.imwrite(str(masks / "b.png"), ids[:, :60])
    printed = imported(photos, masks, "--out", tmp_path / "out")
    assert "1 frames cannot be read and are left out" in printed and "another shape" in printed
    sample = open_source("folder", tmp_path / "out", "train")[0]
    np.testing.assert_array_equal(sample.labels["segmentation"] == 0, sample.rgb[..., 0] > 128)


def test_masks_that_fit_no_photo_or_one_twice_are_told(photos: Path, tmp_path: Path) -> None:
    masks, shape = tmp_path / "masks", ("white", "polygon", square(0, 0, 39, 39))
    masks.mkdir()
    for names, said in (
        (("z",), "no mask of .* is named as a photo of .*: the first is z.json"),
        (("a", "a_mask"), "two masks are of the photo a"),
        ((), "holds no mask|neither classes.txt"),
    ):
        for path in masks.iterdir():
            path.unlink()
        for name in names:
            labelme(masks / f"{name}.json", shape)
        with pytest.raises(DataError, match=said):
            imported(photos, masks, "--out", tmp_path / "out")
    labelme(masks / "a.json")
    (masks / "camera.json").write_text("{}")
    with pytest.raises(DataError, match="no shape that covers pixels. 1 files such as camera.json"):
        imported(photos, masks, "--out", tmp_path / "out")
    with pytest.raises(DataError, match="holds no images"):
        labelme(masks / "a.json", shape)
        imported(masks, masks, "--out", tmp_path / "out")


def test_names_are_stamps() -> None:
    assert stamp_of("1700000000100000000.png") == 1_700_000_000_100_000_000
    assert stamp_of("1700000000.1.png") == 1_700_000_000_100_000_000
    assert stamp_of("1700000000.100000007") == 1_700_000_000_100_000_007
    with pytest.raises(DataError, match="not named by a stamp"):
        stamp_of("left.png")
