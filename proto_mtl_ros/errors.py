# SPDX-License-Identifier: Apache-2.0
"""Errors that a user can act on: one line each, and the line says what to do."""

import re


def one_line(value: object, limit: int = 200) -> str:
    """Return ``value`` as text without line breaks, at most ``limit`` characters.

    Of an exception without a text it is the name of its class.
    """
    text = re.sub(r"\s+", " ", str(value)).strip()
    if not text and isinstance(value, BaseException):
        text = type(value).__name__
    return text if len(text) <= limit else text[: limit - 3] + "..."


class ProtoMtlError(Exception):
    """Base of all errors meant for the user; commands print it without a traceback and exit 2."""


class ConfigError(ProtoMtlError):
    """A configuration file or an option has a value that cannot be used."""


class BundleError(ProtoMtlError):
    """A model bundle is missing, damaged, or of an unknown kind."""


class EngineError(ProtoMtlError):
    """An inference engine cannot be created or was given input it cannot take."""


class BagError(ProtoMtlError):
    """A recording cannot be read or has nothing usable in it."""


class DataError(ProtoMtlError):
    """A data set is missing, incomplete, or inconsistent."""


class TrainingError(ProtoMtlError):
    """A training cannot go on."""
