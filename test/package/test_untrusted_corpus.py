# SPDX-License-Identifier: Apache-2.0
"""What the fuzzer started from and what it found, once more: taken, or refused by one line.

With PROTO_MTL_CAMPAIGN=1 every input is also cut at many places and has single bytes changed.
"""

from __future__ import annotations

import os
import random
import resource
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

pytest.importorskip("torch", reason="checkpoints are one of the targets")
pytest.importorskip("rosbags", reason="recordings are one of the targets")

from fuzz_targets import CORPUS, TARGETS, refused_by

INPUTS = sorted(path for path in CORPUS.glob("*/*") if path.is_file())
CHANGES = 400 if os.environ.get("PROTO_MTL_CAMPAIGN") else 12
MOST_SECONDS, MOST_KIB = 20.0, 1_200_000


def test_every_target_has_seeds_and_the_corpus_stays_small() -> None:
    assert {path.parent.name for path in INPUTS} == set(TARGETS)
    assert sum(path.stat().st_size for path in INPUTS) < 300_000


@pytest.mark.parametrize("path", INPUTS, ids=lambda path: f"{path.parent.name}/{path.name}")
def test_an_input_is_taken_or_refused(path: Path, tmp_path: Path) -> None:
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    start = time.process_time()
    refused_by(path.parent.name, path.read_bytes(), tmp_path)
    assert time.process_time() - start < MOST_SECONDS
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < MOST_KIB


def changed(content: bytes, seed: str) -> Iterator[bytes]:
    """Yield inputs that are cut, or have a byte or a number of four bytes changed."""
    choose = random.Random(seed)
    for number in range(CHANGES):
        place = choose.randrange(len(content)) if content else 0
        if number % 3 == 0:
            yield content[:place]
        elif number % 3 == 1:
            yield content[:place] + bytes([choose.randrange(256)]) + content[place + 1 :]
        else:
            large = choose.choice((b"\xff\xff\xff\xff", b"\0\0\0\0", b"\xff\xff\xff\x7f"))
            yield content[:place] + large + content[place + 4 :]


@pytest.mark.parametrize("target", TARGETS)
def test_damaged_inputs_are_taken_or_refused(
    target: str, tmp_path: Path, record_fault: Callable[..., None]
) -> None:
    tried = valid = of_findings = 0
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for number, path in enumerate((CORPUS / target).iterdir()):
        seed, finding = path.read_bytes(), path.name.startswith("found")
        (tmp_path / str(number)).mkdir()
        undamaged = refused_by(target, seed, tmp_path / str(number))
        for place, content in enumerate(changed(seed, path.name)):
            folder = tmp_path / f"{number}-{place}"
            folder.mkdir()
            start = time.process_time()
            valid += refused_by(target, content, folder) == undamaged and not finding
            assert time.process_time() - start < MOST_SECONDS
            tried += not finding
            of_findings += finding
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < MOST_KIB
    record_fault(
        "parsers", f"damaged files: {target}", tried=tried, valid=valid,
        seen="read as if undamaged, or one line that the undamaged file does not get"
        f"; beside them {of_findings} changes of files that are refused undamaged",
    )  # fmt: skip
