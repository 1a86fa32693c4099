# SPDX-License-Identifier: Apache-2.0
"""Random rooms: what may stand in them, where it stands, and what a frame of them says."""

from __future__ import annotations

import importlib.util
import os
from pathlib import Path

import numpy as np
import pytest

from proto_mtl_ros.data.folder import Folder
from proto_mtl_ros.geometry import Camera
from proto_mtl_ros.geometry.normals import depth_to_normals
from tools.scenes import models, rooms
from tools.scenes.dataset import LIBRARIES
from tools.scenes.parts import CLASSES, Part, Surface, box, rows
from tools.scenes.plan import Placed, Plan

SEEDS = range(40)
FURNITURE = os.environ.get("SCENES_FURNITURE", "")
needs_models = pytest.mark.skipif(
    not Path(FURNITURE, "Scopia.sh3f").is_file(),
    reason="SCENES_FURNITURE names no folder of Sweet Home 3D's libraries",
)
needs_mitsuba = pytest.mark.skipif(
    not all(importlib.util.find_spec(name) for name in ("mitsuba", "pyoidn"))
    or "DRJIT_LIBLLVM_PATH" not in os.environ,
    reason="mitsuba, pyoidn or DRJIT_LIBLLVM_PATH is missing: nothing can be rendered",
)


@pytest.fixture(scope="module")
def plans() -> list[Plan]:
    return [plan for seed in SEEDS for plan in rooms.draw(seed)]


def described(plans: list[Plan]) -> list[tuple[object, ...]]:
    return [
        (plan.kind, plan.width, plan.openings, i.entry, i.at, i.yaw, i.size)
        for plan in plans
        for i in plan.items
    ]


def test_a_seed_is_one_room() -> None:
    assert described(rooms.draw(3)) == described(rooms.draw(3))
    assert described(rooms.draw(3)) != described(rooms.draw(4))


def test_every_line_of_the_table_has_a_class_terms_and_a_size() -> None:
    table = rows("models.csv")
    assert len({(row["library"], row["model"]) for row in table}) == len(table)
    for row in table:
        assert row["class"] in CLASSES
        assert row["library"] in {*LIBRARIES, models.PROCEDURAL}, "only CC0 and CC BY"
        assert all(0 < float(row[key]) < 4 for key in ("width", "depth", "height")) and row["roles"]
    assert {row["class"] for row in table} == set(CLASSES) - {"ceiling", "window"}


def test_nothing_of_the_recording_that_ships_is_drawn(plans: list[Plan]) -> None:
    hidden = models.held_out()
    assert len(hidden) >= 30 and ("BlendSwap-CC-0", "led_tv") in hidden
    assert not hidden & {(entry.library, entry.name) for entry in models.entries()}
    assert not hidden & {(i.entry.library, i.entry.name) for p in plans for i in p.items}


def test_items_stay_inside_their_room(plans: list[Plan]) -> None:
    for plan in plans:
        for item in plan.items:
            x0, y0, z0, x1, y1, z1 = item.box
            assert min(x0, y0, z0) >= -1e-6, item
            assert max(x1 - plan.width, y1 - plan.length, z1 - plan.height) <= 1e-6, item


def volume(a: Placed, b: Placed) -> float:
    """What two items' boxes share, cubic metres."""
    low = np.maximum(a.box[:3], b.box[:3])
    high = np.minimum(a.box[3:], b.box[3:])
    return float(np.prod(np.maximum(high - low, 0)))


def test_furniture_stands_apart_and_leaves_the_doors_free(plans: list[Plan]) -> None:
    under = {"chair", "officechair", "dining", "desk", "rug", "sit"}  # chairs stand under tables
    for plan in plans:
        stands = [i for i in plan.items if i.parent is None and i.role not in under]
        for n, a in enumerate(stands):
            for b in stands[:n]:
                assert volume(a, b) < 1e-6, (a, b)
            for door in plan.openings:
                if door.kind != "window" and a.at[2] < 1.0 and a.box[5] > 0.05:  # not a sock
                    x0, y0, x1, y1 = plan.zone(door, 0.5)
                    clear = a.box[0] >= x1 or a.box[3] <= x0 or a.box[1] >= y1 or a.box[4] <= y0
                    assert clear, (a, door)


def test_rooms_differ_and_people_are_in_some(plans: list[Plan]) -> None:
    assert len({plan.kind for plan in plans}) >= 6
    share = np.mean([any(i.entry.label == "person" for i in plan.items) for plan in plans])
    assert 0.2 < share < 0.8


@needs_models
def test_no_texture_of_the_recording_that_ships_is_on_another_model() -> None:
    from tools.scenes import scene

    folder = Path(FURNITURE)
    hidden = scene.hidden_textures(folder)
    assert hidden
    rng = np.random.default_rng(0)
    entry = next(e for e in models.entries() if e.name == "beige_sofa_2seats")
    item = Placed(entry, (0, 0, 0), 0.0, entry.size)
    loaded = models.load_model(folder, entry.library, entry.name)
    shared = [
        name
        for name, (_, s) in loaded.shapes.items()
        if s.texture is not None and scene.digest(s.texture) in hidden
    ]
    shapes = scene.dressed(item, folder, rng, scene.Light.draw(rng))
    for name, (_, surface, _) in zip(loaded.shapes, shapes):
        assert name not in shared or surface.texture is None


@needs_mitsuba
def test_a_frame_is_exact_and_the_folder_reader_takes_it(tmp_path: Path) -> None:
    from tools.scenes.camera import Pinhole, look
    from tools.scenes.dataset import Chunk, SceneRecord, frame_id
    from tools.scenes.renderer import Room

    lamp = Surface(emission=(9.0, 9.0, 9.0))
    parts = [
        Part(box((0, 0, 0), (4, 3, 2.5)), Surface(), "wall"),
        Part(box((2.5, 1, 0), (3.5, 2, 0.75)), Surface(gloss=0.1), "table"),
        Part(box((1.5, 1.2, 2.3), (1.9, 1.6, 2.4)), lamp, "objects"),
    ]
    room, camera = Room(parts), Pinhole(128, 96, 100.0)
    pose = look(np.array([0.3, 1.4, 1.3]), 0.1, -0.2, 0.05)
    hits = room.trace(pose, camera.rays())
    photo = room.photograph(pose, camera, 2, 1)
    assert photo.shape == (96, 128, 3) and np.isfinite(photo).all() and photo.mean() > 0.01
    chunk = Chunk(tmp_path)
    chunk.write_frame(7, 0, np.clip(photo * 99, 0, 255).astype(np.uint8), hits, camera)
    chunk.finish_scene(SceneRecord(7, "office", 1, "ok", ""), [])
    sample = Folder(tmp_path, "train")[0]
    assert sample.frame_id == frame_id(7, 0)
    assert {CLASSES[i] for i in np.unique(sample.labels["segmentation"])} == {"wall", "table"}
    seen = Camera(np.array([[100.0, 0, 63.5], [0, 100.0, 47.5], [0, 0, 1]]), 128, 96)
    derived = depth_to_normals(sample.labels["depth"], seen)
    both = (derived != 0).any(2)
    cosine = (derived * sample.labels["normals"]).sum(2)[both]
    assert np.degrees(np.arccos(np.median(cosine))) < 1.0 and (cosine > 0.98).mean() > 0.9
