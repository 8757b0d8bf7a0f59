"""Paths that a user writes on the command line or gives on standard input."""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Sequence


def with_listed(names: Sequence[str]) -> list[str]:
    """The names without `-`, followed by those on standard input if `-` is among them.

    Raises:
        UsageError: there are none, or nothing is where any of them points. If only some are
            missing, they stay: each gets its row with ERROR.
    """
    found = _given_or_listed(names)
    _refuse_if_all_are_missing(found)
    return found


def _given_or_listed(names: Sequence[str]) -> list[str]:
    from urd.errors import UsageError

    if "-" not in names:
        return list(names)
    if isinstance(sys.stdin, io.TextIOWrapper):  # file names may not be UTF-8
        sys.stdin.reconfigure(errors="surrogateescape")
    listed = [line.rstrip("\r\n") for line in sys.stdin]
    wanted = [*(name for name in names if name != "-"), *filter(None, listed)]
    if not wanted:
        raise UsageError("there are no paths on standard input")
    return wanted


def _refuse_if_all_are_missing(names: Sequence[str]) -> None:
    """A broken link is there; a glob and a URI say themselves that they match nothing."""
    from urd.bulk.file_systems import is_uri
    from urd.data.globs import is_glob
    from urd.errors import UsageError, some

    if any(os.path.lexists(name) or is_uri(name) or is_glob(name) for name in names):
        return
    if len(names) == 1:
        raise UsageError(f"there is no file or folder {names[0]!r}")
    raise UsageError(
        f"none of these files and folders exists: {some([repr(name) for name in names])}"
    )
