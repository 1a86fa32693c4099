# SPDX-License-Identifier: Apache-2.0
"""A bundle is found, verified and replaced as a whole, or refused with one line."""

from __future__ import annotations

import hashlib
import json
import os
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tiny_bundle import tiny_manifest, write_tiny_bundle

from proto_mtl_ros.errors import BundleError
from proto_mtl_ros.files import replace_folder
from proto_mtl_ros.runtime.bundle import Bundle, available_models, find_bundle
from proto_mtl_ros.runtime.manifest import ModelManifest


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_tiny_bundle(tmp_path)


def refusal(path_or_name: Path | str) -> str:
    """Return the line with which loading is refused."""
    with pytest.raises(BundleError) as caught:
        Bundle.load(path_or_name)
    line = str(caught.value)
    assert line and "\n" not in line
    return line


def edit(folder: Path, **changes: object) -> None:
    path = folder / "model.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def test_a_written_bundle_is_loaded_as_it_was_meant(folder: Path) -> None:
    bundle = Bundle.load(folder)
    assert bundle.name == "tiny"
    assert bundle.path == folder.resolve()
    assert bundle.classes[4] == "floor"
    assert bundle.palette.shape == (13, 3)
    digest = hashlib.sha256(bundle.onnx_path.read_bytes()).hexdigest()
    assert bundle.manifest.files == {"model.onnx": digest}
    assert bundle.manifest.model_copy(update={"files": {}}) == tiny_manifest()
    assert Bundle.load(folder / "model.json").path == bundle.path
    with pytest.raises(BundleError, match=r"tiny has no weights\.safetensors: export"):
        _ = bundle.weights_path
    assert folder.stat().st_mode & 0o055 == 0o055  # other users can read it


@settings(max_examples=8, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_any_changed_byte_is_noticed(folder: Path, data: st.DataObject) -> None:
    path = folder / "model.onnx"
    original = path.read_bytes()
    index = data.draw(st.integers(0, len(original) - 1))
    flip = data.draw(st.integers(1, 255))
    try:
        path.write_bytes(original[:index] + bytes([original[index] ^ flip]) + original[index + 1 :])
        line = refusal(folder)
        assert "model.onnx is damaged" in line
        assert "again" in line
    finally:
        path.write_bytes(original)


def linked_elsewhere(path: Path) -> None:
    path.rename(path.parents[1] / "elsewhere.onnx")
    path.symlink_to(path.parents[1] / "elsewhere.onnx")


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (lambda path: path.write_bytes(path.read_bytes()[:-1]), "damaged"),
        (lambda path: path.unlink(), "model.onnx is missing"),
        (lambda path: (path.unlink(), path.mkdir()), "not a file inside the bundle"),
        (lambda path: (path.unlink(), os.mkfifo(path)), "not a file inside the bundle"),
        (linked_elsewhere, "not a file inside the bundle"),
        # sparse: it takes no room
        (lambda path: os.truncate(path, 1_000_000_001), "has more than 1 GB"),
    ],
    ids=["truncated", "missing", "a folder", "a pipe", "a link", "too large"],
)
def test_a_file_that_is_not_what_it_should_be_is_refused(
    folder: Path, damage: Callable[[Path], object], said: str
) -> None:
    damage(folder / "model.onnx")
    assert said in refusal(folder)


@pytest.mark.parametrize("version", [2, None, True, "1", 1.5, [1]])
def test_an_unknown_schema_says_which_one_is_read(folder: Path, version: object) -> None:
    edit(folder, schema_version=version, an_unknown_key=1)
    assert f"schema version {version}, this release reads 1" in refusal(folder)


@pytest.mark.parametrize("name", ["../model.onnx", "/etc/hostname", "a/b", "..", ".hidden", ""])
def test_a_path_out_of_the_folder_is_refused(folder: Path, name: str) -> None:
    edit(folder, files={name: "0" * 64})
    assert "files" in refusal(folder)


def test_links_of_a_symlink_install_are_followed(folder: Path, tmp_path: Path) -> None:
    installed = tmp_path / "installed"
    installed.mkdir()
    for path in folder.iterdir():
        (installed / path.name).symlink_to(path)
    assert Bundle.load(installed).onnx_path == folder.resolve() / "model.onnx"


