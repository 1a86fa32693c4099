# SPDX-License-Identifier: Apache-2.0
"""Subscribers that hang: they block nobody, but someone waits for what they no longer do."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import Any

from rclpy.duration import Duration

_PATIENCE = 6
"""Checks in a row, a second apart, that find something not acknowledged; one finds the newest
result on its way often enough."""


class SlowSubscribers:
    """Finds topics with a reliable subscriber that does not take the results."""

    def __init__(self) -> None:
        self._waiting: Counter[str] = Counter()

    def check(self, publishers: Iterable[Any]) -> list[str]:
        """Names of such topics; never waits, to be called about once a second."""
        for publisher in publishers:
            if publisher.wait_for_all_acked(Duration()):
                del self._waiting[publisher.topic_name]
            else:
                self._waiting[publisher.topic_name] += 1
        return [topic for topic, times in self._waiting.items() if times >= _PATIENCE]
