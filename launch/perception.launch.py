# SPDX-License-Identifier: Apache-2.0
"""The perception node, brought to active, and RViz if asked for.

ros2 launch proto_mtl_ros perception.launch.py cameras:=front,rear image_topic:=color/image_raw \
    camera_info_topic:=color/camera_info rviz:=true
"""

from __future__ import annotations

import os
from typing import Any, List  # noqa: UP035  (launch of Humble knows typing's List only)

import yaml
from ament_index_python.packages import PackageNotFoundError, get_package_prefix
from launch import LaunchContext, LaunchDescription
from launch.action import Action
from launch.actions import (
    DeclareLaunchArgument,
    EmitEvent,
    LogInfo,
    OpaqueFunction,
    RegisterEventHandler,
    SetEnvironmentVariable,
)
from launch.events import matches_action
from launch.substitutions import LaunchConfiguration, PathJoinSubstitution
from launch_ros.actions import LifecycleNode, Node
from launch_ros.event_handlers import OnStateTransition
from launch_ros.events.lifecycle import ChangeState
from launch_ros.parameter_descriptions import ParameterValue
from launch_ros.substitutions import FindPackageShare
from lifecycle_msgs.msg import Transition

PACKAGE = "proto_mtl_ros"
LOG_LEVELS = ["debug", "info", "warn", "error", "fatal"]

# Topics of config/perception.rviz, below its camera.
RVIZ_CAMERA = "/camera"
RVIZ_TOPICS = ("segmentation/overlay", "depth/image", "normals/color", "points")

# Fast DDS 2 (Humble, Jazzy) reads the first, Fast DDS 3 the second.
DDS_PROFILE_VARIABLES = ("FASTRTPS_DEFAULT_PROFILES_FILE", "FASTDDS_DEFAULT_PROFILES_FILE")


def config(name: str) -> PathJoinSubstitution:
    """The path of an installed configuration file of this package."""
    return PathJoinSubstitution([FindPackageShare(PACKAGE), "config", name])


def declare_arguments() -> list[DeclareLaunchArgument]:
    """What can be set on the command line; empty means: as the parameter file says."""
    boolean = ["true", "false"]
    rows: list[tuple[str, str, str, list[str] | None]] = [
        ("cameras", "", "Camera namespaces, separated by commas: front,rear", None),
        (
            "image_topic",
            "image",
            "Topic of the images, with image_transport:=compressed of the CompressedImage, below "
            "each camera's namespace unless it begins with /; empty: image, or image/compressed",
            None,
        ),
        ("camera_info_topic", "camera_info", "As image_topic, for the camera_info", None),
        ("image_transport", "", "raw or compressed", ["", "raw", "compressed"]),
        ("model", "", "Name of a shipped model or path of a bundle", None),
        ("backend", "", "Inference backend: auto, onnxruntime, openvino, torch.", None),
        ("device", "", "Device of the backend: auto, cpu, cuda, cuda:0, ...", None),
        ("params_file", "", "Parameter file; empty: config/perception.yaml", None),
        ("namespace", "", "Namespace of the node, and of cameras without a leading /", None),
        ("name", "proto_mtl", "Name of the node", None),
        ("enclave", "", "Enclave of the node's keys in a secured system: /proto_mtl", None),
        ("read_only", "", "Refuse changes over the network", ["", *boolean]),
        ("autostart", "true", "Configure and activate the node", boolean),
        ("rviz", "false", "Start RViz with config/perception.rviz", boolean),
        ("fixed_frame", "", "Fixed frame of RViz; empty: as its config says", None),
        ("use_sim_time", "false", "Take the time from /clock", boolean),
        ("log_level", "info", "Log level of the node", LOG_LEVELS),
    ]
    return [
        DeclareLaunchArgument(name, default_value=default, description=text, choices=choices)
        for name, default, text, choices in rows
    ]


def camera_names(text: str) -> list[str]:
    """The names in `front,rear`, `front rear` or `[front, rear]`."""
    return text.replace("[", " ").replace("]", " ").replace(",", " ").replace("'", " ").split()


def cameras_of(params_file: str) -> list[str]:
    """The cameras that a parameter file names, for any node; `camera` where it names none."""
    with open(params_file, encoding="utf-8") as stream:
        nodes = yaml.safe_load(stream) or {}
    for node in nodes.values():
        cameras = (node or {}).get("ros__parameters", {}).get("cameras")
        if cameras:
            return [str(camera) for camera in cameras]
    return ["camera"]


