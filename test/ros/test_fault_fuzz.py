# SPDX-License-Identifier: Apache-2.0
"""Messages that nobody would send: each is counted by its cause, and nothing grows or ends.

Valid messages with fields changed at random reach a real node over real DDS, one after the other,
so that each is looked at; its debug log says what became of each, and /diagnostics has to say the
same. With PROTO_MTL_CAMPAIGN=1 it is more than 10,000 of them, otherwise some hundreds.
"""

from __future__ import annotations

import array
import itertools
import re
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("rclpy", reason="ROS 2 is not installed")

from hypothesis import given, settings
from hypothesis import strategies as st
from live_diagnostics import CAMPAIGN, Stream, resident_mib, well_again
from message_mutation import Mutator
from robot import Robot, camera_info, image, picture, running
from ros_harness import NodeProcess, wait_for
from sensor_msgs.msg import CameraInfo, CompressedImage, Image, RegionOfInterest
from tiny_bundle import write_tiny_bundle

from proto_mtl_ros.encodings import ENCODINGS, encode_compressed
from proto_mtl_ros.geometry import Camera
from proto_mtl_ros.ros import decoding

pytestmark = pytest.mark.ros

IMAGES, COMPRESSED, INFOS, OCTETS = (5000, 3000, 2000, 1000) if CAMPAIGN else (300, 200, 150, 60)
GROWTH_MIB = 24.0
"""Memory may differ by so much from what it was after a fifth of the messages."""

RELIABLE = {
    f"qos_overrides./left/{topic}.subscription.{policy}": value
    for topic in ("image", "image/compressed", "camera_info")
    for policy, value in (("reliability", "reliable"), ("depth", "100"))
}
"""So that each message arrives: those that the transport loses would prove nothing."""


class OutcomeReader:
    """Reads what became of each image from the node's debug log, as it grows."""

    def __init__(self, log: Path) -> None:
        self._file = log.open(errors="replace")
        self._rest = ""
        self.outcomes: list[str] = []

    def update(self) -> int:
        text = self._rest + self._file.read()
        whole, _, self._rest = text.rpartition("\n")
        self.outcomes += re.findall(r"\]: left: image -?\d+\.\d+: (\w+)$", whole, re.MULTILINE)
        return len(self.outcomes)

    def tail(self) -> str:
        self._rest = (self._rest + self._file.read())[-20_000:]
        return self._rest

    def wait(self, number: int) -> None:
        end = time.monotonic() + 60.0
        while self.update() < number:
            assert time.monotonic() < end, f"{len(self.outcomes)} of {number} outcomes"
            time.sleep(0.0005)


@pytest.fixture(scope="module", name="robot")
def debugged_robot(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Robot]:
    """A node that tells what becomes of each image, and receives all."""
    folder = tmp_path_factory.mktemp("fuzz")
    model = write_tiny_bundle(folder, "tiny")
    process = NodeProcess(folder / "log", RELIABLE, ["--log-level", "proto_mtl:=debug"])
    with running(process, {"tiny": model}, Robot) as robot:
        yield robot


def seeds() -> list[Image]:
    """Valid images of every encoding that is read as a picture."""
    found = []
    for encoding in ENCODINGS.values():
        if encoding.kind == "other":
            continue
        size = (48, 64, encoding.pixel_bytes)
        stored = np.random.default_rng(len(found)).integers(0, 255, size, np.uint8)
        message = image(picture())
        message.encoding, message.step = encoding.name, 64 * encoding.pixel_bytes
        message.data = array.array("B", stored.tobytes())
        found.append(message)
    return found


def compressed(kind: str) -> CompressedImage:
    """A valid compressed image."""
    data = encode_compressed(picture(), kind).tobytes()
    return CompressedImage(header=image(picture()).header, format=kind, data=array.array("B", data))


def send_each(
    robot: Robot, topic: str, faulty: Iterator[Any], number: int
) -> tuple[Counter, float]:
    """Publish one after the other; returns what became of them and the growth in MiB.

    What the log calls processed has to arrive.
    """
    results = robot.collect("left/segmentation/image")
    reader = OutcomeReader(robot.process.log)
    begin = reader.update()
    early = 0.0
    for i, message in enumerate(itertools.islice(faulty, number), 1):
        robot.publish(topic, message)
        reader.wait(begin + i)
        if i == number // 5:
            early = resident_mib(robot.process.process.pid)
    grown = resident_mib(robot.process.process.pid) - early
    outcomes = Counter(reader.outcomes[begin:])
    wait_for(lambda: len(results.messages) >= outcomes["processed"], "every result")
    assert len(results.messages) == outcomes["processed"]
    return outcomes, grown


def counters(robot: Robot) -> Counter[str]:
    """What /diagnostics has counted so far, by the names that the log has."""
    values = robot.client.values("left")
    found = Counter({"processed": int(values["processed"])})
    for key, value in values.items():
        group, _, cause = key.partition(".")
        if group in ("drops", "bad", "skipped") and int(value):
            found[cause] += int(value)
    total = sum(int(values[key]) for key in ("processed", "dropped", "skipped"))
    assert int(values["received"]) == total == found.total()
    return found


