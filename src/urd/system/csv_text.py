"""CSV that a spreadsheet shows as it is: no cell is a formula."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

_PATH = "path"
# Spreadsheets calculate what begins so, also behind white space and in full width.
_OF_FORMULAS = ("=", "+", "-", "@", "\t", "\r", "\n", "\uff1d", "\uff0b", "\uff0d", "\uff20")


def csv_text(columns: Sequence[str], rows: Iterable[Mapping[str, Any]]) -> str:
    """A table with a heading; keys of the rows that are no column are left out.

    In the column `path` a relative path that a spreadsheet would calculate gets ./ in front and
    stays a path; another text gets an apostrophe, by which spreadsheets know text.
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
