# SPDX-License-Identifier: Apache-2.0
"""The lifecycle node `proto_mtl`: cameras in, class, distance and surface direction out."""

from __future__ import annotations

import threading
from typing import Any

from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from rcl_interfaces.msg import SetParametersResult
from rclpy.callback_groups import MutuallyExclusiveCallbackGroup
from rclpy.clock import Clock, ClockType, JumpThreshold
from rclpy.duration import Duration
from rclpy.lifecycle import LifecycleNode, LifecycleState, TransitionCallbackReturn
from rclpy.parameter import Parameter
from rclpy.task import Future
from std_srvs.srv import SetBool, Trigger

from proto_mtl_ros.errors import (
    ConfigError,
    EngineError,
)
from proto_mtl_ros.ros import (
    diagnostics,
    parameters,
    qos,
    read_only,
)
from proto_mtl_ros.ros.camera import CameraPort
from proto_mtl_ros.ros.health import Health
from proto_mtl_ros.ros.model import (
    Loading,
    Outcome,
)
from proto_mtl_ros.ros.name_clash import watch_name
from proto_mtl_ros.ros.supervisor import (
    TICK,
    Supervisor,
)
from proto_mtl_ros.ros.systemd import notify
from proto_mtl_ros.ros.transitions import (
    ERROR,
    FAILURE,
    SUCCESS,
    answer_impossible_transitions,
    guarded,
)
from proto_mtl_ros.runtime.predictor import Predictor

CLEANED_UP = "the node was cleaned up meanwhile"


