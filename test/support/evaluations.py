# SPDX-License-Identifier: Apache-2.0
"""What two evaluations of one recording must have in common."""

from __future__ import annotations

from typing import Any


def without_times(figures: dict[str, Any]) -> dict[str, Any]:
    """Return the figures of `bag evaluate` without those that no two runs share."""
    series = {name: values for name, values in figures["time_series"].items() if name != "ms"}
    return {**figures, "ms": None, "time_series": series}
