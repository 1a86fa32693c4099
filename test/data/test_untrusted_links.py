# SPDX-License-Identifier: Apache-2.0
"""Data sets with links out of their folder: nothing outside of it is read."""

from __future__ import annotations

from pathlib import Path

import pytest
from nyuv2_pack import write_pack
from sources import write_by_hand

from proto_mtl_ros.data.bags.recording_kinds import open_recording
from proto_mtl_ros.data.registry import open_source
from proto_mtl_ros.errors import ProtoMtlError

pytestmark = pytest.mark.tries(
    "parsers", "a data set with a link or a name that leads out of its folder",
    seen="one line that names the file",
)  # fmt: skip


def moved_out(path: Path, outside: Path) -> None:
    """Put a file elsewhere and a link to it in its place."""
    outside.mkdir(exist_ok=True)
    path.rename(outside / path.name)
    path.symlink_to(outside / path.name)


def read_all(kind: str, root: Path) -> None:
    source = open_source(kind, root, "train")
    for index in range(len(source)):
        _ = source[index]


@pytest.mark.parametrize(
    "name",
    ["images/a.png", "depth/a.png", "depth/b.npy", "segmentation/b.png", "normals/b.png",
     "camera.json", "classes.txt", "splits.csv", "manifest.csv", "cameras/a.json"],
)  # fmt: skip
def test_a_link_out_of_a_folder_data_set(name: str, tmp_path: Path) -> None:
    root = write_by_hand(tmp_path / "data")
    (root / "splits.csv").write_text("frame_id,split\na,train\nb,train\nc,train\n")
    rows = "".join(f"{frame},1,1,1\n" for frame in "abc")
    (root / "manifest.csv").write_text("frame_id,segmentation,depth,normals\n" + rows)
    (root / "cameras").mkdir()
    (root / "cameras" / "a.json").write_text((root / "camera.json").read_text())
    read_all("folder", root)
    moved_out(root / name, tmp_path / "elsewhere")
    with pytest.raises(ProtoMtlError, match="is outside of"):
        read_all("folder", root)


@pytest.mark.control
def test_a_link_to_the_data_set_itself_is_followed(tmp_path: Path) -> None:
    write_by_hand(tmp_path / "data")
    (tmp_path / "link").symlink_to(tmp_path / "data")
    read_all("folder", tmp_path / "link")


@pytest.mark.parametrize("name", ["rgb/0001.jpg", "depth/0001.png", "normal/0001.webp"])
def test_a_link_out_of_a_pack(name: str, tmp_path: Path) -> None:
    root = write_pack(tmp_path / "pack", train=1, val=0)
    read_all("nyuv2", root)
    moved_out(root / name, tmp_path / "elsewhere")
    with pytest.raises(ProtoMtlError, match="is outside of"):
        read_all("nyuv2", root)


def test_a_link_out_of_a_folder_of_images(tmp_path: Path) -> None:
    root = write_by_hand(tmp_path / "data") / "images"
    with open_recording(root) as recording:
        assert len(recording.pictures({1_000_000_000})) == 1
    moved_out(root / "a.png", tmp_path / "elsewhere")
    with pytest.raises(ProtoMtlError, match="is outside of"):
        open_recording(root)


def test_a_split_that_names_a_file_elsewhere(tmp_path: Path) -> None:
    root = write_pack(tmp_path / "pack", train=1, val=0)
    (tmp_path / "secret.jpg").write_bytes((root / "rgb" / "0001.jpg").read_bytes())
    (root / "splits.csv").write_text("frame_id,split\n../../secret,train\n")
    with pytest.raises(ProtoMtlError, match="cannot be a file name"):
        read_all("nyuv2", root)
