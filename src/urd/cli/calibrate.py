"""`urd calibrate`."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from urd.cli.options import SHARE, Opening, detector_options, only_writer

if TYPE_CHECKING:
    from urd.inspection.calibration import Thresholds


@click.command()
@click.argument("run", type=click.Path(path_type=Path))
@click.argument("good", type=click.Path(path_type=Path))
@click.option(
    "--out", type=click.Path(path_type=Path), help="Write the file here instead of into RUN."
)
@click.option(
    "--false-reject",
    type=SHARE,
    default=0.01,
    show_default=True,
    help="Target NG rate on good images.",
)
@click.option(
    "--review",
    type=SHARE,
    default=0.05,
    show_default=True,
    help="Target rate of REVIEW or NG on good images.",
)
@detector_options
@click.option(
    "--json", "json_file", type=click.Path(path_type=Path), help="Write the thresholds here."
)
def calibrate(
    run: Path,
    good: Path,
    out: Path | None,
    false_reject: float,
    review: float,
    batch_size: int,
    opening: Opening,
    json_file: Path | None,
) -> None:
    """Set the thresholds of RUN from the good images in GOOD.

    RUN is a run folder, a model file or an exported file (FILE.onnx or FILE.xml). GOOD is a folder
    of good images that training did not see. The thresholds are stored in the file of RUN, or in
    --out. An exported file gets thresholds from the scores of its own runtime. The bound on the
    rate of rejected good images assumes no distribution. Images from which the run has learned are
    refused: a run with a memory knows each of them, others only all of them together. The exit
    code is 1 if an image cannot be read.
    """
    from urd.data import read_good_images
    from urd.errors import UsageError
    from urd.model.run_folder import RunFolder, model_file_of
    from urd.model.schema import MOST_SCORES
    from urd.results.trained_on import refuse_trained_on
    from urd.system import progress
    from urd.system.files import printable, write_json

    progress.show()
    if out is None:
        only_writer(run if run.is_dir() else run.parent, below=run.is_dir())
    images = read_good_images(good)
    if len(images) > MOST_SCORES:  # the limit of a model file
        raise UsageError(f"{good} has {len(images)} images; use at most {MOST_SCORES}")
    detector = opening.open(run)
    refuse_trained_on(run, detector.header, images, detector.reading)
    if doubt := _doubt_about_folder(good):
        progress.warn(doubt)
    before = detector.thresholds()
    failures = detector.calibrate(
        images,
        str(good),
        false_reject=false_reject,
        review=review,
        batch_size=batch_size,
    )
    thresholds, calibration = detector.thresholds(), detector.header.calibration
    assert thresholds is not None and calibration is not None
    if before and (doubt := doubt_about_scores(calibration.scores, before)):
        progress.warn(doubt)
    detector.save(out or model_file_of(run))
    if run.is_dir() and out is None:
        content = {"folder": printable(good.absolute()), "thresholds": thresholds.to_dict()}
        write_json(RunFolder(run).calibration, content)
    if json_file is not None:
        write_json(json_file, thresholds.to_dict())
    print_thresholds(thresholds, before)
    if before and (moved := what_moved(before, thresholds)):
        print(moved)
    if run.is_dir() and out is None and RunFolder(run).report.exists():
        print(f"The report shows the thresholds before: run urd report {run} again.")
    for failure in failures:
        print(f"skipped {failure.path}: {failure.reason}", file=sys.stderr)
    if failures:
        raise SystemExit(1)


def _doubt_about_folder(good: Path) -> str | None:
    """A warning if a data set has these images among its defective ones: `test/scratch`."""
    folder = good.absolute()
    test = folder.parent
    in_data_set = (test / "good").is_dir() or (test.parent / "train").is_dir()
    if test.name == "test" and folder.name != "good" and in_data_set:
        return f"{good} is a folder of test/ that is not good: are these good parts?"
    return None


def doubt_about_scores(scores: Sequence[float], before: Thresholds) -> str | None:
    """A warning if half of the images (raw scores) would be NG by the thresholds before."""
    ng = sum(before.verdict(score) == "NG" for score in scores)
    if 2 * ng < len(scores):
        return None
    return (
        f"{ng} of these {len(scores)} images would be NG by the thresholds before: are they good "
        "parts? If not, calibrate again on good ones."
    )


def what_moved(before: Thresholds, now: Thresholds) -> str:
    """How the thresholds of REVIEW and NG changed, in words; empty if they did not."""
    moved = {}
    for name, limit in (("REVIEW", "review"), ("NG", "reject")):
        old, new = getattr(before, limit).threshold, getattr(now, limit).threshold
        if new != old:
            moved[name] = "rose" if new > old else "fell"
    if len(moved) == 2 and len(set(moved.values())) == 1:
        fewer = "fewer" if moved["NG"] == "rose" else "more"
        return f"Both thresholds {moved['NG']}: {fewer} images will be REVIEW or NG."
    changes = [f"the threshold of {name} {how}" for name, how in moved.items()]
    said = ", ".join(changes)
    return said and f"{said[0].upper()}{said[1:]}."


def print_thresholds(thresholds: Thresholds, before: Thresholds | None = None) -> None:
    """Print a table with each threshold, its rates, and its older value if there is one.

    The numbers of good images stand below it: a table of 80 columns has no room for them.
    """
    from rich.console import Console
    from rich.table import Table

    table = Table("verdict", title="Good images above each threshold", title_justify="left")
    headings = ["before", "now"] if before else ["threshold"]
    for heading in (*headings, "target", "expected", "95 % upper bound"):
        table.add_column(heading, justify="right")
    names = {"REVIEW": "review", "NG": "reject", "peaks": "peak", "pixels": "pixel"}
    if thresholds.peak == thresholds.review:  # the score is the peak
        del names["peaks"]
    for name, attribute in names.items():
        limit = getattr(thresholds, attribute)
        was = [f"{getattr(before, attribute).threshold:.4f}"] if before else []
        shares = (f"{100 * share:.2g} %" for share in (limit.wanted, limit.expected, limit.bound))
        table.add_row(name, *was, f"{limit.threshold:.4f}", *shares)
    console = Console()
    console.print(table)
    more = {name: getattr(thresholds, names[name]).more_images for name in ("NG", "REVIEW")}
    console.print(
        f"From {thresholds.reject.n} good images. {more['NG']} more, if none of them is above the "
        f"threshold, halve the bound of NG, and {more['REVIEW']} more that of REVIEW."
    )
    if short := thresholds.shortfall():
        console.print(short)
