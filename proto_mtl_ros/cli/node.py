# SPDX-License-Identifier: Apache-2.0
"""`proto-mtl node`: the ROS 2 perception node."""

from __future__ import annotations

import os
import signal
import sys
import threading

import typer

CONTEXT_SETTINGS = {
    "allow_extra_args": True,
    "ignore_unknown_options": True,
    "allow_interspersed_args": False,
}


def command(context: typer.Context) -> None:
    """Run the lifecycle node proto_mtl; it starts unconfigured.

    ROS arguments follow --ros-args, for example:

    proto-mtl node --ros-args -p cameras:="[front, rear]" -r front/image:=/front/image_raw

    proto-mtl node --ros-args --params-file config/perception.yaml

    Then configure and activate it: ros2 lifecycle set /proto_mtl configure; ros2 lifecycle set
    /proto_mtl activate. The launch file perception.launch.py does all of it. Parameters:
    docs/parameters.md, topics: docs/topics.md.
    """
    stopping = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):  # before the imports, which take a second
        signal.signal(number, lambda *_: stopping.set())
    from proto_mtl_ros.ros.environment import check_middleware, use_writable_log_folder

    check_middleware()  # before ROS is imported
    use_writable_log_folder()
    from proto_mtl_ros.ros.process import run

    for name in ("DEFAULT_FASTRTPS_PROFILES.xml", "DEFAULT_FASTDDS_PROFILES.xml"):
        if os.environ.get("SKIP_DEFAULT_XML_FILE") == "1" and os.path.exists(name):
            remedy = "name a profile in FASTRTPS_DEFAULT_PROFILES_FILE"
            print(f"{name} of the current folder is not read: {remedy}", file=sys.stderr)

    raise typer.Exit(run(context.args, stopping))
