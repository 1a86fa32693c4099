# SPDX-License-Identifier: Apache-2.0
"""Two nodes of one name: ROS lets both run, and services and parameters reach either."""

from __future__ import annotations

from typing import Any

from proto_mtl_ros.ros.health import Health
from proto_mtl_ros.ros.troubles import see


def watch_name(node: Any, health: Health) -> None:
    """Tell `health` when the graph has more nodes than this one that are called like it."""
    own = node.get_name(), node.get_namespace()
    number = node.get_node_names_and_namespaces().count(own)
    if number > 1:
        full_name = node.get_fully_qualified_name()
        see(health, "name_clash", f"{number} nodes are called {full_name}")
