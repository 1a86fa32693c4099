# SPDX-License-Identifier: Apache-2.0
"""One engine in a process of its own, which runs frames when it is told to.

    python -m tools.performance.engine_worker <setting as JSON>

Each line on standard input is a number of frames; each line on standard output is a JSON object.
"""

from __future__ import annotations

import json
import sys
import time
from dataclasses import dataclass
from typing import Any

_BORN = time.perf_counter()


@dataclass(frozen=True)
class EngineSetting:
    """An engine to measure.

    Attributes:
        model: name or folder of the bundle.
        backend, precision, device, threads: see ``runtime.engine.EngineOptions``.
        size: (height, width) of the input, None for the model's own.
        batch: images at once.
    """

    model: str = "nyu13-lite0"
    backend: str = "auto"
    precision: str = "auto"
    device: str = "cpu"
    threads: int = 1
    size: tuple[int, int] | None = None
    batch: int = 1


def main(arguments: list[str]) -> int:
    from proto_mtl_ros.errors import ProtoMtlError, one_line
    from tools.processes import from_word

    setting = from_word(EngineSetting, arguments[0])
    try:
        _serve(setting)
    except ProtoMtlError as error:
        _say(error=one_line(error))
        return 1
    return 0


def _serve(setting: EngineSetting) -> None:
    import numpy as np

    from proto_mtl_ros.runtime.bundle import Bundle
    from proto_mtl_ros.runtime.engine import create_engine
    from tools.processes import peak_memory

    bundle = Bundle.load(setting.model)
    size = setting.size or bundle.manifest.input_size
    engine = create_engine(
        bundle,
        setting.backend,
        setting.device,
        setting.threads,
        precision=setting.precision,
        input_size=size,
        max_batch=setting.batch,
    )
    loaded = time.perf_counter()
    engine.warm_up(setting.batch, size)
    images = np.random.default_rng(0).integers(0, 256, (setting.batch, *size, 3), np.uint8)
    _say(
        backend=engine.name,
        precision=engine.precision,
        device=engine.device,
        size=list(size),
        load_seconds=loaded - _BORN,
        first_output_seconds=time.perf_counter() - _BORN,
    )
    for line in sys.stdin:
        times = []
        for _ in range(int(line)):
            start = time.perf_counter()
            engine.infer(images)
            times.append(1e3 * (time.perf_counter() - start))
        _say(milliseconds=times, peak_memory=peak_memory())


def _say(**fields: Any) -> None:
    print(json.dumps(fields), flush=True)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
