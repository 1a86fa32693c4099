# SPDX-License-Identifier: Apache-2.0
"""The Python class of a ROS type that is known by name."""

from __future__ import annotations

import importlib
from typing import Any

from proto_mtl_ros.errors import ConfigError


def message_class(type_name: str) -> Any:
    """Return the class of ``package/msg/Type``; raises ConfigError when it is not installed."""
    package, _, name = type_name.replace("/msg/", "/").partition("/")
    try:
        return getattr(importlib.import_module(f"{package}.msg"), name)
    except (ImportError, AttributeError, ValueError):
        raise ConfigError(f"messages of type {type_name} are not installed") from None
