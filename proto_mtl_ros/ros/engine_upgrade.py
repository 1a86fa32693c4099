# SPDX-License-Identifier: Apache-2.0
"""A faster engine that is built while the node already runs on another one."""

from __future__ import annotations

import threading

from proto_mtl_ros.errors import one_line
from proto_mtl_ros.ros.model_loading import Loading
from proto_mtl_ros.ros.parameters import Parameters
from proto_mtl_ros.runtime.engine_cache import EngineNotSaved
from proto_mtl_ros.runtime.engine_plan import EnginePlan
from proto_mtl_ros.runtime.predictor import Predictor


class EngineUpgrade:
    """Builds an engine in a child process, then loads it by the node's parameters.

    Attributes:
        progress: what is being done, one line.
        error: why it failed, one line; empty while it has not.
        warning: why the engine has to be built again after the next start; empty if it has not.
    """

    def __init__(self, plan: EnginePlan, parameters: Parameters) -> None:
        """Start to build."""
        self.progress, self.error, self.warning = "starting", "", ""
        self._plan, self._parameters = plan, parameters
        self._stop = threading.Event()
        self._built = threading.Event()
        self._loading: Loading | None = None
        threading.Thread(target=self._run, name="engine-build", daemon=True).start()

    def _run(self) -> None:
        def report(share: float, what: str) -> None:
            self.progress = f"{100 * share:.0f} % {what}"

        try:
            self._plan.build(report, self._stop.is_set)
        except EngineNotSaved as error:
            self.warning = one_line(error)
        except Exception as error:  # whatever it is, the node goes on with the engine it has
            self.error = one_line(error)
        self._built.set()

    def poll(self) -> Predictor | None:
        """Return the predictor on the new engine once, when it is there; never waits."""
        if not self._built.is_set() or self.error or self._stop.is_set():
            return None
        if self._loading is None:
            self.progress = "loading"
            self._loading = Loading(self._parameters)
        result = self._loading.result
        if isinstance(result, BaseException):
            self.error = one_line(result)
            return None
        return result

    def stop(self) -> None:
        """Give up; the child process ends."""
        self._stop.set()
        if self._loading is not None:
            self._loading.abandon("given up")
