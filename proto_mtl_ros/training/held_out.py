# SPDX-License-Identifier: Apache-2.0
"""Which frames of a partially labelled data set are held out to judge by."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

PART, LEAST, MOST = 0.15, 5, 100
"""Of the labels of a task this part is held out, one of at least five, and never more than that."""

_BLOCKS = 5


def chosen_frames(
    labels: Mapping[str, Collection[str]], shown: Mapping[str, frozenset[int]]
) -> list[str]:
    """Return the frames to hold out, in their order.

    ``labels`` has the tasks that every frame has a label of, in the order of time; ``shown`` the
    classes in each mask. Frames are taken in blocks, as neighbours show the same; of the blocks
    that there could be, those that leave every class to learn from, and show most of them.
    """
    having = {
        task: [frame for frame, tasks in labels.items() if task in tasks]
        for task in dict.fromkeys(task for tasks in labels.values() for task in tasks)
    }
    left = {task: _wanted(len(frames)) for task, frames in having.items()}
    held: set[str] = set()
    for task in sorted(having, key=lambda task: len(having[task])):
        free = [
            frame
            for frame in having[task]
            if frame not in held and all(left[other] for other in labels[frame])
        ]
        for frame in _best_blocks(free, left[task], shown):
            if all(left[other] for other in labels[frame]):
                held.add(frame)
                for other in labels[frame]:
                    left[other] -= 1
    if not held and len(labels) > 1:  # something has to be looked at, if only by eye
        held.add(min(labels, key=lambda frame: len(labels[frame])))
    return [frame for frame in labels if frame in held]


def _wanted(count: int) -> int:
    return min(MOST, max(int(PART * count), int(count >= LEAST)))


def _best_blocks(
    frames: Sequence[str], count: int, shown: Mapping[str, frozenset[int]]
) -> list[str]:
    """Return ``count`` of the frames in evenly spaced blocks, shifted to where classes are."""
    count = min(count, len(frames))
    if not count:
        return []
    blocks = min(_BLOCKS, count)
    room = len(frames) / blocks
    lengths = [count // blocks + (block < count % blocks) for block in range(blocks)]
    latest = max(0, int(room) - lengths[0])

    def at(shift: int) -> list[str]:
        starts = [int(block * room) + shift for block in range(blocks)]
        return [
            frames[place]
            for start, length in zip(starts, lengths)
            for place in range(start, start + length)
        ]

    def worth(shift: int) -> tuple[int, int, int]:
        chosen = {*at(shift)}
        learnt = {c for frame in frames if frame not in chosen for c in shown.get(frame, ())}
        judged = {c for frame in chosen for c in shown.get(frame, ())}
        return len(learnt), len(judged & learnt), -abs(2 * shift - latest)

    return at(max(range(latest + 1), key=worth))
