"""`urd compare`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from urd.cli.options import DATA, ImageFolder, Opening, detector_options
from urd.cli.tables import resamples_option

if TYPE_CHECKING:
    from urd.results.compare import Comparison

_SHOWN = 20  # images with other verdicts
_MAPS = (".npy", ".tif", ".tiff")  # a PNG may be any picture


@click.command()
@click.argument("a", type=click.Path(path_type=Path))
@click.argument("b", type=click.Path(path_type=Path))
@click.argument("data", type=DATA, required=False)
@click.option(
    "--masks",
    type=ImageFolder(),
    help="Folder of ground-truth masks: A and B are folders of anomaly maps.",
)
@click.option(
    "--scores",
    type=(Path, Path),
    metavar="A B",
    help="With --masks: a file of image scores for each side, CSV with the columns path and score, "
    "or JSON. [default: maxima of maps]",
)
@click.option("--resize", is_flag=True, help="With --masks: resize maps to the size of the masks.")
@click.option(
    "--json", "json_file", type=click.Path(path_type=Path), help="Write the comparison here."
)
@detector_options
@resamples_option
def compare(
    a: Path,
    b: Path,
    data: str | None,
    masks: Path | None,
    scores: tuple[Path, Path] | None,
    resize: bool,
    json_file: Path | None,
    batch_size: int,
    opening: Opening,
    resamples: int,
) -> None:
    """Say whether B is better than A on the same labelled images.

    A and B are runs, model files or exported files, and DATA has labelled test images. Or, with
    --masks, A and B are folders of anomaly maps from any method.

    The interval of each difference comes from the paired bootstrap: both sides get the same images
    in each resample. If it does not contain 0, the better side is named. The images with other
    verdicts are listed.
    """
    from urd.errors import UsageError
    from urd.results.compare import compare_detectors, compare_maps
    from urd.system import progress
    from urd.system.files import write_json

    progress.show()
    if (data is None) == (masks is None):
        raise UsageError("give either DATA (A and B are runs) or --masks (A and B are map folders)")
    if masks is not None:
        found = compare_maps(a, b, masks, scores=scores, resize=resize, resamples=resamples)
    else:
        assert data is not None
        if scores is not None:
            raise UsageError("--scores needs --masks: a run scores its images itself")
        for side in (a, b):
            _refuse_maps(side)
        found = compare_detectors(opening.open(a), opening.open(b), data, batch_size, resamples)
    _show(found, a, b)
    if json_file is not None:
        write_json(json_file, {"a": str(a), "b": str(b), **found.to_dict()})


def _refuse_maps(side: Path) -> None:
    """Say what to do with a folder of maps in the place of a run."""
    from urd.errors import UsageError
    from urd.model.run_folder import model_file_of

    if not side.is_dir() or model_file_of(side).exists():
        return
    if any(path.suffix.lower() in _MAPS for path in side.rglob("*")):
        raise UsageError(
            f"{side} has no model, but maps: a folder of maps? give --masks FOLDER in place of "
            "DATA, and folders of maps as A and B"
        )


def _show(found: Comparison, a: Path, b: Path) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table("metric", title=f"{found.images} images", title_justify="left")
    for heading in ("A", "B", "B - A", "95 % interval", "better"):
        table.add_column(heading, justify="right")
    for d in found.differences:
        limits = "" if d.low is None else f"{d.low:+.4f} to {d.high:+.4f}"
        table.add_row(
            d.title, f"{d.a:.4f}", f"{d.b:.4f}", f"{d.difference:+.4f}", limits, d.better or "-"
        )
    console = Console()
    console.print(table)
    print(f"A: {a}, B: {b}")
    console.print(found.protocol, markup=False, highlight=False)
    if found.verdicts is None:
        return
    print(f"Other verdicts: {len(found.verdicts)} of {found.images} images.")
    for image in found.verdicts[:_SHOWN]:
        print(f"  {image.path} ({image.defect}): A {image.a}, B {image.b}")
    if len(found.verdicts) > _SHOWN:
        print(f"  and {len(found.verdicts) - _SHOWN} more; --json FILE lists all")
