# SPDX-License-Identifier: Apache-2.0
"""The node's real process on a stand-in for a GPU."""

from __future__ import annotations

import tensorrt

from proto_mtl_ros.cli.main import main
from proto_mtl_ros.runtime import cuda

cuda._load_library = lambda: tensorrt.cuda
main("node")
