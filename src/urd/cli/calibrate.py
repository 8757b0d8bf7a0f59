"""`urd calibrate`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from urd.cli.options import inference_options, reading_options, region_options

if TYPE_CHECKING:
    from urd.calibration import Thresholds


@click.command()
@click.argument("run", type=click.Path(path_type=Path))
@click.argument("good", type=click.Path(path_type=Path))
@click.option(
    "--out", type=click.Path(path_type=Path), help="Write the model file here, not to RUN."
)
@click.option(
    "--false-reject",
    type=float,
    default=0.01,
    show_default=True,
    help="Wanted share of good images judged NG.",
)
@click.option(
    "--review",
    type=float,
    default=0.05,
    show_default=True,
    help="Wanted share of good images judged REVIEW or NG.",
)
@inference_options
@click.option("--json", "json_file", type=click.Path(path_type=Path), help="Write thresholds here.")
@region_options
@reading_options
def calibrate(
    run: Path,
    good: Path,
    out: Path | None,
    false_reject: float,
    review: float,
    batch_size: int,
    device: str,
    precision: str | None,
    roi: str,
    ignore: str,
    max_megapixels: int | None,
    page: int | None,
    json_file: Path | None,
) -> None:
    """Take the thresholds of RUN (a run folder or a model file) from the images in GOOD.

    GOOD is a folder of good images that training did not see. The thresholds go into the model
    file, that of RUN unless --out is given; the share of good images that they will reject is
    bounded without assuming a distribution. Exit code 1 if an image could not be read.
    """
    import urd.progress
    from urd.data import read_layout
    from urd.detector import Detector
    from urd.engines import EXPORTED
    from urd.errors import UsageError
    from urd.files import write_json
    from urd.model_file import MODEL_NAME

    urd.progress.show()
    if run.suffix.lower() in EXPORTED:
        raise UsageError(f"{run} cannot be changed: calibrate the run it is from, and export anew")
    data = read_layout(good)
    if data.layout != "folder":
        raise UsageError(
            f"{good} is a data set with its own training and test images; give a folder of good "
            "images that training did not see"
        )
    detector = Detector.load(run, device, precision)
    detector.reading = detector.reading.changed(max_megapixels=max_megapixels, page=page)
    if roi or ignore:
        detector.inspect_in(roi, ignore)
    detector.calibrate(
        [sample.path for sample in data.train],
        str(good),
        false_reject=false_reject,
        review=review,
        batch_size=batch_size,
    )
    detector.save(out or (run / MODEL_NAME if run.is_dir() else run))
    thresholds = detector.thresholds()
    assert thresholds is not None
    if json_file is not None:
        write_json(json_file, thresholds.to_dict())
    print_thresholds(thresholds)
    for failure in detector.failures:
        print(f"skipped {failure.path}: {failure.reason}", file=sys.stderr)
    if detector.failures:
        raise SystemExit(1)


def print_thresholds(thresholds: Thresholds) -> None:
    """A table of what is known of each threshold."""
    from rich.console import Console
    from rich.table import Table

    from urd.calibration import enough_images

    table = Table("above it", "threshold", "wanted", "expected", "at most (95 %)", "images")
    table.add_column("to halve that")
    rows = (("REVIEW", thresholds.review), ("NG", thresholds.reject), ("pixels", thresholds.pixel))
    for name, limit in rows:
        shares = (f"{100 * share:.2g} %" for share in (limit.wanted, limit.expected, limit.bound))
        more = f"{limit.more_images} more"
        table.add_row(name, f"{limit.threshold:.4f}", *shares, str(limit.n), more)
    console = Console()
    console.print(table)
    short = [limit for _, limit in rows[:2] if limit.expected > limit.wanted]
    if short:
        limit = short[-1]
        console.print(
            f"{limit.n} images are too few for {100 * limit.wanted:.2g} %: the threshold is the "
            f"largest score among them. {enough_images(limit.wanted)} images are enough."
        )
