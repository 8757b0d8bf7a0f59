"""`urd predict`."""

from __future__ import annotations

import csv
import glob
import io
import itertools
import json
import sys
from collections import Counter
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from urd.data import Failure
    from urd.detector import Detector, Prediction
    from urd.inspection import Inspection

_NAME_BYTES = 110  # file systems allow 255; two names and a number stay below
_MAP_NAME_BYTES = 240
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
NG_FOUND = 3


@click.command()
@click.argument("run", type=click.Path(path_type=Path))
@click.argument("images", nargs=-1, required=True)
@click.option("--out", type=click.Path(path_type=Path), required=True, help="Folder to write to.")
@click.option("--batch-size", type=click.IntRange(1, 4096), default=8, show_default=True)
@click.option("--device", default="auto", show_default=True, help="auto, cpu, cuda or cuda:N.")
@click.option("--false-reject", type=float, help="Share of good images judged NG, as wanted now.")
@click.option("--review", type=float, help="Share of good images judged REVIEW or NG, likewise.")
@click.option("--smallest-area", type=float, default=0.0, help="Of a defect, in pixels.")
@click.option("--mm-per-pixel", type=float, help="Of the images, for areas in mm2.")
@click.option("--fail-on-ng", is_flag=True, help=f"Exit code {NG_FOUND} if an image is NG.")
@click.option("--maps", is_flag=True, help="Write anomaly maps too, as float32 TIFF.")
@click.option("--overwrite", is_flag=True, help="Write into --out where it is not empty.")
def predict(
    run: Path,
    images: tuple[str, ...],
    out: Path,
    batch_size: int,
    device: str,
    false_reject: float | None,
    review: float | None,
    smallest_area: float,
    mm_per_pixel: float | None,
    fail_on_ng: bool,
    maps: bool,
    overwrite: bool,
) -> None:
    """Judge IMAGES (files, folders, globs) with RUN (a run folder or a model file).

    Writes predictions.jsonl, predictions.csv and a heat-map overlay per image to --out: verdict,
    raw and calibrated score (0.5 where OK ends), and the defects in pixels of the image. An image
    that can not be read gets a row with the reason, and the exit code is 1. With --maps, the raw
    map of each image is kept in --out/maps at the size of the image; those of a test folder lie as
    `urd metrics` reads them.
    """
    import urd.progress
    from urd.detector import Detector
    from urd.errors import UsageError
    from urd.files import make_folder, refuse_existing
    from urd.inspection import Inspection

    urd.progress.show()
    paths = find_images(images, out)
    refuse_existing(out, allowed=overwrite, hint="--overwrite to write into it")
    detector = Detector.load(run, device)
    inspection = Inspection(false_reject, review, smallest_area, mm_per_pixel)
    thresholds = detector.thresholds(inspection)
    if thresholds is None and (fail_on_ng or false_reject is not None or review is not None):
        raise UsageError(f"{run} has no thresholds: calibrate it by urd calibrate RUN GOOD")
    make_folder(out)
    _forget(out)
    rows = _predict(detector, paths, out, batch_size, inspection, maps)
    failed = [row for row in rows if row["error"]]
    for row in failed:
        print(f"failed {row['path']}: {row['error']}", file=sys.stderr)
    verdicts = Counter(row["verdict"] for row in rows if row["verdict"])
    said = ", ".join(f"{verdicts[name]} {name}" for name in ("OK", "REVIEW", "NG") if verdicts)
    print(f"{len(rows) - len(failed)} images scored, {len(failed)} failed; see {out}")
    if said:
        print(said)
    if failed:
        raise SystemExit(1)
    if fail_on_ng and verdicts["NG"]:
        raise SystemExit(NG_FOUND)


def find_images(names: Sequence[str], out: Path) -> list[Path]:
    """Files as they are, folders as the images below them, globs as what they match.

    Hidden files are passed over, and so are masks in `ground_truth` and what an earlier call has
    left in `out`.

    Raises:
        UsageError: a folder or glob without images.
    """
    from urd.data import IMAGE_SUFFIXES
    from urd.errors import UsageError

    found: list[Path] = []
    for name in names:
        path = Path(name)
        if path.is_dir():
            below = [p for p in sorted(path.rglob("*")) if p.suffix.lower() in IMAGE_SUFFIXES]
            matches = [p for p in below if not p.name.startswith(".") and out not in p.parents]
            masks = path / "ground_truth"  # MVTec AD 2 keeps them among the test images
            matches = [p for p in matches if masks not in p.parents]
        elif glob.has_magic(name) and not path.exists():
            matches = sorted(map(Path, glob.glob(name, recursive=True)))  # noqa: PTH207 - absolute globs too
        else:
            matches = [path]  # a missing file becomes a row of its own
        matches = [match for match in matches if not match.is_dir()]
        if not matches:
            raise UsageError(f"no images in {name}")
        found += matches
    return list(dict.fromkeys(found))


