# SPDX-License-Identifier: Apache-2.0
"""What lies in the current folder decides nothing: it may be a recording from a stranger."""

import os
import sys

_RUN = (  # what -P does from Python 3.11 on
    "import sys; del sys.path[0]; sys.argv = sys.argv[1:]; import runpy;"
    " runpy.run_module(sys.argv[0], run_name='__main__', alter_sys=True)"
)
_OURS = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))


def leave_current_folder() -> None:
    """Import nothing from there and take no DDS profile, nor do the processes that are started.

    A folder that PYTHONPATH names stays, and the one that this package itself comes from.
    """
    os.environ["PYTHONSAFEPATH"] = "1"
    os.environ.setdefault("SKIP_DEFAULT_XML_FILE", "1")
    # an empty part, as `PYTHONPATH=$PYTHONPATH:/more` leaves it, means the current folder
    named = [part for part in os.environ.get("PYTHONPATH", "").split(os.pathsep) if part]
    if "PYTHONPATH" in os.environ:
        os.environ["PYTHONPATH"] = os.pathsep.join(named)
    kept = {_OURS, *map(os.path.abspath, named)}
    current = os.path.abspath(os.curdir)
    sys.path[:] = [path for path in sys.path if os.path.abspath(path) != current or current in kept]


def module_command(module: str, *arguments: str) -> list[str]:
    """Return the command of a Python process that imports nothing from the current folder."""
    safe = sys.version_info >= (3, 11)
    return [sys.executable, *(("-P", "-m") if safe else ("-c", _RUN)), module, *arguments]
