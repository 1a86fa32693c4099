# SPDX-License-Identifier: Apache-2.0
"""Read-only mode over real DDS: what is refused, what a lifecycle manager can still do."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

pytest.importorskip("rclpy", reason="ROS 2 is not installed")

from lifecycle_msgs.msg import Transition
from lifecycle_msgs.srv import ChangeState, GetAvailableStates
from rcl_interfaces.srv import ListParameters, SetParameters, SetParametersAtomically
from rclpy.parameter import Parameter
from robot import Robot, image, one_result, picture, running
from ros_harness import NodeProcess
from std_srvs.srv import SetBool, Trigger
from tiny_bundle import write_tiny_bundle

from proto_mtl_ros.ros.parameters import TABLE
from proto_mtl_ros.runtime.bundle import Bundle

pytestmark = pytest.mark.ros

REASON = "the node is read-only"


@pytest.fixture(scope="module", name="robot")
def read_only_robot(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Robot]:
    """An active node with read_only, brought up over the network as a launch file does."""
    folder = tmp_path_factory.mktemp("read_only")
    models = {"tiny": write_tiny_bundle(folder, "tiny")}
    overrides = {
        "model": str(models["tiny"]),
        "cameras": "[left]",
        "read_only": "true",
        # What the node itself declares when it makes its topics goes through.
        "qos_overrides./left/depth/image.publisher.reliability": "best_effort",
    }
    with running(NodeProcess(folder / "log", overrides), models, Robot) as robot:
        for transition in ("configure", "activate"):
            assert robot.client.change_state(transition), robot.process.output
        yield robot


def works(robot: Robot) -> bool:
    """Whether the node is active and gives results."""
    masks = robot.collect("left/segmentation/image")
    robot.flow(lambda: image(picture()), masks)
    one_result(robot, image(picture()), masks)
    masks.close()
    return robot.client.state() == "active"


def test_parameter_changes_are_refused(robot: Robot, record_fault: Callable) -> None:
    client = robot.client
    before = {row.name: client.parameter(row.name) for row in TABLE}
    names = [row.name for row in TABLE] + ["use_sim_time"]
    for name in names:
        value = client.parameter(name)
        changed = not value if isinstance(value, bool) else value  # the same is refused as well
        (result,) = client.set_parameters(**{name: changed})
        assert not result.successful and REASON in result.reason, (name, result.reason)
    changes = (Parameter("max_depth", value=5.0), Parameter("read_only", value=False))
    answer = client.call(
        SetParametersAtomically,
        "set_parameters_atomically",
        SetParametersAtomically.Request(parameters=[c.to_parameter_msg() for c in changes]),
    )
    assert not answer.result.successful and REASON in answer.result.reason
    delete = SetParameters.Request(parameters=[Parameter("max_depth").to_parameter_msg()])
    (result,) = client.call(SetParameters, "set_parameters", delete).results
    assert not result.successful
    assert {row.name: client.parameter(row.name) for row in TABLE} == before
    assert works(robot)
    record_fault(
        "security",
        "parameter change in read-only mode",
        tried=len(names) + 2,
        seen=f"successful = false, reason: {REASON} ...; the value stays",
    )


def test_services_that_change_are_refused(robot: Robot, record_fault: Callable) -> None:
    client = robot.client
    enable = client.call(SetBool, "enable", SetBool.Request(data=False))
    reload = client.call(Trigger, "reload_model", Trigger.Request())
    for answer in (enable, reload):
        assert not answer.success and REASON in answer.message
    assert client.parameter("enabled") is True
    assert works(robot)
    record_fault(
        "security",
        "~/enable and ~/reload_model called in read-only mode",
        tried=2,
        seen=f"success = false, message: {REASON} ...",
    )


def test_transitions_that_take_it_out_of_service_are_refused(
    robot: Robot, record_fault: Callable
) -> None:
    client = robot.client
    activate = Transition.TRANSITION_ACTIVATE
    asked = [Transition(id=n) for n in (*range(2, 8), 10, 30, 60) if n != activate]
    asked += [Transition(label=label) for label in ("deactivate", "cleanup", "shutdown")]
    # rclpy goes by the label where there is one, whatever the number says.
    asked += [Transition(id=activate, label="deactivate")]
    for transition in asked:
        request = ChangeState.Request(transition=transition)
        assert not client.call(ChangeState, "change_state", request).success
        assert client.state() == "active"
    assert REASON in robot.process.output
    assert robot.process.output.count("refused: ") < 20, "the log is not to be filled"
    assert works(robot)
    record_fault(
        "security",
        "deactivate, cleanup, shutdown asked for in read-only mode",
        tried=len(asked),
        seen="success = false, a WARN in the log at most every 10 s; the node stays active",
    )


def test_looking_and_starting_work(robot: Robot) -> None:
    client = robot.client
    classes = list(Bundle.load(robot.models["tiny"]).classes)
    assert client.parameter("class_names") == classes, "which the node itself has set"
    assert client.parameter("read_only") is True
    assert client.descriptor("max_depth").description
    names = client.call(ListParameters, "list_parameters", ListParameters.Request()).result.names
    assert {row.name for row in TABLE} <= set(names)
    states = client.call(GetAvailableStates, "get_available_states", GetAvailableStates.Request())
    assert len(states.available_states) > 4
    # Asked again for what it is already, as a lifecycle manager may: no, and nothing happens.
    assert not client.change_state("activate")
    assert client.values("engine")["state"] == "active"
    depth = next(
        info
        for info in client.node.get_publishers_info_by_topic("/left/depth/image")
        if info.node_name == "proto_mtl"
    )
    assert depth.qos_profile.reliability.name == "BEST_EFFORT"
