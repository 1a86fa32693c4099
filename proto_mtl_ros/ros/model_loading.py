# SPDX-License-Identifier: Apache-2.0
"""Loading a model without letting the node hang on it."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any

from proto_mtl_ros.errors import EngineError, one_line
from proto_mtl_ros.ros.parameters import Parameters
from proto_mtl_ros.ros.systemd import notify
from proto_mtl_ros.runtime.backend import EngineNotBuilt
from proto_mtl_ros.runtime.bundle import Bundle
from proto_mtl_ros.runtime.engine import Engine, create_engine
from proto_mtl_ros.runtime.predictor import Predictor

THREAD = "model-loader"  # name of the threads that load a model and build nothing before


def load_predictor(parameters: Parameters, avoid: str = "", instead_of: str = "") -> Predictor:
    """Bundle, engine and predictor that the parameters name, warmed up.

    avoid: a backend that `auto` takes only if there is no other. instead_of: why the engine is not
    what the user asked for, which it then says as its fallback.

    Raises BundleError or EngineError.
    """
    height, width = parameters.input_size
    input_size = (height, width) if height else None
    names = ("device", "threads", "precision", "max_batch")
    options = {name: getattr(parameters, name) for name in names} | {"input_size": input_size}

    def created() -> Engine:
        try:
            return create_engine(bundle, parameters.backend, avoid=avoid, **options)
        except EngineNotBuilt:
            # the next fastest runs while it is built, and says so
            return create_engine(bundle, **options)

    bundle = Bundle.load(parameters.model)
    try:
        engine = created()
    except EngineError:
        if bundle.is_current():
            raise
        bundle = Bundle.load(parameters.model)  # an export has just put another in its place
        engine = created()
    if instead_of:
        engine.fallback = "; ".join(filter(None, (instead_of, engine.fallback)))
    try:
        predictor = Predictor(bundle, engine, input_size, output_size=parameters.output_size)
        # every number of images that may come together: some engines are compiled for each
        for batch in range(1, min(parameters.max_batch, len(parameters.cameras)) + 1):
            predictor.warm_up(batch)
    except BaseException:
        engine.close()
        raise
    return predictor


class Loading:
    """A model that is being loaded in a thread of its own; the result is a predictor or an error.

    on_done: called once with the result, in that thread or in the one that abandons the loading.
    delay: seconds before it begins. plan: an EnginePlan, which is built before, in a child process.
    """

    def __init__(
        self,
        parameters: Parameters,
        on_done: Callable[[Predictor | BaseException], None] = lambda _: None,
        delay: float = 0.0,
        plan: Any = None,
        avoid: str = "",
        instead_of: str = "",
    ) -> None:
        self._arguments, self._on_done = (parameters, avoid, instead_of), on_done
        self._delay, self._plan = delay, plan
        self._lock = threading.Lock()
        self._done = threading.Event()
        self.result: Predictor | BaseException | None = None  # None while it goes on
        self.progress = "starting"
        self.warning = ""  # why the engine has to be built again after the next start
        # A daemon: a backend that never returns must not keep the process alive.
        name = "engine-build" if plan else THREAD
        threading.Thread(target=self._run, name=name, daemon=True).start()

    def _run(self) -> None:
        if self._done.wait(self._delay):
            return
        try:
            if self._plan is not None:
                self._build(self._plan)
            self.progress = "loading"
            predictor = load_predictor(*self._arguments)
        except BaseException as error:  # handed over to the thread that waits
            self._finish(error)
            return
        if not self._finish(predictor):
            predictor.close()

    def _build(self, plan: Any) -> None:
        from proto_mtl_ros.runtime.engine_cache import EngineNotSaved

        def report(share: float, what: str) -> None:
            self.progress = f"{100 * share:.0f} % {what}"

        try:
            plan.build(report, self._done.is_set)
        except EngineNotSaved as error:
            self.warning = one_line(error)

    def _finish(self, result: Predictor | BaseException) -> bool:
        with self._lock:
            if self._done.is_set():
                return False
            self.result = result
            self._done.set()
        self._on_done(result)
        return True

    def abandon(self, reason: str) -> None:
        """End the waiting with an EngineError of this reason; what is loaded later is closed."""
        self._finish(EngineError(reason))

    def wait(self, timeout: float, stopping: threading.Event) -> Predictor:
        """Raises what loading raised, or EngineError after `timeout` seconds or when stopping."""
        end = time.monotonic() + timeout
        while not self._done.wait(0.05):
            notify("WATCHDOG=1")  # the thread that does it else is this one
            if stopping.is_set():
                self.abandon("the node is stopping")
            elif time.monotonic() > end:
                self.abandon(f"loading the model took more than {timeout:g} s; raise load_timeout")
        if isinstance(self.result, Predictor):
            return self.result
        assert self.result is not None
        raise self.result
