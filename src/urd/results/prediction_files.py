"""The files of `urd predict` in a folder: rows, page, overlays and maps, and their names."""

from __future__ import annotations

import hashlib
import itertools
import json
import shutil
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from urd.data import FOLDERS, name_of
from urd.detector import Detector
from urd.errors import UrdError
from urd.evaluation.map_files import write_map
from urd.inspection.calibration import Verdict
from urd.inspection.camera import CAMERA_SIDE, CameraWatch
from urd.inspection.judge import Inspection
from urd.inspection.pictures import MAX_SIDE, save_picture
from urd.inspection.prediction import Failure, Prediction
from urd.results.index_page import WorstShots, index_page
from urd.system.csv_text import csv_text
from urd.system.files import absolute, growing, printable, refuse_special, write_together, writing
from urd.system.progress import track
from urd.system.threads import map_ahead

# The verdicts that get a picture; without calibration the verdict is None.
OVERLAYS: dict[str, tuple[Verdict | None, ...]] = {
    "all": ("OK", "REVIEW", "NG", None),
    "rejects": ("REVIEW", "NG"),
    "none": (),
}
_NAME_BYTES = 110  # file systems allow 255; two names and a number are shorter
_MAP_NAME_BYTES = 240
ROWS_NAME, TABLE_NAME, PAGE_NAME = "predictions.jsonl", "predictions.csv", "index.html"
PARTIAL_NAME = "predictions.partial.jsonl"  # holds the rows until the last one is written
_PLANNED = "planned"  # key of its first line: files that a killed call may have written
COLUMNS = (
    "path",
    "verdict",
    "score",
    "calibrated",
    "n_defects",
    "width",
    "height",
    "overlay",
    "map",
    "error",
)


def _forget(out: Path) -> None:
    """Delete the files of earlier calls, because they may come from other weights.

    The lists name the pictures and maps. Each list is renamed to the name of an unfinished one and
    deleted last. So if this call is killed, the next call still finds it.
    """
    for name in (TABLE_NAME, PAGE_NAME):
        (out / name).unlink(missing_ok=True)
    rows, partial = out / ROWS_NAME, out / PARTIAL_NAME
    refuse_special(rows)
    _forget_listed(out, partial)
    if rows.exists():
        rows.replace(partial)
        _forget_listed(out, partial)


def _forget_listed(out: Path, listing: Path) -> None:
    refuse_special(listing)
    if not listing.exists():
        return
    with listing.open("rb") as lines:
        for line in lines:
            with suppress(ValueError, TypeError, AttributeError, RecursionError):
                row = json.loads(line)
                for name in (row.get("overlay"), row.get("map"), *row.get(_PLANNED, ())):
                    if name and (out / name).resolve().is_relative_to(out.resolve()):
                        (out / name).unlink(missing_ok=True)
    listing.unlink()


def predict_to(
    out: Path,
    detector: Detector,
    paths: list[Path],
    batch_size: int = 8,
    inspection: Inspection | None = None,
    *,
    maps: bool = False,
    overlays: str = "all",
    overlay_side: int = MAX_SIDE,
    run: Path | None = None,
    each: Callable[[str], object] | None = None,
) -> list[dict[str, Any]]:
    """Judge images and write rows, a page, overlays and optionally maps to the folder `out`.

    Decoding, the network and the writing of pictures run at the same time. Each row goes into
    predictions.partial.jsonl at once. predictions.jsonl, predictions.csv and index.html are written
    when all rows are known.

    Args:
        overlays: which images get a picture, a key of `OVERLAYS`.
        overlay_side: pixels of the longer side of overlays; 0 keeps every pixel.
        run: the name of the detector for the page.
        each: is called with the line of JSON of each image, in order.

    Returns:
        The rows in the order of `paths`, without the lists of defects.
    """
    with writing(out):
        _forget(out)
        drawing = _Drawing(out, OVERLAYS[overlays], overlay_side)
        return _judge_to(drawing, detector, paths, batch_size, inspection, maps, run, each)


@dataclass(frozen=True)
class _Drawing:
    """Which pictures are made; `worst` collects those of the page."""

    out: Path
    verdicts: Sequence[Verdict | None]
    side: int
    worst: WorstShots = field(default_factory=WorstShots)

    @property
    def kept_side(self) -> int:
        """Pixels of the longer side of the images that are kept for drawing."""
        if not self.verdicts:
            return CAMERA_SIDE
        return self.side or sys.maxsize


