"""The identity of a part, from the name of its image file."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from urd.data import name_of
from urd.errors import UsageError, first_line, quoted
from urd.system.files import printable


@dataclass(frozen=True)
class Part:
    """The rule of `--part`: stem, none, or a regular expression with one group.

    Raises:
        UsageError: it is no such expression.
    """

    rule: str = "stem"

    def __post_init__(self) -> None:
        if not self.is_pattern:
            return
        try:
            groups = re.compile(self.rule).groups
        except (re.error, OverflowError, RecursionError) as error:
            raise UsageError(f"--part {quoted(self.rule)}: {first_line(error)}") from error
        if groups != 1:
            raise UsageError(
                f"--part {quoted(self.rule)} needs one group, as in 'SN([0-9]+)'; or give stem or "
                "none"
            )

    @property
    def is_pattern(self) -> bool:
        return self.rule not in ("stem", "none")

    def of(self, path: Path) -> str | None:
        """The part of a file; `None`: its name does not say it."""
        if self.rule == "none":
            return None
        if self.rule == "stem":
            return printable(Path(name_of(path)))
        found = re.search(self.rule, printable(Path(path.name)))
        return found.group(1) if found else None
