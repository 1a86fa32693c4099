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

from proto_mtl_ros.errors import ConfigError, EngineError
from proto_mtl_ros.ros import parameters, qos, read_only
from proto_mtl_ros.ros.camera_stream import CameraStream
from proto_mtl_ros.ros.diagnostic_table import ERROR
from proto_mtl_ros.ros.diagnostics import Diagnostics, Finding, status
from proto_mtl_ros.ros.engine_host import TICK, EngineHost
from proto_mtl_ros.ros.lifecycle import (
    FAILED,
    FAILURE,
    SUCCESS,
    answer_impossible_transitions,
    guarded,
)
from proto_mtl_ros.ros.model_loading import Loading
from proto_mtl_ros.ros.systemd import notify
from proto_mtl_ros.runtime.predictor import Predictor

DIAGNOSTICS_PERIOD = 1.0
"""Seconds between two messages on /diagnostics."""

CLEANED_UP = "the node was cleaned up meanwhile"


class PerceptionNode(LifecycleNode):
    """Perception for one or several cameras.

    stopping: set when the process is about to end; whatever waits gives up then.

    Raises ConfigError, one line, for unknown parameters and bad values given at start.

    Attributes:
        exit_status: of the process, when the node itself has decided to end.
    """

    def __init__(self, stopping: threading.Event, **arguments: Any) -> None:
        super().__init__("proto_mtl", **arguments)
        self._stopping = stopping
        self._own_change = False
        self._streams: list[CameraStream] = []
        self._host: EngineHost | None = None
        self._loading: Loading | None = None
        self._active = False
        self._problem = ""
        self.exit_status = 0
        self._node_diagnostics = Diagnostics("node", self.get_logger())
        answer_impossible_transitions(self)
        self._declare_parameters()
        self._publisher = self.create_publisher(
            DiagnosticArray,
            "/diagnostics",
            qos.output(depth=10),  # as aggregators expect
            qos_overriding_options=qos.overridable(),
        )
        steady = Clock(clock_type=ClockType.STEADY_TIME)
        self.create_timer(DIAGNOSTICS_PERIOD, self._diagnose, clock=steady)
        self.create_timer(TICK, self._watch, clock=steady)
        self.create_service(SetBool, "~/enable", self._on_enable)
        # A group of its own: the service waits for the new model while images keep coming.
        own_group = MutuallyExclusiveCallbackGroup()
        self.create_service(Trigger, "~/reload_model", self._on_reload, callback_group=own_group)
        backwards = JumpThreshold(
            min_forward=None, min_backward=Duration(nanoseconds=-1), on_clock_change=False
        )
        self._jump_handle = self.get_clock().create_jump_callback(
            backwards, post_callback=lambda _: self._on_jump_back()
        )
        if self._parameters_now.read_only:
            read_only.enforce(self, lambda: self._own_change)

    # Parameters: checked before they are set, applied after.

    def _declare_parameters(self) -> None:
        overrides = self._parameter_overrides
        self._parameters_now = parameters.checked_at_start(
            {name: override.value for name, override in overrides.items()}
        )
        for row in parameters.TABLE:
            if row.name in overrides:  # with `rate:=25` taken as 25.0
                value = parameters.coerced(row, overrides[row.name].value)
                overrides[row.name] = Parameter(row.name, value=value)
            try:
                self.declare_parameter(row.name, row.default, parameters.descriptor(row))
            except Exception as error:
                raise ConfigError(f"parameter {row.name}: {error}") from error
        for name in parameters.REMOVED.keys() & overrides.keys():
            self.get_logger().warning(
                f"there is no parameter {name} any more: {parameters.REMOVED[name]}"
            )
        self.add_on_set_parameters_callback(self._check_parameters)
        if hasattr(self, "add_post_set_parameters_callback"):  # Iron and later
            self.add_post_set_parameters_callback(self._apply_parameters)

    def _changed(self, changes: list[Parameter]) -> parameters.Parameters:
        """Raises ConfigError, one line."""
        for change in changes:
            if change.name in parameters.BY_NAME and not self._own_change:
                reason = parameters.refusal(change.name, self._host is not None)
                if reason:
                    raise ConfigError(reason)
        return parameters.updated(self._parameters_now, {c.name: c.value for c in changes})

    def _check_parameters(self, changes: list[Parameter]) -> SetParametersResult:
        try:
            self._changed(changes)
        except ConfigError as error:
            return SetParametersResult(successful=False, reason=str(error))
        if not hasattr(self, "add_post_set_parameters_callback"):  # Humble: the last to be asked
            self._apply_parameters(changes)
        return SetParametersResult(successful=True)

    def _apply_parameters(self, changes: list[Parameter]) -> None:
        before, self._parameters_now = self._parameters_now, self._changed(changes)
        for stream in self._streams:
            stream.configure(self._parameters_now)
        if self._host is not None:
            self._host.configure(self._parameters_now)
        if self._parameters_now.confidence_threshold != before.confidence_threshold:
            self._publish_labels()  # which tell it

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
        now = self._parameters_now
        try:
            self._problem = ""
            predictor = Loading(now).wait(now.load_timeout, self._stopping)
            self._host = EngineHost(
                predictor,
                now,
                self.get_logger(),
                self._on_model,
                self._on_engine_failure,
                self._stopping,
            )
            for camera in now.cameras:
                self._streams.append(CameraStream(self, camera, now, self._host.worker))
            self._host.start(self._streams)
            return super().on_configure(state)
        except Exception as error:
            self._release()
            self._problem = f"configure failed: {error}"
            raise

    @guarded(FAILURE)
    def on_activate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Subscribe and process."""
        result = super().on_activate(state)
        assert self._host is not None
        self._active = True
        try:
            for stream in self._streams:
                stream.subscribe()
        except Exception:
            self._quiesce()
            super().on_deactivate(state)
            raise
        self._publish_labels()
        self._host.resume()
        self._tell_unused_overrides()
        return result

    @guarded(FAILED)
    def on_deactivate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Finish the frame in work, receive nothing more; the model stays loaded."""
        self._quiesce()
        return super().on_deactivate(state)

    @guarded(FAILED)
    def on_cleanup(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Free the model and remove the topics."""
        self._release()
        return super().on_cleanup(state)

    @guarded(FAILED)
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
        if self._host is not None:
            self._host.pause()
        for stream in self._streams:
            stream.unsubscribe()

    def _release(self) -> None:
        self._active = False
        if self._loading is not None:
            self._loading.abandon(CLEANED_UP)
        host, self._host = self._host, None
        if host is not None:
            host.release()
        for stream in self._streams:
            stream.destroy()
        self._streams.clear()
        self._set_class_names(())

    # Services

    def _on_enable(self, request: Any, response: Any) -> Any:
        result = self.set_parameters([Parameter("enabled", value=bool(request.data))])[0]
        response.success = result.successful
        response.message = result.reason or ("enabled" if request.data else "disabled")
        return response

    async def _on_reload(self, _: Any, response: Any) -> Any:
        """Load what the parameters name now; swap only when that has worked."""
        if self._host is None:
            response.success, response.message = False, "configure the node first"
            return response
        future: Future = Future(executor=self.executor)
        host = self._host
        future.add_done_callback(lambda _: None)  # wakes the executor, which then goes on here
        self._loading = Loading(self._parameters_now, future.set_result)
        try:
            result: Predictor | BaseException = await future
        finally:
            self._loading = None
        reason = ""
        if self._host is not host:
            reason = CLEANED_UP
            if isinstance(result, Predictor):
                result.close()
        elif isinstance(result, BaseException):
            reason = f"{result}; the old model keeps running"
        else:
            host.take(result)
            response.success = True
            response.message = f"{result.bundle.name} on {result.engine.name}"
        if reason:
            response.success, response.message = False, reason
            self.get_logger().error(f"reload_model failed: {reason}")
        return response

    def _on_model(self, predictor: Predictor) -> None:
        """A model has come into use."""
        self._set_class_names(predictor.bundle.classes)
        self._publish_labels()

    def _on_engine_failure(self) -> None:
        """Nothing more will be attempted with the engine."""
        if self._parameters_now.on_engine_failure == "exit":
            self.exit_status = EngineError.exit_status
            self._stopping.set()

    def _publish_labels(self) -> None:
        predictor = self._host.predictor if self._host is not None else None
        if self._active and predictor is not None:
            names = list(predictor.bundle.classes)
            for stream in self._streams:
                threshold = self._parameters_now.confidence_threshold
                stream.results.publish_labels(names, threshold)

    # Diagnostics and time

    def _on_jump_back(self) -> None:
        self.get_logger().warning("time jumped back: the state of the cameras is reset")
        for stream in self._streams:
            stream.reset("clock_jump")

    def _watch(self) -> None:
        if self._host is not None:
            self._host.tick()

    def _diagnose(self) -> None:
        array = DiagnosticArray(status=[self._engine_status()])
        array.header.stamp = self.get_clock().now().to_msg()
        array.status += [stream.diagnose(self._active) for stream in self._streams]
        self._publisher.publish(array)
        notify("WATCHDOG=1")

    def _engine_status(self) -> DiagnosticStatus:
        host, now = self._host, self._parameters_now
        state = "unconfigured" if host is None else "active" if self._active else "inactive"
        values = {
            "state": state,
            "enabled": str(now.enabled).lower(),
            "model": now.model,
            "backend": now.backend,
            "loading": str(self._loading is not None).lower(),
        }
        findings: list[Finding] = [(ERROR, self._problem)] if self._problem else []
        if host is not None:
            more, found = host.report()
            values |= more
            findings += found
        # ROS lets two nodes of one name run; services and parameters then reach either.
        own = self.get_name(), self.get_namespace()
        number = self.get_node_names_and_namespaces().count(own)
        if number > 1:
            text = f"{number} nodes are called {self.get_fully_qualified_name()}"
            self._node_diagnostics.see("name_clash", text)
        findings += self._node_diagnostics.report()
        name = f"{self.get_name()}: engine"
        return status(name, values.get("device", "none"), values, findings, state)
