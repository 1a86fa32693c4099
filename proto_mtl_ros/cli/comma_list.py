# SPDX-License-Identifier: Apache-2.0
"""Several values of one option, with commas between."""

from __future__ import annotations

from proto_mtl_ros.errors import ConfigError


def parts(text: str) -> list[str]:
    """Return what stands between the commas, without blanks around it and without empty parts."""
    return [part.strip() for part in text.split(",") if part.strip()]


def numbers(text: str, option: str) -> list[int]:
    """Return whole numbers from 0 on, at least one; ConfigError names the ``option``."""
    found = parts(text)
    if not found or not all(part.isascii() and part.isdigit() for part in found):
        raise ConfigError(f"{option} {text!r}: give whole numbers with commas between")
    return [int(part) for part in found]
