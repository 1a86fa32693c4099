# SPDX-License-Identifier: Apache-2.0
"""Pictures of predictions: colours mean what the legends say."""

from __future__ import annotations

import numpy as np
import pytest

from proto_mtl_ros.drawing import draw_depth, draw_normals, draw_segmentation, overlay
from proto_mtl_ros.drawing.contact_sheet import SheetRow, contact_sheet
from proto_mtl_ros.drawing.legend import class_legend, depth_scale, normal_legend

CLASSES = ("floor", "wall", "chair")
PALETTE = ((200, 10, 20), (30, 210, 40), (50, 60, 220))


def has_colour(picture, colour):
    return bool((picture == np.uint8(colour)).all(-1).any())


def make_row(caption="0.0 s", **changes):
    rgb = np.full((48, 64, 3), 100, np.uint8)
    ids = np.zeros((48, 64), np.uint8)
    ids[:, 40:], ids[:8] = 1, 255
    depth = np.tile(np.linspace(1, 4, 64, dtype=np.float32), (48, 1))
    normals = np.zeros((48, 64, 3), np.float32)
    normals[..., 2] = -1
    return SheetRow(
        caption, rgb, **{"segmentation": ids, "depth": depth, "normals": normals, **changes}
    )


def test_ids_take_the_palette_and_unlabelled_is_black():
    drawn = draw_segmentation(np.array([[0, 1, 2, 3, 255]], np.uint8), PALETTE)
    np.testing.assert_array_equal(drawn[0], [*PALETTE, (0, 0, 0), (0, 0, 0)])
    rgb = np.full((1, 2, 3), 100, np.uint8)
    mixed = overlay(rgb, np.array([[0, 255]], np.uint8), PALETTE, alpha=0.5)
    np.testing.assert_array_equal(mixed[0], [(150, 55, 60), (100, 100, 100)])
    with pytest.raises(ValueError, match="palette"):
        draw_segmentation(np.zeros((2, 2), np.uint8), [1, 2, 3])


def test_one_colour_is_one_distance_whatever_else_is_in_the_frame():
    alone = draw_depth(np.full((1, 1), 3.0, np.float32), 0, 10)
    beside = draw_depth(np.array([[3.0, 9.0, 0.5]], np.float32), 0, 10)
    np.testing.assert_array_equal(alone[0, 0], beside[0, 0])
    near, far = draw_depth(np.array([[1.0, 9.0]], np.float32), 0, 10)[0].astype(int)
    assert near[0] > near[2] and far[2] > far[0]  # red is near, blue is far


def test_invalid_depth_is_black_and_depth_beyond_the_range_is_not():
    depth = np.array([[0, -1, np.nan, np.inf, -np.inf, 0.1, 50]], np.float32)
    drawn = draw_depth(depth, 1, 5)[0]
    assert not drawn[:5].any() and drawn[5].any() and drawn[6].any()
    with pytest.raises(ValueError, match="beyond"):
        draw_depth(depth, 5, 5)


def test_normals_that_face_the_camera_are_blue_and_floors_are_green():
    normals = np.array([[(0, 0, -1), (0, -1, 0), (1, 0, 0), (0, 0, 0), (np.nan,) * 3]], np.float32)
    wall, floor, right, none, broken = draw_normals(normals)[0]
    np.testing.assert_allclose(wall, (128, 128, 255), atol=1)
    np.testing.assert_allclose(floor, (128, 255, 128), atol=1)
    np.testing.assert_allclose(right, (255, 128, 128), atol=1)
    assert not none.any() and not broken.any()


def test_class_legend_shows_every_class_in_its_colour_or_those_present():
    legend = class_legend(CLASSES, PALETTE, 300)
    assert legend.shape[1] == 300 and all(has_colour(legend, colour) for colour in PALETTE)
    present = class_legend(CLASSES, PALETTE, 300, [np.array([[1, 1, 2, 255]], np.uint8)])
    assert [has_colour(present, colour) for colour in PALETTE] == [False, True, True]
    # The most frequent class stands first.
    columns = [np.argwhere((present == np.uint8(PALETTE[i])).all(-1))[:, 1].min() for i in (1, 2)]
    assert columns[0] < columns[1]


def test_class_legend_wraps_instead_of_leaving_the_picture():
    names = [f"a class with a long name {number}" for number in range(9)]
    palette = np.arange(27).reshape(9, 3) + 40
    legend = class_legend(names, palette, 260)
    assert legend.shape[0] > class_legend(names, palette, 2000).shape[0]
    assert all(has_colour(legend, colour) for colour in palette)
    assert class_legend(["ünïcode 床"], [(9, 9, 9)], 200).shape[1] == 200


@pytest.mark.parametrize(("near", "far"), [(0, 10), (0.5, 4), (0, 0.8), (0, 120)])
def test_depth_scale_runs_from_near_to_far(near, far):
    scale = depth_scale(near, far, 320)
    ends = draw_depth(np.array([[max(near, 1e-3), far]], np.float32), near, far)[0]
    assert scale.shape[1] == 320
    places = [np.argwhere((scale == end).all(-1))[:, 1].mean() for end in ends]
    assert places[0] < 60 and places[1] > 260


def test_contact_sheet_has_a_column_per_map_and_a_row_per_frame():
    one = contact_sheet([make_row()], CLASSES, PALETTE, panel_width=160)
    assert has_colour(one, (100, 100, 100)) and has_colour(one, (128, 128, 255))
    assert has_colour(one, PALETTE[0]) and not has_colour(one, PALETTE[2])
    two = contact_sheet([make_row(), make_row("0.5 s")], CLASSES, PALETTE, panel_width=160)
    assert two.shape[1] == one.shape[1] and two.shape[0] - one.shape[0] >= 120
    assert one.shape[1] >= 4 * 160
    wider = contact_sheet(
        [make_row(reference_depth=np.ones((24, 32), np.float32))], CLASSES, PALETTE, panel_width=160
    )
    assert wider.shape[1] - one.shape[1] >= 160
    only_picture = SheetRow("", np.zeros((48, 64, 3), np.uint8))
    assert contact_sheet([only_picture], CLASSES, PALETTE, panel_width=160).shape[1] < 200


def test_contact_sheet_takes_other_sizes_missing_maps_and_no_depth_at_all():
    rows = [
        make_row(segmentation=np.zeros((10, 12), np.uint8)),
        make_row(normals=None, depth=np.full((9, 9), np.nan, np.float32)),
        SheetRow("no maps", np.zeros((30, 60, 3), np.uint8)),
    ]
    sheet = contact_sheet(rows, CLASSES, PALETTE, panel_width=120)
    assert sheet.dtype == np.uint8 and sheet.shape[1] > 4 * 120
    with pytest.raises(ValueError, match="at least one row"):
        contact_sheet([], CLASSES, PALETTE)


def test_normal_legend_names_the_directions_in_their_colours():
    legend = normal_legend(320)
    assert all(
        has_colour(legend, draw_normals(np.array([[n]], np.float32))[0, 0])
        for n in ((0, 0, -1), (0, -1, 0), (1, 0, 0))
    )
