# SPDX-License-Identifier: Apache-2.0
"""What is wrong with a key of a configuration, in one line."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from proto_mtl_ros.errors import ConfigError, one_line

_Model = TypeVar("_Model", bound=BaseModel)


def checked(kind: type[_Model], content: Any, where: str) -> _Model:
    """Return the object; ConfigError says ``where`` and which key is wrong first."""
    try:
        return kind.model_validate(content)
    except ValidationError as error:
        raise ConfigError(f"{where}: {first_error(error, kind)}") from error


def first_error(error: ValidationError, kind: type[BaseModel], prefix: str = "") -> str:
    """Return the first thing that is wrong with a ``kind``, a misspelt key before all others, in
    one line; ``prefix`` is what its keys lie below, with a dot."""
    errors = error.errors()
    first = next((e for e in errors if e["type"] == "extra_forbidden"), errors[0])
    key = prefix + ".".join(str(part) for part in first["loc"])
    if first["type"] == "extra_forbidden":
        there = _section(kind, first["loc"][:-1]).model_fields
        return f"unknown key `{key}`{meant(str(first['loc'][-1]), there)}"
    reason = one_line(first["msg"].removeprefix("Value error, "))
    return f"{key.removesuffix('.')}: {reason}" if key else reason


def meant(name: str, there: Iterable[str]) -> str:
    """Return which of those that are there was meant, as the end of a sentence; "" for none."""
    close = get_close_matches(name, list(there), n=1)
    return f", did you mean `{close[0]}`?" if close else ""


def _section(kind: type[BaseModel], path: tuple[int | str, ...]) -> type[BaseModel]:
    for part in path:
        field = kind.model_fields.get(str(part))
        if field is not None and isinstance(field.annotation, type):
            kind = field.annotation if issubclass(field.annotation, BaseModel) else kind
    return kind
