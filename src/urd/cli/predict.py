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
    paths = find_images(images)
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


def find_images(names: Sequence[str]) -> list[Path]:
    """Files as they are, folders as the images below them, globs as what they match.

    Raises:
        UsageError: a folder or glob without images.
    """
    from urd.data import IMAGE_SUFFIXES
    from urd.errors import UsageError

    found: list[Path] = []
    for name in names:
        path = Path(name)
        if path.is_dir():
            matches = [p for p in sorted(path.rglob("*")) if p.suffix.lower() in IMAGE_SUFFIXES]
        elif glob.has_magic(name) and not path.exists():
            matches = sorted(map(Path, glob.glob(name, recursive=True)))  # noqa: PTH207 - absolute globs too
        else:
            matches = [path]  # a missing file becomes a row of its own
        if not matches:
            raise UsageError(f"no images in {name}")
        found += matches
    return list(dict.fromkeys(path for path in found if not path.is_dir()))


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
    from urd.pictures import overlay, save_picture

    row: dict[str, Any] = dict.fromkeys(COLUMNS)
    row["path"] = str(path)
    if isinstance(result, Failure):
        return {**row, "error": result.reason}
    image = read_rgb(path, detector.config.white_level)
    heat_range = detector.header.heat_range
    save_picture(picture, overlay(image, result.anomaly_map, heat_range, result.score))
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
    taken: set[str] = set()
    names = []
    for path in paths:
        candidates = [path.stem, f"{path.parent.name}_{path.stem}"]
        candidates += [f"{candidates[1]}_{n}" for n in range(2, len(paths) + 2)]
        name = next(c for c in candidates if c.lower() not in taken)
        taken.add(name.lower())
        names.append(f"{name}.png")
    return names
