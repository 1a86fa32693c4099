# SPDX-License-Identifier: Apache-2.0
"""A recording through the node, with RViz: `ros2 bag play` starts once the node is active.

ros2 launch proto_mtl_ros replay.launch.py bag:=path/to/recording rate:=0.5

Where rosbag2 is not installed, and for videos and folders of images, this package's own player
does it. Topics are guessed from the recording unless they are given.
"""

from __future__ import annotations

import importlib.util
from pathlib import Path

from launch import LaunchContext, LaunchDescription
from launch.action import Action
from launch.actions import (
    DeclareLaunchArgument,
    ExecuteProcess,
    IncludeLaunchDescription,
    OpaqueFunction,
    RegisterEventHandler,
    Shutdown,
    TimerAction,
)
from launch.event_handlers import OnProcessExit
from launch.launch_description_sources import PythonLaunchDescriptionSource
from launch.substitutions import LaunchConfiguration, PathJoinSubstitution
from launch_ros.event_handlers import OnStateTransition
from launch_ros.substitutions import FindPackageShare

PACKAGE = "proto_mtl_ros"
LOG_LEVELS = ["debug", "info", "warn", "error", "fatal"]
LAST_RESULTS_S = 2.0
"""How long after the end of the recording results are still waited for, seconds."""

# Handed through to perception.launch.py as they are.
PASSED_ON = ("model", "backend", "device", "params_file", "rviz", "use_sim_time", "log_level")


def declare_arguments() -> list[DeclareLaunchArgument]:
    """What can be set on the command line; empty means: guessed, or as the parameter file says."""
    boolean = ["true", "false"]
    rows: list[tuple[str, str | None, str, list[str] | None]] = [
        ("bag", None, "Recording: a rosbag2, a video file or a folder of images", None),
        ("rate", "1.0", "Speed: 0.5 plays at half the recorded speed", None),
        ("loop", "false", "Begin again at the end", boolean),
        ("player", "auto", "auto: rosbag2 where it can, else our own", ["auto", "rosbag2", "own"]),
        ("camera", "camera", "Namespace of the results", None),
        ("image_topic", "", "Image or CompressedImage topic; empty: guessed", None),
        ("camera_info_topic", "", "CameraInfo topic; empty: guessed", None),
        ("shutdown_at_end", "false", "End everything when the recording has been played", boolean),
        ("model", "", "Name of a shipped model or path of a bundle", None),
        ("backend", "", "Inference backend: auto, onnxruntime, openvino, torch.", None),
        ("device", "", "Device of the backend: auto, cpu, cuda, cuda:0, ...", None),
        ("params_file", "", "Parameter file; empty: config/perception.yaml", None),
        ("rviz", "true", "Start RViz", boolean),
        ("fixed_frame", "", "Fixed frame of RViz; empty: the frame of the recorded images", None),
        ("use_sim_time", "true", "Take the time from the recording, over /clock", boolean),
        ("log_level", "info", "Log level of the node", LOG_LEVELS),
    ]
    return [
        DeclareLaunchArgument(name, default_value=default, description=text, choices=choices)
        for name, default, text, choices in rows
    ]


def recorded(path: Path, image: str, info: str) -> tuple[str, str, bool, str, bool]:
    """Image topic, camera_info topic ("" for none), compressed?, frame, and is it a rosbag2?

    Raises RuntimeError, one line, where the recording cannot be read.
    """
    try:
        from proto_mtl_ros.data.bags.recording_kinds import open_recording
        from proto_mtl_ros.errors import ProtoMtlError
    except ModuleNotFoundError as error:
        text = f"the Python package '{error.name}' is needed to look into recordings"
        raise RuntimeError(f"{text}: pip install -r requirements-robot.txt") from None
    try:
        with open_recording(path, image_topic=image or None, info_topic=info or None) as recording:
            topics = recording.topics
            return (
                topics.image.name,
                topics.camera_info.name if topics.camera_info else "",
                topics.image.type.endswith("/CompressedImage"),
                recording.image_frame,
                recording.kind == "bag",
            )
    except ProtoMtlError as error:
        raise RuntimeError(str(error)) from None


def play_command(
    path: Path, rosbag2: bool, rate: float, loop: bool, clock: bool, image: str, info: str
) -> list[str]:
    """The command line of the player."""
    if rosbag2:
        # recorded results would mix with the node's; --delay: until its publishers are found
        command = ["python3", "-m", f"{PACKAGE}.ros.replay.rosbag2_play"]
        command += ["ros2", "bag", "play", str(path), "--rate", f"{rate:g}", "--delay", "3"]
        command += (["--clock"] if clock else []) + (["--loop"] if loop else [])
        return [*command, "--topics", *filter(None, (image, info)), "/tf", "/tf_static"]
    command = ["python3", "-m", f"{PACKAGE}.ros.replay.player", str(path), "--rate", f"{rate:g}"]
    command += ["--clock"] if clock else []
    command += ["--image-topic", image] if image else []
    return command + (["--info-topic", info] if info else [])


def replay(context: LaunchContext) -> list[Action]:
    def value(name: str) -> str:
        return LaunchConfiguration(name).perform(context)

    try:
        rate = float(value("rate"))
    except ValueError:
        text = f"rate:={value('rate')} is not a number: give for example rate:=0.5"
        raise RuntimeError(text) from None
    path, topics = (
        Path(value("bag")).expanduser(),
        (value("image_topic"), value("camera_info_topic")),
    )
    image, info, compressed, frame, is_bag = recorded(path, *topics)
    player = value("player")
    rosbag2 = is_bag and importlib.util.find_spec("ros2bag") is not None
    if player == "rosbag2" and not rosbag2:
        remedy = "apt install ros-<distro>-ros2bag, or player:=own"
        raise RuntimeError(f"rosbag2 cannot play this here: {remedy}")
    rosbag2 = rosbag2 and player != "own"
    loop, clock = value("loop") == "true", value("use_sim_time") == "true"
    play = ExecuteProcess(
        cmd=play_command(path, rosbag2, rate, loop, clock, image, info),
        name="player",
        output="screen" if rosbag2 else "log",
        respawn=loop and not rosbag2,
    )
    start = OnStateTransition(
        start_state="activating", goal_state="active", entities=[play], handle_once=True
    )
    node = PathJoinSubstitution([FindPackageShare(PACKAGE), "launch", "perception.launch.py"])
    actions: list[Action] = [
        RegisterEventHandler(start),
        IncludeLaunchDescription(
            PythonLaunchDescriptionSource(node),
            launch_arguments=[
                *((name, value(name)) for name in PASSED_ON),
                ("cameras", value("camera")),
                ("image_topic", image),
                ("camera_info_topic", info or "camera_info"),
                ("image_transport", "compressed" if compressed else "raw"),
                ("fixed_frame", value("fixed_frame") or frame),
                ("autostart", "true"),
            ],
        ),
    ]
    if value("shutdown_at_end") == "true":
        end = TimerAction(
            period=LAST_RESULTS_S, actions=[Shutdown(reason="the recording has been played")]
        )
        actions.insert(0, RegisterEventHandler(OnProcessExit(target_action=play, on_exit=[end])))
    return actions


def generate_launch_description() -> LaunchDescription:
    return LaunchDescription([*declare_arguments(), OpaqueFunction(function=replay)])
