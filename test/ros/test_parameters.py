# SPDX-License-Identifier: Apache-2.0
"""The parameter table: checks, and the files that are made from it and its like."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

from proto_mtl_ros.errors import ConfigError
from proto_mtl_ros.ros.parameters import (
    BY_NAME,
    READ_ONLY,
    REMOVED,
    TABLE,
    Parameters,
    checked_at_start,
    descriptor,
    updated,
)
from tools.interface_pages import PAGES, TABLES

REPOSITORY = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize("name", PAGES)
def test_a_file_is_made_from_the_tables(name: str) -> None:
    assert (REPOSITORY / name).read_text() == PAGES[name](), "run: python -m tools.interface_pages"


def test_every_table_is_in_a_page() -> None:
    text = "".join((REPOSITORY / name).read_text() for name in PAGES)
    assert re.findall("<!-- table: (.+) -->", text) == list(TABLES)


def test_the_yaml_file_is_every_default_and_can_be_given_at_start() -> None:
    text = (REPOSITORY / "config/perception.yaml").read_text()
    values = yaml.safe_load(text)["/**"]["ros__parameters"]
    assert values == {row.name: row.default for row in TABLE if row.change != READ_ONLY}
    assert checked_at_start(values) == Parameters()


@pytest.mark.parametrize(
    ("name", "value", "reason"),
    [
        ("image_transport", "theora", "raw, compressed"),
        ("confidence_threshold", 256, "0..255"),
        ("confidence_threshold", "high", "int"),
        ("confidence_threshold", True, "int"),
        ("max_depth", -1.5, "0..1000"),
        ("max_depth", float("nan"), "finite"),
        ("input_size", [288], "height, width"),
        ("input_size", [288, 380], "multiples of 32"),
        ("input_size", [288, 0], "height, width"),
        ("cameras", [], "at least one value"),
        ("cameras", ["front", "front"], "twice"),
        ("cameras", ["front camera"], "namespace"),
        ("cameras", ["front/"], "namespace"),
        ("cameras", "front", "string[]"),
        ("cameras", None, "string[]"),
        ("max_rate", [], "at least one value"),
        ("max_rate", [-1.0], "0..1000, not -1"),
        ("threads", -1, "0..256"),
        ("model", " ", "empty"),
        ("enabled", 1, "bool"),
        ("min_depth", 5.0, "must be less than max_depth (2 m)"),
    ],
)
def test_bad_values_are_refused_with_a_reason(name: str, value: object, reason: str) -> None:
    with pytest.raises(ConfigError, match=name) as refused:
        updated(Parameters(max_depth=2.0), {name: value})
    assert reason in str(refused.value)
    with pytest.raises(ConfigError, match=f"parameter {name}"):
        checked_at_start({"max_depth": 2.0, name: value})


def test_names_at_start() -> None:
    with pytest.raises(ConfigError, match="unknown parameter modle; did you mean model"):
        checked_at_start({"modle": "x"})
    with pytest.raises(ConfigError, match="unknown parameter zzz; there are: cameras"):
        checked_at_start({"zzz": 1})
    with pytest.raises(ConfigError, match="class_names is set by the node"):
        checked_at_start({"class_names": ["cat"]})
    passes = {"use_sim_time": True, "qos_overrides./camera/image.subscription.depth": 2}
    assert checked_at_start(passes | dict.fromkeys(REMOVED, 1)) == Parameters()
    assert not REMOVED.keys() & BY_NAME.keys()


def test_rates_of_cameras() -> None:
    for rates, expected in (([10], (10, 10)), ([0.0, 2.5], (0, 2.5)), ([1.0, 2.0, 3.0], (1, 2))):
        good = updated(Parameters(), {"cameras": ["front", "rear"], "max_rate": rates})
        assert (good.max_rate_of("front"), good.max_rate_of("rear")) == expected
        assert type(good.max_rate[0]) is float  # an integer is taken for a double


def test_descriptors_carry_text_and_range() -> None:
    pytest.importorskip("rcl_interfaces", reason="ROS 2 is not installed")
    for row in TABLE:
        made = descriptor(row)
        assert made.description == row.text
        assert row.change in made.additional_constraints
        assert row.range_text in made.additional_constraints
        if row.within and row.kind == "int":
            assert made.integer_range[0].to_value == row.within[1]
        if row.within and row.kind == "double":
            assert made.floating_point_range[0].from_value == row.within[0]
