# SPDX-License-Identifier: Apache-2.0
"""JSON, YAML and CSV that nobody meant well: huge, deep, about itself, out of its folder."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from proto_mtl_ros.cli.main import run_command
from proto_mtl_ros.data.camera_file import read_camera
from proto_mtl_ros.data.joined import JoinConfig
from proto_mtl_ros.data.label_set import read_label_set
from proto_mtl_ros.data.manifest import read_manifest
from proto_mtl_ros.data.table import check_frame_id, read_splits
from proto_mtl_ros.errors import ConfigError, DataError, ProtoMtlError
from proto_mtl_ros.files import (
    MAX_DEPTH,
    MAX_YAML,
    check_inside,
    open_regular,
    parse_json,
    parse_yaml,
    read_bytes,
)

pytestmark = pytest.mark.tries(
    "parsers", "JSON, YAML and CSV that are huge, deep, refer to themselves or lead elsewhere",
    seen="one line that names the file and the reason",
)  # fmt: skip

REPOSITORY = Path(__file__).resolve().parents[2]


def laughs(levels: int = 9) -> str:
    """Nine lines that say 9 ** 9 values."""
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x]"]
    for level in range(1, levels):
        lines.append(f"a{level}: &a{level} [{', '.join([f'*a{level - 1}'] * 9)}]")
    return "\n".join(lines) + "\n"


YAML_BOMBS = {
    "references": (laughs(), "more than 100000 values"),
    "itself": ("a: &a [*a]\n", "refers to itself"),
    "brackets": ("[" * 100_000, "nested deeper"),
    "dashes": ("- " * 100_000, "nested deeper"),
    "huge": ("#" * (MAX_YAML + 1), "more than 0.256 MB"),
    "objects": ("!!python/object/apply:os.abort []\n", "not valid YAML"),
    "no date": ("a: 2000-99-99\n", "not valid YAML"),
    "no number": ("a: !!int ''\n", "not valid YAML"),
    "long number": ("a: " + ":".join(["1"] * 5000) + "\n", "a number of"),
    "no text": ("a: \x00\n", "not valid YAML"),
}


@pytest.mark.parametrize("name", YAML_BOMBS)
def test_yaml_that_is_a_bomb_is_refused_by_every_reader(
    name: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    text, said = YAML_BOMBS[name]
    path = tmp_path / "config.yaml"
    path.write_text(text)
    start = time.process_time()
    with pytest.raises(DataError, match=said):
        JoinConfig.read(path)
    arguments = ["--config", path, "--data", tmp_path, "--out", tmp_path / "run"]
    with pytest.raises(SystemExit) as end:
        run_command("train", [str(argument) for argument in arguments])
    lines = capfd.readouterr().err.strip().splitlines()
    assert end.value.code in (2, 3) and len(lines) == 1 and said in lines[0]
    assert time.process_time() - start < 20


@pytest.mark.parametrize("path", sorted((REPOSITORY / "config").rglob("*.yaml")), ids=str)
@pytest.mark.control
def test_shipped_yaml_is_read_as_it_is_meant(path: Path) -> None:
    text = path.read_text()
    assert parse_yaml(text, path, ConfigError) == yaml.safe_load(text)


JSON_BOMBS = {
    "brackets": "[" * 1_000_000,
    "deep": '{"a":' * (MAX_DEPTH + 2) + "1" + "}" * (MAX_DEPTH + 2),
    "long number": "9" * 4000,
    "longer number": '{"fx": ' + "9" * 100_000 + "}",
    "huge": " " * 4_000_001,
    "no text": "\udcff",
    "nothing": "",
}


@pytest.mark.parametrize("name", JSON_BOMBS)
def test_json_that_is_a_bomb_is_refused(name: str, tmp_path: Path) -> None:
    content = JSON_BOMBS[name].encode("utf-8", "surrogateescape")
    for file, read in (("camera.json", read_camera), ("classes.json", None)):
        (tmp_path / file).write_bytes(content)
        with pytest.raises(DataError, match=file) as refused:
            read(tmp_path / file) if read else read_label_set(tmp_path)
        assert "\n" not in str(refused.value) and len(str(refused.value)) < 600


@settings(max_examples=200)
@given(
    st.recursive(
        st.none() | st.booleans() | st.integers(-(2**63), 2**63) | st.text()
        # an engine in the same process may have switched subnormal numbers off
        | st.floats(allow_nan=False, allow_subnormal=False),
        lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
        max_leaves=20,
    )
)  # fmt: skip
@pytest.mark.control
def test_plain_json_is_read_as_it_is_written(value: object) -> None:
    assert parse_json(json.dumps(value), "it", DataError) == value


TABLES = {
    "frame_id,split\n../../etc/passwd,train\n": "cannot be a file name",
    "frame_id,split\n/etc/passwd,train\n": "cannot be a file name",
    "frame_id,split\na/../b,train\n": "cannot be a file name",
    "frame_id,split\n.hidden,train\n": "cannot be a file name",
    "frame_id,split\na\\b,train\n": "cannot be a file name",
    '"frame_id","split"\n"a\nb",train\n': "cannot be a file name",
    "frame_id,split\n" + "a" * 2000 + ",train\n": "cannot be a file name",
    "frame_id,split\n,train\n": "cannot be a file name",
    "frame_id,split\n1\n": "1 cells of 2",
    "frame_id,split\n1,train,2\n": "3 cells of 2",
    "frame_id,split,split\n1,a,b\n": "a column twice",
    "": "a column frame_id",
    "frame_id,split\n" + '"' * 3: "not CSV",
    "frame_id,split\n" + "x" * 200_000: "not CSV",
    "frame_id,split\n\ud800": "not UTF-8",
}


@pytest.mark.parametrize("text", TABLES, ids=range(len(TABLES)))
def test_a_table_that_is_none_is_refused(text: str, tmp_path: Path) -> None:
    path = tmp_path / "splits.csv"
    path.write_bytes(text.encode("utf-8", "surrogatepass"))
    for read in (read_splits, read_manifest):
        with pytest.raises(DataError, match=r"splits\.csv") as refused:
            read(path)
        line = str(refused.value)
        assert TABLES[text] in line or read is read_manifest
        assert "\n" not in line and len(line) < 600


@given(st.text(max_size=40))
@pytest.mark.control
def test_a_frame_id_that_is_taken_stays_in_its_folder(frame_id: str) -> None:
    try:
        check_frame_id(frame_id)
    except DataError:
        return
    path = os.path.normpath(os.path.join("/data/images", frame_id))
    assert path.startswith("/data/images/") and "\0" not in path


def test_only_regular_files_are_opened(tmp_path: Path) -> None:
    """A pipe would wait for ever, /dev/zero never ends."""
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path / "pipe", Path("/dev/zero"), tmp_path):
        with pytest.raises(OSError):
            open_regular(path).close()
        with pytest.raises(DataError, match="cannot be read"):
            read_bytes(path, 10, DataError)
    (tmp_path / "a\nfile").write_bytes(b"12345678901")
    with pytest.raises(DataError, match="more than"):
        read_bytes(tmp_path / "a\nfile", 10, DataError)
    assert read_bytes(tmp_path / "a\nfile", 11, DataError) == b"12345678901"


def test_links_and_dots_do_not_lead_out(tmp_path: Path) -> None:
    folder = tmp_path / "data"
    folder.mkdir()
    (tmp_path / "outside").touch()
    (folder / "inside").touch()
    (folder / "link").symlink_to(folder / "inside")
    check_inside(folder / "link", folder, DataError)
    check_inside(folder / "not there", folder, DataError)
    (folder / "out").symlink_to(tmp_path / "outside")
    (folder / "round").symlink_to(folder / "round")
    for path in (folder / "out", folder / ".." / "outside", folder / "round", folder / "a\0b"):
        with pytest.raises(ProtoMtlError, match="is outside of"):
            check_inside(path, folder, DataError)
