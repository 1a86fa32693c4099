# SPDX-License-Identifier: Apache-2.0
"""What is installed: pinned, hashed, and under licences that are known."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("packaging", reason="packaging is not installed (it comes with pytest)")

from packaging.requirements import Requirement

from proto_mtl_ros.cli.main import run_tool
from proto_mtl_ros.errors import USAGE
from tools import licences
from tools.licences import normalised

REPOSITORY = Path(__file__).resolve().parents[2]
PIN = re.compile(
    r"^(?P<name>[\w.-]+)==(?P<version>\S+) \\(?P<hashes>(?:\n    --hash=\S+(?: \\)?)+)$", re.M
)
# Its files differ from index to index; see the Makefile.
NOT_PINNED = {"torch"}
UNDER_PYTHON = {
    "python_version": "3.11",
    "python_full_version": "3.11.0",
    "platform_machine": "x86_64",
    "sys_platform": "linux",
}


def pins(name: str) -> dict[str, str]:
    """Versions by name in a file of requirements/, every one of them with hashes."""
    text = (REPOSITORY / "requirements" / f"{name}.txt").read_text(encoding="utf-8")
    found = {}
    for match in PIN.finditer(text):
        for line in match["hashes"].split("\n")[1:]:
            assert re.fullmatch(r"    --hash=sha256:[0-9a-f]{64}( \\)?", line), line
        found[normalised(match["name"])] = match["version"]
    rest = PIN.sub("", text)
    assert all(line.startswith("#") or not line for line in rest.splitlines()), (
        "nothing else stands there: no option, no index, no requirement without a hash"
    )
    return found


@pytest.fixture(scope="module")
def extras(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[str]]:
    """Requirements by extra as setup.py has them now, not as they were when it was installed."""
    copy = tmp_path_factory.mktemp("setup")
    for name in ("setup.py", "setup.cfg", "README.md"):
        shutil.copy(REPOSITORY / name, copy)
    for name in ("scripts", "launch", "config"):
        (copy / name).mkdir()
    program = (
        "import json, setuptools; setuptools.setup = lambda **s: print(json.dumps("
        "{'': s['install_requires'], **s['extras_require']})); exec(open('setup.py').read())"
    )
    result = subprocess.run(
        [sys.executable, "-c", program], cwd=copy, capture_output=True, text=True, check=True
    )
    return dict(json.loads(result.stdout))


@pytest.mark.parametrize(("file", "names"), [("demo", ["demo"]), ("test", ["demo", "test"])])
def test_pins_are_within_the_ranges_of_setup_py(
    file: str, names: list[str], extras: dict[str, list[str]]
) -> None:
    pinned = pins(file)
    for text in [line for name in ["", "ros-wheels", *names] for line in extras[name]]:
        requirement = Requirement(text)
        if requirement.marker and not requirement.marker.evaluate(UNDER_PYTHON):
            continue
        name = normalised(requirement.name)
        if name in NOT_PINNED:
            assert name not in pinned
            continue
        assert name in pinned and requirement.specifier.contains(pinned[name]), (
            f"{text} is not what requirements/{file}.txt has: run make lock"
        )


def test_demo_and_tests_share_their_pins() -> None:
    tests = pins("test")
    assert pins("demo").items() <= tests.items()
    assert pins("build").items() <= tests.items()
    brought_by_torch = [name for name in tests if name.startswith(("nvidia-", "triton", "cuda-"))]
    assert not brought_by_torch


def test_every_pinned_package_stands_in_the_list_of_licences() -> None:
    text = (REPOSITORY / "tools" / "licences.md").read_text(encoding="utf-8")
    rows = [line.strip("| ").split(" | ") for line in text.splitlines() if line.startswith("| ")]
    listed = {row[0]: row[1] for row in rows if len(row) == 4}
    pinned = pins("test")
    assert {name: listed.get(name) for name in pinned} == pinned, "run: make licences"
    for folder in ("models/nyu13-lite0", "models/nyu13-lite0-onelabel", "recordings/room"):
        assert any(row[0] == Path(folder).name for row in rows)
    assert "no explicit licence" in text and "CC BY 3.0" in text


def test_what_a_robot_installs_is_free_of_copyleft() -> None:
    text = (REPOSITORY / "tools" / "licences.md").read_text(encoding="utf-8")
    used = {"demo", "ros-wheels", "robot"}
    for line in text.splitlines():
        row = line.strip("| ").split(" | ")
        if line.startswith("| ") and len(row) == 4 and used & set(row[3].split(", ")):
            assert licences.flag(row[2]) == "", line


@pytest.mark.parametrize(
    ("text", "flag"),
    [
        ("MIT", ""),
        ("Apache-2.0 WITH LLVM-exception", ""),
        ("GPL-3.0-or-later", "copyleft"),
        ("GNU Affero General Public License v3", "copyleft"),
        ("GNU General Public License v2 or later (GPLv2+)", "copyleft"),
        ("GNU Lesser General Public License v3 (LGPLv3)", "weak copyleft"),
        ("LGPL-2.1-only", "weak copyleft"),
        ("MPL-2.0 AND MIT", "weak copyleft"),
        ("Other/Proprietary License", "proprietary"),
        ("unknown", "unknown"),
    ],
)
def test_what_is_flagged(text: str, flag: str) -> None:
    assert licences.flag(text) == flag


def installed_package(root: Path, name: str, metadata: str, **files: str) -> None:
    """Lay a package down as pip leaves it."""
    folder = root / f"{name.replace('-', '_')}-1.2.dist-info"
    folder.mkdir(parents=True)
    (folder / "METADATA").write_text(
        f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.2\n{metadata}"
    )
    for file, content in files.items():
        (folder / file).write_text(content)
    (folder / "RECORD").write_text("".join(f"{folder.name}/{file},,\n" for file in files))


@pytest.fixture
def packages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Packages that state their licence in every way there is, on the path of imports."""
    root = tmp_path / "site"
    classifier = "Classifier: License :: OSI Approved :: MIT License\n"
    needs = "Requires-Dist: by-classifier\nRequires-Dist: by-field; python_version < '3'\n"
    installed_package(root, "by_expression", f"License-Expression: GPL-3.0-only\n{needs}")
    installed_package(root, "by_classifier", f"Classifier: Topic :: x\n{classifier}")
    installed_package(root, "by_field", "License: BSD\n  and a long text\n")
    text = "\nThe Unlicense\n\nfor everybody\nwithout more\n"
    installed_package(root, "by_file", "License: UNKNOWN\n", AUTHORS="us", LICENSE=text)
    installed_package(root, "by_nothing", "")
    installed_package(root, "ros-jazzy-by-xml", "")
    share = tmp_path / "share" / "by_xml"
    share.mkdir(parents=True)
    (share / "package.xml").write_text(
        "<package><license>BSD-3-Clause</license><license>MIT</license></package>"
    )
    monkeypatch.syspath_prepend(root)
    monkeypatch.setattr(sys, "prefix", str(tmp_path))
    return tmp_path


