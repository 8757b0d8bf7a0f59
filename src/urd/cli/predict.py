"""`urd predict`."""

from __future__ import annotations

import sys
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import click

from urd.cli.listed_names import with_listed
from urd.cli.options import Opening, detector_options, inspection_options, only_writer
from urd.cli.predict_on import NG_FOUND, OVERLAY_SIZE, cluster_options

if TYPE_CHECKING:
    from urd.inspection.judge import Inspection

_FAIL_ON_NG = f"Exit code {NG_FOUND} if an image is NG; it stays 1 if one cannot be judged."


@click.command()
@click.argument("run", type=click.Path(path_type=Path))
@click.argument("images", nargs=-1, required=True, type=click.Path())
@click.option("--out", type=click.Path(), required=True, help="Folder to write to.")
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
@click.option(
    "--overlay-size",
    type=click.IntRange(min=0),
    default=OVERLAY_SIZE,
    show_default=True,
    metavar="PX",
    help="Longer side of the overlays of larger images; 0 keeps every pixel.",
)
@click.option("--maps", is_flag=True, help="Also write anomaly maps, as float32 TIFF.")
@click.option(
    "--json",
    "json_file",
    type=click.Path(path_type=Path, allow_dash=True),
    help="Also write the rows here, as JSON lines; - prints them, and all other text goes to "
    "standard error.",
)
@click.option("--overwrite", is_flag=True, help="Write into --out even if it is not empty.")
@cluster_options
def predict(
    run: Path,
    images: tuple[str, ...],
    out: Path,
    batch_size: int,
    opening: Opening,
    inspection: Inspection,
    fail_on_ng: bool,
    overlays: str,
    overlay_size: int,
    maps: bool,
    json_file: Path | None,
    overwrite: bool,
) -> None:
    """Judge IMAGES with RUN (a run folder or a model file).

    IMAGES are files, folders, globs, or - for a list on standard input with one path per line.
    Folders are searched with all their subfolders and links. Masks in ground_truth and folders with
    earlier results are left out.

    The command writes predictions.jsonl, predictions.csv, one heat-map overlay per image, and
    index.html (a page with the worst images first) to --out. A row holds the verdict, the raw and
    the calibrated score (0.5 is the limit of OK), and the defects in pixels of the image. An image
    that cannot be judged gets the verdict ERROR and a reason; then the exit code is 1. With --maps,
    the raw map of each image is written to --out/maps at the size of the image. urd metrics can
    read the maps of a test folder.
    """
    from urd.cli.predict_words import camera, reduced_overlays, summary
    from urd.data import find_named
    from urd.errors import UsageError
    from urd.model.run_folder import model_file_of
    from urd.results.prediction_files import ROWS_NAME, predict_to
    from urd.system import progress
    from urd.system.files import refuse_existing, write_text

    progress.show()
    only_writer(out)
    if run.is_dir() and not model_file_of(run).is_file():
        opening.open(run)  # says what is wrong: RUN and IMAGES may have changed places
    found = find_named(with_listed(images), out)
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
    printed = str(json_file) == "-"  # the rows, for other programs
    rows = predict_to(
        out,
        detector,
        paths,
        batch_size,
        inspection,
        maps=maps,
        overlays=overlays,
        overlay_side=overlay_size,
        run=run,
        each=partial(print, flush=True) if printed else None,
    )
    if json_file is not None and not printed:
        write_text(json_file, (out / ROWS_NAME).read_text("utf-8"))
    failed = [row for row in rows if row["error"]]
    for row in failed:
        print(f"{row['verdict'] or 'failed'} {row['path']}: {row['error']}", file=sys.stderr)
    lines = list(summary(rows, run, out, thresholds))
    if odd := [row for row in rows if row["camera"]]:
        lines.append(camera(len(odd), odd[0]["path"], odd[0]["camera"][0]))
    if remark := reduced_overlays(rows, overlay_size):
        lines.append(remark)
    print("\n".join(lines), file=sys.stderr if printed else sys.stdout)
    if failed:
        raise SystemExit(1)
    if fail_on_ng and any(row["verdict"] == "NG" for row in rows):
        raise SystemExit(NG_FOUND)
