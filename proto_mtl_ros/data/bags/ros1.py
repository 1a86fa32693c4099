# SPDX-License-Identifier: Apache-2.0
"""Messages of ROS 1 bags as ROS 2 serialises them."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Callable
from functools import lru_cache
from typing import Any

from rosbags.convert.converter import generate_message_converter
from rosbags.typesys import Stores, get_typestore


@lru_cache(maxsize=1)
def _stores() -> tuple[Any, Any, dict[str, object]]:
    return get_typestore(Stores.ROS1_NOETIC), get_typestore(Stores.ROS2_JAZZY), {}


@lru_cache(maxsize=256)
def converter(message_type: str) -> Callable[[bytes | memoryview], memoryview] | None:
    """Return what turns a ROS 1 message of a type into CDR; None for a type that only one has."""
    old, new, cache = _stores()
    if message_type not in old.types or message_type not in new.types:
        return None
    with contextlib.redirect_stdout(io.StringIO()):  # it tells that fields have other names
        found: Callable[[bytes | memoryview], memoryview] = generate_message_converter(
            old, new, message_type, message_type, cache, src_is2=False, dst_is2=True
        )
    return found
