# SPDX-License-Identifier: Apache-2.0
"""Fixed transforms between frames, as a recording's /tf_static has them."""

from __future__ import annotations

from collections import deque

import numpy as np

from proto_mtl_ros.data.bags.recording import BagRecording
from proto_mtl_ros.geometry.registration import rigid_transform

TOPIC = "/tf_static"


class StaticTransforms:
    """A graph of frames whose edges do not change."""

    def __init__(self) -> None:
        self._edges: dict[str, dict[str, np.ndarray]] = {}

    def add(self, parent: str, child: str, transform: np.ndarray) -> None:
        """Add the 4x4 matrix that takes points of ``child`` to ``parent``; a later one replaces."""
        parent, child = parent.lstrip("/"), child.lstrip("/")
        self._edges.setdefault(child, {})[parent] = transform
        self._edges.setdefault(parent, {})[child] = np.linalg.inv(transform)

    def between(self, source: str, target: str) -> np.ndarray | None:
        """Return the 4x4 matrix that takes points of ``source`` to ``target``, None without one."""
        source, target = source.lstrip("/"), target.lstrip("/")
        found = {source: np.eye(4)}
        waiting = deque([source])
        while waiting:
            frame = waiting.popleft()
            if frame == target:
                return found[frame]
            for neighbour, step in self._edges.get(frame, {}).items():
                if neighbour not in found:
                    found[neighbour] = step @ found[frame]
                    waiting.append(neighbour)
        return None


def recorded_transforms(recording: BagRecording) -> StaticTransforms:
    """Return what /tf_static of a recording says; empty without it.

    Transforms that are none, with a rotation of length zero, are passed over.
    """
    found = StaticTransforms()
    for message in recording.messages_of([TOPIC]):
        for stated in message.decode().transforms:
            move, turn = stated.transform.translation, stated.transform.rotation
            try:
                matrix = rigid_transform((move.x, move.y, move.z), (turn.x, turn.y, turn.z, turn.w))
            except ValueError:
                continue
            found.add(stated.header.frame_id, stated.child_frame_id, matrix)
    return found
