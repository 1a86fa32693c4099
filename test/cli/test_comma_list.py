# SPDX-License-Identifier: Apache-2.0
"""Options with commas: what is no value is refused, and the option is named."""

from __future__ import annotations

import pytest

from proto_mtl_ros.cli import comma_list
from proto_mtl_ros.errors import ConfigError


def test_blanks_and_empty_parts_say_nothing() -> None:
    assert comma_list.parts(" depth, normals,") == ["depth", "normals"]
    assert comma_list.numbers("1, 4", "--batches") == [1, 4]
    assert comma_list.sizes("192x256,96x128", "--sizes") == [(192, 256), (96, 128)]
    assert comma_list.sizes("", "--sizes") == []


@pytest.mark.parametrize("text", ["", ",", "0,one", "1.5", "-1", "1;2", "²"])
def test_what_is_no_number_is_refused_and_not_left_out(text: str) -> None:
    with pytest.raises(ConfigError, match="--seeds.*give whole numbers"):
        comma_list.numbers(text, "--seeds")


@pytest.mark.parametrize("text", ["192", "x256", "192x256,all", "192x256x3", "-1x4"])
def test_what_is_no_size_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="--sizes.*is not a size"):
        comma_list.sizes(text, "--sizes")
