"""Rows of judged images: lines of JSON, and the same as a Parquet file."""

from __future__ import annotations

import io
import json
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from urd.errors import UrdError, first_line
from urd.system.extras import optional

_SHOWN_FAILURES = 5


def line_of(row: dict[str, Any]) -> str:
    """A row as a line of JSON, as `urd predict` writes it."""
    return json.dumps(row, allow_nan=False)


def arrow_schema() -> Any:
    """The columns of `urd/inspection/judgement.schema.json`, as a schema of pyarrow."""
    pa = optional("pyarrow", "ray")
    number, numbers = pa.float64(), pa.list_(pa.float64())
    defect = pa.struct(
        {
            "box": numbers,
            "contour": pa.list_(numbers),
            "area": number,
            "area_mm2": number,
            "peak": number,
            "mean": number,
            "centroid": numbers,
        }
    )
    texts = dict.fromkeys(("path", "verdict"), pa.string())
    numbers_of_image = {"score": number, "calibrated": number}
    counts = dict.fromkeys(("n_defects", "width", "height"), pa.int64())
    files = dict.fromkeys(("overlay", "map", "error"), pa.string())
    lists = {"camera": pa.list_(pa.string()), "defects": pa.list_(defect)}
    version = {"version": pa.int64()}
    return pa.schema({**version, **texts, **numbers_of_image, **counts, **files, **lists})


def parquet_of(lines: Sequence[str]) -> bytes:
    """A Parquet file of these lines of JSON.

    Raises:
        UrdError: a row has a column that the schema does not know, or a value of another type.
    """
    pa, pq = optional("pyarrow", "ray"), optional("pyarrow.parquet", "ray")
    rows, schema = [json.loads(line) for line in lines], arrow_schema()
    if unknown := {name for row in rows for name in row} - set(schema.names):
        raise UrdError(f"rows have columns that {__name__} does not know: {sorted(unknown)}")
    try:
        table = pa.Table.from_pylist(rows, schema=schema)
    except (pa.ArrowInvalid, pa.ArrowTypeError) as error:
        raise UrdError(f"rows do not fit their schema: {first_line(error)}") from error
    content = io.BytesIO()
    pq.write_table(table, content, compression="zstd")
    return content.getvalue()


@dataclass
class Summary:
    """What the rows say, all together.

    Attributes:
        paths: of the rows.
        verdicts: how often each occurs; `None` without thresholds.
        failed: (verdict, path, reason) of the first rows with an error. n_failed: of all.
        odd: (path, message) of the first row with a message about the camera. n_odd: of all.
    """

    paths: set[str] = field(default_factory=set)
    verdicts: Counter[str | None] = field(default_factory=Counter)
    failed: list[tuple[str | None, str, str]] = field(default_factory=list)
    n_failed: int = 0
    odd: tuple[str, str] | None = None
    n_odd: int = 0

    def add(self, rows: Iterable[dict[str, Any]]) -> None:
        """Count rows; they need the columns `SUMMED`."""
        for row in rows:
            self.paths.add(row["path"])
            self.verdicts[row["verdict"]] += 1
            if row["error"]:
                self.n_failed += 1
                if len(self.failed) < _SHOWN_FAILURES:
                    self.failed.append((row["verdict"], row["path"], row["error"]))
            if row["camera"]:
                self.n_odd += 1
                self.odd = self.odd or (row["path"], row["camera"][0])


SUMMED = ("path", "verdict", "error", "camera")


def summed_rows(content: bytes) -> list[dict[str, Any]]:
    """The rows of a Parquet file, with the columns `SUMMED` only.

    Raises:
        ValueError: it is not such a file.
    """
    pa, pq = optional("pyarrow", "ray"), optional("pyarrow.parquet", "ray")
    try:
        table = pq.read_table(io.BytesIO(content), columns=list(SUMMED))
    except (pa.ArrowException, OSError, KeyError) as error:
        raise ValueError(first_line(error)) from error
    if set(table.column_names) != set(SUMMED):
        raise ValueError("columns are missing")
    return list(table.to_pylist())
