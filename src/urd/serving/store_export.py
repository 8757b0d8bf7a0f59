"""Judgements of a store as a table, CSV or JSONL."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from urd.errors import UsageError
from urd.serving.record import Stored
from urd.serving.store import Store
from urd.system.csv_text import csv_text
from urd.system.files import write_atomically

COLUMNS = (
    "sequence",
    "time",
    "part",
    "path",
    "verdict",
    "score",
    "calibrated",
    "n_defects",
    "review_threshold",
    "reject_threshold",
    "threshold_change",
    "decision",
    "person",
    "reason",
    "camera",
    "error",
    "width",
    "height",
    "source",
    "model",
    "model_sha256",
    "engine",
    "milliseconds",
    "content_sha256",
)


def export_rows(
    store: Store, out: Path, *, since: float | None = None, until: float | None = None
) -> int:
    """Write the judgements of a time to OUT, the oldest first; returns how many.

    Args:
        since, until: seconds since 1970; `None`: no limit.

    Raises:
        UsageError: OUT ends neither in .csv nor in .jsonl.
        StoreError, NotWritten: the store cannot be read, or OUT cannot be written.
    """
    kinds = {".csv": _as_csv, ".jsonl": _as_jsonl}
    if out.suffix.lower() not in kinds:
        raise UsageError(f"{out} must end in .csv or .jsonl")
    lines = kinds[out.suffix.lower()]
    count = 0

    def write(new: Path) -> None:
        nonlocal count
        with new.open("w", encoding="utf-8", newline="") as file:
            for line in lines(store.rows(since, until)):
                file.write(line)
                count += 1

    write_atomically(out, write)
    return count - 1  # the first is the heading


def _as_csv(rows: Iterable[Stored]) -> Iterator[str]:
    """The heading, then one text per row."""
    heading, _, _ = csv_text(COLUMNS, []).partition("\n")
    yield f"{heading}\n"
    for row in rows:
        yield csv_text(COLUMNS, [_flat(row)]).partition("\n")[2]


def _as_jsonl(rows: Iterable[Stored]) -> Iterator[str]:
    yield ""  # where CSV has its heading
    for row in rows:
        yield json.dumps(row.to_dict(), allow_nan=False) + "\n"


def _flat(row: Stored) -> Mapping[str, Any]:
    """The fields of a row that fit into cells."""
    body = row.to_dict()
    thresholds, review = body["thresholds"] or {}, body["reviewed"] or {}
    return {
        **body,
        "review_threshold": thresholds.get("review"),
        "reject_threshold": thresholds.get("reject"),
        "threshold_change": thresholds.get("change"),
        "decision": review.get("decision"),
        "person": review.get("person"),
        "reason": review.get("reason"),
        "camera": "; ".join(body["camera"]),
    }
