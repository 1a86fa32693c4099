# SPDX-License-Identifier: Apache-2.0
"""The parameter table: checks, and the documents that are made from it."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from proto_mtl_ros.errors import ConfigError
from proto_mtl_ros.ros import (
    parameters,
    topics,
    troubles,
)
from proto_mtl_ros.ros.parameter_table import (
    BY_NAME,
    CONFIGURE,
    DYNAMIC,
    READ_ONLY,
    START,
    TABLE,
)

REPOSITORY = Path(__file__).resolve().parents[2]


def test_yaml_file_is_the_table() -> None:
    path = REPOSITORY / "config" / "perception.yaml"
    assert path.read_text() == parameters.yaml_text(), (
        "run: python -m proto_mtl_ros.ros.parameters --yaml > config/perception.yaml"
    )
    values = yaml.safe_load(path.read_text())["/**"]["ros__parameters"]
    assert values == {row.name: row.default for row in TABLE if row.change != READ_ONLY}


def test_documents_are_the_tables() -> None:
    docs = REPOSITORY / "docs"
    assert (docs / "parameters.md").read_text() == parameters.markdown_text(), (
        "run: python -m proto_mtl_ros.ros.parameters --markdown > docs/parameters.md"
    )
    assert (docs / "topics.md").read_text() == topics.markdown_text(), (
        "run: python -m proto_mtl_ros.ros.topics > docs/topics.md"
    )
    assert (docs / "diagnostics.md").read_text() == troubles.markdown_text(), (
        "run: python -m proto_mtl_ros.ros.troubles > docs/diagnostics.md"
    )
    for row in TABLE:
        assert f"| `{row.name}` | {row.kind} |" in parameters.markdown_text()
    for output in topics.OUTPUTS:
        assert f"| `{output.name}` |" in topics.markdown_text()


def test_every_default_is_good() -> None:
    for row in TABLE:
        assert parameters.problem(row.name, row.default) is None
    assert parameters.conflict({row.name: row.default for row in TABLE}) is None


def test_the_yaml_as_overrides_changes_nothing() -> None:
    values = yaml.safe_load(parameters.yaml_text())["/**"]["ros__parameters"]
    assert parameters.checked_overrides(values) == values


@pytest.mark.parametrize(
    ("name", "value", "reason"),
    [
        ("image_transport", "theora", "raw, compressed"),
        ("confidence_threshold", 256, "0..255"),
        ("confidence_threshold", "high", "int"),
        ("confidence_threshold", True, "int"),
        ("overlay_opacity", 1.5, "0..1"),
        ("overlay_opacity", float("nan"), "finite"),
        ("input_size", [288], "height, width"),
        ("input_size", [288, 380], "multiples of 32"),
        ("input_size", [288, 0], "height, width"),
        ("cameras", [], "at least one"),
        ("cameras", ["front", "front"], "twice"),
        ("cameras", ["front camera"], "namespace"),
        ("cameras", ["front/"], "namespace"),
        ("cameras", "front", "string[]"),
        ("threads", -1, "0..256"),
        ("model", " ", "empty"),
        ("enabled", 1, "bool"),
    ],
)
def test_bad_values_are_refused_with_a_reason(name: str, value: object, reason: str) -> None:
    text = parameters.problem(name, value)
    assert text is not None
    assert name in text
    assert reason in text
    with pytest.raises(ConfigError, match=name):
        parameters.checked_overrides({name: value})


def test_integer_is_taken_for_a_double() -> None:
    good = parameters.checked_overrides({"max_depth": 10})
    assert good == {"max_depth": 10.0}
    assert type(good["max_depth"]) is float


def test_unknown_override_is_refused_and_the_nearest_name_told() -> None:
    with pytest.raises(ConfigError, match="unknown parameter modle; did you mean model"):
        parameters.checked_overrides({"modle": "x"})
    with pytest.raises(ConfigError, match="unknown parameter zzz; there are: cameras"):
        parameters.checked_overrides({"zzz": 1})


def test_what_every_node_takes_passes() -> None:
    assert (
        parameters.checked_overrides(
            {"use_sim_time": True, "qos_overrides./camera/image.subscription.depth": 2}
        )
        == {}
    )


def test_limits_of_depth_must_agree() -> None:
    with pytest.raises(ConfigError, match="min_depth .* less than max_depth"):
        parameters.checked_overrides({"min_depth": 5.0, "max_depth": 2.0})


def test_when_a_change_is_taken() -> None:
    for row in TABLE:
        running = parameters.refusal(row.name, row.default, configured=True)
        idle = parameters.refusal(row.name, row.default, configured=False)
        assert (running is None) == (row.change not in (CONFIGURE, START, READ_ONLY))
        assert (idle is None) == (row.change not in (START, READ_ONLY))
    assert BY_NAME["confidence_threshold"].change == DYNAMIC


def test_descriptors_carry_text_and_range() -> None:
    pytest.importorskip("rcl_interfaces", reason="ROS 2 is not installed")
    for row in TABLE:
        descriptor = parameters.descriptor(row)
        assert descriptor.description == row.text
        assert row.range_text in descriptor.additional_constraints
        if row.kind == "int" and row.low is not None and row.high is not None:
            assert descriptor.integer_range[0].to_value == row.high
        if row.kind == "double" and row.low is not None and row.high is not None:
            assert descriptor.floating_point_range[0].from_value == row.low


def test_documents_are_printed_by_a_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert parameters.main(["--yaml"]) == 0
    assert capsys.readouterr().out == parameters.yaml_text()
    assert parameters.main(["--markdown"]) == 0
    assert capsys.readouterr().out == parameters.markdown_text()