@pytest.mark.parametrize(
    "change",
    [
        {"palette": [[0, 0, 0]]},
        {"palette": [[0, 0, 256]] * 13},
        {"classes": ["floor"] * 13},
        {"classes": [], "palette": []},
        {"classes": ["", *"abcdefghijkl"]},
        {"tasks": ["depth", ""]},
        {"input_size": [8224, 128]},
        {"size_multiple": 0},
        {"size_multiple": 257, "input_size": [257, 257]},
        {"files": {f"{n}": "0" * 64 for n in range(65)}},
        {"temperature": 0},
        {"normalisation": {"mean": [0, 0], "std": 1}},
        {"training": {"data": "", "licence": "MIT"}},
        {"training": {"data": "mine", "licence": ""}},
        {"tasks": []},
        {"tasks": ["depth", "depth"]},
        {"input_size": [100, 128]},
        {"input_size": [0, 128]},
        {"input_size": [96]},
        {"canonical_fx": 0},
        {"canonical_fx": float("nan")},
        {"training": {"data": "NYUv2"}},
        {"normalisation": {"mean": [0, 0, 0], "std": [0, 1, 1]}},
        {"files": {"model.onnx": "abc"}},
        {"name": "../tiny"},
        {"clases": ["wall"]},
    ],
    ids=lambda change: " ".join(change) if isinstance(change, dict) else None,
)
def test_a_manifest_that_breaks_a_rule_is_refused(folder: Path, change: dict) -> None:
    edit(folder, **change)
    line = refusal(folder)
    assert str(folder / "model.json") in line
    assert "export the model again" in line


@pytest.mark.parametrize(
    "change",
    [
        {"input_size": [8192, 8192], "size_multiple": 256},
        {"input_size": [1, 1], "size_multiple": 1},
        {"input_size": [65, 39], "size_multiple": 13},
        {"palette": [[0, 255, 255]] * 13},
        {"tasks": ["depth"], "classes": [], "palette": []},
        {"normalisation": {"mean": -1, "std": 0.5}},
        {"training": {"data": "mine", "licence": "MIT", "epochs": 3}},
        {"training": {"data": "x", "licence": "x"}},
    ],
    ids=str,
)
def test_a_manifest_at_its_limits_is_taken(change: dict) -> None:
    content = json.loads(tiny_manifest().to_json()) | change
    ModelManifest.from_json(json.dumps(content), "model.json")


def test_what_a_manifest_may_leave_out() -> None:
    content = json.loads(tiny_manifest().to_json())
    for name in ("size_multiple", "temperature", "metrics", "architecture", "files"):
        del content[name]
    content["normalisation"] = {"mean": 127, "std": 128}
    read = ModelManifest.from_json(json.dumps(content), "model.json")
    assert read.normalisation.mean == (127.0, 127.0, 127.0)
    assert (read.size_multiple, read.temperature) == (32, 1.0)
    assert read.metrics == read.architecture == read.files == {}


def test_the_first_of_several_errors_is_told_and_how_many_more() -> None:
    content = json.loads(tiny_manifest().to_json())
    for change, said in (({"canonical_fx": -1}, "0"), ({"temperature": -1}, "0 (and 1 more)")):
        content |= change
        with pytest.raises(BundleError) as caught:
            ModelManifest.from_json(json.dumps(content), "model.json")
        line = f"canonical_fx: Input should be greater than {said}; correct it"
        assert line in str(caught.value)


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_subnormal=False)
    | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner),
    max_leaves=6,
)


@settings(max_examples=30, deadline=None)
@given(field=st.sampled_from(sorted(ModelManifest.model_fields)), value=JSON)
def test_no_value_in_a_manifest_leads_to_another_error(field: str, value: object) -> None:
    content = json.loads(tiny_manifest().to_json()) | {field: value}
    try:
        ModelManifest.from_json(json.dumps(content), "model.json")
    except BundleError as error:
        assert "\n" not in str(error)


