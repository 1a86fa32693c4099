# SPDX-License-Identifier: Apache-2.0
"""The profile of a training step."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest
from nyuv2_pack import write_pack

pytest.importorskip("lightning", reason="training needs lightning")

from small_training import config_file


def test_profile_says_where_the_time_of_a_step_goes(tmp_path):
    config = config_file(tmp_path, tasks=["segmentation", "depth"])
    arguments = ["--config", config, "--data", write_pack(tmp_path / "pack"), "--steps", 2]
    command = [sys.executable, "-m", "tools.training_profile", *map(str, arguments)]
    done = subprocess.run([*command, "--out", tmp_path], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    found = json.loads((tmp_path / "profile.json").read_text())
    assert (found["steps"], found["batch"], found["threads"]) == (2, 4, 1)
    whole = found["ms_per_step"]
    assert found["frames_per_second"] == pytest.approx(1000 * found["batch"] / whole)
    parts = found["parts"]
    # the parts of a step are nearly all of it, and those inside of one are no more than it
    outer = [value for name, value in parts.items() if ": " not in name]
    assert 0.5 * whole < sum(outer) <= whole
    for name in ("forward", "losses"):
        inside = [value for part, value in parts.items() if part.startswith(f"{name}: ")]
        assert inside and sum(inside) <= parts[name]
    assert {"losses: answers", "forward: decoders"} <= set(parts)
    assert f"{whole:9.1f} ms" in done.stdout
    assert not (tmp_path / "last.ckpt").exists()  # nothing was trained
