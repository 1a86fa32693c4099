# SPDX-License-Identifier: Apache-2.0
"""The lifecycle node `proto_mtl`: cameras in, class, distance and surface direction out."""

from __future__ import annotations

import threading
from typing import Any

from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from rcl_interfaces.msg import SetParametersResult
from rclpy.callback_groups import ReentrantCallbackGroup
from rclpy.clock import Clock, ClockType, JumpThreshold
from rclpy.duration import Duration
from rclpy.lifecycle import LifecycleNode, LifecycleState
from rclpy.lifecycle import TransitionCallbackReturn as _Return
from rclpy.parameter import Parameter
from rclpy.task import Future
from std_srvs.srv import SetBool, Trigger

from proto_mtl_ros.errors import ConfigError, EngineError
from proto_mtl_ros.ros import parameters, qos, read_only
from proto_mtl_ros.ros.camera_stream import CameraStream
from proto_mtl_ros.ros.diagnostic_table import ERROR
from proto_mtl_ros.ros.diagnostics import Diagnostics, Finding, named, status
from proto_mtl_ros.ros.engine_host import TICK, EngineHost
from proto_mtl_ros.ros.lifecycle import answer_impossible_transitions, guarded
from proto_mtl_ros.ros.model_loading import Loading
from proto_mtl_ros.ros.systemd import notify
from proto_mtl_ros.runtime.predictor import Predictor

DIAGNOSTICS_PERIOD = 1.0  # seconds

CLEANED_UP = "the node was cleaned up meanwhile"


