# SPDX-License-Identifier: Apache-2.0
"""The package as colcon, pip and a robot see it."""

from __future__ import annotations

import ast
import os
import re
import shutil
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
import zipfile
from pathlib import Path

import pytest

import proto_mtl_ros

REPOSITORY = Path(__file__).resolve().parents[2]
MANIFEST = ElementTree.parse(REPOSITORY / "package.xml").getroot()
NOT_OURS = ("build", "install", "log", "out", "runs")

# ROS packages by the modules they bring; message packages are found by their names.
ROS_PACKAGES = {
    "rclpy",
    "cv_bridge",
    "launch",
    "launch_ros",
    "ament_index_python",
    "rcl_interfaces",
}


def sources() -> list[Path]:
    """Every Python file of the repository, scripts included."""
    found = [
        path
        for path in REPOSITORY.rglob("*.py")
        if not path.relative_to(REPOSITORY).parts[0].startswith((".", *NOT_OURS))
    ]
    return sorted([*found, *(REPOSITORY / "scripts").iterdir()])


def run(*command: str, cwd: Path = REPOSITORY) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    return subprocess.run(
        command, capture_output=True, text=True, timeout=170, cwd=cwd, env=environment
    )


def test_one_version_everywhere() -> None:
    setup = (REPOSITORY / "setup.py").read_text(encoding="utf-8")
    changes = (REPOSITORY / "CHANGELOG.rst").read_text(encoding="utf-8")
    assert {
        MANIFEST.findtext("version"),
        re.search(r'version="([\d.]+)"', setup)[1],  # type: ignore[index]
        re.search(r"^(\d+\.\d+\.\d+) \(", changes, re.MULTILINE)[1],  # type: ignore[index]
    } == {proto_mtl_ros.__version__}


def test_colcon_takes_it_for_a_ros_package() -> None:
    # colcon treats a package as plain Python when its manifest is not valid, an e-mail suffices.
    assert MANIFEST.get("format") == "3"
    assert MANIFEST.findtext("export/build_type") == "ament_python"
    maintainer = MANIFEST.find("maintainer")
    assert maintainer is not None
    assert re.fullmatch(r"[\w.%+-]+@[\w-]+(\.[\w-]+)*\.[A-Za-z]{2,}", maintainer.get("email", ""))
    assert (REPOSITORY / "resource" / MANIFEST.findtext("name", "")).is_file()


def test_manifest_names_every_ros_package_that_is_imported() -> None:
    imported = set()
    for path in [*(REPOSITORY / "proto_mtl_ros").rglob("*.py"), *REPOSITORY.glob("launch/*.py")]:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                imported |= {alias.name.partition(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
                imported.add(node.module.partition(".")[0])
    ros = {
        n for n in imported if n in ROS_PACKAGES or n.endswith(("_msgs", "_srvs", "_interfaces"))
    }
    assert "rclpy" in ros
    assert ros <= {element.text for element in MANIFEST.findall("exec_depend")}


def test_every_file_names_its_licence() -> None:
    missing = [
        str(path.relative_to(REPOSITORY))
        for path in sources()
        if "SPDX-License-Identifier: Apache-2.0"
        not in "".join(path.read_text(encoding="utf-8").splitlines(True)[:3])
    ]
    assert missing == []


def test_the_tests_that_hold_a_promise_are_there() -> None:
    text = (REPOSITORY / "docs" / "security.md").read_text(encoding="utf-8")
    named = set(re.findall(r"`(test/[\w/.]+)`", text))
    assert len(named) > 12 and all((REPOSITORY / path).is_file() for path in named)


def test_importing_the_package_is_light() -> None:
    program = "import sys, proto_mtl_ros; print({'torch', 'rclpy', 'cv2'} & set(sys.modules))"
    assert run(sys.executable, "-c", program).stdout.strip() == "set()"


def test_the_node_brings_neither_torch_nor_training() -> None:
    pytest.importorskip("rclpy", reason="ROS 2 is not installed")
    program = (
        "import sys, proto_mtl_ros.ros.node; "
        "print({'torch', 'lightning', 'rosbags', 'onnx'} & set(sys.modules))"
    )
    result = run(sys.executable, "-c", program)
    assert result.stdout.strip() == "set()", result.stderr


@pytest.fixture(scope="module")
def source_copy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The repository without what builds left behind; building writes beside the sources."""
    copy = tmp_path_factory.mktemp("source") / "proto_mtl_ros"
    ignored = shutil.ignore_patterns(".git", ".venv*", ".*_cache", "__pycache__", "*.egg-info")

    def ignore(folder: str, names: list[str]) -> set[str]:
        top = Path(folder) == REPOSITORY
        return ignored(folder, names) | (set(NOT_OURS) & set(names) if top else set())

    shutil.copytree(REPOSITORY, copy, ignore=ignore)
    return copy


def test_pip_installs_the_command_into_bin_and_the_rest_where_ros_looks(
    source_copy: Path, tmp_path: Path
) -> None:
    pip = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation"]
    result = run(*pip, "--wheel-dir", str(tmp_path), ".", cwd=source_copy)
    assert result.returncode == 0, result.stderr
    (wheel,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        modes = {info.filename: info.external_attr >> 16 for info in archive.infolist()}
        (entry_points,) = (name for name in modes if name.endswith("entry_points.txt"))
        commands = archive.read(entry_points).decode().split("[console_scripts]")[1].split("=")
    assert commands[0].strip() == "proto-mtl" and len(commands) == 2
    assert not any(".data/scripts/" in name for name in modes)  # nothing else lands in bin/
    data = {name.partition(".data/data/")[2]: mode for name, mode in modes.items()}
    assert data["lib/proto_mtl_ros/node"] & 0o111
    for file in (
        "share/ament_index/resource_index/packages/proto_mtl_ros",
        "share/proto_mtl_ros/package.xml",
        "share/proto_mtl_ros/launch/perception.launch.py",
        "share/proto_mtl_ros/config/perception.yaml",
        "share/proto_mtl_ros/config/fastdds_shm.xml",
    ):
        assert file in data
    for model in (REPOSITORY / "models").glob("*/model.json"):
        assert f"share/proto_mtl_ros/models/{model.parent.name}/model.json" in data


@pytest.mark.slow
def test_colcon_builds_it(source_copy: Path, tmp_path: Path) -> None:
    pytest.importorskip("colcon_ros", reason="colcon is not installed")
    bases = [f"--{name}-base={tmp_path / name}" for name in ("build", "install", "test-result")]
    colcon = [sys.executable, "-m", "colcon", f"--log-base={tmp_path / 'log'}", "build"]
    result = run(*colcon, f"--base-paths={source_copy}", *bases, cwd=tmp_path)
    assert result.returncode == 0, result.stdout + result.stderr
    prefix = tmp_path / "install" / "proto_mtl_ros"
    assert os.access(prefix / "lib" / "proto_mtl_ros" / "node", os.X_OK)
    assert (prefix / "share" / "ament_index/resource_index/packages/proto_mtl_ros").is_file()
    assert (prefix / "share" / "proto_mtl_ros/launch/perception.launch.py").is_file()
