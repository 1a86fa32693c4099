# SPDX-License-Identifier: Apache-2.0
"""Files of torch.save and built engines that somebody else may have made."""

from __future__ import annotations

import io
import os
import zipfile
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from fuzz_targets import KEY

from proto_mtl_ros.errors import ConfigError, EngineError
from proto_mtl_ros.files.tensors import read_safetensors, read_torch
from proto_mtl_ros.runtime.engine_cache import EngineCache

pytestmark = pytest.mark.tries(
    "parsers", "a checkpoint or a built engine of somebody else",
    seen="one line that says what to delete",
)  # fmt: skip


def saved(content: object) -> bytes:
    out = io.BytesIO()
    torch.save(content, out)
    return out.getvalue()


def refusal(content: bytes, folder: Path) -> str:
    path = folder / "x.ckpt"
    path.write_bytes(content)
    with pytest.raises(ConfigError, match="nothing else is ever loaded") as refused:
        read_torch(path, ConfigError, "train again")
    line = str(refused.value)
    assert "\n" not in line and len(line) < 600
    return line


@pytest.mark.control
def test_tensors_and_plain_values_are_read(tmp_path: Path) -> None:
    shared = torch.arange(6).reshape(2, 3)
    content = {"state_dict": OrderedDict(a=shared, b=shared[0]), "epoch": 3, "text": ["x", None]}
    (tmp_path / "x.ckpt").write_bytes(saved(content))
    read = read_torch(tmp_path / "x.ckpt", ConfigError, "")
    assert torch.equal(read["state_dict"]["a"], shared) and read["text"] == ["x", None]


def repacked(content: bytes, change: Callable[[str, bytes], bytes], packed: bool = False) -> bytes:
    """Write the archive of a checkpoint anew."""
    out = io.BytesIO()
    kind = zipfile.ZIP_DEFLATED if packed else zipfile.ZIP_STORED
    with zipfile.ZipFile(io.BytesIO(content)) as old, zipfile.ZipFile(out, "w", kind) as new:
        for name in old.namelist():
            new.writestr(name, change(name, old.read(name)))
    return out.getvalue()


def test_a_packed_archive_is_refused(tmp_path: Path) -> None:
    """A gigabyte of zeros takes a megabyte."""
    content = repacked(
        saved({"a": torch.zeros(4)}),
        lambda name, data: bytes(64 << 20) if "/data/" in name else data,
        packed=True,
    )
    assert len(content) < 1_000_000
    assert "packed" in refusal(content, tmp_path)


def test_a_tensor_of_more_numbers_than_there_are_is_refused(tmp_path: Path) -> None:
    def larger(name: str, data: bytes) -> bytes:
        # 100 numbers, as its pickle says with BININT1, become 250
        return data.replace(b"Kd", b"K\xfa") if name.endswith("data.pkl") else data

    refusal(repacked(saved({"a": torch.zeros(100)}), larger), tmp_path)


def test_a_tensor_that_repeats_one_number_for_ever_is_refused(tmp_path: Path) -> None:
    endless = torch.zeros(1).expand(1 << 40)
    assert "larger than the file" in refusal(saved({"a": endless}), tmp_path)


@pytest.mark.parametrize(
    "value",
    [torch.zeros(2, device="meta"), torch.zeros(3).to_sparse(), print, Path("x"), torch.nn.ReLU()],
    ids=["nowhere", "sparse", "function", "object", "module"],
)
def test_what_is_no_plain_tensor_is_refused(value: object, tmp_path: Path) -> None:
    refusal(saved({"a": value}), tmp_path)


def test_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for read in (read_torch, read_safetensors):
        with pytest.raises(ConfigError):
            read(tmp_path / "pipe", ConfigError, "give a file")


@pytest.fixture
def cache(tmp_path: Path) -> EngineCache:
    return EngineCache(tmp_path / "cache")


@pytest.mark.parametrize("mode", [0o770, 0o707, 0o777])
def test_a_folder_of_engines_that_others_can_write_is_refused(
    cache: EngineCache, mode: int
) -> None:
    cache.store(KEY, b"engine")
    cache.folder.chmod(mode)
    for use in (lambda: cache.find(KEY), lambda: cache.store(KEY, b"other")):
        with pytest.raises(EngineError, match="the folder of engines .* chmod go-w"):
            use()
    cache.folder.chmod(0o700)
    assert cache.find(KEY) == b"engine"


@pytest.mark.parametrize("mode", [0o620, 0o602, 0o666])
def test_a_sidecar_that_others_can_write_is_refused(cache: EngineCache, mode: int) -> None:
    cache.store(KEY, b"engine").with_suffix(".json").chmod(mode)
    with pytest.raises(EngineError, match="written by others"):
        cache.find(KEY)


@pytest.mark.parametrize("suffix", [".engine", ".json"])
def test_a_link_in_the_cache_is_refused(cache: EngineCache, suffix: str, tmp_path: Path) -> None:
    path = cache.store(KEY, b"engine").with_suffix(suffix)
    path.rename(tmp_path / "elsewhere")
    path.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(EngineError, match="written by others"):
        cache.find(KEY)


@pytest.mark.skipif(os.getuid() != 0, reason="only root can give a file away")
def test_another_users_engine_is_refused(cache: EngineCache) -> None:
    os.chown(cache.store(KEY, b"engine"), 12345, -1)
    with pytest.raises(EngineError, match="written by others"):
        cache.find(KEY)


def test_a_pipe_in_the_cache_is_not_waited_for(cache: EngineCache) -> None:
    path = cache.store(KEY, b"engine")
    path.unlink()
    os.mkfifo(path, 0o600)
    with pytest.raises(EngineError, match="not a regular file"):
        cache.find(KEY)
