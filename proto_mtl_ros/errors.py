# SPDX-License-Identifier: Apache-2.0
"""Errors that a user can act on: one line each, and the line says what to do."""

import errno
import re


def printable(text: str, kept: str = "") -> str:
    """Return ``text`` with everything escaped that is not printable, but for characters ``kept``.

    A name in a stranger's file may move the cursor, set the window's title, or turn text around.
    """
    return "".join(
        c if c.isprintable() or c in kept else c.encode("unicode_escape").decode() for c in text
    )


def one_line(value: object, limit: int = 200) -> str:
    """Return ``value`` as printable text without line breaks, at most ``limit`` characters.

    Of an exception without a text it is the name of its class.
    """
    # cut before anything runs over all of it: a name may have 20 MB
    text = printable(re.sub(r"\s+", " ", str(value)[: 4 * limit]).strip())
    if not text and isinstance(value, BaseException):
        text = type(value).__name__
    return text if len(text) <= limit else text[: limit - 3] + "..."


EXIT_STATUSES = {
    0: "done",
    1: "a check found a difference, or a fault of this program (then with a traceback)",
    2: "a command, option, parameter or configuration that cannot be used",
    3: "a file, model, recording or data set that is missing, damaged or not usable",
    4: "a Python package or ROS is not installed, or too old",
    5: "the inference engine cannot be created, or has failed for good",
    6: "a training cannot go on",
    7: "a process that the command started, or ROS between them, did not do its part",
    130: "stopped by Ctrl-C (SIGINT)",
    143: "stopped by SIGTERM",
}
"""What every command's exit status means; the node ends with 0 after SIGINT and SIGTERM, too."""

USAGE, INPUT, MISSING, ENGINE, TRAINING, PROCESS, INTERRUPTED = 2, 3, 4, 5, 6, 7, 130

NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
"""Of an OSError: the disk, the quota or the largest size of a file is used up."""

_REMEDIES = {
    **dict.fromkeys(NO_ROOM, "make room there and run the same command again"),
    errno.EFBIG: "raise the limit (ulimit -f) and run the same command again",
    errno.EROFS: "make it writable, or give another folder",
    errno.EACCES: "check its permissions, or give another place",
    errno.EPERM: "check its permissions, or give another place",
    errno.EBUSY: "wait until that has ended, or give another place",
    errno.EIO: "check the disk",
}


def file_trouble(error: OSError, path: object = None, remedy: str = "") -> str:
    """Return "path: what is wrong: what to do" for a file that cannot be read or written.

    Args:
        path: that the user knows, where it is not the one of ``error``.
        remedy: what to do where the kind of trouble says nothing better.
    """
    where = path or error.filename or "a file"
    remedy = _REMEDIES.get(error.errno or 0, remedy)
    return ": ".join(filter(None, [str(where), error.strerror or one_line(error), remedy]))


class ProtoMtlError(Exception):
    """Base of all errors meant for the user; commands print it without a traceback.

    Attributes:
        exit_status: that a command ends with, one of ``EXIT_STATUSES``.
    """

    exit_status = PROCESS


class ConfigError(ProtoMtlError):
    """A configuration file or an option has a value that cannot be used."""

    exit_status = USAGE


class BundleError(ProtoMtlError):
    """A model bundle is missing, damaged, or of an unknown kind."""

    exit_status = INPUT


class EngineError(ProtoMtlError):
    """An inference engine cannot be created or was given input it cannot take."""

    exit_status = ENGINE


class BagError(ProtoMtlError):
    """A recording cannot be read or has nothing usable in it."""

    exit_status = INPUT


class DataError(ProtoMtlError):
    """A data set is missing, incomplete, or inconsistent."""

    exit_status = INPUT


class TrainingError(ProtoMtlError):
    """A training cannot go on."""

    exit_status = TRAINING
