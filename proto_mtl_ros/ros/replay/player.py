# SPDX-License-Identifier: Apache-2.0
"""Plays a recording over ROS at its own rate.

``python -m proto_mtl_ros.ros.replay.player RECORDING`` is the player process of a replay: it prints
one JSON object a line on stdout while it works.
"""

from __future__ import annotations

import argparse
import itertools
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from rclpy.duration import Duration
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rclpy.publisher import Publisher
from rclpy.qos import QoSProfile
from rosgraph_msgs.msg import Clock
from std_srvs.srv import SetBool

from proto_mtl_ros.data.bags.bag import BagMessage
from proto_mtl_ros.data.bags.recording import Recording, given_camera
from proto_mtl_ros.data.bags.recording_kinds import open_recording
from proto_mtl_ros.data.bags.stamp_log import StampLog, shifted
from proto_mtl_ros.errors import INTERRUPTED, BagError, ConfigError
from proto_mtl_ros.ros.replay.processes import exit_on_sigterm, message_class, run_process, say_json

_HISTORY = 5
_STALL_NS = 50_000_000
_POLL_SECONDS = 0.02
_RATE = 10.0
"""Images a second of a recording with a single image, which has no rate."""

_INFO_PATIENCE_SECONDS = 3.0


class Player:
    """Publishes the colour images and camera_info of a recording under their recorded names.

    A ``rate`` of 2 plays twice as fast as recorded; ``clock`` gives the recorded times on /clock as
    well. The ``log`` has stamps and times of the images; its note "late_ms" is the longest that a
    message left behind its time, "period_ns" by how much stamps move from one loop to the next.
    """

    def __init__(
        self, node: Node, recording: Recording, rate: float = 1.0, clock: bool = False
    ) -> None:
        check_rate(rate)
        self._recording, self._rate = recording, rate
        self._image, self._info = recording.topics.image, recording.topics.camera_info
        # Reliable serves every subscriber: to a best-effort one it sends as best effort.
        self._publishers: dict[str, Publisher] = {
            t.name: node.create_publisher(message_class(t.type), t.name, QoSProfile(depth=_HISTORY))
            for t in (self._image, self._info)
            if t is not None
        }
        self._clock = node.create_publisher(Clock, "/clock", QoSProfile(depth=1)) if clock else None
        self._going = threading.Event()
        self._going.set()
        self._origin = 0
        self._latest = 0
        self.log = StampLog()

    def wait_for_subscriber(self, timeout: float) -> None:
        """Return once somebody subscribes to the images; raises BagError after ``timeout`` s."""
        if not _subscribed(self._publishers[self._image.name], timeout):
            raise BagError(
                f"nobody subscribed to {self._image.name} within {timeout:g} s: "
                "is the node active, and in the same ROS_DOMAIN_ID?"
            )
        for publisher in self._publishers.values():
            _subscribed(publisher, min(timeout, _INFO_PATIENCE_SECONDS))

    def play(
        self,
        seconds: float | None = None,
        on_image: Callable[[int], None] = lambda count: None,
        start: float = 0.0,
        loops: int = 1,
    ) -> int:
        """Publish everything in the recorded rhythm; return the number of images.

        ``start`` leaves out so many seconds at the beginning, ``seconds`` plays only so many;
        BagError when nothing is left. ``loops`` is how often, 0 for without end: stamps and times
        go on where they were, so that nobody sees time jump back. ``on_image`` is called with the
        number of images so far.
        """
        self._publish_calibration()
        images = period = 0
        for lap in range(loops) if loops else itertools.count():
            begin = end = None
            for message in self._stretch(start, seconds):
                if begin is None:
                    begin = message.time
                    self._origin = self._origin if lap else time.monotonic_ns()
                end, shift = message.time, lap * period
                self._wait_until(int((shift + end - begin) / self._rate))
                now = time.monotonic_ns()
                self._publish(message, shift)
                if message.topic == self._image.name:
                    images += 1
                    self.log.add(message.topic, message.stamp + shift, now)
                    on_image(images)
            if begin is None or end is None:
                raise BagError(f"nothing is recorded after {start:g} s: give a smaller --start")
            period = period or end - begin + round(1e9 / (self._recording.rate or _RATE))
        self.log.notes |= {"late_ms": self._latest / 1e6, "period_ns": period}
        with suppress(RuntimeError):  # not every middleware can tell
            self._publishers[self._image.name].wait_for_all_acked(Duration(seconds=2))
        return images

    def pause(self, paused: bool) -> None:
        """Hold the recording, or let it go on; may be called from any thread."""
        (self._going.clear if paused else self._going.set)()

    def _stretch(self, start: float, seconds: float | None) -> Iterator[BagMessage]:
        first: int | None = None
        for message in self._recording.messages():
            first = message.time if first is None else first
            offset = (message.time - first) / 1e9 - start
            if seconds is not None and offset > seconds:
                return
            if offset >= 0:
                yield message

    def _wait_until(self, offset: int) -> None:
        """Wait for a time, in nanoseconds since the origin, and while the player is paused."""
        due = self._origin + offset
        wait = due - time.monotonic_ns()
        if wait > 0:
            time.sleep(wait / 1e9)
        elif -wait > _STALL_NS:
            self._origin -= wait  # one held up goes on at its rate, it sends no burst
        since = time.monotonic_ns()
        self._going.wait()
        now = time.monotonic_ns()
        self._origin += now - since
        self._latest = max(self._latest, since - due)  # what was held up may be a camera_info

    def _publish(self, message: BagMessage, shift: int) -> None:
        if self._clock is not None:
            clock = Clock()
            clock.clock.sec, clock.clock.nanosec = divmod(message.time + shift, 1_000_000_000)
            self._clock.publish(clock)
        cdr = shifted(message.cdr, shift) if shift else message.cdr
        self._publishers[message.topic].publish(cdr)

    def _publish_calibration(self) -> None:
        """Publish the first camera_info ahead: a camera's driver has long been running."""
        if self._info is None:
            return
        first = next((m for m in self._recording.messages() if m.topic == self._info.name), None)
        if first is not None:
            self._publishers[self._info.name].publish(first.cdr)
            time.sleep(0.1)


