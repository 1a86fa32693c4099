# SPDX-License-Identifier: Apache-2.0
"""What the node does on the ROS graph, name by name, as an SROS2 policy: that and nothing else.

`python -m tools.sros2_policy` prints config/sros2/policy.xml; a test holds the file equal to
it, and another holds it equal to what a running node really opens. Other cameras, names and topics
are options. No ROS is needed: a policy can be made on the machine that keeps the keys.

Format: https://github.com/ros2/sros2/blob/rolling/sros2/sros2/policy/schemas/policy.xsd
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from proto_mtl_ros.errors import ConfigError, ProtoMtlError
from proto_mtl_ros.ros import parameters
from proto_mtl_ros.ros.topics import LABEL_INFO, result_topics
from tools.interface_pages import NODE_TOPICS, SERVICES
from tools.performance.page import render

_TOPIC = re.compile(r"^/?[A-Za-z_][A-Za-z0-9_]*(/[A-Za-z_][A-Za-z0-9_]*)*$")
_NAME = re.compile(r"^[A-Za-z_][A-Za-z0-9_]*$")

# What every rclpy node opens by itself.
_NODE_PUBLISHES = ("/parameter_events", "/rosout")
_CLOCK = "/clock"
_NODE_SERVES = (
    "~/describe_parameters",
    "~/get_parameter_types",
    "~/get_parameters",
    "~/list_parameters",
    "~/set_parameters",
    "~/set_parameters_atomically",
)
# Jazzy and later. Humble's node does not open it; a policy that names it does no harm there.
_TYPE_DESCRIPTION = "~/get_type_description"
# What the lifecycle adds.
_LIFECYCLE_PUBLISHES = ("~/transition_event",)
_LIFECYCLE_SERVES = (
    "~/change_state",
    "~/get_available_states",
    "~/get_available_transitions",
    "~/get_state",
    "~/get_transition_graph",
)


@dataclass(frozen=True)
class Profile:
    """What one node may do; names are absolute, or ~/... below the node's own name.

    enclave: path of the enclave whose keys the node uses.
    namespace, node: the node; the name may be a pattern, as in launch_ros_*.
    publish, subscribe: topics. reply, request: services that it offers, and that it calls.
    """

    enclave: str
    namespace: str
    node: str
    publish: tuple[str, ...] = ()
    subscribe: tuple[str, ...] = ()
    reply: tuple[str, ...] = ()
    request: tuple[str, ...] = ()

    def resolved(self, names: Iterable[str]) -> set[str]:
        """The names as they are on the graph."""
        own = _absolute(self.namespace, self.node)
        return {own + name[1:] if name.startswith("~") else name for name in names}


def _absolute(namespace: str, name: str) -> str:
    return name if name.startswith("/") else f"{namespace.rstrip('/')}/{name}"


def node_profile(
    cameras: Iterable[str] = ("camera",),
    *,
    image_topic: str = "",
    camera_info_topic: str = "",
    compressed: bool = False,
    namespace: str = "/",
    name: str = "proto_mtl",
    enclave: str = "",
    use_sim_time: bool = False,
) -> Profile:
    """What the perception node may do.

    The arguments mean what the same arguments of perception.launch.py mean: topics are below each
    camera's namespace unless they begin with /, and empty for the node's own names.

    Raises ConfigError, one line, for what is no ROS name.
    """
    cameras = list(cameras)
    wrong = parameters.problem(parameters.BY_NAME["cameras"], cameras)
    if wrong:
        raise ConfigError(wrong)
    namespace = _absolute("/", namespace)
    for text, pattern in (
        (image_topic, _TOPIC),
        (camera_info_topic, _TOPIC),
        (enclave, _TOPIC),
        (name, _NAME),
        (namespace.rstrip("/"), _TOPIC),
    ):
        if text and not pattern.fullmatch(text):
            raise ConfigError(f"{text!r} is not a ROS name, such as front/color/image_raw")

    own_image = "image/compressed" if compressed else "image"
    image = own_image if image_topic in ("", "image") else image_topic
    inputs = (image, camera_info_topic or "camera_info")
    outputs = [output.name for output in (*result_topics(), LABEL_INFO)]
    roots = [_absolute(namespace, camera) for camera in cameras]
    subscribed = {_absolute(root, topic) for root in roots for topic in inputs}
    return Profile(
        enclave=_absolute("/", enclave) if enclave else _absolute(namespace, name),
        namespace=namespace,
        node=name,
        publish=(
            *sorted(f"{root}/{output}" for root in roots for output in outputs),
            *(_absolute(namespace, topic.name) for topic in NODE_TOPICS),
            *_NODE_PUBLISHES,
            *_LIFECYCLE_PUBLISHES,
        ),
        subscribe=(*sorted(subscribed), *((_CLOCK,) if use_sim_time else ())),
        reply=(
            *(service.name for service in SERVICES),
            *_LIFECYCLE_SERVES,
            *_NODE_SERVES,
            _TYPE_DESCRIPTION,
        ),
    )


def launch_profile(node: Profile) -> Profile:
    """What `ros2 launch` itself may do to start this node and bring it to active.

    Its process has a node of its own, launch_ros_<number>, in the enclave /.
    """
    own = _absolute(node.namespace, node.node)
    return Profile(
        enclave="/",
        namespace="/",
        node="launch_ros_*",
        publish=_NODE_PUBLISHES,
        subscribe=(f"{own}/transition_event",),
        reply=(*_NODE_SERVES, _TYPE_DESCRIPTION),
        request=(f"{own}/change_state",),
    )


def policy_text(profiles: Iterable[Profile]) -> str:
    """The policy file."""
    template = Path(__file__).with_name("sros2_policy.xml.j2")
    return render(template, profiles=list(profiles))


def main() -> None:
    """Print an SROS2 policy for the node: its topics and services, by name, and nothing else."""
    parser = argparse.ArgumentParser(prog="policy", description=main.__doc__)
    option = parser.add_argument
    option("--cameras", default="camera", help="camera namespaces, separated by commas")
    option("--image-topic", default="", help="as of perception.launch.py: below each camera")
    option("--camera-info-topic", default="", help="as of perception.launch.py")
    option("--image-transport", default="raw", choices=["raw", "compressed"])
    option("--namespace", default="/", help="namespace of the node")
    option("--name", default="proto_mtl", help="name of the node")
    option("--enclave", default="", help="path of its enclave; default: /namespace/name")
    option("--use-sim-time", action="store_true", help="the node takes its time from /clock")
    option("--launch", action="store_true", help="add what `ros2 launch` itself needs, enclave /")
    given = vars(parser.parse_args())
    cameras, launch = given.pop("cameras").replace(",", " ").split(), given.pop("launch")
    compressed = given.pop("image_transport") == "compressed"
    try:
        node = node_profile(cameras, compressed=compressed, **given)
    except ProtoMtlError as error:
        parser.error(str(error))
    profiles = [node, launch_profile(node)] if launch else [node]
    sys.stdout.write(policy_text(profiles))


if __name__ == "__main__":
    main()
