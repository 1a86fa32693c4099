# SPDX-License-Identifier: Apache-2.0
"""The node's process: start, signals, executor, an orderly end."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
import traceback
from collections.abc import Sequence

import rclpy
from rclpy.executors import SingleThreadedExecutor
from rclpy.signals import SignalHandlerOptions
from rclpy.utilities import remove_ros_args

from proto_mtl_ros.errors import ConfigError, ProtoMtlError, one_line
from proto_mtl_ros.ros.engine_host import running_workers
from proto_mtl_ros.ros.heap import keep_image_memory
from proto_mtl_ros.ros.model_loading import THREAD as LOADER
from proto_mtl_ros.ros.node import PerceptionNode
from proto_mtl_ros.ros.systemd import notify

_NAME = "proto_mtl"
_REPEATED = 10.0  # seconds after which a failure that goes on, as of a bad /clock, is told again

_PROFILES = ("FASTRTPS_DEFAULT_PROFILES_FILE", "FASTDDS_DEFAULT_PROFILES_FILE")
_LEAST_SHARED_MIB = 256
"""Of /dev/shm: config/fastdds_shm.xml has 48 MiB for each process that sends or receives."""


def run(arguments: Sequence[str], stopping: threading.Event | None = None) -> int:
    """Run the node until a signal or `stopping`; returns the exit status (errors.EXIT_STATUSES).

    Raises ConfigError, one line, for arguments and parameters that cannot be used.
    """
    stopping = stopping or threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stopping.set())
    keep_image_memory()
    argv = [_NAME, *arguments]
    # rclpy's own handlers would shut the context down under the worker's hands.
    try:
        rclpy.init(args=argv, signal_handler_options=SignalHandlerOptions.NO)
        surplus = remove_ros_args(argv)[1:2]
    except Exception as error:
        if type(error).__name__ != "UnknownROSArgsError":  # rclpy exports no name for it
            text = _first_line(error)
            if "logging" in text:
                text += "; set ROS_LOG_DIR to a folder that can be written"
            raise ConfigError(f"ROS arguments: {text}") from error
        surplus = [str(error).strip("[]")]
    try:
        if surplus:
            text = "; parameters are given as --ros-args -p name:=value"
            raise ConfigError(f"unexpected argument {surplus[0]}{text}")
        status = _spin(stopping)
    finally:
        rclpy.try_shutdown()
    left_behind = running_workers()
    if left_behind:
        sys.stderr.write(f"{_NAME}: an engine does not return, leaving it behind\n")
    if left_behind or any(thread.name == LOADER for thread in threading.enumerate()):
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)  # a backend in the middle of its work aborts in an ordinary exit
    return status


def shared_memory_problem(folder: str = "/dev/shm") -> str:
    """Say in one line that it is too small for images, empty where it is not, or not used."""
    if not any(os.environ.get(name) for name in _PROFILES) or not os.path.isdir(folder):
        return ""
    found = os.statvfs(folder)
    size = found.f_blocks * found.f_frsize >> 20
    if size >= _LEAST_SHARED_MIB:
        return ""
    return (
        f"{folder} has {size} MiB, images in shared memory need {_LEAST_SHARED_MIB} and get lost: "
        "start the container with --shm-size=1g or --ipc=host"
    )


def _first_line(error: BaseException) -> str:
    line = (str(error).strip() or type(error).__name__).splitlines()[0]
    return line.partition(", at /")[0]  # rcl appends the lines of its sources


def _spin(stopping: threading.Event) -> int:
    try:
        node = PerceptionNode(stopping)
    except ProtoMtlError:
        raise
    except Exception as error:  # a bad name or namespace, a parameter file that does not fit
        raise ConfigError(f"the node cannot start: {_first_line(error)}") from error
    problem = shared_memory_problem()
    if problem:
        node.get_logger().warning(problem)
    executor = SingleThreadedExecutor()
    executor.add_node(node)
    wake = node.create_guard_condition(lambda: None)
    status, said, said_at = 0, "", 0.0

    def spin() -> None:
        nonlocal status, said, said_at
        while not stopping.is_set() and rclpy.ok():
            try:
                executor.spin_once()
            except Exception as error:  # one callback's failure must not end the node
                if not rclpy.ok():
                    status = 1
                    break
                text = f"a callback failed: {type(error).__name__}: {one_line(error)}"
                now = time.monotonic()
                if text != said or now - said_at > _REPEATED:
                    said, said_at = text, now
                    node.get_logger().error(text)
                    node.get_logger().debug(traceback.format_exc())
        stopping.set()

    # The executor blocks inside the middleware; the main thread stays free for signals.
    thread = threading.Thread(target=spin, name="executor")
    thread.start()
    notify("READY=1")
    stopping.wait()
    notify("STOPPING=1")
    wake.trigger()
    thread.join()
    try:
        node.trigger_shutdown()
    except Exception as error:  # finalized already
        node.get_logger().debug(f"no shutdown transition: {error}")
    executor.shutdown(timeout_sec=1.0)  # a reload that still waits would hold it for ever
    node.destroy_node()
    return status or node.exit_status
