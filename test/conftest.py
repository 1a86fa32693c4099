# SPDX-License-Identifier: Apache-2.0
"""What all tests share: a ROS of their own, and real data where it is at hand."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from functools import partial
from importlib.util import find_spec
from pathlib import Path

import pytest
from fault_log import FaultLog
from ros_domain import claim_domain

from proto_mtl_ros.errors import one_line

REPOSITORY = Path(__file__).resolve().parents[1]

if find_spec("torch") is None or find_spec("lightning") is None:  # a robot has neither
    collect_ignore = ["benchmark", "model", "training"]

# Tests talk to nobody else: a domain of their own, this machine only.
os.environ["ROS_DOMAIN_ID"] = str(claim_domain())
os.environ["ROS_AUTOMATIC_DISCOVERY_RANGE"] = "LOCALHOST"
os.environ["ROS_PYTHON_CHECK_FIELDS"] = "1"  # without it a wrong type fails late or never
os.environ.setdefault("AMENT_PREFIX_PATH", sys.prefix)
# A busy machine: threads that spin while they wait take the core from those that work.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OMP_WAIT_POLICY", "passive")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--data",
        type=Path,
        default=None,
        help="folder of real data (nyuv2/, bags/, videos/); default: $PROTO_MTL_DATA, then "
        "../shared/data beside the repository",
    )
    parser.addoption(
        "--record-faults",
        type=Path,
        default=None,
        help="JSON file to which the fault campaign's outcomes are joined: "
        "tools/reliability/results/faults.json is the one that its page is made from",
    )


_FAULTS = FaultLog()


def pytest_sessionfinish(session: pytest.Session) -> None:
    path = session.config.getoption("--record-faults")
    if path and _FAULTS:
        _FAULTS.write(path)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Iterator[None]:
    """Note what came of a test that tries a fault."""
    report = yield
    tries = item.get_closest_marker("tries")
    marks = None if tries is None else (*tries.args, tries.kwargs["seen"])
    records = "record_fault" in getattr(item, "fixturenames", ())
    if item.get_closest_marker("control") is None and (records or marks is not None):
        failure = one_line(call.excinfo.value, 160) if report.failed and call.excinfo else None
        if report.failed or (report.when == "call" and report.passed):
            _FAULTS.outcome(item.nodeid, marks, failure)
    return report


@pytest.fixture(autouse=True)
def plain_arithmetic() -> Iterator[None]:
    """A training lets numbers next to zero be zero, in the whole process: not in later tests."""
    yield
    if "torch" in sys.modules:
        sys.modules["torch"].set_flush_denormal(False)


@pytest.fixture
def record_fault(request: pytest.FixtureRequest) -> Callable[..., None]:
    """Notes a fault that this test tried, at its end; see `FaultLog.add`."""
    return partial(_FAULTS.add, request.node.nodeid)


@pytest.fixture(scope="session")
def data_root(request: pytest.FixtureRequest) -> Path:
    """The folder of real data; the test is skipped, saying so, where there is none."""
    given = request.config.getoption("--data") or os.environ.get("PROTO_MTL_DATA")
    root = Path(given) if given else REPOSITORY.parent / "shared" / "data"
    if not root.is_dir():
        if given:
            pytest.fail(f"there is no data at {root}")
        pytest.skip("no real data: give --data or PROTO_MTL_DATA")
    return root.resolve()


def _part(root: Path, name: str) -> Path:
    if not (root / name).exists():
        pytest.skip(f"the real data has no {name}")
    return root / name


@pytest.fixture(scope="session")
def nyuv2(data_root: Path) -> Path:
    """The NYUv2 pack."""
    return _part(data_root, "nyuv2")


@pytest.fixture(scope="session")
def kitchen_bag(data_root: Path) -> Path:
    """A hand-held RGB-D recording of a kitchen, rosbag2."""
    return _part(data_root, "bags/kitchen_handheld")


@pytest.fixture(scope="session")
def video(data_root: Path) -> Path:
    """A video of people in a room."""
    videos = sorted(_part(data_root, "videos").glob("*.mp4"))
    return videos[0] if videos else pytest.skip("the real data has no video")


@pytest.fixture(scope="session")
def room_recording() -> Path:
    """The recording that ships with the package."""
    path = REPOSITORY / "recordings" / "room"
    if not path.is_dir():
        pytest.skip("recordings/room is not in this checkout")
    return path
