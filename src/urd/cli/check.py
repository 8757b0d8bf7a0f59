"""`urd check`."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import click

from urd.cli.options import DATA, reading_option

if TYPE_CHECKING:
    from urd.data.check import Report

_TITLES = {
    "not_used": "folders with images that are not used",
    "empty_folder": "folders for test images without images",
    "unreadable": "files that cannot be used",
    "mask_size": "masks that differ in size from their image",
    "empty_mask": "masks that mark nothing",
    "marked_good_image": "masks of good images that mark something",
    "mask_over_half": "masks that mark more than half of their image (white marks, black does not)",
    "mask_transparency": "masks that mark by transparency instead of colour",
    "disputed_mask": "masks that belong to two images",
    "mask_without_image": "masks without an image",
    "defective_without_mask": "defective images without a mask",
    "white_level": "images that suggest another --white-level",
    "duplicate": "duplicate images",
    "train_test_leak": "images of the training (or validation) set that are also in another set",
}
_SHOWN = 10


@click.command()
@click.argument("data", type=DATA)
@click.option(
    "--false-reject",
    type=click.FloatRange(0, 1, min_open=True, max_open=True),
    default=0.01,
    show_default=True,
    metavar="X",
    help="Share of good parts that may be rejected: says how many good images that needs.",
)
@click.option("--json", "json_file", type=click.Path(path_type=Path), help="Write the report here.")
@reading_option("white_level", default="65535")
@reading_option("max_megapixels", default="100")
@reading_option("page", default="0")
def check(data: str, false_reject: float, json_file: Path | None, **reading: int | None) -> None:
    """Show the layout, counts, sizes, modes and problems of DATA, and what could be better.

    DATA is a data folder or a glob, as for urd fit. Nothing is written and no model is needed. The
    exit code is 1 if there is a problem; suggestions do not change it.
    """
    from urd.data import Reading
    from urd.data.check import check as check_data
    from urd.system import progress
    from urd.system.files import write_json

    progress.show()
    report = check_data(data, Reading().changed(**reading))
    report.suggestions += _enough_good_images(report.counts["train/good"], false_reject)
    if json_file is not None:
        write_json(json_file, report.to_dict())
    _print(report)
    if report.problems:
        raise SystemExit(1)


def _print(report: Report) -> None:
    print(f"{report.root}: layout {report.layout}")
    for title, counts in (
        ("images", report.counts),
        ("sizes", report.sizes),
        ("modes", report.modes),
        ("cameras", report.cameras),
    ):
        if not counts:
            continue
        print(f"  {title}: {', '.join(f'{name} {count}' for name, count in counts.items())}")
    for line in _of_folders(report):
        print(f"  {line}")
    for kind, entries in report.problems.items():
        print(f"  {len(entries)} {_TITLES[kind]}:")
        for entry in entries[:_SHOWN]:
            print(f"    {entry}")
        if len(entries) > _SHOWN:
            print(f"    and {len(entries) - _SHOWN} more (--json writes all of them)")
    if not report.problems:
        print("  no problems found")
    if report.suggestions:
        print("  suggestions:")
    for line in report.suggestions:
        print(f"    {line}")


def _enough_good_images(good: int, share: float) -> Iterator[str]:
    """Whether the images that `urd fit` holds out are enough for a share of false rejects."""
    from urd.config import FitConfig
    from urd.inspection.calibration import enough_images, limit
    from urd.training.holdout_count import holdout_count

    held, enough = holdout_count(good, FitConfig().holdout), enough_images(share)
    if held >= enough or not held:
        return
    now, then = (limit(range(count), share) for count in (held, enough))
    needed = math.ceil(100 * enough / good) / 100
    more = f"pass --holdout {needed} to urd fit, or " if needed <= 0.5 else ""
    yield (
        f"for {100 * share:.2g} % false rejects {more}run urd calibrate RUN GOOD with {enough} "
        f"other good images: urd fit holds out {held} of {good} for the thresholds, which gives "
        f"{100 * now.expected:.2g} % (at most {100 * now.bound:.2g} %, 95 % sure); {enough} give "
        f"{100 * then.expected:.2g} % (at most {100 * then.bound:.2g} %)"
    )


def _of_folders(report: Report) -> Iterator[str]:
    from urd.errors import some

    if len(report.folders) > len(report.counts):
        yield f"in folders: {some([f'{name} {n}' for name, n in report.folders.items()])}"
    if report.links:
        yield f"linked folders: {some(report.links)}"
    yield from report.passed_over
