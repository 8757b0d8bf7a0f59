"""`urd predict`."""

from __future__ import annotations

import io
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from urd.cli.options import Opening, detector_options, inspection_options, only_writer

if TYPE_CHECKING:
    from urd.inspection.judge import Inspection

NG_FOUND = 3
_FAIL_ON_NG = f"Exit code {NG_FOUND} if an image is NG; it stays 1 if one cannot be judged."


@click.command()
@click.argument("run", type=click.Path(path_type=Path))
@click.argument("images", nargs=-1, required=True)
@click.option("--out", type=click.Path(path_type=Path), required=True, help="Folder to write to.")
@detector_options
@inspection_options
@click.option("--fail-on-ng", is_flag=True, help=_FAIL_ON_NG)
@click.option(
    "--overlays",
    type=click.Choice(["all", "rejects", "none"]),
    default="all",
    show_default=True,
    help="Which images get an overlay; rejects: REVIEW and NG.",
)
@click.option("--maps", is_flag=True, help="Also write anomaly maps, as float32 TIFF.")
@click.option("--overwrite", is_flag=True, help="Write into --out even if it is not empty.")
def predict(
    run: Path,
    images: tuple[str, ...],
    out: Path,
    batch_size: int,
    opening: Opening,
    inspection: Inspection,
    fail_on_ng: bool,
    overlays: str,
    maps: bool,
    overwrite: bool,
) -> None:
    """Judge IMAGES with RUN (a run folder or a model file).

    IMAGES are files, folders, globs, or - for a list on standard input with one path per line.
    Folders are searched with all their subfolders and links. Masks in ground_truth and folders with
    earlier results are left out.

    The command writes predictions.jsonl, predictions.csv and one heat-map overlay per image to
    --out. A row holds the verdict, the raw and the calibrated score (0.5 is the limit of OK), and
    the defects in pixels of the image. An image that cannot be judged gets the verdict ERROR and a
    reason; then the exit code is 1. With --maps, the raw map of each image is written to --out/maps
    at the size of the image. urd metrics can read the maps of a test folder.
    """
    from urd.data import find_named
    from urd.errors import UsageError
    from urd.evaluation.tally import VERDICTS
    from urd.results.prediction_files import predict_to
    from urd.system import progress
    from urd.system.files import refuse_existing

    progress.show()
    only_writer(out)
    found = find_named(_with_listed(images), out)
    for line in found.passed_over():
        progress.note(line)
    paths = found.images
    refuse_existing(out, allowed=overwrite, hint="--overwrite to write into it")
    detector = opening.open(run)
    thresholds = detector.thresholds(inspection)
    if thresholds is None and overlays == "rejects":
        raise UsageError(f"{run} has no thresholds to reject by: run urd calibrate RUN GOOD")
    if thresholds is None and (fail_on_ng or inspection.names_shares):
        raise UsageError(f"{run} has no thresholds: run urd calibrate RUN GOOD")
    rows = predict_to(out, detector, paths, batch_size, inspection, maps=maps, overlays=overlays)
    failed = [row for row in rows if row["error"]]
    for row in failed:
        print(f"{row['verdict'] or 'failed'} {row['path']}: {row['error']}", file=sys.stderr)
    verdicts = Counter(row["verdict"] for row in rows)
    print(f"{len(rows) - verdicts['ERROR']} images judged, {verdicts['ERROR']} not; see {out}")
    if thresholds is None:
        print(f"No thresholds, so no verdicts except ERROR: run urd calibrate {run} GOOD")
    else:
        print(", ".join(f"{verdicts[name]} {name}" for name in VERDICTS))
    if thresholds is not None and (short := thresholds.shortfall()):
        print(short)
    if odd := [row for row in rows if row["camera"]]:
        print(f"Camera: {len(odd)} images are odd. {odd[0]['path']}: {odd[0]['camera'][0]}")
    if failed:
        raise SystemExit(1)
    if fail_on_ng and verdicts["NG"]:
        raise SystemExit(NG_FOUND)


def _with_listed(names: Sequence[str]) -> list[str]:
    """The names without `-`, followed by those on standard input if `-` is among them."""
    from urd.errors import UsageError

    if "-" not in names:
        return list(names)
    if isinstance(sys.stdin, io.TextIOWrapper):  # file names may not be UTF-8
        sys.stdin.reconfigure(errors="surrogateescape")
    listed = [line.rstrip("\r\n") for line in sys.stdin]
    wanted = [*(name for name in names if name != "-"), *filter(None, listed)]
    if not wanted:
        raise UsageError("there are no paths on standard input")
    return wanted
