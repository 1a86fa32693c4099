# SPDX-License-Identifier: Apache-2.0
"""Engine time of rows beside the released network, in one run, interleaved.

    python -m benchmark.experiments.cost off0 answers0 [--rounds 30]

Weights are random: time does not depend on them. One thread, best of the rounds, 192x256.
"""

from __future__ import annotations

import argparse
import json
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmark.experiments.data import KEPT, recipe
from benchmark.experiments.rows import ROWS
from benchmark.experiments.training import build
from proto_mtl_ros.training.export import onnx_file

RESULTS = Path(__file__).parent / "results"
HEIGHT, WIDTH = 192, 256


def _exported(name: str) -> Path:
    path = KEPT / "onnx" / f"{name}.onnx"
    if not path.is_file():
        path.parent.mkdir(exist_ok=True)
        torch.manual_seed(0)
        network = build(ROWS[name], recipe(ROWS[name], 0), pretrained=False).eval()
        network = network.to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]
        path.write_bytes(onnx_file(network, 1.0, HEIGHT, WIDTH))
    return path


def _onnxruntime(path: Path) -> Callable[[Any], Any]:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    return lambda image: session.run(None, {"image": image})


def _openvino(path: Path) -> Callable[[Any], Any]:
    import openvino

    core = openvino.Core()
    model = core.read_model(str(path))
    model.reshape([1, HEIGHT, WIDTH, 3])
    settings = {
        "INFERENCE_NUM_THREADS": 1,
        "PERFORMANCE_HINT": "LATENCY",
        "INFERENCE_PRECISION_HINT": "f32",
    }
    request = core.compile_model(model, "CPU", settings).create_infer_request()
    return lambda image: request.infer([image])


def main() -> None:
    """Measure."""
    parser = argparse.ArgumentParser()
    parser.add_argument("rows", nargs="+", choices=sorted(ROWS))
    parser.add_argument("--rounds", type=int, default=30)
    arguments = parser.parse_args()
    names = ["shipped", *(n for n in arguments.rows if n != "shipped")]
    warnings.simplefilter("ignore")
    paths = {name: _exported(name) for name in names}
    image = np.random.default_rng(0).integers(0, 255, (1, HEIGHT, WIDTH, 3), np.uint8)
    found: dict[str, dict[str, float]] = {name: {} for name in names}
    for engine, load in (("openvino", _openvino), ("onnxruntime", _onnxruntime)):
        runs = {name: load(path) for name, path in paths.items()}
        best = dict.fromkeys(names, np.inf)
        for _ in range(arguments.rounds):
            for name, run in runs.items():
                for _ in range(3):
                    begun = time.perf_counter()
                    run(image)
                    best[name] = min(best[name], time.perf_counter() - begun)
        for name in names:
            found[name][f"{engine}_ms"] = round(1000 * best[name], 2)
            found[name][f"{engine}_ratio"] = round(best[name] / best["shipped"], 3)
    path = RESULTS / "cost.json"
    before = json.loads(path.read_text()) if path.is_file() else {}
    path.write_text(json.dumps(before | found, indent=1) + "\n")
    for name, values in found.items():
        print(name, values)


if __name__ == "__main__":
    main()
