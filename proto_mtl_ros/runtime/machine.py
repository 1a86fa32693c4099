# SPDX-License-Identifier: Apache-2.0
"""What a figure was measured on."""

from __future__ import annotations

import os
import platform
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

TENSORRT = ("tensorrt", "tensorrt_rtx")
"""Modules of TensorRT, of which one is enough."""

LIBRARIES = ("numpy", "torch", "onnxruntime", "openvino", "tensorrt", "ros-jazzy-rclpy")


def machine() -> dict[str, Any]:
    """Return processor, cores, system, Python and the versions of what computes."""
    versions = {}
    for name in LIBRARIES:
        with suppress(PackageNotFoundError):
            versions[name] = version(name)
    return {
        "processor": processor(),
        "cores": usable_cores(),
        "gpu": _gpu(),
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "versions": versions,
    }


def processor() -> str:
    """Return the name of the processor, as the system says it."""
    with suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith(("model name", "Model")):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def usable_cores() -> int:
    """Return how many CPUs this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _gpu() -> str | None:
    from proto_mtl_ros.runtime.cuda import Cuda, CudaError

    try:
        return Cuda().name
    except CudaError:
        return None