def _forget(out: Path) -> None:
    """Delete the pictures and maps that an earlier call has listed: they are of other weights."""
    listing = out / "predictions.jsonl"
    if not listing.exists():
        return
    for line in listing.read_text(encoding="utf-8").splitlines():
        with suppress(ValueError, TypeError, KeyError, AttributeError):
            row = json.loads(line)
            for name in filter(None, (row.get("overlay"), row.get("map"))):
                if (out / name).resolve().is_relative_to(out.resolve()):
                    (out / name).unlink(missing_ok=True)


def _predict(
    detector: Detector,
    paths: list[Path],
    out: Path,
    batch_size: int,
    inspection: Inspection,
    maps: bool,
) -> list[dict[str, Any]]:
    from urd.files import write_text
    from urd.progress import track

    pictures = overlay_names(paths)
    map_files = map_names(paths) if maps else [None] * len(paths)
    rows = []
    judged = detector.predict_many(paths, batch_size, inspection)
    results = track(judged, "Predicting", len(paths))
    heat_range = detector.heat_range(inspection)
    # Each row is on disk as soon as it is known; the CSV follows when all are.
    with (out / "predictions.jsonl").open("w", encoding="utf-8") as lines:
        for path, picture, map_file, result in zip(
            paths, pictures, map_files, results, strict=True
        ):
            row = _row(detector, path, out, picture, map_file, result, heat_range)
            rows.append(row)
            lines.write(json.dumps(row) + "\n")
            lines.flush()
    table = io.StringIO()
    writer = csv.DictWriter(table, COLUMNS, extrasaction="ignore")
    writer.writeheader()
    writer.writerows(rows)
    write_text(out / "predictions.csv", table.getvalue())
    return rows


def _row(
    detector: Detector,
    path: Path,
    out: Path,
    picture: str,
    map_file: str | None,
    result: Prediction | Failure,
    heat_range: tuple[float, float],
) -> dict[str, Any]:
    from urd.data import Failure, read_rgb
    from urd.errors import UrdError
    from urd.files import printable
    from urd.map_files import write_map
    from urd.pictures import overlay, save_picture

    row: dict[str, Any] = {**dict.fromkeys(COLUMNS), "defects": []}
    row["path"] = printable(path)
    if isinstance(result, Failure):
        return {**row, "error": result.reason}
    row["score"] = result.score
    row["verdict"], row["calibrated"] = result.verdict, result.calibrated
    row["height"], row["width"] = result.size
    if result.verdict is not None:
        row["n_defects"] = len(result.defects)
        row["defects"] = [asdict(defect) for defect in result.defects]
    try:
        if map_file is not None:
            write_map(out / map_file, result.anomaly_map, result.size)
            row["map"] = map_file
        image = read_rgb(path, detector.config.white_level)
        outlines = [defect.contour for defect in result.defects]
        drawn = overlay(
            image, result.anomaly_map, heat_range, result.score, result.verdict, outlines
        )
        save_picture(out / picture, drawn)
        row["overlay"] = picture
    except UrdError as error:
        row["error"] = str(error)
    return row


def overlay_names(paths: Sequence[Path]) -> list[str]:
    """`overlays/NAME.png` for each image, with folder or number where two names are alike."""
    names = [_short(path.stem, _NAME_BYTES) for path in paths]
    folders = [_short(path.parent.name, _NAME_BYTES) for path in paths]
    both = [f"{folder}_{name}" for folder, name in zip(folders, names, strict=True)]
    return [f"overlays/{name}.png" for name in _unique(zip(names, both, strict=True))]


def map_names(paths: Sequence[Path]) -> list[str]:
    """`maps/FOLDER/NAME.tiff` for each image: MVTec's layout, where the folder is the defect."""
    candidates = (
        (f"{path.parent.resolve().name}/{_short(path.stem, _MAP_NAME_BYTES)}",) for path in paths
    )
    return [f"maps/{name}.tiff" for name in _unique(candidates)]


def _unique(candidates: Iterable[tuple[str, ...]]) -> list[str]:
    """The first of each image's candidates that is not taken, else the last one with a number.

    Names that differ in case only are alike: on some file systems they are one.
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
    from urd.files import printable

    return printable(Path(name)).encode()[:length].decode(errors="ignore")