class PerceptionNode(LifecycleNode):
    """Perception for one or several cameras.

    stopping: set when the process is about to end; whatever waits gives up then.

    Raises ConfigError, one line, for unknown parameters and bad values given at start.
    """

    def __init__(self, stopping: threading.Event, **arguments: Any) -> None:
        super().__init__("proto_mtl", **arguments)
        self._stopping = stopping
        self._values: dict[str, Any] = {}
        self._own_change = False
        self._ports: list[CameraPort] = []
        self._engine: Supervisor | None = None
        self._loading: Loading | None = None
        self._active = False
        self._problem = ""
        self.exit_status = 0
        """Of the process, when the node itself has decided to end."""
        self._health = Health("node", self.get_logger())
        answer_impossible_transitions(self)
        self._declare_parameters()
        self.add_on_set_parameters_callback(self._on_parameters)
        self._diagnostics = self.create_publisher(
            DiagnosticArray,
            "/diagnostics",
            qos.output(depth=10),  # as aggregators expect
            qos_overriding_options=qos.overridable(),
        )
        self._timer = self.create_timer(
            1.0, self._diagnose, clock=Clock(clock_type=ClockType.STEADY_TIME)
        )
        self._watch_timer = self.create_timer(
            TICK, self._watch, clock=Clock(clock_type=ClockType.STEADY_TIME)
        )
        self._enable_service = self.create_service(SetBool, "~/enable", self._on_enable)
        # A group of its own: the service waits for the new model while images keep coming.
        self._reload_service = self.create_service(
            Trigger,
            "~/reload_model",
            self._on_reload,
            callback_group=MutuallyExclusiveCallbackGroup(),
        )
        self._jump_handle = self.get_clock().create_jump_callback(
            JumpThreshold(
                min_forward=None, min_backward=Duration(nanoseconds=-1), on_clock_change=False
            ),
            post_callback=lambda _: self._on_jump_back(),
        )
        if self._values["read_only"]:
            read_only.enforce(self, lambda: self._own_change)

    # Parameters

    def _declare_parameters(self) -> None:
        overrides = self._parameter_overrides
        good = parameters.checked_overrides({n: p.value for n, p in overrides.items()})
        for name, value in good.items():  # with `rate:=25` taken as 25.0
            overrides[name] = Parameter(name, value=value)
        for row in parameters.TABLE:
            try:
                declared = self.declare_parameter(row.name, row.default, parameters.descriptor(row))
            except Exception as error:
                raise ConfigError(f"parameter {row.name}: {error}") from error
            self._values[row.name] = parameters.coerce(row.name, declared.value)
        self._health.hold = self._values["trouble_hold"]

    def _on_parameters(self, changes: list[Parameter]) -> SetParametersResult:
        merged = dict(self._values)
        for change in changes:
            if change.name not in parameters.BY_NAME:
                continue
            if not self._own_change:
                reason = parameters.refusal(change.name, change.value, self._engine is not None)
                if reason:
                    return SetParametersResult(successful=False, reason=reason)
            merged[change.name] = parameters.coerce(change.name, change.value)
        reason = parameters.conflict(merged)
        if reason:
            return SetParametersResult(successful=False, reason=reason)
        threshold = self._values["confidence_threshold"]
        self._values = merged
        self._health.hold = merged["trouble_hold"]
        for port in self._ports:
            port.configure(merged)
        if merged["confidence_threshold"] != threshold:  # which the latched labels tell
            self._publish_labels()
        return SetParametersResult(successful=True)

    def _set_class_names(self, names: tuple[str, ...]) -> None:
        self._own_change = True
        try:
            self.set_parameters([Parameter("class_names", value=list(names) or [""])])
        finally:
            self._own_change = False

    def _tell_unused_overrides(self) -> None:
        """QoS overrides are read when topics are made: those left over name no topic of ours."""
        for name in self._parameter_overrides:
            if name.startswith("qos_overrides.") and not self.has_parameter(name):
                self.get_logger().warning(f"{name} is not used: no such topic or policy")

    # Lifecycle

    @guarded(FAILURE)
    def on_configure(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Load the model, make the result topics."""
        try:
            self._problem = ""
            predictor = Loading(self._values).wait(self._values["load_timeout"], self._stopping)
            self._engine = Supervisor(
                predictor,
                lambda: self._values,
                self.get_logger(),
                self._on_model,
                self._on_engine_failure,
                self._stopping,
            )
            for camera in self._values["cameras"]:
                self._ports.append(CameraPort(self, camera, self._values, self._engine.wake))
            self._engine.start(self._ports)
            return super().on_configure(state)
        except Exception as error:
            self._release()
            self._problem = f"configure failed: {error}"
            raise

    @guarded(FAILURE)
    def on_activate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Subscribe and process."""
        result = super().on_activate(state)
        assert self._engine is not None
        self._active = True
        try:
            for port in self._ports:
                port.subscribe()
        except Exception:
            self._quiesce()
            super().on_deactivate(state)
            raise
        self._publish_labels()
        self._engine.resume()
        self._tell_unused_overrides()
        return result

    @guarded(ERROR)
    def on_deactivate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Finish the frame in work, receive nothing more; the model stays loaded."""
        self._quiesce()
        return super().on_deactivate(state)

    @guarded(ERROR)
    def on_cleanup(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Free the model and remove the topics."""
        self._release()
        return super().on_cleanup(state)

    @guarded(ERROR)
    def on_shutdown(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Free everything, from any state."""
        self._release()
        return super().on_shutdown(state)

    @guarded(FAILURE)
    def on_error(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Back to unconfigured, with nothing left over."""
        self._release()
        return SUCCESS

    def _quiesce(self) -> None:
        self._active = False
        if self._engine is not None:
            self._engine.pause()
        for port in self._ports:
            port.unsubscribe()

    def _release(self) -> None:
        self._active = False
        if self._loading is not None:
            self._loading.abandon(CLEANED_UP)
        engine, self._engine = self._engine, None
        if engine is not None:
            engine.release()
        for port in self._ports:
            port.destroy()
        self._ports.clear()
        self._set_class_names(())

    # Services

    def _on_enable(self, request: Any, response: Any) -> Any:
        result = self.set_parameters([Parameter("enabled", value=bool(request.data))])[0]
        response.success = result.successful
        response.message = result.reason or ("enabled" if request.data else "disabled")
        return response

    async def _on_reload(self, _: Any, response: Any) -> Any:
        """Load what the parameters name now; swap only when that has worked."""
        if self._engine is None:
            response.success, response.message = False, "configure the node first"
            return response
        future: Future = Future(executor=self.executor)
        engine = self._engine
        future.add_done_callback(lambda _: None)  # wakes the executor, which then goes on here
        self._loading = Loading(self._values, future.set_result)
        try:
            outcome: Outcome = await future
        finally:
            self._loading = None
        reason = ""
        if self._engine is not engine:
            reason = CLEANED_UP
            if outcome.predictor is not None:
                outcome.predictor.close()
        elif outcome.error is not None:
            reason = f"{outcome.error}; the old model keeps running"
        if reason:
            response.success, response.message = False, reason
            self.get_logger().error(f"reload_model failed: {reason}")
            return response
        assert outcome.predictor is not None
        engine.take(outcome.predictor)
        response.success = True
        response.message = f"{outcome.predictor.bundle.name} on {outcome.predictor.engine.name}"
        return response

    def _on_model(self, predictor: Predictor) -> None:
        """A model has come into use."""
        self._set_class_names(predictor.bundle.classes)
        self._publish_labels()

    def _on_engine_failure(self, reason: str) -> None:
        """Nothing more will be attempted with the engine."""
        if self._values["on_engine_failure"] == "exit":
            self.exit_status = EngineError.exit_status
            self._stopping.set()

    def _publish_labels(self) -> None:
        predictor = self._engine.predictor if self._engine is not None else None
        if self._active and predictor is not None:
            names = list(predictor.bundle.classes)
            for port in self._ports:
                port.publish_labels(names, self._values["confidence_threshold"])

    # Diagnostics and time

    def _on_jump_back(self) -> None:
        self.get_logger().warning("time jumped back: the state of the cameras is reset")
        for port in self._ports:
            port.reset("clock_jump")

    def _watch(self) -> None:
        if self._engine is not None:
            self._engine.tick()

    def _diagnose(self) -> None:
        watch_name(self, self._health)
        array = DiagnosticArray(status=[self._engine_status()])
        diagnostics.add_troubles(array.status[0], self._health.report())
        array.header.stamp = self.get_clock().now().to_msg()
        for port in self._ports:
            array.status.append(port.diagnose(self._active, self._values["enabled"]))
        self._diagnostics.publish(array)
        notify("WATCHDOG=1")

    def _engine_status(self) -> DiagnosticStatus:
        engine = self._engine
        state = "unconfigured" if engine is None else "active" if self._active else "inactive"
        values, troubles = engine.report() if engine else ({}, [])
        if self._problem:
            troubles = [(diagnostics.ERROR, self._problem), *troubles]
        return diagnostics.engine_status(
            f"{self.get_name()}: engine",
            state,
            troubles,
            self._values,
            engine.predictor if engine else None,
            engine.upgrade if engine else None,
            values | {"loading": str(self._loading is not None).lower()},
        )
