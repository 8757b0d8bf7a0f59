"""Paths that a user writes on the command line or gives on standard input."""

from __future__ import annotations

import io
import sys
from collections.abc import Sequence


def with_listed(names: Sequence[str]) -> list[str]:
    """The names without `-`, followed by those on standard input if `-` is among them."""
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
