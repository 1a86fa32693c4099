# SPDX-License-Identifier: Apache-2.0
"""When a worker counts as overloaded, and when no longer."""

from __future__ import annotations

from proto_mtl_ros.ros.load import (
    FULL,
    Load,
)

TICK = 0.25


def simulate(load: Load, seconds: float, rate: float, cost: dict[bool, float], state: dict) -> None:
    """Let a worker run whose image costs so many seconds, by whether the input is small."""
    for _ in range(round(seconds / TICK)):
        small = state["small"]
        images = min(rate, 1 / cost[small]) * TICK
        state["now"] += TICK
        state["busy"] += images * cost[small]
        state["images"] += images
        chosen = load.observe(state["now"], state["busy"], round(state["images"]), small)
        if chosen != small:
            state["changes"].append((state["now"], chosen))
        state["small"] = chosen


def begin() -> dict:
    return {"now": 100.0, "busy": 0.0, "images": 0.0, "small": False, "changes": []}


COST = {False: 0.05, True: 0.02}


def test_an_overload_makes_the_input_small_and_its_end_whole_again() -> None:
    load, state = Load(), begin()
    simulate(load, 60, 15.0, COST, state)  # 75 % busy
    assert not state["changes"]
    simulate(load, 60, 30.0, COST, state)  # more than the 20 that it can
    assert [small for _, small in state["changes"]] == [True]
    assert state["changes"][0][0] < 160 + 20
    simulate(load, 120, 30.0, COST, state)  # small it can, whole it could not
    assert len(state["changes"]) == 1
    simulate(load, 60, 10.0, COST, state)
    assert [small for _, small in state["changes"]] == [True, False]


def test_a_load_between_the_limits_does_not_flap() -> None:
    """Whole it would be busy for 80 to 95 %: it stays as it is, whichever that is."""
    for first in (30.0, 10.0):
        load, state = Load(), begin()
        simulate(load, 60, first, COST, state)
        before = len(state["changes"])
        for rate in (16.5, 18.5) * 20:
            assert rate * COST[False] < FULL
            simulate(load, 10, rate, COST, state)
        assert len(state["changes"]) == before


def test_a_short_burst_is_no_overload() -> None:
    load, state = Load(), begin()
    for _ in range(10):
        simulate(load, 4, 30.0, COST, state)
        simulate(load, 6, 10.0, COST, state)
    assert not state["changes"]
