# SPDX-License-Identifier: Apache-2.0
"""What a soak is asked for, which faults it mixes in, and when: by the seed."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass

from proto_mtl_ros.errors import ConfigError


@dataclass(frozen=True)
class Kind:
    """A kind of fault."""

    text: str  # what is done, for a reader
    seconds: float  # that it lasts where there is time for it
    by_camera: bool = True  # else somebody else in the graph does it
    seen: str = "level stays OK"  # by an operator, where /diagnostics does not warn


KINDS = {
    "pause": Kind("the camera stops for a while and returns", 5.0),
    "burst": Kind(
        "the camera sends at ten times its rate", 3.0, seen="drops.overwritten counts"
    ),
    "malformed": Kind("every other image is malformed: size, step, encoding, data", 4.0),
    "resolution": Kind("images of half the size, then of the old size again", 4.0),
    "encoding": Kind("encodings that take turns: bgr8, mono8, yuv422, bayer", 4.0),
    "uncalibrated": Kind("camera_info with K = 0, then the right one again", 4.0),
    "backwards": Kind("stamps jump ten seconds back, then forward again", 4.0),
    "parameters": Kind(
        "parameters change and change back; a bad value is refused", 4.0, False,
        "the answer says why it is refused",
    ),
    "lifecycle": Kind("the node is deactivated and activated", 2.0, False, "its state, not active"),
    "reload": Kind(
        "the model is loaded anew under way", 1.0, False, "the answer of ~/reload_model"
    ),
    "broken_reload": Kind(
        "a model that is not there is asked for", 1.0, False,
        "the answer says why; the old one runs on",
    ),
    "stopped_subscriber": Kind("a subscriber is stopped (SIGSTOP) and goes on", 6.0, False),
}  # fmt: skip

CAMERA = "camera"
"""Namespace of the camera."""

LONGEST_ROUND, SHORTEST_ROUND = 150.0, 60.0
"""Every kind comes once in such a round, in an order of its own, calm stretches between. The first
one counts as warm-up, and the slope of memory is one over rounds."""

_ROUNDS, _LEAST_ROUNDS = 12, 3

_BUSY = 0.5
"""At most this share of a fault's slot."""

_END = 0.3
"""The last share of a slot is calm, so that recovery is seen before the next fault."""


@dataclass(frozen=True)
class SoakSetting:
    """What a soak is asked for."""

    recording: str  # that is played over and over
    seconds: float
    rate: float = 0.0  # images a second, 0 for the recording's own
    seed: int = 0  # of the schedule
    faults: tuple[str, ...] = tuple(KINDS)
    every: float = 5.0  # seconds between samples
    model: str = "nyu13-lite0"
    backend: str = "auto"
    threads: int = 1
    results: tuple[str, ...] = ("segmentation", "confidence", "depth", "normals", "points")


@dataclass(frozen=True)
class Fault:
    """One fault; ``start`` in seconds since the first image."""

    name: str
    start: float
    seconds: float

    @property
    def end(self) -> float:
        return self.start + self.seconds


def round_seconds(seconds: float) -> float:
    """Return how long a round is in a soak of so many seconds."""
    usual = min(max(seconds / _ROUNDS, SHORTEST_ROUND), LONGEST_ROUND)
    return min(usual, seconds / _LEAST_ROUNDS)


def schedule(seconds: float, seed: int, names: Sequence[str] = tuple(KINDS)) -> list[Fault]:
    """Return the faults of a soak, one after another, sorted by their start.

    Raises:
        ConfigError: a name is not known.
    """
    for name in names:
        if name not in KINDS:
            raise ConfigError(f"there is no fault {name!r}: use {', '.join(KINDS)}")
    if not names:
        return []
    generator = random.Random(seed)
    length = round_seconds(seconds)
    slot = length / len(names)
    found = []
    for number in range(int(seconds / length + 1e-9)):
        for place, name in enumerate(generator.sample(list(names), len(names))):
            lasts = min(KINDS[name].seconds, _BUSY * slot)
            latest = (1 - _END) * slot - lasts
            begin = number * length + place * slot + generator.uniform(0, latest)
            found.append(Fault(name, begin, lasts))
    return found
