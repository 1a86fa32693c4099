# SPDX-License-Identifier: Apache-2.0
"""What others in the graph do to the node during a soak: parameters, lifecycle, reloads, a hang."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable, Sequence

from rcl_interfaces.srv import SetParameters
from rclpy.node import Node
from rclpy.parameter import Parameter
from std_srvs.srv import Trigger

from proto_mtl_ros.errors import ProtoMtlError
from proto_mtl_ros.ros.replay.processes import LifecycleClient
from tools.soak.schedule import KINDS, Fault

_CALL_SECONDS = 60.0
_MISSING_MODEL = "no_such_model"


class Operator:
    """Carries out the faults that are not the camera's, in a thread of its own.

    Args:
        target: name of the node.
        model: that it runs.
        subscriber: process id of the one that is stopped.
        check: called while waiting; it raises when a process has failed.
    """

    def __init__(self, target: str, model: str, subscriber: int, check: Callable[[], None]) -> None:
        self.inactive: list[tuple[float, float]] = []
        """Monotonic seconds between which the node was told to be inactive."""
        self.refused: dict[Fault, str] = {}
        """Faults in which the node did not do what it should have, and what."""
        self._model = model
        self._subscriber = subscriber
        self._node = Node("soak_operator")
        self._client = LifecycleClient(self._node, f"/{target}", check)
        self._parameters = self._node.create_client(SetParameters, f"/{target}/set_parameters")
        self._reload = self._node.create_client(Trigger, f"/{target}/reload_model")
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self, faults: Sequence[Fault], origin: float) -> None:
        """Begin; ``origin`` is the monotonic time of the schedule's 0."""
        own = [fault for fault in faults if not KINDS[fault.name].by_camera]
        self._thread = threading.Thread(target=self._run, args=(own, origin), name="operator")
        self._thread.start()

    def close(self) -> None:
        """End: what is under way is undone first."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join()
        os.kill(self._subscriber, signal.SIGCONT)
        self._client.close()
        self._node.destroy_node()

    def _run(self, faults: Sequence[Fault], origin: float) -> None:
        deeds = {
            "parameters": self._change_parameters,
            "lifecycle": self._deactivate,
            "reload": lambda end: self._load(works=True),
            "broken_reload": self._load_nothing,
            "stopped_subscriber": self._stop_subscriber,
        }
        for fault in faults:
            if self._stop.wait(max(0.0, origin + fault.start - time.monotonic())):
                return
            try:
                deeds[fault.name](origin + fault.end)
            except ProtoMtlError as error:
                self.refused[fault] = str(error)

    def _until(self, end: float) -> None:
        self._stop.wait(max(0.0, end - time.monotonic()))

    def _set(self, accepted: bool = True, **values: object) -> None:
        parameters = [Parameter(name, value=value) for name, value in values.items()]
        request = SetParameters.Request(parameters=[p.to_parameter_msg() for p in parameters])
        answer = self._client.call(self._parameters, request, _CALL_SECONDS, "take parameters")
        if all(result.successful for result in answer.results) != accepted:
            reasons = "; ".join(result.reason for result in answer.results)
            raise ProtoMtlError(f"{values} was {'refused' if accepted else 'taken'}: {reasons}")

    def _load(self, works: bool) -> None:
        answer = self._client.call(self._reload, Trigger.Request(), _CALL_SECONDS, "load a model")
        if answer.success != works:
            raise ProtoMtlError(f"reload_model answered {answer.success}: {answer.message}")

    def _change(self, transition: str) -> None:
        if not self._client.change(transition, _CALL_SECONDS):
            raise ProtoMtlError(f"the transition {transition} was refused")

    # The faults; each returns when it is over.

    def _change_parameters(self, end: float) -> None:
        try:
            self._set(confidence_threshold=120, max_depth=3.0, max_rate=[4.0])
            self._set(accepted=False, confidence_threshold=999)
            self._until(end)
        finally:
            self._set(confidence_threshold=0, max_depth=0.0, max_rate=[0.0])

    def _deactivate(self, end: float) -> None:
        start = time.monotonic()
        try:
            self._change("deactivate")
            self._until(end)
        finally:
            self._change("activate")
            self.inactive.append((start, time.monotonic()))

    def _load_nothing(self, end: float) -> None:
        self._set(model=_MISSING_MODEL)
        try:
            self._load(works=False)
        finally:
            self._set(model=self._model)

    def _stop_subscriber(self, end: float) -> None:
        os.kill(self._subscriber, signal.SIGSTOP)
        try:
            self._until(end)
        finally:
            os.kill(self._subscriber, signal.SIGCONT)