def _judge_to(
    drawing: _Drawing,
    detector: Detector,
    paths: list[Path],
    batch_size: int,
    inspection: Inspection | None,
    maps: bool,
    run: Path | None,
    each: Callable[[str], object] | None,
) -> list[dict[str, Any]]:
    out = drawing.out
    pictures = overlay_names(paths)
    map_files = map_names(paths) if maps else [None] * len(paths)
    rows = []
    results = detector.predict_many(paths, batch_size, inspection, drawing.kept_side)
    numbers = range(len(paths))
    looked_at = watched(results, detector)
    judged = zip(numbers, paths, pictures, map_files, looked_at, strict=True)
    with growing(out / PARTIAL_NAME) as add_line:
        planned = [*(pictures if drawing.verdicts else ()), *filter(None, map_files)]
        add_line(json.dumps({_PLANNED: planned}))
        written = map_ahead(lambda job: _row(drawing, *job), judged, depth=8)
        for row in track(written, "Predicting", len(paths)):
            line = json.dumps(row, allow_nan=False)
            add_line(line)
            if each is not None:
                each(line)
            del row["defects"]  # saves memory: contours have many points
            rows.append(row)
    table = csv_text(COLUMNS, rows)
    thresholds = detector.thresholds(inspection)
    page = index_page(run, out, detector, thresholds, rows, drawing.worst)
    write_together(
        {
            out / TABLE_NAME: lambda new: new.write_text(table, encoding="utf-8"),
            out / PAGE_NAME: lambda new: new.write_text(page, encoding="utf-8"),
            out / ROWS_NAME: lambda new: _copy_rows(out / PARTIAL_NAME, new),
        }
    )
    (out / PARTIAL_NAME).unlink()
    return rows


def watched(
    results: Iterable[Prediction | Failure], detector: Detector
) -> Iterator[tuple[Prediction | Failure, tuple[str, ...]]]:
    """Each result, and what is odd about its image itself."""
    watch = CameraWatch(detector.header.data)
    for result in results:
        messages: tuple[str, ...] = ()
        if isinstance(result, Prediction) and result.picture is not None:
            pixels = hashlib.sha256(result.picture.tobytes()).hexdigest()
            messages = watch.look(result.picture, result.size, pixels)
        yield result, messages


def _copy_rows(partial: Path, rows: Path) -> None:
    with partial.open("rb") as source, rows.open("wb") as target:
        source.readline()  # skip the list of planned files
        shutil.copyfileobj(source, target)


def _row(
    drawing: _Drawing,
    order: int,
    path: Path,
    picture: str,
    map_file: str | None,
    watched: tuple[Prediction | Failure, tuple[str, ...]],
) -> dict[str, Any]:
    """The judgement, with the names of the written picture and map."""
    result, camera = watched
    row = {**result.to_dict(), "path": printable(path), "camera": list(camera)}
    if isinstance(result, Failure):
        return row
    try:
        if map_file is not None:
            write_map(drawing.out / map_file, result)
            row["map"] = map_file
        if result.picture is not None and result.verdict in drawing.verdicts:
            save_picture(drawing.out / picture, result.overlay(max_side=drawing.side))
            row["overlay"] = picture
            drawing.worst.add(order, row, result)
    except UrdError as error:
        row["error"] = str(error)
    return row


def overlay_names(paths: Sequence[Path]) -> list[str]:
    """`overlays/NAME.png` for each image; equal names get the folder or a number too."""
    names = [_short(path.stem, _NAME_BYTES) for path in paths]
    folders = [_short(path.parent.name, _NAME_BYTES) for path in paths]
    both = [f"{folder}_{name}" for folder, name in zip(folders, names, strict=True)]
    return [f"overlays/{name}.png" for name in _unique(zip(names, both, strict=True))]


def map_names(paths: Sequence[Path]) -> list[str]:
    """`maps/FOLDER/NAME.tiff` for each image, as in MVTec's layout: FOLDER is the type of defect.

    If the image is in a subfolder of that folder, FOLDER is the whole path of folders.
    """
    candidates = []
    for path in paths:
        folders = [_short(folder, _MAP_NAME_BYTES) for folder in _folders_of(path.parent)]
        candidates.append(("/".join([*folders, _short(name_of(path), _MAP_NAME_BYTES)]),))
    return [f"maps/{name}.tiff" for name in _unique(candidates)]


@cache
def _folders_of(folder: Path) -> tuple[str, ...]:
    """The folders between the test set and the image; outside a test set, the last folder."""
    folder = absolute(folder)  # a link must keep its own name
    for above in folder.parents:
        for of_layout in FOLDERS.values():
            truth = above.parent / of_layout.ground_truth
            if above.name == of_layout.test and truth.is_dir():
                return folder.relative_to(above).parts
    return (folder.name,)


def _unique(candidates: Iterable[tuple[str, ...]]) -> list[str]:
    """For each image the first free candidate, or else its last candidate with a number.

    Names that differ only in case count as equal: on some file systems they are the same file.
    """
    taken: set[str] = set()
    names = []
    for of_image in candidates:
        numbered = (f"{of_image[-1]}_{n}" for n in itertools.count(2))
        name = next(c for c in itertools.chain(of_image, numbered) if c.lower() not in taken)
        taken.add(name.lower())
        names.append(name)
    return names


def _short(name: str, length: int) -> str:
    return printable(Path(name)).encode()[:length].decode(errors="ignore")
