# SPDX-License-Identifier: Apache-2.0
"""Tensors from files, and nothing else from them: safetensors, or what ``torch.save`` wrote.

A file of ``torch.save`` is a pickle. It is only ever read by torch's restricted reader, which makes
tensors and plain values and runs nothing; everything else in it is refused.
"""

from __future__ import annotations

import os
import struct
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

import torch
from torch import Tensor

from proto_mtl_ros.errors import ProtoMtlError, one_line
from proto_mtl_ros.files.reading import Refusal, open_regular, parse_json

MAX_BYTES = 8_000_000_000
"""Bytes of a file of tensors."""

_MAX_HEADER = 16_000_000
"""Bytes of the list of tensors in a safetensors file."""


def read_torch(path: Path, error: Refusal, advice: str) -> Any:
    """Return what ``torch.save`` wrote: tensors on the CPU, numbers, texts, lists, mappings.

    Raises ``error``, which ends with ``advice``, for a file that is missing, that holds anything
    that would have to be run to be made, or tensors of more bytes than there are in it.
    """
    try:
        with open_regular(path) as file:
            _check_container(file)
            file.seek(0)
            # never the default, which the environment can change
            content = torch.load(file, map_location="cpu", weights_only=True)
        _check_tensors(content, path.stat().st_size)
    except Exception as refusal:  # torch raises many kinds for a file that is none of its own
        reason = one_line(refusal) if isinstance(refusal, ValueError | OSError) else ""
        raise error(
            f"{path} cannot be read as tensors alone ({reason or type(refusal).__name__}), and"
            f" nothing else is ever loaded from it: {advice}"
        ) from None
    return content


def read_safetensors(path: Path, error: Refusal, advice: str) -> dict[str, Tensor]:
    """Return the tensors of a ``.safetensors`` file by name; arguments as of ``read_torch``.

    Raises:
        error: the file is missing, damaged, or its header does not state exactly what follows.
    """
    import safetensors.torch

    try:
        tensor_shapes(path, error)
        return safetensors.torch.load_file(path)
    except ProtoMtlError as refusal:
        raise error(f"{refusal}: {advice}") from None
    except Exception as refusal:  # the reader raises whatever the bytes lead it to
        raise error(f"{path} cannot be read as weights ({one_line(refusal)}): {advice}") from None


def tensor_shapes(path: Path, error: Refusal) -> dict[str, tuple[int, ...]]:
    """Return name -> shape of a ``.safetensors`` file from its header alone; raises ``error``."""
    try:
        with open_regular(path) as file:
            size = os.fstat(file.fileno()).st_size
            start = file.read(8)
            length = struct.unpack("<Q", start)[0] if len(start) == 8 else size
            if length > min(_MAX_HEADER, size - 8) or size > MAX_BYTES:
                raise error(f"{path} does not hold the weights: it is no safetensors file")
            header = file.read(length)
    except OSError as refusal:
        raise error(f"{path} cannot be read: {refusal.strerror}") from None
    content = parse_json(header, f"the header of {path}", error)
    try:
        return {
            name: tuple(map(int, entry["shape"]))
            for name, entry in content.items()
            if name != "__metadata__"
        }
    except (AttributeError, KeyError, TypeError, ValueError, OverflowError):
        raise error(f"{path} is no safetensors file: its header names no shapes") from None


def _check_container(file: BinaryIO) -> None:
    """Refuse a file that says it is larger inside than out."""
    size = os.fstat(file.fileno()).st_size
    if size > MAX_BYTES:
        raise ValueError(f"it has more than {MAX_BYTES / 1e9:g} GB")
    if not zipfile.is_zipfile(file):
        return  # of an early torch: tensors one behind the other, each read with its length
    with zipfile.ZipFile(file) as archive:
        members = archive.infolist()
        packed = any(member.compress_type != zipfile.ZIP_STORED for member in members)
        if packed or sum(member.file_size for member in members) > size:
            raise ValueError("it is packed, or larger inside than the file is")


def _check_tensors(content: Any, size: int) -> None:
    """Refuse tensors that stand for more bytes than the file has, or that lie elsewhere."""
    total = 0
    for tensor in _tensors(content):
        if tensor.layout != torch.strided or tensor.device.type != "cpu":
            raise ValueError("it holds a tensor that is not plain numbers")
        total += tensor.numel() * tensor.element_size()
        if tensor.numel() and tensor.untyped_storage().nbytes() > size:
            raise ValueError("it holds a tensor that is larger than the file")
    # the averaged weights and the weights may be the same tensors under two names
    if total > 4 * size:
        raise ValueError("its tensors are larger than the file")


def _tensors(content: Any) -> Iterator[Tensor]:
    waiting, seen = [content], set()
    while waiting:
        value = waiting.pop()
        if isinstance(value, Tensor):
            yield value
        elif isinstance(value, dict | list | tuple | set) and id(value) not in seen:
            seen.add(id(value))
            waiting.extend(value.values() if isinstance(value, dict) else value)
