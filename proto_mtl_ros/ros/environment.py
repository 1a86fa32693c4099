# SPDX-License-Identifier: Apache-2.0
"""The process's surroundings, checked before ROS starts, which would end or say too little."""

from __future__ import annotations

import os
import sys
import tempfile
from contextlib import suppress
from pathlib import Path

from proto_mtl_ros.errors import ConfigError, one_line


def check_middleware() -> None:
    """Raise ConfigError for a domain or a middleware that ROS would end the process for."""
    domain = os.environ.get("ROS_DOMAIN_ID", "").strip()
    if domain and not (domain.isdecimal() and int(domain) <= 232):
        raise ConfigError(f"ROS_DOMAIN_ID is {one_line(domain)}: use a number from 0 to 232")
    wanted = os.environ.get("RMW_IMPLEMENTATION", "")
    prefixes = os.environ.get("AMENT_PREFIX_PATH", "").split(os.pathsep)
    libraries = os.environ.get("LD_LIBRARY_PATH", "").split(os.pathsep)
    folders = [sys.prefix + "/lib", *(f"{one}/lib" for one in prefixes if one), *libraries]
    files = (file for folder in folders if folder for file in Path(folder).glob("librmw_*_cpp.so"))
    found = {
        file.stem[3:] for file in files if "__" not in file.stem and "_shared_" not in file.stem
    }
    if wanted and found and wanted not in found:
        package = f"ros-{os.environ.get('ROS_DISTRO', 'jazzy')}-{wanted.replace('_', '-')}"
        raise ConfigError(
            f"RMW_IMPLEMENTATION is {one_line(wanted)}, which is not installed: install"
            f" {one_line(package)}, or use {', '.join(sorted(found))}"
        )


def use_writable_log_folder() -> None:
    """Log to a temporary folder where HOME is missing or read-only: without a log ROS ends."""
    home = os.environ.get("ROS_HOME") or os.environ.get("HOME", "")
    if os.environ.get("ROS_LOG_DIR"):
        return
    folder = Path(home, "log" if os.environ.get("ROS_HOME") else ".ros/log")
    if home:
        with suppress(OSError):
            folder.mkdir(parents=True, exist_ok=True)
        if os.access(folder, os.W_OK):
            return
    try:
        os.environ["ROS_LOG_DIR"] = tempfile.mkdtemp(prefix="proto_mtl_log_")
    except OSError:
        raise ConfigError("no folder for ROS's log: name one in ROS_LOG_DIR") from None
    why = f"{folder} cannot be written" if home else "HOME is not set"
    sys.stderr.write(f"{why}: the log is in {os.environ['ROS_LOG_DIR']} (ROS_LOG_DIR)\n")
