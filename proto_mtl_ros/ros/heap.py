# SPDX-License-Identifier: Apache-2.0
"""How the process's C library keeps memory: images and models are larger than it is made for."""

from __future__ import annotations

import ctypes
from contextlib import suppress

_MMAP_THRESHOLD, _TRIM_THRESHOLD, _ARENA_MAX = -3, -1, -8
_KEEP_BYTES = 32 << 20
_ARENAS = 2
"""Parts of the heap. By default each thread gets its own, up to eight for each core, and what is
free in one serves no other: memory would grow until every one has held a model's largest."""


def keep_image_memory() -> None:
    """Let glibc keep freed blocks of image size instead of mapping them anew for every frame."""
    try:
        libc = ctypes.CDLL(None)
        libc.mallopt(_MMAP_THRESHOLD, _KEEP_BYTES)
        libc.mallopt(_TRIM_THRESHOLD, 4 * _KEEP_BYTES)
        libc.mallopt(_ARENA_MAX, _ARENAS)
    except (OSError, AttributeError):
        pass  # another C library: only slower


def return_freed_memory() -> None:
    """Give back what was freed, after a model is closed: each one is loaded by a new thread, from
    whose share of the heap nothing else would take it, so memory would grow with every reload."""
    with suppress(OSError, AttributeError):  # another C library
        ctypes.CDLL(None).malloc_trim(0)