class PerceptionNode(LifecycleNode):
    """Raises ConfigError, one line, for unknown parameters and bad values given at start.

    stopping: set when the process is about to end; whatever waits gives up then.
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
        self.exit_status = 0  # of the process, when the node itself has decided to end
        self._node_diagnostics = Diagnostics("node", self.get_logger())
        answer_impossible_transitions(self)
        self._declare_parameters()
        profile = qos.output(depth=10)  # as aggregators expect
        self._publisher = self.create_publisher(
            DiagnosticArray, "/diagnostics", profile, qos_overriding_options=qos.overridable()
        )
        steady = Clock(clock_type=ClockType.STEADY_TIME)
        self.create_timer(DIAGNOSTICS_PERIOD, self._diagnose, clock=steady)
        self.create_timer(TICK, lambda: self._host.tick() if self._host else None, clock=steady)
        self.create_service(SetBool, "~/enable", self._on_enable)
        # A group of its own: the service waits for the new model while images keep coming, and a
        # second call is answered meanwhile.
        own_group = ReentrantCallbackGroup()
        self.create_service(Trigger, "~/reload_model", self._on_reload, callback_group=own_group)
        back = Duration(nanoseconds=-1)
        backwards = JumpThreshold(min_forward=None, min_backward=back, on_clock_change=False)
        self._jump_handle = self.get_clock().create_jump_callback(
            backwards, post_callback=lambda _: self._on_jump_back()
        )
        if self._parameters_now.read_only:
            read_only.enforce(self, lambda: self._own_change)

    # Parameters: checked before they are set, applied after.

    def _declare_parameters(self) -> None:
        overrides = self._parameter_overrides
        given = {name: override.value for name, override in overrides.items()}
        self._parameters_now = parameters.checked_at_start(given)
        for row in parameters.TABLE:
            if row.name in overrides:  # with `rate:=25` taken as 25.0
                value = parameters.coerced(row, given[row.name])
                overrides[row.name] = Parameter(row.name, value=value)
            try:
                self.declare_parameter(row.name, row.default, parameters.descriptor(row))
            except Exception as error:
                raise ConfigError(f"parameter {row.name}: {error}") from error
        for name in parameters.REMOVED.keys() & overrides.keys():
            self.get_logger().warning(parameters.refusal(name, False))
        self.add_on_set_parameters_callback(self._check_parameters)
        if hasattr(self, "add_post_set_parameters_callback"):  # Iron and later
            self.add_post_set_parameters_callback(self._apply_parameters)

    def set_parameters_atomically(self, parameter_list: list[Parameter]) -> SetParametersResult:
        """As ROS defines it; a removed parameter is refused with what happens instead."""
        for name in [p.name for p in parameter_list if p.name in parameters.REMOVED]:
            return SetParametersResult(reason=parameters.refusal(name, False))
        return super().set_parameters_atomically(parameter_list)

    def _changed(self, changes: list[Parameter]) -> parameters.Parameters:
        return parameters.updated(self._parameters_now, {c.name: c.value for c in changes})

    def _check_parameters(self, changes: list[Parameter]) -> SetParametersResult:
        try:
            for change in changes:
                reason = parameters.refusal(change.name, self._host is not None)
                if reason and not self._own_change:
                    raise ConfigError(reason)
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
        # QoS overrides are read when topics are made: those left over name no topic of ours.
        for name in self._parameter_overrides:
            if name.startswith("qos_overrides.") and not self.has_parameter(name):
                self.get_logger().warning(f"{name} is not used: no such topic or policy")

    # Lifecycle

    @guarded(_Return.FAILURE)
    def on_configure(self, state: LifecycleState) -> _Return:
        now = self._parameters_now
        try:
            self._problem = ""
            predictor = Loading(now).wait(self._stopping)
            told = (self._on_model, self._on_engine_failure)
            self._host = EngineHost(predictor, now, self.get_logger(), *told, self._stopping)
            for camera in now.cameras:
                self._streams.append(CameraStream(self, camera, now, self._host.worker))
            self._host.start(self._streams)
            return super().on_configure(state)
        except Exception as error:
            self._release()
            self._problem = f"configure failed: {error}"
            raise

    @guarded(_Return.FAILURE)
    def on_activate(self, state: LifecycleState) -> _Return:
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

    @guarded(_Return.ERROR)
    def on_deactivate(self, state: LifecycleState) -> _Return:
        """Finish the frame in work, receive nothing more; the model stays loaded."""
        self._quiesce()
        return super().on_deactivate(state)

    @guarded(_Return.ERROR)
    def on_cleanup(self, state: LifecycleState) -> _Return:
        self._release()
        return super().on_cleanup(state)

    @guarded(_Return.ERROR)
    def on_shutdown(self, state: LifecycleState) -> _Return:
        self._release()
        return super().on_shutdown(state)

    @guarded(_Return.FAILURE)
    def on_error(self, state: LifecycleState) -> _Return:
        self._release()
        return _Return.SUCCESS

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
        (result,) = self.set_parameters([Parameter("enabled", value=bool(request.data))])
        response.success = result.successful
        response.message = result.reason or ("enabled" if request.data else "disabled")
        return response

    async def _on_reload(self, _: Any, response: Any) -> Any:
        if self._host is None:
            response.success, response.message = False, "configure the node first"
            return response
        if self._loading is not None:
            response.success, response.message = False, "another reload is going on: wait for it"
            return response
        future: Future = Future(executor=self.executor)
        host = self._host
        future.add_done_callback(lambda _: None)  # wakes the executor, which then goes on here
        self._loading = Loading(self._parameters_now, future.set_result, rehearse=True)
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
        self._set_class_names(predictor.bundle.classes)
        self._publish_labels()

    def _on_engine_failure(self) -> None:
        if self._parameters_now.on_engine_failure == "exit":
            self.exit_status = EngineError.exit_status
            self._stopping.set()

    def _publish_labels(self) -> None:
        predictor = self._host.predictor if self._host is not None else None
        if self._active and predictor is not None:
            threshold = self._parameters_now.confidence_threshold
            for stream in self._streams:
                stream.results.publish_labels(list(predictor.bundle.classes), threshold)

    # Diagnostics and time

    def _on_jump_back(self) -> None:
        text = "time jumped back: the state of the cameras is reset"
        self.get_logger().warning(text, throttle_duration_sec=10.0)
        for stream in self._streams:
            stream.reset("clock_jump")

    def _diagnose(self) -> None:
        cameras = [stream.diagnose(self._active) for stream in self._streams]
        array = DiagnosticArray(status=[self._engine_status(), *cameras])
        array.header.stamp = self.get_clock().now().to_msg()
        self._publisher.publish(array)
        notify("WATCHDOG=1")

    def _engine_status(self) -> DiagnosticStatus:
        host, now = self._host, self._parameters_now
        state = "unconfigured" if host is None else "active" if self._active else "inactive"
        loading = str(self._loading is not None).lower()
        values = {"state": state, "enabled": str(now.enabled).lower(), "loading": loading}
        values |= {"model": now.model, "backend": now.backend}
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
        device = values.get("device", "none")
        return status(f"{named(self)}: engine", device, values, findings, state)
