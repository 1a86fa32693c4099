# SPDX-License-Identifier: Apache-2.0
"""What is odd about a camera's images, and how many of them are processed."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("rclpy", reason="ROS 2 is not installed")

from hypothesis import given
from hypothesis import strategies as st
from sensor_msgs.msg import Image

from proto_mtl_ros.ros.camera_stream import RateLimit, StreamCheck

SECOND = 1_000_000_000
NOW = 1_700_000_000 * SECOND


def stamped(nanoseconds: int) -> Image:
    message = Image(encoding="rgb8")
    message.header.frame_id = "optical"
    message.header.stamp.sec, message.header.stamp.nanosec = divmod(nanoseconds, SECOND)
    return message


def test_stamps_that_mislead_are_told() -> None:
    def causes(*stamps: int, clock: int = NOW) -> list[str]:
        check = StreamCheck()
        return [cause for stamp in stamps for cause, _ in check.odd(stamped(stamp), clock)]

    assert causes(NOW, NOW, NOW + 1) == []  # equal is not backwards
    assert causes(NOW - 6 * SECOND, NOW + 6 * SECOND) == ["stamp_past", "stamp_future"]
    assert causes(NOW - 4 * SECOND, NOW + 4 * SECOND) == []
    assert causes(SECOND, clock=0) == []  # simulated time that has not begun
    (odd,) = StreamCheck().odd(stamped(NOW - 3 * 86400 * SECOND), NOW)
    assert odd == ("stamp_past", "stamps are 3 days behind this node's clock")
    nowhere = stamped(NOW)
    nowhere.header.frame_id = ""
    assert [cause for cause, _ in StreamCheck().odd(nowhere, NOW)] == ["frame_id_empty"]


def admitted(rate: float, times: list[float]) -> list[float]:
    limit = RateLimit(rate)
    return [time for time in times if limit.admits(time)]


@given(st.floats(1.0, 60.0), st.lists(st.floats(1e-3, 0.5), min_size=2, max_size=200))
def test_never_more_than_the_limit(rate: float, gaps: list[float]) -> None:
    kept = admitted(rate, list(np.cumsum(gaps)))
    assert kept  # the first frame is never held back
    for first in range(len(kept)):
        # in all, only the last may have come early; a window may begin with one that came late
        spare = 0.25 if first == 0 else 1.25
        for last in range(first + 1, len(kept)):
            assert last - first <= rate * (kept[last] - kept[first]) + spare + 1e-6


@pytest.mark.parametrize(("camera", "rate"), [(30, 20), (30, 10), (60, 25), (30, 29), (25, 24)])
def test_a_faster_camera_is_processed_at_the_limit(camera: float, rate: float) -> None:
    times = [n / camera for n in range(20 * camera)]
    assert len(admitted(rate, times)) == pytest.approx(20 * rate, rel=0.03)


@given(st.lists(st.floats(-0.1, 0.1), min_size=100, max_size=100))
def test_a_camera_of_the_limit_s_own_rate_loses_next_to_nothing(jitter: list[float]) -> None:
    times = [(n + shift) / 30 for n, shift in enumerate(jitter)]
    assert len(admitted(30, times)) >= 96


def test_a_slower_camera_and_no_limit_lose_nothing() -> None:
    times = [n / 5 for n in range(50)]
    assert admitted(6, times) == times
    assert admitted(0, times) == times
