"""Convert the value of an option from YAML, the command line or Python to its type."""

from __future__ import annotations

import math
import typing
from pathlib import Path
from typing import Any, Literal

from urd.errors import UsageError, first_line, quoted

_WORDS = {"iterations": "auto"}  # what `FitConfig.from_mapping` takes instead of a number
_LONGEST = 4096  # characters of a text; also the longest file path on Linux


def convert(name: str, kind: Any, value: Any) -> Any:
    """The value as the type `kind` of the option `name`.

    Raises:
        UsageError: it cannot be one.
    """
    try:
        if typing.get_origin(kind) is Literal:
            if value not in typing.get_args(kind):
                raise ValueError(f"choose from {', '.join(typing.get_args(kind))}")
            return value
        if kind == tuple[str, ...]:
            return _names(value)
        if typing.get_origin(kind) is tuple:
            return _image_size(value)
        if kind is str:
            return _text(value)
        if isinstance(value, bool):
            raise ValueError("give a number")
        needed = "give a whole number" if kind is int else "give a number"
        needed += f", or {_WORDS[name]}" if name in _WORDS else ""
        try:
            number = kind(value)
        except (TypeError, ValueError) as error:  # Python's message is not for users
            raise ValueError(needed) from error
        if not math.isfinite(number):
            raise ValueError("give a finite number")
        if not isinstance(value, str) and number != value:
            raise ValueError(needed)
        return number
    except (TypeError, ValueError, OverflowError) as error:
        raise UsageError(f"{name} cannot be {quoted(value)}: {first_line(error)}") from error


def _text(value: Any) -> str:
    """A text or path. Lone surrogates are allowed only for file-name bytes that are not UTF-8."""
    if not isinstance(value, str | Path):
        raise ValueError("give a text")
    text = str(value)
    if len(text) > _LONGEST or "\0" in text:
        raise ValueError(f"give a text of at most {_LONGEST} characters without NUL")
    text.encode("utf-8", "surrogateescape")
    return text


def _names(value: Any) -> tuple[str, ...]:
    """One name or more, as a text with commas or as a list."""
    parts = value.split(",") if isinstance(value, str) else value
    if not isinstance(parts, list | tuple):
        raise ValueError("give names")
    names = tuple(_text(part).strip() for part in parts)
    names = tuple(name for name in names if name)
    if not names:
        raise ValueError("give at least one name")
    return names


def _image_size(value: Any) -> tuple[int, int]:
    """256, "256", "256x512" or [256, 512] as (height, width)."""
    parts = value.lower().split("x") if isinstance(value, str) else value
    parts = [parts] if isinstance(parts, int) else list(parts)
    try:
        sides = [int(part) for part in parts]
    except (TypeError, ValueError) as error:  # Python's message is not for users
        raise ValueError("give N or HEIGHTxWIDTH") from error
    if any(isinstance(part, float) and not part.is_integer() for part in parts):
        raise ValueError("give whole numbers")
    if len(sides) not in (1, 2):
        raise ValueError("give N or HEIGHTxWIDTH")
    return sides[0], sides[-1]
