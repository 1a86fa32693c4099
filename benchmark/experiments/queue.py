# SPDX-License-Identifier: Apache-2.0
"""Run what a text file lists, one after the other; lines may be added while it runs.

    python -m benchmark.experiments.queue queue.txt

A line is a module of this package and its arguments: `teachers --seed 1`,
`run --row off0 --seed 0`. The line STOP ends the queue after what runs. What is finished costs some
seconds: every module leaves alone what it finds done.
"""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path


def main() -> None:
    """Work through the file."""
    done: set[str] = set()
    while True:
        lines = [line.strip() for line in Path(sys.argv[1]).read_text().splitlines()]
        if "STOP" in lines:
            return
        line = next((x for x in lines if x and not x.startswith("#") and x not in done), None)
        if line is None:
            time.sleep(5)
            continue
        done.add(line)
        print(time.strftime("%H:%M:%S"), "start", line, flush=True)
        module, *arguments = line.split()
        command = [sys.executable, "-W", "ignore", "-m", f"{__package__}.{module}", *arguments]
        status = subprocess.run(command, check=False).returncode
        print(time.strftime("%H:%M:%S"), "end", line, status, flush=True)


if __name__ == "__main__":
    main()
