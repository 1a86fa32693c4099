# SPDX-License-Identifier: Apache-2.0
"""Loading a model without letting the node hang on it."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from proto_mtl_ros.errors import EngineError
from proto_mtl_ros.ros.systemd import notify
from proto_mtl_ros.runtime.bundle import Bundle
from proto_mtl_ros.runtime.engine import (
    Engine,
    create_engine,
)
from proto_mtl_ros.runtime.engine_plan import EngineNotBuilt
from proto_mtl_ros.runtime.predictor import Predictor


def load_predictor(values: dict[str, Any], avoid: str = "", instead_of: str = "") -> Predictor:
    """Bundle, engine and predictor that the parameters name, warmed up.

    avoid: a backend that `auto` takes only if there is no other. instead_of: why the engine is not
    what the user asked for, which it then says as its fallback.

    Raises BundleError or EngineError.
    """
    height, width = values["input_size"]
    input_size = (height, width) if height else None
    options = {
        "device": values["device"],
        "threads": values["threads"],
        "precision": values["precision"],
        "input_size": input_size,
        "max_batch": values["max_batch"],
    }
    bundle = Bundle.load(values["model"])
    try:
        engine = _engine(bundle, values["backend"], avoid, options)
    except EngineError:
        if bundle.is_current():
            raise
        bundle = Bundle.load(values["model"])  # an export has just put another in its place
        engine = _engine(bundle, values["backend"], avoid, options)
    if instead_of:
        engine.fallback = "; ".join(filter(None, (instead_of, engine.fallback)))
    try:
        predictor = Predictor(bundle, engine, input_size, output_size=values["output_size"])
        # every number of images that may come together: some engines are compiled for each
        for batch in range(1, min(values["max_batch"], len(values["cameras"])) + 1):
            predictor.warm_up(batch)
    except BaseException:
        engine.close()
        raise
    return predictor


def _engine(bundle: Bundle, backend: str, avoid: str, options: dict[str, Any]) -> Engine:
    try:
        return create_engine(bundle, backend, avoid=avoid, **options)
    except EngineNotBuilt:
        # the next fastest runs while it is built, and says so
        return create_engine(bundle, **options)


@dataclass
class Outcome:
    """What loading gave: a predictor, or the error."""

    predictor: Predictor | None = None
    error: BaseException | None = None


class Loading:
    """A model that is being loaded in a thread of its own.

    on_done: called once with the outcome, in that thread or in the one that abandons the loading.
    avoid, instead_of: see `load_predictor`.
    """

    def __init__(
        self,
        values: dict[str, Any],
        on_done: Callable[[Outcome], None] | None = None,
        **more: str,
    ) -> None:
        self._values, self._more = dict(values), more
        self._on_done = on_done
        self._lock = threading.Lock()
        self._done = threading.Event()
        self._outcome = Outcome()
        # A daemon: a backend that never returns must not keep the process alive.
        threading.Thread(target=self._run, name="model-loader", daemon=True).start()

    def _run(self) -> None:
        outcome = Outcome()
        try:
            outcome.predictor = load_predictor(self._values, **self._more)
        except BaseException as error:  # handed over to the thread that waits
            outcome.error = error
        if not self._finish(outcome) and outcome.predictor is not None:
            outcome.predictor.close()

    def _finish(self, outcome: Outcome) -> bool:
        """Make this the outcome, unless there is one already."""
        with self._lock:
            if self._done.is_set():
                return False
            self._outcome = outcome
            self._done.set()
        if self._on_done is not None:
            self._on_done(outcome)
        return True

    @property
    def outcome(self) -> Outcome | None:
        """What loading gave, None while it goes on."""
        return self._outcome if self._done.is_set() else None

    def abandon(self, reason: str) -> None:
        """End the waiting with an EngineError of this reason; what is loaded later is closed."""
        self._finish(Outcome(error=EngineError(reason)))

    def wait(self, timeout: float, stopping: threading.Event) -> Predictor:
        """The predictor.

        Raises what loading raised, or EngineError after `timeout` seconds or when the process is
        about to stop.
        """
        end = time.monotonic() + timeout
        while not self._done.wait(0.05):
            notify("WATCHDOG=1")  # the thread that does it else is this one
            if stopping.is_set():
                self.abandon("the node is stopping")
            elif time.monotonic() > end:
                self.abandon(f"loading the model took more than {timeout:g} s; raise load_timeout")
        if self._outcome.error is not None:
            raise self._outcome.error
        assert self._outcome.predictor is not None
        return self._outcome.predictor
