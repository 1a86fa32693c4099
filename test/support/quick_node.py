# SPDX-License-Identifier: Apache-2.0
"""`proto-mtl node` with diagnostics that are held for 2 s, not 5: tests wait for their end."""

from proto_mtl_ros.cli.main import main
from proto_mtl_ros.ros import diagnostics

if __name__ == "__main__":
    diagnostics.HOLD = 2.0
    main("node")
