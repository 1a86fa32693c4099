# SPDX-License-Identifier: Apache-2.0
"""``python -m proto_mtl_ros.ros.replay.rosbag2_play ros2 bag play ...``: Ctrl-C is no error.

The player of rosbag2 ends with a status that `ros2 launch` takes for a crash.
"""

from __future__ import annotations

import signal
import subprocess
import sys

from proto_mtl_ros.runtime.orphans import end_with_parent


def main(command: list[str]) -> int:
    """Run a command in a session of its own, pass SIGINT and SIGTERM on, and return its status."""
    process = subprocess.Popen(command, start_new_session=True, preexec_fn=end_with_parent)
    asked: list[int] = []

    def pass_on(number: int, frame: object) -> None:
        asked.append(number)
        process.send_signal(signal.SIGINT if len(asked) == 1 else number)

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, pass_on)
    status = process.wait()
    return 0 if asked else abs(status)


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