def test_names_are_found_where_ros_installs_models(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    models = tmp_path / "install" / "share" / "proto_mtl_ros" / "models"
    write_tiny_bundle(models, "tiny-in-share")
    (models / ".tiny.new-x").mkdir()
    (models / ".tiny.new-x" / "model.json").write_text("half written")
    monkeypatch.setenv("AMENT_PREFIX_PATH", f"/nowhere:{tmp_path / 'install'}")
    monkeypatch.chdir(tmp_path)
    assert Bundle.load("tiny-in-share").name == "tiny-in-share"
    assert "tiny-in-share" in available_models()
    assert ".tiny.new-x" not in available_models()
    assert "no model tiny-in-shar:" in refusal("tiny-in-shar")
    assert "tiny-in-share" in refusal("tiny-in-shar")
    shipped = find_bundle("tiny-in-share")
    mine = write_tiny_bundle(tmp_path, "tiny-in-share")  # what lies here is named by a path alone
    assert find_bundle("tiny-in-share") == shipped != find_bundle("./tiny-in-share")
    assert find_bundle("./tiny-in-share").resolve() == mine.resolve()
    mine.rename("mine")
    assert "./mine" in refusal("mine")


@pytest.mark.parametrize("path", ["./nothing", "/nowhere/at/all", "", "a\0b", "x" * 5000, "~"])
def test_a_path_that_is_no_bundle_is_refused(folder: Path, path: str) -> None:
    refusal(path)
    assert "there is no folder" in refusal(folder / "model.onnx")


def test_the_graph_of_a_precision(folder: Path, tmp_path: Path) -> None:
    graph = (folder / "model.onnx").read_bytes()
    names = ("model.onnx", "model.int8.onnx", "model.int8-tensorrt.onnx")
    whole = Bundle.write(tmp_path / "whole", tiny_manifest(), dict.fromkeys(names, graph))
    for plain in ("fp32", "fp16", "auto"):
        assert whole.graph_path(plain).name == whole.graph_path(plain, "tensorrt").name == names[0]
    assert whole.graph_path("int8").name == names[1]
    assert whole.graph_path("int8", "tensorrt").name == names[2]
    assert whole.has_int8 and not Bundle.load(folder).has_int8
    for target in ("cpu", "tensorrt"):
        with pytest.raises(BundleError, match=f"no int8 graph for {target}: make one with"):
            Bundle.load(folder).graph_path("int8", target)


def test_writing_replaces_a_bundle_and_leaves_nothing_else(folder: Path) -> None:
    manifest = tiny_manifest().model_copy(update={"temperature": 2.0})
    card = folder.parent / "card.md"
    card.write_text("# Tiny")
    bundle = Bundle.write(folder, manifest, {"model.onnx": b"other", "README.md": card})
    assert bundle.manifest.temperature == 2.0
    assert (folder / "README.md").read_text() == "# Tiny"
    assert sorted(p.name for p in folder.parent.iterdir()) == ["card.md", "tiny"]


def test_a_bundle_that_is_replaced_while_it_is_read_is_never_called_damaged(folder: Path) -> None:
    def export() -> None:
        for number in range(12):
            content = bytes([number]) * 4_000_000
            Bundle.write(folder, tiny_manifest(), {"model.onnx": content})

    writer = threading.Thread(target=export)
    writer.start()
    seen = set()
    while writer.is_alive():
        seen.add(Bundle.load(folder).manifest.files["model.onnx"])
    writer.join()
    assert len(seen) > 3


def test_a_failed_write_leaves_the_old_bundle(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="cannot write"):
        Bundle.write(folder, tiny_manifest(), {"model.onnx": tmp_path / "not there"})
    with pytest.raises(OSError):  # the swap itself
        replace_folder(tmp_path / "not there", folder)
    assert Bundle.load(folder).name == "tiny"
    assert [p.name for p in tmp_path.iterdir()] == ["tiny"]


def test_a_folder_with_other_things_in_it_is_not_replaced(tmp_path: Path) -> None:
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "thesis.tex").write_text("years of work")
    with pytest.raises(BundleError, match="not a model bundle"):
        Bundle.write(tmp_path / "thesis", tiny_manifest(), {})
    assert (tmp_path / "thesis" / "thesis.tex").exists()


@pytest.mark.parametrize("name", ["../x", "a/b", "model.json", ""])
def test_a_file_cannot_be_written_out_of_the_bundle(tmp_path: Path, name: str) -> None:
    with pytest.raises(BundleError, match="plain file name"):
        Bundle.write(tmp_path / "new", tiny_manifest(), {name: b""})
    assert not list(tmp_path.iterdir())


def test_metrics_are_json_and_one_without_a_value_is_null(tmp_path: Path) -> None:
    manifest = tiny_manifest().model_copy(update={"metrics": {"miou": object()}})
    with pytest.raises(BundleError, match="plain numbers"):
        Bundle.write(tmp_path / "new", manifest, {"model.onnx": b""})
    assert not list(tmp_path.iterdir())
    manifest = tiny_manifest().model_copy(update={"metrics": {"iou": [0.5, float("nan")]}})
    bundle = Bundle.write(tmp_path / "new", manifest, {"model.onnx": b""})
    assert bundle.manifest.metrics == {"iou": [0.5, None]}
