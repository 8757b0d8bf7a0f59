"""Errors for users: one line that says what is wrong and what to do."""

from __future__ import annotations

import reprlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

_LINE = 200  # characters from a message of another library
_VALUE = 80
_SHOWN = 5
_ELLIPSIS = "..."


class UrdError(Exception):
    """A failure that a user can cause. The command line prints it as one line.

    `exit_code` is 1 if the work failed and 2 if the request was wrong.
    """

    exit_code = 1


def first_line(error: BaseException) -> str:
    """The message of an error in one line of at most 200 characters; its type if it has none."""
    return one_line(str(error)) or type(error).__name__


def one_line(text: str) -> str:
    """The first line of a foreign text: at most 200 characters, all of them printable."""
    lines = text.strip().splitlines()
    return _cut(_visible(lines[0][: _LINE + 1]), _LINE) if lines else ""


def quoted(value: Any) -> str:
    """A foreign value for a message: one line, at most 80 characters, all of them printable.

    Long and nested values are cut, so the call is fast for every value.
    """
    if isinstance(value, str | Path):
        return _cut(repr(_cut(str(value), _VALUE - 2)), _VALUE)
    try:
        text = _SHORT.repr(value)
    except ValueError:  # Python refuses to print very long integers
        text = "a very long number"
    return _cut(_visible(" ".join(text.split())), _VALUE)


def some(things: Sequence[object]) -> str:
    """The first five items of a list, and the number of the others, as text."""
    more = f" and {len(things) - _SHOWN} more" if len(things) > _SHOWN else ""
    return ", ".join(map(str, things[:_SHOWN])) + more


def _short() -> reprlib.Repr:
    short = reprlib.Repr()
    short.maxlevel, short.maxlist, short.maxtuple, short.maxdict = 2, 4, 4, 4
    short.maxstring = short.maxlong = short.maxother = _VALUE
    return short


_SHORT = _short()


def _visible(text: str) -> str:
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)


def _cut(text: str, most: int) -> str:
    return text if len(text) <= most else text[: most - len(_ELLIPSIS)] + _ELLIPSIS


class NotJudged(UrdError):
    """An image gets no verdict: it cannot be read, or its score is not finite.

    `path` is the image; `reason` says why.
    """

    def __init__(self, path: Path, reason: str) -> None:
        super().__init__(f"{path}: {reason}")
        self.path = path
        self.reason = reason


class NotWritten(UrdError):
    """A file or folder cannot be written: full disk, no permission, or another urd writes there."""


class UsageError(UrdError, ValueError):
    """A request is wrong: for example an unknown option, name or folder."""

    exit_code = 2
