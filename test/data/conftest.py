# SPDX-License-Identifier: Apache-2.0
"""A bound for what a hostile file may cost."""

from __future__ import annotations

import resource
import time
from collections.abc import Iterator

import pytest


@pytest.fixture
def bounded_effort() -> Iterator[None]:
    """No file may cost more than its limits: 400 MB, and seconds."""
    before, start = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.process_time()
    yield
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    spent = time.process_time() - start
    assert grown < 400_000 and spent < 20, (grown, spent)
