# SPDX-License-Identifier: Apache-2.0
"""Built engines are found again, made anew when anything changed, never taken half or tampered."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path

import pytest

from proto_mtl_ros.errors import EngineError
from proto_mtl_ros.runtime.engine_cache import EngineCache, EngineKey, default_folder

KEY = EngineKey(
    model="tiny",
    onnx="a" * 64,
    library="tensorrt 10.3.0",
    gpu="Orin",
    capability="8.7",
    precision="fp16",
    shapes="1x96x128 1x96x128 4x96x128",
)


@pytest.fixture
def cache(tmp_path: Path) -> EngineCache:
    return EngineCache(tmp_path / "cache")


def test_a_stored_engine_is_found_by_its_owner_alone(cache: EngineCache) -> None:
    assert cache.find(KEY) is None
    assert cache.why_missing(KEY) == "none was built yet"
    path = cache.store(KEY, b"engine")
    assert cache.find(KEY) == b"engine"
    assert path.stat().st_mode & 0o777 == 0o600
    assert cache.folder.stat().st_mode & 0o777 == 0o700


@pytest.mark.parametrize("field", list(EngineKey.__dataclass_fields__))
def test_any_change_asks_for_another_engine_and_is_named(cache: EngineCache, field: str) -> None:
    cache.store(KEY, b"engine")
    other = replace(KEY, **{field: "changed"})
    assert cache.find(other) is None
    cache.store(replace(KEY, gpu="Xavier", capability="7.2", shapes="", onnx=""), b"far")
    if field != "model":  # the closest one explains
        why = cache.why_missing(other)
        assert why == f"changed since the last one: {field}: {getattr(KEY, field)} -> changed"


@pytest.mark.parametrize("damage", [b"", b"engin", b"enginE"])
def test_a_damaged_engine_does_not_count(cache: EngineCache, damage: bytes) -> None:
    path = cache.store(KEY, b"engine")
    path.write_bytes(damage)
    assert cache.find(KEY) is None
    assert "damaged" in cache.why_missing(KEY)
    cache.store(KEY, b"engine")
    assert cache.find(KEY) == b"engine"


@pytest.mark.parametrize("content", ["", "{", "[]", "{}", json.dumps({"key": {}, "sha256": "0"})])
def test_an_engine_without_a_whole_sidecar_does_not_count(cache: EngineCache, content: str) -> None:
    path = cache.store(KEY, b"engine")
    path.with_suffix(".json").write_text(content)
    assert cache.find(KEY) is None


def test_what_others_can_write_or_nobody_is_refused(cache: EngineCache, tmp_path: Path) -> None:
    cache.store(KEY, b"engine").chmod(0o666)
    with pytest.raises(EngineError, match="written by others"):
        cache.find(KEY)
    (tmp_path / "file").write_text("")
    with pytest.raises(EngineError, match="PROTO_MTL_CACHE") as caught:
        EngineCache(tmp_path / "file" / "cache").store(KEY, b"engine")
    assert "\n" not in str(caught.value)


def test_the_folder_follows_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", "/somewhere")
    monkeypatch.delenv("PROTO_MTL_CACHE", raising=False)
    assert default_folder() == Path("/somewhere/proto_mtl_ros")
    monkeypatch.setenv("PROTO_MTL_CACHE", "~/mine")
    assert default_folder() == Path(os.path.expanduser("~/mine"))