def remappings(
    cameras: list[str], image: str, info: str, compressed: bool
) -> list[tuple[str, str]]:
    """From the names that the node uses to the topics that the drivers publish."""
    input_name = "image/compressed" if compressed else "image"
    if compressed and image in ("", "image"):
        image = input_name
    pairs = []
    for camera in cameras:
        for ours, theirs in ((input_name, image), ("camera_info", info)):
            if theirs and theirs != ours:
                target = theirs if theirs.startswith("/") else f"{camera}/{theirs}"
                pairs.append((f"{camera}/{ours}", target))
    return pairs


def dds_profile(context: LaunchContext) -> list[Action]:
    """Shared memory large enough for images, unless a profile of the user's own is set."""
    if any(os.environ.get(name) for name in DDS_PROFILE_VARIABLES):
        return []
    profile = config("fastdds_shm.xml").perform(context)
    return [SetEnvironmentVariable(name, profile) for name in DDS_PROFILE_VARIABLES]


def autostart(node: LifecycleNode, name: str) -> list[Action]:
    """Events that bring the node to active once; a later deactivation is left alone."""

    def change(transition: int) -> EmitEvent:
        return EmitEvent(
            event=ChangeState(lifecycle_node_matcher=matches_action(node), transition_id=transition)
        )

    def after_configuring(state: str, action: Action, once: bool) -> RegisterEventHandler:
        return RegisterEventHandler(
            OnStateTransition(
                target_lifecycle_node=node,
                start_state="configuring",
                goal_state=state,
                entities=[action],
                handle_once=once,
            )
        )

    failed = "the node could not be configured, see its message; when that is put right"
    told = LogInfo(msg=f"{failed}: ros2 lifecycle set {name} configure")
    return [
        after_configuring("inactive", change(Transition.TRANSITION_ACTIVATE), once=True),
        after_configuring("unconfigured", told, once=False),
        change(Transition.TRANSITION_CONFIGURE),
    ]


def perception(context: LaunchContext) -> list[Action]:
    def value(name: str) -> str:
        return LaunchConfiguration(name).perform(context)

    params_file = value("params_file") or config("perception.yaml").perform(context)
    cameras = camera_names(value("cameras")) or cameras_of(params_file)
    # Every value has its type: launch would make an integer of 7 and a boolean of `true`.
    overrides = {"cameras": ParameterValue(cameras, value_type=List[str])}  # noqa: UP006
    for name in ("image_transport", "model", "backend", "device"):
        if value(name):
            overrides[name] = ParameterValue(value(name), value_type=str)
    if value("read_only"):
        overrides["read_only"] = ParameterValue(value("read_only") == "true", value_type=bool)
    sim_time = {"use_sim_time": ParameterValue(value("use_sim_time") == "true", value_type=bool)}
    full_name = f"/{value('namespace')}/{value('name')}".replace("//", "/")
    logger = full_name.strip("/").replace("/", ".")
    topics = value("image_topic"), value("camera_info_topic")
    enclave = ["--enclave", value("enclave")] if value("enclave") else []
    node = LifecycleNode(
        package=PACKAGE,
        executable="node",
        name=value("name"),
        namespace=value("namespace"),
        parameters=[params_file, {**overrides, **sim_time}],
        remappings=remappings(cameras, *topics, value("image_transport") == "compressed"),
        ros_arguments=["--log-level", f"{logger}:={value('log_level')}", *enclave],
        output="screen",
        emulate_tty=True,
    )
    actions: list[Action] = [*dds_profile(context), node]
    if value("autostart") == "true":
        actions += autostart(node, full_name)
    if value("rviz") == "true":
        actions.append(rviz(cameras, value("namespace"), value("fixed_frame"), sim_time))
    return actions


def rviz(cameras: list[str], namespace: str, fixed_frame: str, sim_time: dict[str, Any]) -> Action:
    """RViz, which looks at the first camera; a message where it is not installed."""
    try:
        get_package_prefix("rviz2")
    except PackageNotFoundError:
        remedy = "apt install ros-$ROS_DISTRO-rviz2, or rviz:=false"
        return LogInfo(msg=f"RViz is not installed: {remedy}")
    first = cameras[0]
    root = first if first.startswith("/") else f"{namespace.rstrip('/')}/{first}"
    root = f"/{root.lstrip('/')}"
    arguments = ["-d", config("perception.rviz")]
    if fixed_frame:
        arguments += ["-f", fixed_frame]
    return Node(
        package="rviz2",
        executable="rviz2",
        name="rviz",
        arguments=arguments,
        parameters=[sim_time],
        remappings=[(f"{RVIZ_CAMERA}/{t}", f"{root}/{t}") for t in RVIZ_TOPICS],
        output="log",
    )


def generate_launch_description() -> LaunchDescription:
    return LaunchDescription([*declare_arguments(), OpaqueFunction(function=perception)])
