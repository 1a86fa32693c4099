# SPDX-License-Identifier: Apache-2.0
"""A process without a home, a domain that there is not, a middleware that is not installed."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from proto_mtl_ros.errors import ConfigError
from proto_mtl_ros.ros.environment import check_middleware, use_writable_log_folder


@pytest.mark.parametrize("home", ["/proc/none", ""])
def test_without_a_writable_home_the_log_is_in_a_temporary_folder(
    home: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("ROS_LOG_DIR", "ROS_HOME"):
        monkeypatch.setenv(name, "")
    monkeypatch.setenv("HOME", home)
    use_writable_log_folder()
    folder = Path(os.environ["ROS_LOG_DIR"])
    assert folder.is_dir() and f"the log is in {folder} (ROS_LOG_DIR)" in capsys.readouterr().err
    folder.rmdir()


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("ROS_DOMAIN_ID", "500", "use a number from 0 to 232"),
        ("ROS_DOMAIN_ID", "one", "use a number from 0 to 232"),
        ("RMW_IMPLEMENTATION", "rmw_abacus_cpp", "not installed: install ros-.*-rmw-abacus-cpp"),
    ],
)
def test_what_ros_would_end_the_process_for_is_said_in_one_line(
    name: str, value: str, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "lib").mkdir()
    (tmp_path / "lib" / "librmw_known_cpp.so").touch()
    monkeypatch.setenv("AMENT_PREFIX_PATH", str(tmp_path))
    monkeypatch.setenv("ROS_DOMAIN_ID", "7")
    monkeypatch.setenv("RMW_IMPLEMENTATION", "rmw_known_cpp")
    check_middleware()
    monkeypatch.setenv(name, value)
    with pytest.raises(ConfigError, match=said):
        check_middleware()