def test_a_licence_is_found_wherever_a_package_states_it(packages: Path) -> None:
    sets = {
        "one": ["by-expression>=1", "by_file[more]", "by-nothing", "not-there[extra]"],
        "two": ["By.Classifier", "by-field", "ros-jazzy-by-xml"],
    }
    found, missing = licences.installed(sets)
    assert {entry.name: (entry.text, entry.flag, entry.used_for) for entry in found} == {
        "by-expression": ("GPL-3.0-only", "copyleft", ["one"]),
        "by-classifier": ("MIT License", "", ["one", "two"]),  # what is needed in turn, too
        "by-field": ("BSD", "", ["two"]),
        "by-file": ("The Unlicense, for everybody", "", ["one"]),
        "by-nothing": ("unknown", "unknown", ["one"]),
        "ros-jazzy-by-xml": ("BSD-3-Clause; MIT", "", ["two"]),
    }
    assert missing == ["not-there"] and {entry.version for entry in found} == {"1.2"}


def tool(*arguments: str) -> None:
    sys.argv = ["licences", *arguments]
    run_tool("tools.licences", licences.command)


def test_the_list_of_licences_as_a_page(
    packages: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    file = tmp_path / "requirements.txt"
    file.write_text("# of a robot\nby-expression  # says why\n\nnot-there>=2\n")
    with pytest.raises(SystemExit) as end:
        tool("--requirements", str(file), "--extra", "demo", "--markdown")
    assert end.value.code == 0
    page, said = capsys.readouterr()
    assert "not-there" in said and said.startswith("not installed here: ")
    to_look_at, all_of_them = page.split("## Packages to look at")[1].split("## All packages")
    assert "| by-expression | copyleft | GPL-3.0-only | robot |" in to_look_at
    assert "by-classifier" not in to_look_at
    assert "| by-classifier | 1.2 | MIT License | robot |" in all_of_them
    assert "| nyu13-lite0 | NYU Depth v2" in page.split("## Models that ship")[1]
    assert "| room | Apache-2.0; shows models under CC" in page.split("## Recordings that ship")[1]


def test_an_extra_that_there_is_not(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for package, said in (("pytest", "there is no extra demos"), ("not-there", "pip install -e")):
        monkeypatch.setattr(licences, "PACKAGE", package)
        with pytest.raises(SystemExit) as end:
            tool("--extra", "demos")
        (line,) = capsys.readouterr().err.splitlines()
        assert end.value.code == USAGE and said in line
