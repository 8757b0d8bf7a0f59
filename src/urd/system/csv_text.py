"""CSV that is safe to open in a spreadsheet: no cell is a formula."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

_PATH = "path"
# A spreadsheet treats a cell as a formula if it begins with one of these, even after spaces.
# The last four are the full-width forms of = + - @.
_OF_FORMULAS = ("=", "+", "-", "@", "\t", "\r", "\n", "\uff1d", "\uff0b", "\uff0d", "\uff20")


def csv_text(columns: Sequence[str], rows: Iterable[Mapping[str, Any]]) -> str:
    """Write a table with a heading line; leave out keys of the rows that are not columns.

    A text that looks like a formula gets a prefix: `./` in the column `path`, so that it is still a
    valid path; elsewhere an apostrophe, which spreadsheets use to mark text.
    """
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, extrasaction="ignore")
    writer.writeheader()
    for row in rows:
        writer.writerow({column: _cell(column, row.get(column)) for column in columns})
    return text.getvalue()


def _cell(column: str, value: Any) -> Any:
    if not isinstance(value, str) or not value.lstrip(" ").startswith(_OF_FORMULAS):
        return value
    return f"./{value}" if column == _PATH else f"'{value}"
