"""The one exception that users meet: a line that says what is wrong and what to do."""

from __future__ import annotations

import reprlib
from pathlib import Path
from typing import Any

_LINE = 200  # of what others say
_VALUE = 80
_ELLIPSIS = "..."


class UrdError(Exception):
    """A failure that a user can cause. The command line prints it as one line.

    `exit_code` is 1 for work that failed and 2 for a wrong request.
    """

    exit_code = 1


def first_line(error: BaseException) -> str:
    """What an error says, as one line of 200 characters at most; its type where it says nothing."""
    return one_line(str(error)) or type(error).__name__


def one_line(text: str) -> str:
    """The first line of a text by somebody else, 200 characters at most, nothing invisible."""
    lines = text.strip().splitlines()
    return _cut(_visible(lines[0][: _LINE + 1]), _LINE) if lines else ""


def quoted(value: Any) -> str:
    """A foreign value for a message: at most 80 characters, on one line, nothing invisible.

    Whatever is nested or long is shown in part, so that this takes no time for any value.
    """
    if isinstance(value, str | Path):
        return _cut(repr(_cut(str(value), _VALUE - 2)), _VALUE)
    try:
        text = _SHORT.repr(value)
    except ValueError:  # Python prints no whole number of thousands of digits
        text = "a number of very many digits"
    return _cut(_visible(" ".join(text.split())), _VALUE)


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
    """An image that gets no verdict: it cannot be read, or has no finite score.

    `path` says which one, `reason` why.
    """

    def __init__(self, path: Path, reason: str) -> None:
        super().__init__(f"{path}: {reason}")
        self.path = path
        self.reason = reason


class NotWritten(UrdError):
    """A file or folder cannot be written: a full disk, no permission, another call at work."""


class UsageError(UrdError, ValueError):
    """A request that cannot be carried out as given: an unknown option, name or folder."""

    exit_code = 2
