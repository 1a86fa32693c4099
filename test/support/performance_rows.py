# SPDX-License-Identifier: Apache-2.0
"""Rows as the performance measurements leave them."""

from __future__ import annotations

from typing import Any

MADE = {
    "model": "tiny",
    "machine": {"processor": "a CPU", "cores": 2, "gpu": None, "python": "3.11",
                "versions": {"numpy": "1.26"}},
}  # fmt: skip
ENGINE = {"backend": "openvino", "precision": "int8", "images_per_second": 40.0, "ms_p95": 30.0}


def engine_row(**more: Any) -> dict[str, Any]:
    figures = {
        "size": [192, 256],
        "batch": 1,
        "threads": 2,
        "ms_p50": 25.0,
        "ms_p95": 30.0,
        "images_per_second": 40.0,
        "peak_memory_mib": 210.4,
        "first_output_seconds": 1.25,
    }
    asked = {"backend": "openvino", "precision": "int8"}
    return {"asked": asked, **asked, **figures, **more}


def node_row(name: str, size: tuple[int, int], rate: float, **more: Any) -> dict[str, Any]:
    """Return a load of 30 Hz on one camera, of which so many images a second are answered."""
    case = {
        "name": name,
        "results": ["depth"],
        "width": 640,
        "height": 480,
        "cameras": 1,
        "max_batch": 1,
        "threads": 1,
    } | more.pop("case", {})
    ms = size[0] * size[1] / 1e3
    return {
        "case": case, "pinned": False, "rate_offered": 30.0, "rate": rate, "loss": 1 - rate / 30,
        "engine": {**ENGINE, "size": list(size), "ms_p50": ms}, "lost_in": 1, "lost_out": 0,
        "latency_ms": {"p50": 21.0, "p95": 34.0}, "share": {"node0": 0.75},
        "memory_mib": {"node0": 123.4}, **more,
    }  # fmt: skip
