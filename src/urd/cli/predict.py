"""`urd predict`."""

from __future__ import annotations

import csv
import glob
import io
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from urd.data import Failure
    from urd.detector import Detector, Prediction

_NAME_LENGTH = 48  # file systems allow 255 bytes, and a character may take four
COLUMNS = ("path", "score", "width", "height", "overlay", "error")


@click.command()
@click.argument("run", type=click.Path(path_type=Path))
@click.argument("images", nargs=-1, required=True)
@click.option("--out", type=click.Path(path_type=Path), required=True, help="Folder to write to.")
@click.option("--batch-size", type=click.IntRange(1, 4096), default=8, show_default=True)
@click.option("--device", default="auto", show_default=True, help="auto, cpu, cuda or cuda:N.")
@click.option("--overwrite", is_flag=True, help="Write into --out where it is not empty.")
def predict(
    run: Path, images: tuple[str, ...], out: Path, batch_size: int, device: str, overwrite: bool
) -> None:
    """Score IMAGES (files, folders, globs) with RUN (a run folder or a model file).

    Writes predictions.jsonl, predictions.csv and a heat-map overlay per image to --out. An image
    that can not be read gets a row with the reason, and the exit code is 1.
    """
    import urd.progress
    from urd.detector import Detector
    from urd.files import make_folder, refuse_existing

    urd.progress.show()
    paths = find_images(images, out)
    refuse_existing(out, allowed=overwrite, hint="--overwrite to write into it")
    detector = Detector.load(run, device)
    make_folder(out)
    rows = _predict(detector, paths, out, batch_size)
    failed = [row for row in rows if row["error"]]
    for row in failed:
        print(f"failed {row['path']}: {row['error']}", file=sys.stderr)
    print(f"{len(rows) - len(failed)} images scored, {len(failed)} failed; see {out}")
    if failed:
        raise SystemExit(1)


def find_images(names: Sequence[str], out: Path) -> list[Path]:
    """Files as they are, folders as the images below them, globs as what they match.

    Hidden files are passed over, and so is what an earlier call has left in `out`.

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
        elif glob.has_magic(name) and not path.exists():
            matches = sorted(map(Path, glob.glob(name, recursive=True)))  # noqa: PTH207 - absolute globs too
        else:
            matches = [path]  # a missing file becomes a row of its own
        matches = [match for match in matches if not match.is_dir()]
        if not matches:
            raise UsageError(f"no images in {name}")
        found += matches
    return list(dict.fromkeys(found))


def _predict(
    detector: Detector, paths: list[Path], out: Path, batch_size: int
) -> list[dict[str, Any]]:
    from urd.files import write_text
    from urd.progress import track

    names = overlay_names(paths)
    rows = []
    results = track(detector.predict_many(paths, batch_size), "Predicting", len(paths))
    # Each row is on disk as soon as it is known; the CSV follows when all are.
    with (out / "predictions.jsonl").open("w", encoding="utf-8") as lines:
        for path, name, result in zip(paths, names, results, strict=True):
            row = _row(detector, path, out / "overlays" / name, result)
            rows.append(row)
            lines.write(json.dumps(row) + "\n")
            lines.flush()
    table = io.StringIO()
    writer = csv.DictWriter(table, COLUMNS)
    writer.writeheader()
    writer.writerows(rows)
    write_text(out / "predictions.csv", table.getvalue())
    return rows


def _row(
    detector: Detector, path: Path, picture: Path, result: Prediction | Failure
) -> dict[str, Any]:
    from urd.data import Failure, read_rgb
    from urd.errors import UrdError
    from urd.files import printable
    from urd.pictures import overlay, save_picture

    row: dict[str, Any] = dict.fromkeys(COLUMNS)
    row["path"] = printable(path)
    if isinstance(result, Failure):
        return {**row, "error": result.reason}
    try:
        image = read_rgb(path, detector.config.white_level)
        heat_range = detector.header.heat_range
        save_picture(picture, overlay(image, result.anomaly_map, heat_range, result.score))
    except UrdError as error:
        return {**row, "score": result.score, "error": str(error)}
    height, width = result.size
    return {
        **row,
        "score": result.score,
        "width": width,
        "height": height,
        "overlay": f"overlays/{picture.name}",
    }


def overlay_names(paths: Sequence[Path]) -> list[str]:
    """A picture's name for each image: its own, with folder or number where two are alike."""
    from urd.files import printable

    taken: set[str] = set()
    names = []
    for path in paths:
        stem = printable(Path(path.stem))[:_NAME_LENGTH]
        candidates = [stem, f"{path.parent.name[:_NAME_LENGTH]}_{stem}"]
        candidates += [f"{candidates[1]}_{n}" for n in range(2, len(paths) + 2)]
        name = next(c for c in candidates if c.lower() not in taken)
        taken.add(name.lower())
        names.append(f"{name}.png")
    return names