def check_rate(rate: float) -> None:
    if not 0.01 <= rate <= 100:
        raise ConfigError(f"a rate of {rate:g} cannot be played: give --rate between 0.01 and 100")


def _subscribed(publisher: Publisher, timeout: float) -> bool:
    end = time.monotonic() + timeout
    while publisher.get_subscription_count() == 0 and time.monotonic() <= end:
        time.sleep(_POLL_SECONDS)
    return publisher.get_subscription_count() > 0


@contextmanager
def pausable(node: Node, player: Player) -> Iterator[None]:
    """Offer the service ~/pause (std_srvs/SetBool) while the recording is played."""

    def on_pause(request: SetBool.Request, response: SetBool.Response) -> SetBool.Response:
        player.pause(request.data)
        response.success, response.message = True, "paused" if request.data else "playing"
        return response

    service = node.create_service(SetBool, "~/pause", on_pause)
    executor = SingleThreadedExecutor(context=node.context)
    executor.add_node(node)
    thread = threading.Thread(target=executor.spin, daemon=True)
    thread.start()
    try:
        yield
    finally:
        executor.shutdown()
        thread.join(5.0)
        node.destroy_service(service)


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="player", description="Play a recording over ROS.")
    parser.add_argument("recording", type=Path)
    parser.add_argument("--log", type=Path, help="JSON of stamps and times of sending")
    parser.add_argument("--rate", type=float, default=1.0)
    parser.add_argument("--seconds", type=float)
    parser.add_argument("--fps", type=float)
    parser.add_argument("--image-topic")
    parser.add_argument("--info-topic")
    parser.add_argument("--camera", type=Path, help="JSON in place of the recorded camera_info")
    parser.add_argument("--no-camera", action="store_true")
    parser.add_argument("--start", type=float, default=0.0)
    parser.add_argument("--loops", type=int, default=1)
    parser.add_argument("--clock", action="store_true")
    parser.add_argument("--wait", type=float, default=30.0, help="seconds to wait for a subscriber")
    given = parser.parse_args(argv)

    def play(node: Node) -> None:
        topics = given.image_topic, given.info_topic
        camera = given_camera(given.camera, given.no_camera)
        with open_recording(given.recording, given.fps, *topics, camera=camera) as recording:
            player = Player(node, recording, given.rate, given.clock)
            player.wait_for_subscriber(given.wait)
            try:
                with pausable(node, player):
                    player.play(
                        given.seconds,
                        lambda count: say_json(played=count),
                        given.start,
                        given.loops,
                    )
            finally:
                if given.log is not None:
                    player.log.write(given.log)

    exit_on_sigterm()
    status = run_process("player", play)
    return 0 if status == INTERRUPTED else status  # to `ros2 launch` anything else is a crash


if __name__ == "__main__":
    raise SystemExit(main())
