# SPDX-License-Identifier: Apache-2.0
"""Options with commas: what is no value is refused, and the option is named."""

from __future__ import annotations

import pytest

from proto_mtl_ros.cli import comma_list
from proto_mtl_ros.errors import ConfigError


def test_blanks_and_empty_parts_say_nothing() -> None:
    assert comma_list.parts(" depth, normals,") == ["depth", "normals"]
    assert comma_list.numbers("1, 4", "--batches") == [1, 4]


@pytest.mark.parametrize("text", ["", ",", "0,one", "1.5", "-1", "1;2", "²"])
def test_what_is_no_number_is_refused_and_not_left_out(text: str) -> None:
    with pytest.raises(ConfigError, match="--seeds.*give whole numbers"):
        comma_list.numbers(text, "--seeds")
