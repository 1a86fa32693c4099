# SPDX-License-Identifier: Apache-2.0
"""The SROS2 policy against the graph of a running node, both ways, and against SROS2 itself."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from proto_mtl_ros.ros.topics import LABEL_INFO
from tools import sros2_policy as policy
from tools.sros2_policy import node_profile

REPOSITORY = Path(__file__).resolve().parents[2]
FILE = REPOSITORY / "config" / "sros2" / "policy.xml"

# vision_msgs is no wheel. Where it is missing, the node finds this in its place, so that it opens
# the topic of the labels, too.
LABELS_STAND_IN = """
from std_msgs.msg import String

type(String).__import_type_support__()

class _Type(type(String)):
    def __call__(cls, **_):
        return String()
    def __instancecheck__(cls, message):
        return isinstance(message, String)

class LabelInfo(String, metaclass=_Type):
    pass

class VisionClass:
    def __init__(self, **_):
        pass
"""


def run(*options: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "tools.sros2_policy", *options]
    return subprocess.run(command, capture_output=True, text=True, cwd=REPOSITORY)


def printed(*options: str) -> str:
    result = run(*options)
    assert result.returncode == 0, result.stderr
    return result.stdout


def allowed(text: str) -> dict[str, set[str]]:
    """Names by rule, resolved as SROS2 resolves them, of a policy with one profile."""
    (profile,) = ElementTree.fromstring(text.encode()).iter("profile")
    namespace = profile.attrib["ns"].rstrip("/")
    rules: dict[str, set[str]] = {rule: set() for rule in ("publish", "subscribe", "reply")}
    for group in profile:
        ((rule, verdict),) = group.attrib.items()
        assert verdict == "ALLOW"
        for name in group:
            full = name.text or ""
            if full.startswith("~"):
                full = f"{namespace}/{profile.attrib['node']}{full[1:]}"
            assert full.startswith("/") and "*" not in full, "every name is spelt out"
            assert full not in rules[rule]
            rules[rule].add(full)
    return rules


def test_the_shipped_file_is_the_generated_one() -> None:
    assert FILE.read_text(encoding="utf-8") == printed(), (
        "run: python -m tools.sros2_policy > config/sros2/policy.xml"
    )


@pytest.mark.parametrize("options", [(), ("--launch", "--cameras", "front,rear")])
def test_the_format_is_that_of_sros2(options: tuple[str, ...]) -> None:
    """The structure that SROS2's policy.xsd (version 0.2.0, Foxy to Kilted) prescribes."""
    root = ElementTree.fromstring(printed(*options).encode())
    assert root.tag == "policy" and root.attrib == {"version": "0.2.0"}
    (enclaves,) = root
    paths = []
    for enclave in enclaves:
        paths.append(enclave.attrib["path"])
        (profiles,) = enclave
        for profile in profiles:
            assert set(profile.attrib) == {"ns", "node"}
            for group in profile:
                assert group.tag in ("topics", "services") and len(group)
                rules = ("publish", "subscribe") if group.tag == "topics" else ("request", "reply")
                assert set(group.attrib) <= set(rules)
                assert {child.tag for child in group} == {group.tag.removesuffix("s")}
    assert paths == (["/proto_mtl", "/"] if options else ["/proto_mtl"])


def test_cameras_are_named_as_in_the_launch_file() -> None:
    profile = node_profile(
        ["front", "/robot/rear"],
        image_topic="color/image_raw",
        camera_info_topic="/info",
        namespace="fleet/a",
        name="eyes",
    )
    assert profile.enclave == "/fleet/a/eyes"
    assert profile.subscribe == (
        "/fleet/a/front/color/image_raw",
        "/info",
        "/robot/rear/color/image_raw",
    )
    assert "/fleet/a/front/depth/image" in profile.publish
    assert "/fleet/a/eyes/enable" in profile.resolved(profile.reply)


@pytest.mark.parametrize(
    "options",
    [
        ("--cameras", "front<&"),
        ("--cameras", ""),
        ("--image-topic", "a b"),
        ("--namespace", "/x//y"),
        ("--name", "a/b"),
        ("--enclave", "*"),
    ],
)
def test_what_is_no_name_is_one_line(options: tuple[str, ...]) -> None:
    result = run(*options)
    assert result.returncode == 2 and not result.stdout
    assert result.stderr.splitlines()[-1].startswith("policy: error: ")


VARIANTS: dict[str, tuple[list[str], dict[str, str], list[str]]] = {
    "default": ([], {}, []),
    "everything set": (
        [
            *("--cameras", "front,/robot/rear", "--image-transport", "compressed"),
            *("--image-topic", "color/compressed", "--camera-info-topic", "/info"),
            *("--namespace", "/fleet", "--name", "eyes", "--use-sim-time"),
        ],
        {
            "cameras": "[front, /robot/rear]",
            "image_transport": "compressed",
            "use_sim_time": "true",
            "read_only": "true",
        },
        [
            *("-r", "__ns:=/fleet", "-r", "__node:=eyes"),
            *("-r", "front/image/compressed:=front/color/compressed"),
            *("-r", "/robot/rear/image/compressed:=/robot/rear/color/compressed"),
            *("-r", "front/camera_info:=/info", "-r", "/robot/rear/camera_info:=/info"),
        ],
    ),
}


