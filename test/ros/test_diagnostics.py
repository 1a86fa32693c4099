# SPDX-License-Identifier: Apache-2.0
"""The rules of /diagnostics, on a clock of the test's own: what is told, how long, how often."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable

import pytest

pytest.importorskip("rclpy", reason="ROS 2 is not installed")

from proto_mtl_ros.encodings import EncodingError
from proto_mtl_ros.ros.diagnostic_table import DIAGNOSTICS, ERROR, WARN
from proto_mtl_ros.ros.diagnostics import CALM, HOLD, LONGEST_HOLD, Diagnostics
from proto_mtl_ros.ros.outcomes import OutputRate


class Log:
    """Keeps lines as (level, text), as a logger of rclpy would write them."""

    def __init__(self) -> None:
        self.lines: list[tuple[str, str]] = []

    def __getattr__(self, level: str) -> Callable[[str], None]:
        return lambda text: self.lines.append((level, text))


class Patient:
    """Diagnostics on a clock that the test moves."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.log = Log()
        self.diagnostics = Diagnostics("left", self.log, lambda: self.now)

    def live(self, seconds: float, bad: object = None) -> list[bool]:
        """Report once a second; `bad(second)` says whether the fault is there. Returns told."""
        told = []
        for second in range(int(seconds)):
            self.now += 1.0
            if callable(bad) and bad(second):
                self.diagnostics.see("short_data", "data has 3 bytes")
            told.append(bool(self.diagnostics.report()))
        return told


def test_a_diagnostic_is_told_at_once_held_and_over_with_one_line_each() -> None:
    patient = Patient()
    patient.diagnostics.see("short_data", "data has\n3 bytes")
    ((level, text),) = patient.diagnostics.report()
    assert level == WARN
    assert text == f"short_data: data has 3 bytes; {DIAGNOSTICS['short_data'].action}"
    assert patient.live(HOLD) == [True] * int(HOLD)
    assert "ago" not in text and "ago" not in patient.log.lines[0][1]
    assert patient.live(3) == [False] * 3
    assert [level for level, _ in patient.log.lines] == ["warning", "info"]
    assert patient.log.lines[1][1] == "left: short_data is over, it lasted 0 s"


def test_while_it_is_held_the_message_says_how_long_ago_it_was() -> None:
    patient = Patient()
    patient.diagnostics.see("no_results", "0 results")
    patient.now += 3.0
    ((level, text),) = patient.diagnostics.report()
    assert level == ERROR and text.endswith("(3 s ago)")


@pytest.mark.parametrize("period", [2, 3, 5])
def test_a_flickering_fault_does_not_flap(period: int) -> None:
    patient = Patient()
    assert all(patient.live(120, lambda second: second % period == 0))
    assert len(patient.log.lines) == 1


def test_one_that_keeps_returning_is_held_longer_each_time_until_it_stays_away() -> None:
    patient = Patient()
    told = patient.live(600, lambda second: second % 10 == 0)
    changes = sum(a != b for a, b in zip(told, told[1:], strict=False))
    assert changes <= 4  # without the growing hold it would be 120
    assert all(told[60:])
    patient.live(LONGEST_HOLD + CALM + 2)
    before = len(patient.log.lines)
    patient.diagnostics.see("short_data", "data has 3 bytes")
    assert patient.live(HOLD + 3)[-1] is False  # held as briefly as at first
    assert len(patient.log.lines) == before + 2


@pytest.mark.parametrize("period", [1, 6, 7, 11, 13, 21, 45, 62])
def test_lines_in_the_log_are_bounded_whatever_the_period(period: int) -> None:
    patient = Patient()
    minutes = []
    for minute in range(20):
        before = len(patient.log.lines)
        patient.live(60, lambda second, m=minute: (60 * m + second) % period == 0)
        minutes.append(len(patient.log.lines) - before)
    assert minutes[0] <= 8 and max(minutes[1:]) <= 3, minutes


def test_an_endless_text_from_a_message_stays_one_short_line() -> None:
    patient = Patient()
    patient.diagnostics.see("unknown_encoding", "encoding '" + "x\n" * 100_000 + "' is not known")
    ((_, text),) = patient.diagnostics.report()
    assert len(text) < 400 and "\n" not in text
    assert len(patient.log.lines[0][1]) < 400


def test_every_cause_of_a_bad_image_has_advice() -> None:
    documented = set(re.findall(r"``(\w+_\w+)``", EncodingError.__doc__ or ""))
    assert {"short_data", "bad_jpeg"} < documented
    assert documented <= set(DIAGNOSTICS)
    for row in DIAGNOSTICS.values():
        assert row.action and row.meaning and "\n" not in row.action


def rates(steps: list[tuple[int, int, str]]) -> list[str]:
    """What OutputRate says each second of (wanted, processed, cause of the rest)."""
    check = OutputRate()
    wanted = processed = 0
    lost: Counter[str] = Counter()
    said = []
    check.check(0.0, 0, 0, Counter())
    for second, (more, done, cause) in enumerate(steps):
        wanted, processed = wanted + more, processed + done
        lost[cause] += more - done
        found = check.check(second + 1.0, wanted, processed, Counter(lost))
        said.append(found[0] if found else "")
    return said


def test_fewer_results_than_images_are_told_with_the_reason() -> None:
    assert set(rates([(30, 29, "overwritten")] * 20)) == {""}
    assert rates([(30, 12, "overwritten")] * 10)[-1] == "too_slow"
    assert rates([(30, 12, "short_data")] * 10)[-1] == "few_results"
    assert rates([(30, 0, "engine_error")] * 10)[-1] == "no_results"
    assert set(rates([(0, 0, "")] * 20)) == {""}  # nobody listens


def test_a_rate_near_the_threshold_does_not_flap() -> None:
    """Between one half and 60 % the former state holds."""
    low, middle, high = ((100, done, "overwritten") for done in (45, 55, 70))
    said = rates([low] * 8 + [middle, low] * 10 + [middle] * 8)
    assert set(said[8:]) == {"too_slow"}
    assert set(rates([high] * 8 + [middle] * 20)) == {""}
    assert rates([low] * 8 + [high] * 8)[-1] == ""
