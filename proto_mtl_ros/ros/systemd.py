# SPDX-License-Identifier: Apache-2.0
"""Signs of life for systemd (sd_notify), where it started the node with Type=notify.

A backend that keeps the interpreter's lock stops every thread of the process; only somebody outside
can see that and start it anew.
"""

from __future__ import annotations

import os
import socket


def notify(state: str) -> None:
    """Send "READY=1", "WATCHDOG=1" or "STOPPING=1"; does nothing without systemd."""
    address = os.environ.get("NOTIFY_SOCKET")
    if not address:
        return
    if address.startswith("@"):  # of the abstract namespace
        address = "\0" + address[1:]
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK) as sender:
            sender.sendto(state.encode(), address)
    except OSError:
        pass  # the sign is late, and systemd decides
