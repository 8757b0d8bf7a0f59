"""Image scores from any method in a file: CSV with the columns path and score, or JSON."""

from __future__ import annotations

import csv
import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path, PurePath
from typing import Any

from urd.errors import UsageError, first_line, quoted
from urd.evaluation.map_files import MapFile
from urd.system.documents import MIB, read_json
from urd.system.files import refuse_special

_MOST_BYTES = 64 * MIB


def read_scores(path: Path, files: Sequence[MapFile]) -> list[float]:
    """The score of each map's image, in their order.

    A row belongs to the map whose type and name its path ends with: `parts/test/dent/000.png` to
    `dent/000.tiff`. `predictions.csv` of `urd predict` has such rows. JSON has one object with
    paths as keys.

    Raises:
        UsageError: the file cannot be read, a score is not a finite number, or a map has no score
            or two.
    """
    found: dict[str, float] = {}
    known = {file.name for file in files}
    for name, value in _rows(path):
        key = _key(name, known)
        if key is None:
            continue
        if key in found:
            raise UsageError(f"{path} has two scores for {quoted(key)}")
        found[key] = _number(value, path, name)
    missing = [file.name for file in files if file.name not in found]
    if missing:
        raise UsageError(f"{path} has no score for {len(missing)} maps, first {missing[0]}")
    return [found[file.name] for file in files]


def _rows(path: Path) -> Iterator[tuple[str, Any]]:
    refuse_special(path)
    if not path.is_file():
        raise UsageError(f"there is no file of scores at {path}")
    if path.stat().st_size > _MOST_BYTES:
        raise UsageError(f"{path} is larger than {_MOST_BYTES // MIB} MiB: it is no file of scores")
    try:
        if path.suffix.lower() == ".json":
            content = read_json(path, _MOST_BYTES)
            if not isinstance(content, Mapping):
                raise ValueError("it is not an object of paths and scores")
            yield from content.items()
            return
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file)
            if not {"path", "score"} <= set(reader.fieldnames or ()):
                raise ValueError("its first line must name the columns path and score")
            for row in reader:
                yield row["path"] or "", row["score"]
    except (ValueError, OSError, csv.Error) as error:
        raise UsageError(f"{path} cannot be read as scores: {first_line(error)}") from error


def _key(name: str, known: set[str]) -> str | None:
    """The map that a path belongs to: its last parts, without the suffix, are the map's name."""
    parts = PurePath(name.replace("\\", "/")).with_suffix("").parts if name else ()
    ends = ("/".join(parts[start:]) for start in range(len(parts)))
    return next((end for end in ends if end in known), None)


def _number(value: Any, path: Path, name: str) -> float:
    try:
        number = float(value)
    except (TypeError, ValueError):
        number = math.nan
    if not math.isfinite(number):
        raise UsageError(f"{path}: the score of {quoted(name)} is {quoted(value)}, not a number")
    return number
