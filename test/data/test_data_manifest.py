# SPDX-License-Identifier: Apache-2.0
"""Label manifests: drawn, written, read, imported."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from proto_mtl_ros.data.manifest import (
    manifest_for,
    one_label,
    random_label,
    read_manifest,
    write_manifest,
)
from proto_mtl_ros.errors import DataError

TASKS = ("segmentation", "depth", "normals", "edges", "saliency")
frame_ids = st.lists(st.text("abc0123-/", min_size=1, max_size=6), min_size=1, unique=True)


@given(frame_ids, st.integers(1, 5), st.integers(0, 2**31))
def test_one_label_is_exactly_balanced(ids: list[str], count: int, seed: int) -> None:
    tasks = TASKS[:count]
    manifest = one_label(ids, tasks, seed)
    assert list(manifest) == ids
    assert all(sum(row.values()) == 1 for row in manifest.values())
    sizes = [sum(row[task] for row in manifest.values()) for task in tasks]
    assert max(sizes) - min(sizes) <= 1


@given(frame_ids, st.integers(2, 5), st.integers(0, 2**31))
def test_random_label_keeps_some_and_withholds_some(ids: list[str], count: int, seed: int) -> None:
    manifest = random_label(ids, TASKS[:count], seed)
    assert list(manifest) == ids
    assert all(1 <= sum(row.values()) <= count - 1 for row in manifest.values())


@given(frame_ids, st.integers(0, 2**31), st.randoms())
def test_a_draw_does_not_depend_on_the_order_of_frames(ids: list[str], seed: int, rng) -> None:
    shuffled = list(ids)
    rng.shuffle(shuffled)
    for draw in (one_label, random_label):
        assert draw(ids, TASKS[:3], seed) == draw(shuffled, TASKS[:3], seed)


def test_random_label_is_uniform_in_number_and_then_in_tasks() -> None:
    manifest = random_label([str(i) for i in range(6000)], TASKS[:3], 7)
    counts = Counter(tuple(row.values()) for row in manifest.values())
    # half of the frames have one label, half two; three ways each
    assert len(counts) == 6
    assert all(abs(count - 1000) < 5 * np.sqrt(1000) for count in counts.values())


@pytest.mark.parametrize(
    ("draw", "labels"),
    [(one_label, "s s d d d s n n"), (random_label, "sd n s sn sn s sn n")],
)
def test_a_seed_means_the_same_labels_in_every_version(draw, labels: str) -> None:
    ids = [f"{number:04}" for number in range(1, 9)]
    rows = draw(ids, TASKS[:3], 3).values()
    assert ["".join(task[0] for task in TASKS[:3] if row[task]) for row in rows] == labels.split()


@pytest.mark.parametrize(
    ("frames", "tasks", "said"),
    [
        (["1", "1"], TASKS[:3], "stands twice"),
        (["1", "2"], ("depth", "depth"), "stands twice"),
        ([], TASKS[:3], "at least one frame and one task"),
        (["1"], (), "at least one frame and one task"),
    ],
)
@pytest.mark.parametrize("draw", [one_label, random_label])
def test_labels_that_cannot_be_drawn(draw, frames: list[str], tasks, said: str) -> None:
    with pytest.raises(DataError, match=said):
        draw(frames, tasks, 0)


def test_what_is_written_is_read(tmp_path: Path) -> None:
    manifest = random_label(["0001", "a,b", "room/3"], TASKS[:3], 1)
    write_manifest(tmp_path / "m.csv", manifest)
    assert read_manifest(tmp_path / "m.csv") == manifest
    assert [p.name for p in tmp_path.iterdir()] == ["m.csv"]
    with pytest.raises(DataError, match="name at least two tasks"):
        random_label(["1"], TASKS[:1], 0)
    # what does not divide evenly goes to any task, by the seed
    draws = [one_label(["only"], TASKS[:3], seed)["only"] for seed in range(30)]
    assert {task for row in draws for task, used in row.items() if used} == set(TASKS[:3])


def test_a_frame_that_a_manifest_lacks_is_named(tmp_path: Path) -> None:
    write_manifest(tmp_path / "m.csv", one_label(["a", "c"], TASKS[:3], 0))
    with pytest.raises(DataError, match=r"no row for frame b \(1 missing\)"):
        manifest_for(tmp_path / "m.csv", ["a", "b", "c"])
    with pytest.raises(DataError, match=r"no row for frame b \(2 missing\)"):
        manifest_for(tmp_path / "m.csv", ["a", "b", "c", "d"])
    assert manifest_for(tmp_path / "m.csv", ["c", "a"]) is not None
    assert manifest_for(None, ["a"]) is None


def test_frames_of_different_tasks_are_no_manifest(tmp_path: Path) -> None:
    for other in ({"normals": True}, {"depth": True, "normals": False}, {}):
        with pytest.raises(DataError, match=r"frame 2 names the tasks"):
            write_manifest(tmp_path / "m.csv", {"1": {"depth": True}, "2": other})
    with pytest.raises(DataError, match="at least one frame"):
        write_manifest(tmp_path / "m.csv", {})
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("frame,depth\n1,1\n", "column frame_id"),
        ("frame_id,depth\n1,yes\n", "frame 1 has a cell that is not 0 or 1"),
        ("frame_id,depth\n1,1\n1,0\n", "names frame 1 twice"),
        ("frame_id,depth\n1\n", "frame .1. has 1 cells of 2"),
    ],
)
def test_a_wrong_manifest_is_told(tmp_path: Path, content: str, said: str) -> None:
    (tmp_path / "m.csv").write_text(content)
    with pytest.raises(DataError, match=said):
        read_manifest(tmp_path / "m.csv")
