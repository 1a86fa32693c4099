# SPDX-License-Identifier: Apache-2.0
"""Loading a model without letting the node hang on it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable
from dataclasses import asdict
from typing import Any

from proto_mtl_ros.errors import EngineError, one_line
from proto_mtl_ros.own_path import module_command
from proto_mtl_ros.ros.heap import return_freed_memory
from proto_mtl_ros.ros.parameters import Parameters, updated
from proto_mtl_ros.ros.systemd import notify
from proto_mtl_ros.runtime.backend import EngineNotBuilt
from proto_mtl_ros.runtime.bundle import Bundle
from proto_mtl_ros.runtime.engine import Engine, create_engine
from proto_mtl_ros.runtime.orphans import end_with_parent
from proto_mtl_ros.runtime.predictor import Predictor

THREAD = "model-loader"  # name of the threads that load a model and build nothing before

_REASON = "cannot be loaded: "  # begins the line of a rehearsal's reason


def load_predictor(
    parameters: Parameters,
    avoid: str = "",
    instead_of: str = "",
    on_engine: Callable[[Engine], None] = lambda _: None,
) -> Predictor:
    """Bundle, engine and predictor that the parameters name, warmed up.

    avoid: a backend that `auto` takes only if there is no other. instead_of: why the engine is not
    what the user asked for, which it then says as its fallback. on_engine: called before warming
    up, which may take long.

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
        on_engine(engine)
        predictor = Predictor(bundle, engine, input_size, output_size=parameters.output_size)
        # every number of images that may come together: some engines are compiled for each
        for batch in range(1, min(parameters.max_batch, len(parameters.cameras)) + 1):
            predictor.warm_up(batch)
    except BaseException:
        engine.close()
        raise
    return predictor


class Loading:
    """A model that is being loaded in a thread of its own; the result is a predictor or an error,
    after `load_timeout` in any case.

    on_done: called once with the result, in that thread or in the one that abandons the loading.
    delay: seconds before it begins. plan: an EnginePlan, which is built before, in a child process,
    and may take as long as it needs. rehearse: load it in a child process first, which can be
    ended and takes its memory along, while a thread that never returns can only be left behind.
    """

    def __init__(
        self,
        parameters: Parameters,
        on_done: Callable[[Predictor | BaseException], None] = lambda _: None,
        delay: float = 0.0,
        plan: Any = None,
        avoid: str = "",
        instead_of: str = "",
        rehearse: bool = False,
    ) -> None:
        self._arguments, self._on_done = (parameters, avoid, instead_of), on_done
        self._delay, self._plan, self._rehearses = delay, plan, rehearse
        self._engine: Engine | None = None  # while it is warmed up
        self._lock = threading.Lock()
        self._done = threading.Event()
        self.result: Predictor | BaseException | None = None  # None while it goes on
        self.progress = "starting"
        self.warning = ""  # why the engine has to be built again after the next start
        # A daemon: a backend that never returns must not keep the process alive.
        name = "engine-build" if plan else THREAD
        limit = parameters.load_timeout
        reason = f"loading the model took more than {limit:g} s; raise load_timeout"
        self._timer = threading.Timer(delay + limit, self.abandon, (reason,))
        self._timer.daemon = True
        if plan is None:
            self._timer.start()
        threading.Thread(target=self._run, name=name, daemon=True).start()

    def _run(self) -> None:
        if self._done.wait(self._delay):
            return
        try:
            if self._plan is not None:
                self._build(self._plan)
            self.progress = "loading"
            if self._rehearses:
                self._rehearse(self._arguments[0])
            if self._done.is_set():
                return
            predictor = load_predictor(*self._arguments, self._warms_up)
        except BaseException as error:  # handed over to the thread that waits
            # without the frames, which hold an engine and its images
            error.__traceback__ = error.__context__ = error.__cause__ = None
            self._finish(error)
        else:
            if not self._finish(predictor):
                predictor.close()
        self._engine = None
        if not isinstance(self.result, Predictor):
            return_freed_memory()

    def _warms_up(self, engine: Engine) -> None:
        self._engine = engine

    def _rehearse(self, parameters: Parameters) -> None:
        command = module_command(__name__, json.dumps(asdict(parameters)))
        quiet = subprocess.DEVNULL
        with (
            tempfile.TemporaryFile("w+", errors="replace") as errors,
            subprocess.Popen(command, stdin=quiet, stdout=quiet, stderr=errors) as child,
        ):
            while child.poll() is None:
                if self._done.wait(0.05):
                    child.kill()
                    return
            if child.returncode:
                errors.seek(0)
                lines = errors.read().split("\n")
                text = f"a process that tried to load the model ended with {child.returncode}"
                found = [line for line in lines if line.startswith(_REASON)]
                raise EngineError(found[-1].removeprefix(_REASON) if found else text)

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
        self._timer.cancel()
        self._on_done(result)
        return True

    def abandon(self, reason: str) -> None:
        """End the waiting with an EngineError of this reason, and the loading where that can be
        ended; what is loaded later is closed."""
        engine = self._engine
        if self._finish(EngineError(reason)) and engine is not None:
            engine.cancel()

    def wait(self, stopping: threading.Event) -> Predictor:
        """Raises what loading raised, or EngineError when stopping."""
        while not self._done.wait(0.05):
            notify("WATCHDOG=1")  # the thread that does it else is this one
            if stopping.is_set():
                self.abandon("the node is stopping")
        if isinstance(self.result, Predictor):
            return self.result
        assert self.result is not None
        raise self.result


def rehearse(parameters: str) -> int:
    """Load the model that parameters in JSON name; a line on standard error says why not."""
    end_with_parent(signal.SIGKILL)  # a backend at work hears nothing else
    try:
        load_predictor(updated(Parameters(), json.loads(parameters)))
    except BaseException as error:
        sys.stderr.write(f"\n{_REASON}{one_line(error)}\n")
        return 1
    return 0


if __name__ == "__main__":
    found = rehearse(sys.argv[1])
    sys.stderr.flush()
    os._exit(found)  # some backends abort in an ordinary exit
