"""The stored rows of a call, and what they were judged with.

In the folder of results:

    predictions.settings.json   the model and the settings of all rows
    parquet/PART.parquet        one row for each image of a part; a part is stored if this is there
    jsonl/PART.jsonl            the same rows as lines of JSON, as `urd predict` writes them
    overlays/PART/NAME.png      pictures, if they were asked for
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from urd.bulk.result_folders import ResultFolder
from urd.bulk.rows import Summary, parquet_of, summed_rows
from urd.data.finding import SETTINGS_NAME
from urd.errors import UrdError, UsageError, first_line
from urd.system.documents import parse_json
from urd.system.files import json_text
from urd.system.threads import map_ahead

_PARQUET, _JSONL, _OVERLAYS = "parquet", "jsonl", "overlays"
_NOT_COMPARED = ("urd",)
_READERS = 16


class StoredRows:
    """The rows in a folder of results; it is made or continued when this object is made.

    Args:
        settings: what the rows depend on, as plain values.
        overwrite: delete the rows that are there.

    Raises:
        UsageError: the folder holds something else, or rows of another model or other settings.
        UrdError: it cannot be read or written.
    """

    def __init__(
        self, folder: ResultFolder, settings: Mapping[str, Any], *, overwrite: bool = False
    ) -> None:
        self._folder = folder
        self.summary = Summary()
        present = folder.names()
        if SETTINGS_NAME in present and overwrite:
            for name in (_PARQUET, _JSONL, _OVERLAYS, SETTINGS_NAME):
                folder.remove(name)
        elif SETTINGS_NAME in present:
            self._refuse_others(settings)
            self._read()
            return
        elif present and not overwrite:
            raise UsageError(
                f"{folder.name} exists and is not empty; pass --overwrite to write into it"
            )
        folder.write(SETTINGS_NAME, json_text(dict(settings)).encode())

    def add(self, name: str, lines: Sequence[str], pictures: Mapping[str, bytes]) -> None:
        """Store a part: its pictures by their names, then its rows.

        Raises:
            UrdError: it cannot be written; then it is not stored.
        """
        content = parquet_of(lines)
        for picture, png in pictures.items():
            self._folder.write(picture, png)
        self._folder.write(f"{_JSONL}/{name}.jsonl", "".join(f"{x}\n" for x in lines).encode())
        self._folder.write(f"{_PARQUET}/{name}.parquet", content)
        self.summary.add(map(json.loads, lines))

    def _refuse_others(self, settings: Mapping[str, Any]) -> None:
        content = self._folder.read(SETTINGS_NAME)
        try:
            found = parse_json(content)
            if not isinstance(found, dict):
                raise ValueError("it is not an object")
        except ValueError as error:
            raise UrdError(
                f"{self._folder.name}/{SETTINGS_NAME} cannot be used: {first_line(error)}"
            ) from error
        wanted = json.loads(json_text(dict(settings)))
        differing = [
            key
            for key in {**wanted, **found}
            if key not in _NOT_COMPARED and wanted.get(key) != found.get(key)
        ]
        if differing:
            raise UsageError(
                f"{self._folder.name} holds rows with another {', another '.join(differing)} (see "
                f"{SETTINGS_NAME} there): choose another --out, or pass --overwrite"
            )

    def _read(self) -> None:
        """Read what is stored, and delete what a kill has left of parts that are not."""
        stored = [name.removesuffix(".parquet") for name in self._folder.names(_PARQUET)]
        for rows in map_ahead(self._rows_of, stored, depth=2 * _READERS, most_threads=_READERS):
            self.summary.add(rows)
        known = set(stored)
        self._folder.clean(_PARQUET)
        for folder, suffix in ((_JSONL, ".jsonl"), (_OVERLAYS, "")):
            self._folder.clean(folder)
            for name in self._folder.names(folder):
                if name.removesuffix(suffix) not in known:
                    self._folder.remove(f"{folder}/{name}")

    def _rows_of(self, part: str) -> list[dict[str, Any]]:
        name = f"{_PARQUET}/{part}.parquet"
        content = self._folder.read(name)
        try:
            return summed_rows(content)
        except ValueError as error:
            raise UrdError(
                f"{self._folder.name}/{name} is damaged ({first_line(error)}): delete it and run "
                "the command again"
            ) from error
