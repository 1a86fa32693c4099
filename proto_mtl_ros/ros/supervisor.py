# SPDX-License-Identifier: Apache-2.0
"""Watches over the engine and its worker: a stall or a lasting failure is told and put right.

Everything here runs in the node's executor thread, so it goes on while the worker hangs, and
nothing here waits for the engine, except for the frame in work when the node is paused.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any

from proto_mtl_ros.errors import one_line
from proto_mtl_ros.ros.camera import CameraPort
from proto_mtl_ros.ros.diagnostics import (
    ERROR,
    WARN,
)
from proto_mtl_ros.ros.engine_upgrade import EngineUpgrade
from proto_mtl_ros.ros.input_choice import InputChoice
from proto_mtl_ros.ros.model import Loading
from proto_mtl_ros.ros.watchdog import Watchdog
from proto_mtl_ros.ros.worker import (
    THREAD,
    Worker,
)
from proto_mtl_ros.runtime.predictor import Predictor

TICK = 0.25
"""Seconds between two looks at the worker."""

FIRST_PAUSE, LONGEST_PAUSE = 1.0, 30.0
"""Seconds before a new engine is loaded; they double from one attempt to the next."""

SETTLED = 60.0
"""Seconds of good work after which the attempts are counted from 0 again."""

FAILURES = 3
"""Frames that must have failed one after the other before the engine counts as failed."""

ENDING_PATIENCE = 3.0
"""Seconds that a frame in work may still take when the process is about to end."""


class Supervisor:
    """A worker, its engine, and what is done when they fail.

    values: gives the current parameters. logger: the node's. on_model: called with a model that
    has come into use. on_failure: called with one line when nothing more will be attempted.
    stopping: set when the process is about to end.
    """

    def __init__(
        self,
        predictor: Predictor,
        values: Callable[[], dict[str, Any]],
        logger: Any,
        on_model: Callable[[Predictor], None],
        on_failure: Callable[[str], None],
        stopping: threading.Event,
    ) -> None:
        self.upgrade: EngineUpgrade | None = None
        self._values, self._logger, self._stopping = values, logger, stopping
        self._on_model, self._on_failure = on_model, on_failure
        self._worker = Worker(predictor, values, logger)
        self._ports: list[CameraPort] = []
        self._running = False
        self._watchdog = Watchdog()
        self._input_choice = InputChoice(values, logger)
        self._earlier_inferences = 0
        self._reason = ""
        self._failed_backend = self._failed_choice = ""
        self._given_up = False
        self._attempts = self._restarts = 0
        self._next_at: float | None = None
        self._loading: Loading | None = None
        self._load_until = 0.0
        self._recovered_at = 0.0

    @property
    def predictor(self) -> Predictor | None:
        """The model in use, None while there is no engine."""
        return self._worker.predictor

    def wake(self) -> None:
        """A frame has come."""
        self._worker.wake()

    def start(self, ports: list[CameraPort]) -> None:
        """Start the worker for these cameras, paused."""
        self._ports = ports
        self._worker.start(ports)
        assert self._worker.predictor is not None
        self._announce(self._worker.predictor)

    def resume(self) -> None:
        """Process frames from now on."""
        self._running = True
        self._worker.resume()

    def pause(self) -> None:
        """Finish the frame in work, take no other; an engine that does not return is replaced."""
        self._running = False
        patience = self._patience()
        if not self._worker.pause(patience):
            self._replace(self._stalled(patience))

    def release(self) -> None:
        """Free everything; an engine that does not return is left behind."""
        self._running = False
        self._stop_upgrade()
        self._forget_restart()
        patience = self._patience()
        if not (self._worker.pause(patience) and self._worker.stop(patience)):
            self._worker.give_up("engine_stalled")
            self._logger.error(
                f"{self._stalled(patience)}: its thread is left behind; restart the process if "
                "memory runs short"
            )

    def take(self, predictor: Predictor) -> None:
        """Use this model from the next frame on, whatever was wrong with the one before."""
        self._forget_restart()
        self._reason, self._attempts, self._given_up = "", 0, False
        self._use(predictor)

    def tick(self) -> None:
        """Look at the worker, and go on with what is under way; never waits."""
        now = time.monotonic()
        self._tend_upgrade()
        if self._loading is not None or self._next_at is not None:
            self._tend_restart(now)
        elif not self._given_up:
            reason = self._trouble(now)
            if reason:
                self._replace(reason)
            elif self._attempts and now - self._recovered_at > SETTLED:
                self._reason, self._attempts = "", 0
            if not reason:
                self._input_choice.tick(self._worker, now)

    def report(self) -> tuple[dict[str, str], list[tuple[bytes, str]]]:
        """Key-value pairs for /diagnostics, and (level, text) of what is not in order."""
        worker = self._worker
        values = {
            "inferences": str(self._earlier_inferences + worker.inferences),
            "worker": worker.stage,
            "engine_restarts": str(self._restarts),
            "engines_left_behind": str(max(0, running_workers() - 1)),
        }
        troubles: list[tuple[bytes, str]] = []
        if self._given_up:
            troubles.append((ERROR, self._final_line()))
        elif self._loading is not None or self._next_at is not None:
            attempt = f"attempt {self._attempts} of {self._values()['engine_restarts']}"
            text = f"engine_restarting: {self._reason}; loading a new engine ({attempt})"
            troubles.append((ERROR, text))
        elif self._reason:
            ago = time.monotonic() - self._recovered_at
            text = f"engine_replaced: {ago:.0f} s ago, by a new one: {self._reason}"
            troubles.append((WARN, text))
        troubles += self._input_choice.troubles(worker)
        return values, troubles

    # What is wrong

    def _trouble(self, now: float) -> str:
        """Return why the engine has to be replaced, empty while it need not."""
        worker, timeout = self._worker, self._values()["engine_timeout"]
        if self._watchdog.observe(worker.round if worker.busy else None, now) > timeout:
            return self._stalled(timeout)
        failures = worker.failures
        if failures.count >= FAILURES and now - failures.since > timeout:
            return f"the engine fails, {failures.count} times one after the other: {failures.text}"
        return ""

    def _stalled(self, seconds: float) -> str:
        choice = "the engine" if self.predictor is None else self.predictor.engine.choice
        return f"{choice} has not returned from {self._worker.stage} for {seconds:g} s"

    def _patience(self) -> float:
        patience: float = self._values()["engine_timeout"]
        return min(patience, ENDING_PATIENCE) if self._stopping.is_set() else patience

    # Another engine

    def _replace(self, reason: str) -> None:
        """Leave the worker and its engine behind, and have another one loaded."""
        self._stop_upgrade()
        old = self._worker
        if old.predictor is not None:
            engine = old.predictor.engine
            self._failed_backend, self._failed_choice = engine.name, engine.choice
        unused = old.give_up("engine_stalled")
        self._earlier_inferences += old.inferences
        self._worker = Worker(None, self._values, self._logger)
        self._worker.holds = "engine_restarting"
        self._worker.start(self._ports)
        if self._running:
            self._worker.resume()
        if unused is None:
            self._schedule(reason)
            return
        self._reason = reason
        self._restarts += 1
        self._use(unused)  # loaded by ~/reload_model, and never used

    def _schedule(self, reason: str) -> None:
        self._reason = reason
        most = self._values()["engine_restarts"]
        if self._attempts >= most:
            self._next_at = None
            self._given_up = True
            self._worker.holds = "engine_failed"
            self._logger.fatal(self._final_line())
            self._on_failure(reason)
            return
        pause = min(FIRST_PAUSE * 2**self._attempts, LONGEST_PAUSE)
        self._attempts += 1
        self._next_at = time.monotonic() + pause
        self._logger.error(
            f"{reason}; loading a new engine in {pause:g} s (attempt {self._attempts} of {most})"
        )

    def _final_line(self) -> str:
        return (
            f"engine_failed: {self._reason}; given up after {self._attempts} new engines: call "
            "~/reload_model, or restart the process"
        )

    def _tend_restart(self, now: float) -> None:
        if self._loading is None:
            assert self._next_at is not None
            if now >= self._next_at:
                self._next_at = None
                self._load_until = now + self._values()["load_timeout"]
                self._loading = self._load()
            return
        outcome = self._loading.outcome
        if outcome is None:
            if now > self._load_until:
                self._loading.abandon("loading it took longer than load_timeout")
            return
        self._loading = None
        if outcome.predictor is None:
            self._schedule(f"a new engine cannot be loaded: {one_line(outcome.error)}")
        else:
            self._restarts += 1
            self._use(outcome.predictor)
            self._logger.warning(f"a new engine is in use: {outcome.predictor.engine.choice}")

    def _load(self) -> Loading:
        """Load the same engine; if that did not last, another one on the CPU."""
        values = self._values()
        if self._attempts < 2 or values["engine_fallback"] == "none":
            return Loading(values)
        another = {"backend": "auto", "device": "cpu", "precision": "auto"}
        return Loading(
            values | another,
            avoid=self._failed_backend,
            instead_of=f"{self._failed_choice} failed; ~/reload_model tries it again",
        )

    def _forget_restart(self) -> None:
        self._next_at = None
        loading, self._loading = self._loading, None
        if loading is not None:
            loading.abandon("not needed any more")
            if loading.outcome is not None and loading.outcome.predictor is not None:
                loading.outcome.predictor.close()

    def _use(self, predictor: Predictor) -> None:
        self._forget_restart()
        self._recovered_at = time.monotonic()
        self._worker.holds = ""
        self._worker.swap(predictor)
        self._announce(predictor)

    # A better engine

    def _announce(self, predictor: Predictor) -> None:
        engine = predictor.engine
        self._logger.info(f"model {predictor.bundle.name}, {engine.name}: {engine.choice}")
        if engine.fallback:
            self._logger.warning(f"not the engine that was asked for: {engine.fallback}")
        self._stop_upgrade()
        if engine.not_built is not None:
            self._logger.warning("building the TensorRT engine; progress is on /diagnostics")
            self.upgrade = EngineUpgrade(engine.not_built.plan, self._values())
            if self._values()["while_building"] == "wait":
                self._worker.holds = "engine_building"
        self._on_model(predictor)

    def _stop_upgrade(self) -> None:
        if self.upgrade is not None:
            self.upgrade.stop()
            self.upgrade = None

    def _tend_upgrade(self) -> None:
        """Take a better engine into use when it is there."""
        if self.upgrade is None:
            return
        predictor = self.upgrade.poll()
        if predictor is not None:
            if self.upgrade.warning:
                self._logger.warning(f"runs without a cache: {self.upgrade.warning}")
            self.upgrade = None
            self._use(predictor)
        elif self.upgrade.error and self._worker.holds == "engine_building":
            self._worker.holds = ""
            self._logger.error(f"no TensorRT engine: {self.upgrade.error}")


def running_workers() -> int:
    """Workers' threads that have not ended, those left behind included."""
    return sum(thread.name == THREAD for thread in threading.enumerate())
