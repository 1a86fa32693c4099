# SPDX-License-Identifier: Apache-2.0
"""A rate limit keeps the mean rate, whatever the camera does, and lets a slower camera be."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from proto_mtl_ros.errors import ConfigError
from proto_mtl_ros.ros import parameters
from proto_mtl_ros.ros.rate_limit import RateLimit


def admitted(rate: float, times: list[float]) -> list[float]:
    limit = RateLimit(rate)
    return [time for time in times if limit.admits(time)]


@given(
    st.floats(1.0, 60.0),
    st.lists(st.floats(1e-3, 0.5), min_size=2, max_size=200),
)
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


def test_the_last_value_counts_for_all_cameras_that_follow() -> None:
    names = {"cameras": ["front", "rear"]}
    good = parameters.checked_overrides({**names, "max_rate": [10]})
    assert [parameters.max_rate(good | names, c) for c in names["cameras"]] == [10.0, 10.0]
    good = parameters.checked_overrides({**names, "max_rate": [0.0, 2.5]})
    assert [parameters.max_rate(good | names, c) for c in names["cameras"]] == [0.0, 2.5]
    good = parameters.checked_overrides({**names, "max_rate": [1.0, 2.0, 3.0]})
    assert [parameters.max_rate(good | names, c) for c in names["cameras"]] == [1.0, 2.0]
    with pytest.raises(ConfigError, match="max_rate must have at least one value"):
        parameters.checked_overrides({"max_rate": []})
    with pytest.raises(ConfigError, match="max_rate must be in 0..1000, not -1"):
        parameters.checked_overrides({"max_rate": [-1.0]})