@pytest.mark.slow
@pytest.mark.ros
@pytest.mark.parametrize("variant", VARIANTS)
def test_a_running_node_uses_what_is_allowed_and_nothing_else(
    variant: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, record_fault: Callable[..., None]
) -> None:
    pytest.importorskip("rclpy", reason="ROS 2 is not installed")
    pytest.importorskip("onnx", reason="the tiny model is made with onnx")
    pytest.importorskip("onnxruntime", reason="the tiny model runs in ONNX Runtime")
    from ros_harness import Client, NodeProcess, wait_for
    from std_srvs.srv import SetBool, Trigger
    from tiny_bundle import write_tiny_bundle

    options, parameters, arguments = VARIANTS[variant]
    allowances = allowed(printed(*options))
    if importlib.util.find_spec("vision_msgs") is None:
        (tmp_path / "vision_msgs").mkdir()
        (tmp_path / "vision_msgs" / "msg.py").write_text(LABELS_STAND_IN)
        paths = [str(tmp_path), *filter(None, [os.environ.get("PYTHONPATH")])]
        monkeypatch.setenv("PYTHONPATH", os.pathsep.join(paths))
    profile = ElementTree.fromstring(printed(*options).encode()).find(".//profile")
    assert profile is not None
    namespace, name = profile.attrib["ns"], profile.attrib["node"]
    model = {"model": str(write_tiny_bundle(tmp_path, "tiny")), "backend": "onnxruntime"}
    process = NodeProcess(tmp_path / "log", parameters | model, arguments)
    client = Client()
    client.target = f"{namespace.rstrip('/')}/{name}"
    used: dict[str, set[str]] = {rule: set() for rule in ("publish", "subscribe", "reply")}
    asked: set[str] = set()

    def look() -> None:
        node: Any = client.node
        for rule, listed in (
            ("publish", node.get_publisher_names_and_types_by_node),
            ("subscribe", node.get_subscriber_names_and_types_by_node),
            ("reply", node.get_service_names_and_types_by_node),
        ):
            used[rule].update(topic for topic, _ in listed(name, namespace))
        asked.update(topic for topic, _ in node.get_client_names_and_types_by_node(name, namespace))

    def complete() -> bool:
        look()
        return all(used[rule] >= allowances[rule] for rule in used)

    try:
        # Through its whole life, as what is opened late counts, too.
        assert client.change_state("configure"), process.output
        look()
        assert client.change_state("activate"), process.output
        wait_for(lambda: complete() or process.process.poll() is not None, "the whole graph")
        client.call(SetBool, "enable", SetBool.Request(data=False))
        client.call(Trigger, "reload_model", Trigger.Request())
        client.set_parameters(max_depth=5.0)
        look()
        for transition in ("deactivate", "cleanup"):
            assert client.change_state(transition) is ("read_only" not in parameters)
            look()
    finally:
        status = process.end()
        client.close()
    assert status == 0 and "Traceback" not in process.output, process.output
    assert used == allowances
    assert asked == set()
    assert any(topic.endswith(f"/{LABEL_INFO.name}") for topic in used["publish"])
    count = sum(map(len, used.values()))
    record_fault(
        "security",
        f"the node opens what its SROS2 policy does not allow ({variant})",
        tried=count,
        seen="names of topics and services opened by the running node = names allowed",
    )


def test_sros2_makes_permissions_of_it(tmp_path: Path) -> None:
    """`ros2 security` itself, where it is installed: keys, and signed DDS permissions."""
    pytest.importorskip("sros2", reason="SROS2 is not installed (it comes with ROS's apt)")
    ros2 = [sys.executable, "-c", "from ros2cli.cli import main; main()", "security"]
    keystore = str(tmp_path / "keystore")
    environment = {**os.environ, "ROS_DOMAIN_ID": "7"}
    for command in (
        ["create_keystore", keystore],
        ["create_enclave", keystore, "/proto_mtl"],
        ["create_permission", keystore, "/proto_mtl", str(FILE)],
    ):
        result = subprocess.run([*ros2, *command], capture_output=True, text=True, env=environment)
        assert result.returncode == 0, result.stderr
    enclave = tmp_path / "keystore" / "enclaves" / "proto_mtl"
    assert (enclave / "permissions.p7s").is_file()
    grant = ElementTree.parse(enclave / "permissions.xml").find(".//grant")
    assert grant is not None and grant.findtext("default") == "DENY"
    assert [e.text for e in grant.iterfind(".//domains/id")] == ["7"] * 2
    names = {
        direction: {topic.text for topic in grant.iterfind(f".//{direction}/topics/topic")}
        for direction in ("publish", "subscribe")
    }
    rules = allowed(FILE.read_text())
    discovery = {"ros_discovery_info"}
    assert names["publish"] == discovery | {f"rt{topic}" for topic in rules["publish"]} | {
        f"rr{service}Reply" for service in rules["reply"]
    }
    assert names["subscribe"] == discovery | {f"rt{topic}" for topic in rules["subscribe"]} | {
        f"rq{service}Request" for service in rules["reply"]
    }


def test_what_launch_needs_is_in_an_enclave_of_its_own() -> None:
    launch = policy.launch_profile(node_profile())
    assert launch.enclave == "/" and launch.request == ("/proto_mtl/change_state",)
    assert launch.subscribe == ("/proto_mtl/transition_event",)
