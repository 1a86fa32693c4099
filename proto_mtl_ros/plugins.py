# SPDX-License-Identifier: Apache-2.0
"""Modules of other packages that add tasks, backends, data sets or auxiliary losses."""

from __future__ import annotations

import functools
from importlib.metadata import entry_points

GROUP = "proto_mtl_ros.plugins"
"""Entry points of this group name modules that register what they bring when imported."""


@functools.cache
def load() -> None:
    """Import all plugins, the first time that this is called."""
    for entry in entry_points(group=GROUP):
        entry.load()
