# SPDX-License-Identifier: Apache-2.0
"""The node's real process with an engine that can be made to fail from outside.

    python test/faulty_node.py FAULTS --ros-args ...

FAULTS is a file. While it exists, its first word says what the backends' real network call does
(of the named backend alone, if a second word names one); the engine's own checks and everything
above it are the product's. `fault_file` writes it at once, so a reader never sees half a word.
"""

from __future__ import annotations

import ctypes
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

FAULTS = (
    "raise",  # as a CUDA error does, on every call
    "memory",  # out of memory
    "stall",  # one call, which returns only when `release` is called
    "hang",  # every call, until the file has gone
    "freeze",  # one call, for 3 s, in which no other Python thread can run either
    "nan",  # in a part of depth and normals
    "inf",
    "all-nan",
    "class",  # ids that the model has no class for
    "shape",
    "batch",
    "dtype",
    "missing",
)


def fault_file(path: Path, fault: str = "", backend: str = "") -> None:
    """Switch a fault on, or off with an empty name."""
    if not fault:
        path.unlink(missing_ok=True)
        return
    assert fault in FAULTS
    new = path.with_suffix(".new")
    new.write_text(f"{fault} {backend}".strip())
    new.replace(path)


def _fault(path: Path, backend: str) -> str:
    try:
        words = path.read_text().split()
    except FileNotFoundError:
        return ""
    return words[0] if len(words) < 2 or words[1] == backend else ""


def release(path: Path) -> None:
    """Let the calls return that "stall" holds."""
    path.with_suffix(".release").touch()


def _wait(path: Path, fault: str) -> None:
    if fault == "freeze":
        path.unlink()
        ctypes.PyDLL(None).sleep(3)  # PyDLL keeps the interpreter's lock
    elif fault == "stall":
        path.unlink()
        path = path.with_suffix(".release")
        path.unlink(missing_ok=True)
        while not path.exists():
            time.sleep(0.02)
    else:
        while path.exists():
            time.sleep(0.02)


def _spoil(fault: str, maps: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    maps = {name: values.copy() for name, values in maps.items()}
    if fault in ("nan", "inf"):
        bad = {"nan": np.nan, "inf": np.inf}[fault]
        maps["depth"][:, :24] = bad
        maps["normals"][:, :24, :, 1] = bad
    elif fault == "all-nan":
        maps["depth"][:] = np.nan
        maps["normals"][:] = np.nan
    elif fault == "class":
        maps["segmentation"][:, :24] = 77
    elif fault == "shape":
        maps["depth"] = maps["depth"][:, :-1]
    elif fault == "batch":
        maps = {name: np.concatenate([values, values]) for name, values in maps.items()}
    elif fault == "dtype":
        maps["depth"] = maps["depth"].astype(np.float64)
    elif fault == "missing":
        del maps["depth"]
    return maps


def spoil_engine(engine: Any, path: Path) -> None:
    """Put the fault between an engine class and its backend."""
    run = engine._run

    def faulty(self: Any, images: np.ndarray) -> dict[str, np.ndarray]:
        fault = _fault(path, self.name)
        if fault == "raise":
            raise RuntimeError("CUDA error 700:\nan illegal memory access was encountered")
        if fault == "memory":
            raise MemoryError
        if fault in ("stall", "hang", "freeze"):
            _wait(path, fault)
        return _spoil(fault, run(self, images))

    engine._run = faulty


def main() -> None:
    """Run `proto-mtl node` with the faults in place."""
    path = Path(sys.argv.pop(1))
    import quick_node  # noqa: F401

    from proto_mtl_ros.runtime.onnxruntime import OnnxRuntimeEngine
    from proto_mtl_ros.runtime.openvino import OpenVinoEngine

    for engine in (OnnxRuntimeEngine, OpenVinoEngine):
        spoil_engine(engine, path)
    from proto_mtl_ros.cli.main import main as command

    command("node")


if __name__ == "__main__":
    main()
