"""The one exception that users meet: a line that says what is wrong and what to do."""

from __future__ import annotations


class UrdError(Exception):
    """A failure that a user can cause. The command line prints it as one line.

    `exit_code` is 1 for work that failed and 2 for a wrong request.
    """

    exit_code = 1


class UsageError(UrdError, ValueError):
    """A request that can not be carried out as given: an unknown option, name or folder."""

    exit_code = 2
