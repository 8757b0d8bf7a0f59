"""What a store forgets: old rows, and images beyond a size."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from urd.serving.kept_images import heat_of, image_of, remove_kept
from urd.serving.store import Store

_DAY = 86_400
_ORPHAN_SECONDS = 3600  # an image is written before its row
_PORTION = 500  # rows per transaction, so that judging never waits long


@dataclass
class Pruned:
    """What was removed: rows, images, and bytes of images."""

    rows: int = 0
    images: int = 0
    bytes: int = 0


def prune(
    store: Store,
    *,
    keep_days: float | None = None,
    keep_image_days: float | None = None,
    keep_image_bytes: int | None = None,
    now: float | None = None,
) -> Pruned:
    """Remove rows and images that are too old, then the oldest images until the rest is small.

    Rows with an event that is not sent yet, or a file that is not moved yet, stay. Threshold
    changes stay. Images without a row, which a kill can leave, are removed after an hour.

    Args:
        keep_days: remove rows, with their images, older than this. `None`: no limit.
        keep_image_days: the same for images alone.
        keep_image_bytes: of all kept images together.
        now: seconds since 1970.

    Raises:
        StoreError: the store cannot be written.
    """
    now = time.time() if now is None else now
    done = Pruned()
    if keep_days is not None:
        _rows_before(store, now - keep_days * _DAY, done)
    if keep_image_days is not None:
        for sequence, name in _kept(store, before=now - keep_image_days * _DAY):
            _forget(store, sequence, name, done)
    _orphans(store, now, done)
    if keep_image_bytes is not None:
        size = sum(_size(store.images / name) for _, name in _kept(store))
        for sequence, name in _kept(store):
            if size <= keep_image_bytes:
                break
            size -= _size(store.images / name)
            _forget(store, sequence, name, done)
    return done


def _rows_before(store: Store, end: float, done: Pruned) -> None:
    while True:
        with store.database.writing() as connection:
            rows = connection.execute(
                "SELECT sequence, image FROM judgements j WHERE time < ? "
                "AND NOT EXISTS (SELECT 1 FROM outbox o WHERE o.sequence = j.sequence) "
                "AND NOT EXISTS (SELECT 1 FROM moves m WHERE m.sequence = j.sequence) "
                "ORDER BY sequence LIMIT ?",
                (end, _PORTION),
            ).fetchall()
            connection.executemany(
                "DELETE FROM judgements WHERE sequence = ?", [(row["sequence"],) for row in rows]
            )
        if not rows:
            return
        done.rows += len(rows)
        for row in rows:
            if row["image"] is not None:
                done.images += 1
                done.bytes += remove_kept(store.images, row["image"])


def _kept(store: Store, before: float = float("inf")) -> Iterator[tuple[int, str]]:
    """Sequence and image of rows that keep one, the oldest first."""
    last = 0
    while True:
        with store.database.reading() as connection:
            rows = connection.execute(
                "SELECT sequence, image FROM judgements WHERE image IS NOT NULL AND sequence > ? "
                "AND time < ? ORDER BY sequence LIMIT ?",
                (last, before, _PORTION),
            ).fetchall()
        if not rows:
            return
        yield from ((row["sequence"], row["image"]) for row in rows)
        last = rows[-1]["sequence"]


def _forget(store: Store, sequence: int, name: str, done: Pruned) -> None:
    with store.database.writing() as connection:
        connection.execute("UPDATE judgements SET image = NULL WHERE sequence = ?", (sequence,))
    done.images += 1
    done.bytes += remove_kept(store.images, name)


def _orphans(store: Store, now: float, done: Pruned) -> None:
    """Remove images that no row names."""
    if not store.images.is_dir():
        return
    old = [path for path in store.images.glob("*/*") if _age(path, now) > _ORPHAN_SECONDS]
    found = {image_of(path).relative_to(store.images).as_posix() for path in old}
    for name in found - {name for _, name in _kept(store)}:
        done.images += 1
        done.bytes += remove_kept(store.images, name)


def _age(path: Path, now: float) -> float:
    try:
        return now - path.stat().st_mtime
    except OSError:
        return 0.0


def _size(path: Path) -> int:
    total = 0
    for part in (path, heat_of(path)):
        try:
            total += part.stat().st_size
        except OSError:
            continue
    return total
