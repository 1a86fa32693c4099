# SPDX-License-Identifier: Apache-2.0
"""`proto-mtl node` whose /diagnostics comes five times a second and holds for 2 s, not for 5.

Tests wait for what it says, and for its end.
"""

from proto_mtl_ros.cli.main import main
from proto_mtl_ros.ros import diagnostics, node

diagnostics.HOLD = 2.0
node.DIAGNOSTICS_PERIOD = 0.2

if __name__ == "__main__":
    main("node")
