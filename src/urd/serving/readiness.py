"""When a file that appears in a watched folder is complete."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from urd.errors import UsageError, quoted

MARKER = ".done"
_MOST_MS = 3_600_000
_DEFAULT_MS = 500


@dataclass(frozen=True)
class Ready:
    """The rule of `--ready`.

    Attributes:
        rule: `rest`: a file has not changed for some time; `done`: NAME.png.done lies beside
            NAME.png; `rename`: a name of an image is given only to complete files.
        seconds: of rest, by our own clock.
    """

    rule: Literal["rest", "done", "rename"] = "rest"
    seconds: float = _DEFAULT_MS / 1000

    @classmethod
    def parse(cls, text: str) -> Ready:
        """From rest, rest:MS, done or rename.

        Raises:
            UsageError: it is none of these.
        """
        name, _, number = text.partition(":")
        if text == "done":
            return cls("done", 0.0)
        if text == "rename":
            return cls("rename", 0.0)
        if text == "rest":
            return cls()
        digits = number.isascii() and number.isdigit() and len(number) < 10
        if name == "rest" and digits and 1 <= int(number) <= _MOST_MS:
            return cls("rest", int(number) / 1000)
        raise UsageError(
            f"--ready is {quoted(text)}; give rest:MS with 1 to {_MOST_MS} ms, done or rename"
        )
