# SPDX-License-Identifier: Apache-2.0
"""Watches over the engine and its worker: a stall or a lasting failure is told and put right.

Everything here runs in the node's executor thread, so it goes on while the worker hangs, and
nothing here waits for the engine, except for the frame in work when the node is paused.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from proto_mtl_ros.errors import one_line
from proto_mtl_ros.ros.camera_stream import CameraStream
from proto_mtl_ros.ros.diagnostic_table import ERROR, WARN
from proto_mtl_ros.ros.diagnostics import Finding
from proto_mtl_ros.ros.model_loading import Loading
from proto_mtl_ros.ros.parameters import Parameters
from proto_mtl_ros.ros.worker import THREAD, Worker
from proto_mtl_ros.runtime.predictor import Predictor

TICK = 0.25  # seconds between two looks at the worker

RESTARTS = 3  # new engines that are tried one after the other

FIRST_PAUSE = 1.0  # seconds before a new engine is loaded; they double from one attempt to the next
SETTLED = 60.0  # seconds of good work after which the attempts are counted from 0 again
FAILURES = 3  # frames that must have failed one after the other before the engine counts as failed

ENDING_PATIENCE = 3.0
"""Seconds that a frame in work may still take when the process is about to end."""

LONGEST_GAP = 1.0
"""Seconds between two looks count at most so much: a process that was stopped has not stalled."""


class EngineHost:
    """A worker, its engine, and what is done when they fail.

    on_model: called with a model that has come into use. on_failure: called when nothing more will
    be attempted. stopping: set when the process is about to end.
    """

    def __init__(
        self,
        predictor: Predictor,
        parameters: Parameters,
        logger: Any,
        on_model: Callable[[Predictor], None],
        on_failure: Callable[[], None],
        stopping: threading.Event,
    ) -> None:
        self.worker = Worker(predictor, parameters, logger)
        self._parameters, self._logger, self._stopping = parameters, logger, stopping
        self._on_model, self._on_failure = on_model, on_failure
        self._streams: list[CameraStream] = []
        self._running = False
        self._upgrade: Loading | None = None
        self._watched: tuple[int, str] | None = None  # round and stage of a call of the engine
        self._seen_at = self._spent = 0.0
        self._earlier_inferences = 0
        self._reason = self._failed_backend = self._failed_choice = ""
        self._given_up = False
        self._attempts = self._restarts = 0
        self._loading: Loading | None = None
        self._recovered_at = 0.0

    @property
    def predictor(self) -> Predictor | None:
        return self.worker.predictor

    def configure(self, parameters: Parameters) -> None:
        self._parameters = self.worker.parameters = parameters

    def start(self, streams: list[CameraStream]) -> None:
        self._streams = streams
        self.worker.start()
        assert self.worker.predictor is not None
        self._announce(self.worker.predictor)

    def resume(self) -> None:
        self._running = True
        self.worker.resume()

    def pause(self) -> None:
        """Finish the frame in work, take no other; an engine that does not return is replaced."""
        self._running = False
        patience = self._patience()
        if not self.worker.pause(patience):
            self._replace(self._stalled(patience))

    def release(self) -> None:
        """Free everything; an engine that does not return is left behind."""
        self._running = False
        self._end_loadings()
        patience = self._patience()
        if not (self.worker.pause(patience) and self.worker.stop(patience)):
            self.worker.give_up("engine_stalled")
            remedy = "its thread is left behind; restart the process if memory runs short"
            self._logger.error(f"{self._stalled(patience)}: {remedy}")

    def take(self, predictor: Predictor) -> None:
        """Use this model from the next frame on, whatever was wrong with the one before."""
        self._end_loadings()
        self._reason, self._attempts, self._given_up = "", 0, False
        self._use(predictor)

    def tick(self) -> None:
        now = time.monotonic()
        self._tend_upgrade()
        if self._loading is not None:
            self._tend_restart(self._loading)
        elif not self._given_up:
            reason = self._fault(now)
            if reason:
                self._replace(reason)
            elif self._attempts and now - self._recovered_at > SETTLED:
                self._reason, self._attempts = "", 0

    def report(self) -> tuple[dict[str, str], list[Finding]]:
        """Key-value pairs for /diagnostics, and what is not in order."""
        values = {
            "inferences": str(self._earlier_inferences + self.worker.inferences),
            "worker": self.worker.stage,
            "engine_restarts": str(self._restarts),
            "engines_left_behind": str(max(0, running_workers() - 1)),
        }
        findings: list[Finding] = []
        if self._given_up:
            findings.append((ERROR, self._final_line()))
        elif self._loading is not None:
            text = f"engine_restarting: {self._reason}; loading a new engine ({self._attempt})"
            findings.append((ERROR, text))
        elif self._reason:
            ago = time.monotonic() - self._recovered_at
            text = f"engine_replaced: {ago:.0f} s ago, by a new one: {self._reason}"
            findings.append((WARN, text))
        predictor = self.predictor
        if predictor is not None:
            bundle, engine = predictor.bundle, predictor.engine
            values |= {"model": bundle.name, "model_path": str(bundle.path)}
            values |= {"backend": engine.name, "device": engine.device}
            values |= {"precision": engine.precision, "choice": engine.choice}
            values["input_size"] = "x".join(str(size) for size in reversed(predictor.input_size))
            if engine.fallback:
                values["fallback"] = engine.fallback
                findings.append((WARN, f"fallback: {engine.fallback}"))
        if self._upgrade is not None:
            values["engine_build"] = self._upgrade.progress
            if isinstance(self._upgrade.result, BaseException):
                values["engine_build"] = one_line(self._upgrade.result)
                findings.append((ERROR, f"no TensorRT engine: {values['engine_build']}"))
        return values, findings

    # What is wrong

    def _fault(self, now: float) -> str:
        worker, timeout = self.worker, self._parameters.engine_timeout
        gap, self._seen_at = min(now - self._seen_at, LONGEST_GAP), now
        call = (worker.round, worker.stage) if worker.in_engine else None
        self._spent = self._spent + gap if call and call == self._watched else 0.0
        self._watched = call
        if self._spent > timeout:
            return self._stalled(timeout)
        failures = worker.failures
        if failures.count >= FAILURES and now - failures.since > timeout:
            return f"the engine fails, {failures.count} times one after the other: {failures.text}"
        return ""

    def _stalled(self, seconds: float) -> str:
        choice = "the engine" if self.predictor is None else self.predictor.engine.choice
        return f"{choice} has not returned from {self.worker.stage} for {seconds:g} s"

    def _patience(self) -> float:
        patience = self._parameters.engine_timeout
        return min(patience, ENDING_PATIENCE) if self._stopping.is_set() else patience

    # Another engine

    def _replace(self, reason: str) -> None:
        self._end_loadings()
        old = self.worker
        if old.predictor is not None:
            engine = old.predictor.engine
            self._failed_backend, self._failed_choice = engine.name, engine.choice
        unused = old.give_up("engine_stalled")
        self._earlier_inferences += old.inferences
        self.worker = Worker(None, self._parameters, self._logger, old.waiting)
        self.worker.holds = "engine_restarting"
        self._watched = None
        for stream in self._streams:
            stream.inbox = self.worker
            stream.results.renew_messages()
        self.worker.start()
        if self._running:
            self.worker.resume()
        if unused is None:
            self._schedule(reason)
            return
        self._reason = reason
        self._restarts += 1
        self._use(unused)  # loaded by ~/reload_model, and never used

    def _schedule(self, reason: str) -> None:
        # The same engine; if that does not last, another one on the CPU.
        self._reason = reason
        if self._attempts >= RESTARTS:
            self._given_up = True
            self.worker.holds = "engine_failed"
            self._logger.fatal(self._final_line())
            self._on_failure()
            return
        pause = FIRST_PAUSE * 2**self._attempts
        self._attempts += 1
        self._logger.error(f"{reason}; loading a new engine in {pause:g} s ({self._attempt})")
        parameters, avoid, instead_of = self._parameters, "", ""
        if self._attempts > 1:
            parameters = replace(parameters, backend="auto", device="cpu", precision="auto")
            avoid = self._failed_backend
            instead_of = f"{self._failed_choice} failed; ~/reload_model tries it again"
        self._loading = Loading(parameters, delay=pause, avoid=avoid, instead_of=instead_of)

    @property
    def _attempt(self) -> str:
        return f"attempt {self._attempts} of {RESTARTS}"

    def _final_line(self) -> str:
        return (
            f"engine_failed: {self._reason}; given up after {self._attempts} new engines: call "
            "~/reload_model, or restart the process"
        )

    def _tend_restart(self, loading: Loading) -> None:
        result = loading.result
        if result is None:
            return
        self._loading = None
        if isinstance(result, BaseException):
            self._schedule(f"a new engine cannot be loaded: {one_line(result)}")
        else:
            self._restarts += 1
            self._use(result)
            self._logger.warning(f"a new engine is in use: {result.engine.choice}")

    def _end_loadings(self) -> None:
        for loading in filter(None, (self._loading, self._upgrade)):
            loading.abandon("not needed any more")
            if isinstance(loading.result, Predictor):
                loading.result.close()
        self._loading = self._upgrade = None

    def _use(self, predictor: Predictor) -> None:
        self._end_loadings()
        self._recovered_at = time.monotonic()
        self.worker.holds = ""
        self.worker.swap(predictor)
        self._announce(predictor)

    # A better engine

    def _announce(self, predictor: Predictor) -> None:
        engine = predictor.engine
        self._logger.info(f"model {predictor.bundle.name}, {engine.name}: {engine.choice}")
        if engine.fallback:
            self._logger.warning(f"not the engine that was asked for: {engine.fallback}")
        if engine.not_built is not None:
            self._logger.warning("building the TensorRT engine; progress is on /diagnostics")
            self._upgrade = Loading(self._parameters, plan=engine.not_built.plan)
            if self._parameters.while_building == "wait":
                self.worker.holds = "engine_building"
        self._on_model(predictor)

    def _tend_upgrade(self) -> None:
        upgrade = self._upgrade
        result = upgrade.result if upgrade is not None else None
        if isinstance(result, Predictor) and upgrade is not None:
            if upgrade.warning:
                self._logger.warning(f"runs without a cache: {upgrade.warning}")
            self._upgrade = None
            self._use(result)
        elif result is not None and self.worker.holds == "engine_building":
            self.worker.holds = ""
            self._logger.error(f"no TensorRT engine: {one_line(result)}")


def running_workers() -> int:
    """Workers' threads that have not ended, those left behind included."""
    return sum(thread.name == THREAD for thread in threading.enumerate())
