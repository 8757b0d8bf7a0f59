"""The one exception that users meet: a line that says what is wrong and what to do."""

from __future__ import annotations

from pathlib import Path


class UrdError(Exception):
    """A failure that a user can cause. The command line prints it as one line.

    `exit_code` is 1 for work that failed and 2 for a wrong request.
    """

    exit_code = 1


def first_line(error: BaseException) -> str:
    """What an error says, as one line; its type where it says nothing."""
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__


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
