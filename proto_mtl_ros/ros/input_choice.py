# SPDX-License-Identifier: Apache-2.0
"""The network's whole input, or a smaller one while the worker cannot keep up with the images."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from proto_mtl_ros.errors import EngineError
from proto_mtl_ros.ros.diagnostics import WARN
from proto_mtl_ros.ros.load import Load
from proto_mtl_ros.runtime.predictor import Predictor

if TYPE_CHECKING:
    from proto_mtl_ros.ros.worker import Worker


class InputChoice:
    """Chooses where the parameter when_slow allows it. values: the current parameters."""

    def __init__(self, values: Callable[[], dict[str, Any]], logger: Any) -> None:
        self._values, self._logger = values, logger
        self._load = Load()

    def tick(self, worker: Worker, now: float) -> None:
        """Look at the worker's load; now: of a steady clock, seconds."""
        values = self._values()
        if values["when_slow"] != "smaller_input" or values["output_size"] != "input":
            worker.small = False
            return
        small = self._load.observe(now, worker.busy_seconds, worker.inferences, worker.small)
        if small == worker.small or worker.small_problem:
            return
        worker.small = small
        load = f"the engine was busy for {100 * self._load.share:.0f} % of the time"
        if small:
            self._logger.warning(f"smaller_input: {load}; the network runs at a smaller input")
        else:
            self._logger.info(f"smaller_input is over: {load}; the network's whole input again")

    def troubles(self, worker: Worker) -> list[tuple[bytes, str]]:
        """(level, text) for /diagnostics of an input that is not the whole one."""
        if worker.small and worker.predictor is not None:
            height, width = worker.predictor.input_size
            text = (
                f"smaller_input: the network runs at {width}x{height} to keep up, less exactly; "
                "lower max_rate, or choose a faster backend"
            )
            return [(WARN, text)]
        if worker.small_problem:
            text = f"smaller_input: the engine takes no other size: {worker.small_problem}"
            return [(WARN, f"{text}; set when_slow to drop_images")]
        return []


def smaller_predictor(whole: Predictor) -> Predictor:
    """The same engine at two thirds of the input, in multiples that the network takes, warmed up.

    Raises EngineError where there is no smaller one, or the engine takes no other size.
    """
    multiple = whole.bundle.manifest.size_multiple
    height, width = (max(multiple, 2 * s // (3 * multiple) * multiple) for s in whole.input_size)
    if (height, width) == whole.input_size:
        raise EngineError("there is no smaller one")
    predictor = Predictor(whole.bundle, whole.engine, (height, width))
    predictor.warm_up()
    return predictor
