# SPDX-License-Identifier: Apache-2.0
"""Every call of ours exists, with so many arguments, in the oldest and newest TensorRT it is for.

``tensorrt_api.json`` holds names and numbers of arguments, read from the documentation strings of
NVIDIA's Python bindings 10.3.0 (JetPack 6) and 11.4.0 with empty libraries beneath. TensorRT-RTX is
looked at itself where it is installed.
"""

from __future__ import annotations

import ast
import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from proto_mtl_ros import runtime

API = json.loads(
    (Path(__file__).resolve().parents[1] / "support" / "tensorrt_api.json").read_text()
)
FILES = ("tensorrt_build.py", "tensorrt.py")
NEWER = {"EXPLICIT_BATCH", "ComputeCapability"}
NEWER |= {"num_compute_capabilities", "set_compute_capability"}
"""What is asked for before it is used, because not every version has it."""

KINDS = {
    "trt": "module",
    "trt.NetworkDefinitionCreationFlag": "NetworkDefinitionCreationFlag",
    "flags": "NetworkDefinitionCreationFlag",
    "trt.TensorIOMode": "TensorIOMode",
    "trt.ILogger": "ILogger",
    "builder": "Builder",
    "parser": "OnnxParser",
    "error": "ParserError",
    "config": "IBuilderConfig",
    "profile": "IOptimizationProfile",
    "runtime": "Runtime",
    "self._engine": "ICudaEngine",
    "context": "IExecutionContext",
    "run.context": "IExecutionContext",
}
"""Expressions of those files -> TensorRT's class."""


def uses() -> Iterator[tuple[str, str, int | None]]:
    """Yield class, member, and the number of arguments where it is called."""
    folder = Path(runtime.__file__).parent
    for name in FILES:
        tree = ast.parse((folder / name).read_text())
        calls = {id(node.func): len(node.args) for node in ast.walk(tree) if _is_call(node)}
        for node in ast.walk(tree):
            if isinstance(node, ast.Attribute) and ast.unparse(node.value) in KINDS:
                kind = KINDS[ast.unparse(node.value)]
                yield kind, node.attr, calls.get(id(node))


def _is_call(node: ast.AST) -> bool:
    return isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)


@pytest.mark.parametrize("version", list(API))
def test_every_call_is_one_of_the_library(version: str) -> None:
    api = API[version]
    assert len(set(uses())) > 25
    for kind, member, arguments in uses():
        if member in NEWER:
            continue
        assert member in api[kind], f"TensorRT {version}: {kind} has no {member}"
        if arguments is None or kind == "module":
            continue
        takes = api[kind][member]
        assert takes is not None, f"TensorRT {version}: {kind}.{member} is not a method"
        assert any(low <= arguments <= high for low, high in takes) or not takes, (
            f"TensorRT {version}: {kind}.{member} takes {takes} arguments, not {arguments}"
        )


def test_every_call_is_one_of_tensorrt_rtx() -> None:
    library = pytest.importorskip("tensorrt_rtx", reason="tensorrt-rtx is not installed")
    for kind, member, _ in uses():
        if member in NEWER:
            continue
        owner = library if kind == "module" else getattr(library, kind)
        assert hasattr(owner, member), f"TensorRT-RTX: {kind} has no {member}"