@pytest.mark.parametrize(
    ("transport", "number"),
    [pytest.param("raw", IMAGES, marks=pytest.mark.slow), ("compressed", COMPRESSED)],
)
def test_fuzzed_images(robot: Robot, record_fault: Callable, transport: str, number: int) -> None:
    robot.start(image_transport=transport)
    raw = transport == "raw"
    mutator = Mutator(number)
    valid = itertools.cycle(seeds() if raw else (compressed("jpeg"), compressed("png")))
    before = counters(robot)
    faulty = (mutator.fields(next(valid)) for _ in itertools.count())
    topic = "left/image" if raw else "left/image/compressed"
    outcomes, grown = send_each(robot, topic, faulty, number)
    assert outcomes.total() == number
    assert counters(robot) - before == outcomes
    assert outcomes["engine_error"] == 0, robot.process.output[-2000:]
    assert outcomes["processed"] and len(outcomes) >= (6 if raw else 4), outcomes
    assert grown < GROWTH_MIB
    record_fault(
        "fuzzing",
        f"{'Image' if raw else 'CompressedImage'} messages with fields and data changed at random",
        tried=number,
        valid=outcomes["processed"],
        sent=number,
        came=outcomes.total(),
        seen=f"each counted: {dict(outcomes.most_common())}; {grown:+.0f} MiB",
    )


@pytest.mark.slow
def test_fuzzed_camera_infos(robot: Robot, record_fault: Callable) -> None:
    """Each is followed by an image, which is processed whatever its calibration says."""
    robot.start()
    mutator, distorted = Mutator(3), camera_info()
    distorted.d = [0.1, -0.05, 0.001, 0.0, 0.01]
    valid = itertools.cycle((camera_info(), distorted))

    def received() -> dict[str, int]:
        values = robot.client.values("left")
        kinds = ("received", "calibrated", "uncalibrated", "bad")
        return {kind: int(values.get(f"camera_info.{kind}", 0)) for kind in kinds}

    def with_an_image() -> Iterator[Image]:
        while True:
            robot.publish("left/camera_info", mutator.fields(next(valid)))
            yield image(picture())

    before = received()
    outcomes, grown = send_each(robot, "left/image", with_an_image(), INFOS)
    assert outcomes == Counter(processed=INFOS)
    counts = {kind: number - before[kind] for kind, number in received().items()}
    assert counts["received"] == INFOS
    assert counts["received"] == counts["calibrated"] + counts["uncalibrated"] + counts["bad"]
    assert min(counts.values()) > 0
    assert grown < GROWTH_MIB
    with Stream(robot, lambda: image(picture()), 10, info=camera_info()):
        well_again(robot)
    record_fault(
        "fuzzing",
        "CameraInfo messages with fields changed at random",
        tried=INFOS,
        valid=counts["calibrated"],
        sent=INFOS,
        came=outcomes["processed"],
        seen=f"each counted: {counts}; no image lost; {grown:+.0f} MiB",
    )


def test_damaged_serialised_messages(robot: Robot, record_fault: Callable) -> None:
    """What is no valid CDR the middleware throws away; what is left of it is counted."""
    robot.start(force_inference=True)
    mutator, good = Mutator(4), image(picture())
    robot.publish("left/image", good)
    reader = OutcomeReader(robot.process.log)
    publisher = robot.client.publisher(Image, "/left/image", depth=100)
    wait_for(publisher.get_subscription_count, "the node")
    early = 0.0
    for i in range(OCTETS):
        publisher.publish(mutator.octets(good))
        stamp = time.time_ns() // 1000 * 1000 + 1 + i % 1000
        good.header.stamp.sec, good.header.stamp.nanosec = divmod(stamp, 10**9)
        publisher.publish(good)
        name = f"left: image {good.header.stamp.sec}.{good.header.stamp.nanosec:09d}: processed"
        wait_for(lambda n=name: n in reader.tail(), "the good one behind it")
        if i == OCTETS // 5:
            early = resident_mib(robot.process.process.pid)
    grown = resident_mib(robot.process.process.pid) - early
    counters(robot)
    assert grown < GROWTH_MIB
    record_fault(
        "fuzzing",
        "serialised images with bytes changed, cut off or put in",
        tried=OCTETS,
        seen="thrown away by the middleware, or counted by cause; the image behind each is "
        f"processed; {grown:+.0f} MiB",
    )


NUMBER = st.floats(allow_subnormal=False) | st.sampled_from([0.0, 1.0, 150.0, 31.5, 1e308])


def uint32(*names: str) -> dict[str, st.SearchStrategy[int]]:
    return dict.fromkeys(names, st.integers(0, 80) | st.integers(0, 2**32 - 1))


@settings(max_examples=1500 if CAMPAIGN else 300, deadline=None)
@given(
    info=st.builds(
        CameraInfo,
        k=st.lists(NUMBER, min_size=9, max_size=9),
        p=st.lists(NUMBER, min_size=12, max_size=12),
        d=st.lists(NUMBER, max_size=15),
        distortion_model=st.sampled_from(["plumb_bob", "equidistant", "rational_polynomial", ""]),
        roi=st.builds(RegionOfInterest, **uint32("x_offset", "y_offset", "width", "height")),
        **uint32("height", "width", "binning_x", "binning_y"),
    ),
    rectified=st.booleans(),
)
def test_any_camera_info_is_a_camera_or_refused(info: CameraInfo, rectified: bool) -> None:
    try:
        camera = decoding.read_camera(info, rectified)
    except ValueError as error:
        assert str(error)
        return
    assert camera is None or isinstance(camera, Camera)
    if camera is not None and camera.width * camera.height < 5000:
        rays = camera.rays()
        assert rays.shape == (camera.height, camera.width, 3)
