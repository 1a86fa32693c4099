# SPDX-License-Identifier: Apache-2.0
"""The dataset command: figures against naive loops, pages that hold them, clear refusals."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
import sources
from dataset_command import dataset_command as run
from hypothesis import given
from hypothesis import strategies as st
from nyuv2_pack import write_pack

from proto_mtl_ros.data.dataset_statistics import (
    LabelCounts,
    PixelCounts,
    count_labels,
    count_pixels,
    examples,
)
from proto_mtl_ros.data.manifest import read_manifest
from proto_mtl_ros.data.registry import open_source
from proto_mtl_ros.data.sample import Sample
from proto_mtl_ros.errors import ProtoMtlError
from proto_mtl_ros.evaluation.dataset_report import (
    dataset_table,
    overlap_warning,
    write_dataset_page,
)

TASKS = ("segmentation", "depth", "normals")
labels = st.lists(st.sets(st.sampled_from(TASKS)), min_size=1, max_size=40)


def _source(sets: list[set[str]]) -> sources.Frames:
    return sources.Frames({str(i): [t for t in TASKS if t in s] for i, s in enumerate(sets)})


@given(labels)
def test_counts_against_a_naive_loop(sets: list[set[str]]) -> None:
    counts = count_labels(_source(sets))
    assert counts.labelled == {
        t: sum(t in s for s in sets) for t in TASKS if set().union(*sets) & {t}
    }
    for pair, overlap in counts.overlap.items():
        both, either = sum(s >= set(pair) for s in sets), sum(bool(s & set(pair)) for s in sets)
        assert overlap.jaccard == pytest.approx(both / either if either else 0)
    assert sum(counts.combinations.values()) == counts.frames == len(sets)


def test_the_warning_names_the_pairs_below_30_percent() -> None:
    # depth and normals: 3 of 10 frames share both, which is enough; 2 of 10 is not
    enough = [{"depth", "normals"}] * 3 + [{"depth"}] * 4 + [{"normals"}] * 3
    assert overlap_warning(count_labels(_source(enough))) == ""
    few = [{"depth", "normals"}] * 2 + [{"depth"}] * 4 + [{"normals"}] * 4
    warning = overlap_warning(count_labels(_source(few)))
    assert "depth and normals 20 %" in warning and "2604.07848" in warning


def test_classes_and_depths_are_those_of_the_pixels() -> None:
    frames = _source([{"segmentation", "depth"}, {"segmentation"}, {"normals"}])
    pixels = count_pixels(frames, range(3))
    ids = np.concatenate([sources.mask(i)[::4, ::4].ravel() for i in range(2)])
    assert pixels.class_pixels.tolist() == [(ids == c).sum() for c in range(3)]
    assert pixels.unlabelled_pixels == (ids == 255).sum()
    assert pixels.sizes == {(64, 48, 60.0): 3}
    depth = np.random.default_rng(0).gamma(3, 1, (48, 64)).astype(np.float32)
    pixels = PixelCounts(np.zeros(3, np.int64))
    pixels.add(Sample("a", sources.picture(0), sources.camera(), {"depth": depth}))
    depth = depth[::4, ::4]
    for part in (0.05, 0.5, 0.95):
        assert pixels.depth_quantile(part) == pytest.approx(np.quantile(depth, part), abs=0.15)
    parts, edges = pixels.depth_histogram()
    expected, _ = np.histogram(np.minimum(depth, edges[-1] - 0.01), edges)
    np.testing.assert_allclose(parts, 1000 * expected / depth.size, atol=0.51)


@pytest.mark.parametrize("metres", [0.05, 1.0, 79.96, 299.0, 4000.0])
def test_a_depth_histogram_of_any_range(metres: float) -> None:
    pixels = PixelCounts(np.zeros(0, np.int64))
    frames = sources.Frames({"a": ("depth",)})
    sample = frames[0]
    sample.labels["depth"][...] = metres  # type: ignore[index]
    pixels.add(sample)
    parts, edges = pixels.depth_histogram()
    assert sum(parts) == 1000
    assert len(parts) <= 24
    assert parts[-1] == 1000 and edges[-1] >= min(metres, 300) - 1e-6


def test_without_labels_there_is_nothing_to_divide_by() -> None:
    frames = sources.Frames({"a": ()})
    counts, pixels = count_labels(frames), count_pixels(frames, [0])
    assert counts == LabelCounts(1, {}, {(): 1}, {})
    assert pixels.depth_histogram() == ([], [])
    assert "1 frames" in dataset_table(counts, pixels, frames.label_set)


def test_examples_show_every_combination() -> None:
    frames = _source([{"depth"}] * 20 + [{"normals"}] + [{"segmentation", "depth"}] * 5)
    chosen = examples(frames, 4)
    assert len(set(chosen)) == 4
    shown = [frames.has(frames.frame_ids[i]) for i in chosen]
    assert set(shown) == {("depth",), ("normals",), ("segmentation", "depth")}


@pytest.fixture(scope="module")
def pack(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_pack(tmp_path_factory.mktemp("pack"), train=6, val=2)


def test_report_prints_and_writes_a_page(pack: Path, tmp_path: Path) -> None:
    out = tmp_path / "report.html"
    manifest = pack / "manifests" / "one_label.csv"
    printed = run("report", pack, "--manifest", manifest, "--out", out)
    assert "| depth | 2 | 33 % |" in printed
    assert "| segmentation, depth | 0 | 4 | 0.000 |" in printed
    assert "WARNING: Tasks share fewer than 30 %" in printed
    page = out.read_text()
    assert page.count("<img") == 6 + 6 + 1  # six images, one label of each, the depth colours
    assert page.count("no label") == 12
    assert "2604.07848" in page and "http" not in page.replace("http-equiv", "")
    printed = run("report", pack, "--out", tmp_path / "r.png")
    assert "WARNING" not in printed and "| depth | 6 | 100 % |" in printed
    assert cv2.imread(str(tmp_path / "r.png")).shape[1] > 4 * 320


def test_a_page_of_frames_of_which_none_has_a_label(tmp_path: Path) -> None:
    folder = sources.write_by_hand(tmp_path / "data")
    (folder / "splits.csv").write_text("frame_id,split\nc,train\n")
    out = tmp_path / "report.html"
    run("report", folder, "--out", out)
    page = out.read_text()
    assert "<b>1</b><span>frames</span>" in page
    assert "What the labels show" not in page  # there is nothing to count


@pytest.mark.parametrize(
    ("labels", "shown", "hidden"),
    [
        ({"a": ["depth"]}, "<p>Depth: median", "of labelled pixels"),
        ({"a": ["segmentation"]}, "of labelled pixels", "<p>Depth: median"),
        ({"a": ["normals"], "b": ["normals"]}, "labels, 100 % of all", "What the labels show"),
    ],
)
def test_a_page_shows_what_the_labels_that_there_are_show(
    labels: dict[str, list[str]], shown: str, hidden: str, tmp_path: Path
) -> None:
    frames = sources.Frames(labels)
    everything = range(len(frames))
    counts, pixels = count_labels(frames), count_pixels(frames, everything)
    samples = [frames[index] for index in everything]

    def page_of(shown_frames: list[Sample]) -> str:
        path = tmp_path / "page.html"
        write_dataset_page(path, "own", counts, pixels, frames.label_set, shown_frames, [], {})
        return path.read_text()

    page = page_of(samples)
    assert shown in page and hidden not in page
    # one task overlaps with none
    assert "least overlap" not in page
    assert "<img" in page
    assert "<img" not in page_of([])


def test_manifest_command(pack: Path, tmp_path: Path) -> None:
    printed = run("manifest", pack, "--seed", 4, "--out", tmp_path / "m.csv")
    assert "6 frames; segmentation 2, depth 2, normals 2" in printed
    manifest = read_manifest(tmp_path / "m.csv")
    frames = open_source("nyuv2", pack, "train", manifest=tmp_path / "m.csv")
    assert all(frames.has(f) == tuple(t for t in TASKS if manifest[f][t]) for f in frames.frame_ids)
    run(
        *("manifest", pack, "--setting", "random_label", "--tasks", "depth,normals"),
        *("--out", tmp_path / "r.csv"),
    )
    rows = read_manifest(tmp_path / "r.csv").values()
    assert all(list(row) == ["depth", "normals"] and sum(row.values()) == 1 for row in rows)


def test_convert_command(pack: Path, tmp_path: Path) -> None:
    rows = "".join(f"000{i};{i % 3 == 1:d};{i % 3 == 2:d};{i % 3 == 0:d}\n" for i in range(1, 7))
    (tmp_path / "m.csv").write_text("frame_id;segmentation;depth;normals\n" + rows)
    out = tmp_path / "folder"
    arguments = ("convert", pack, "--out", out, "--images", "jpg")
    assert "6 frames of train, 6 written" in run(*arguments, "--manifest", tmp_path / "m.csv")
    assert "2 frames of val, 2 written" in run(*arguments, "--split", "val")
    folder = open_source("folder", out, "train")
    assert folder.has("0003") == ("normals",)
    option = ("--option", "derive_normals=true")
    assert "| normals | 4 | 67 % |" in run("report", out, *option)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("report", "--out", "r.pdf"), "must end in .html or .png"),
        (("report", "--kind", "coco"), "unknown kind"),
        (("report", "--option", "every"), "NAME=VALUE"),
        (("report", "--option", "every=2"), "has no option 'every'; it has none"),
        (("manifest", "--setting", "two", "--out", "m"), "one_label, random_label"),
        (("manifest", "--tasks", "edges", "--out", "m"), "segmentation, depth, normals"),
        (("manifest", "--split", "test", "--out", "m"), "no frame of split 'test'"),
        (("convert", "--kind", "nyuv2", "--images", "gif", "--out", "o"), "png or jpg"),
    ],
)
def test_wrong_arguments_are_told_in_one_line(
    pack: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments, said: str
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ProtoMtlError, match=said):
        run(*arguments, pack)
    assert not list(tmp_path.iterdir())


def test_labels_that_are_not_there_cannot_be_withheld(tmp_path: Path) -> None:
    root = sources.write_by_hand(tmp_path / "own")
    with pytest.raises(ProtoMtlError, match="frame a has no label of segmentation"):
        run("manifest", root, "--out", tmp_path / "m.csv")
