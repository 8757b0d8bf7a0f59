"""`urd report`."""

from __future__ import annotations

from pathlib import Path

import click

from urd.cli.options import reading_options, roi_options


@click.command()
@click.argument("run", type=click.Path(path_type=Path))
@click.option(
    "--out", type=click.Path(path_type=Path), help="HTML file to write.  [default: RUN/report.html]"
)
@click.option("--device", default="auto", show_default=True, help="auto, cpu, cuda or cuda:N.")
@roi_options
@reading_options
def report(
    run: Path,
    out: Path | None,
    device: str,
    roi: str,
    ignore: str,
    max_megapixels: int | None,
    page: int | None,
) -> None:
    """Write one HTML file about RUN (a run folder or a model file), without external resources.

    It begins with the mistakes: missed defects, good parts rejected or sent to review, images not
    judged, each with its interval. Then come scores and thresholds, pictures of every mistake (the
    worst first), borderline cases, expected and observed false rejects, metrics and curves, the
    training, settings and provenance. The test figures come from the last `urd evaluate RUN DATA`.
    """
    from urd.results.report import write_report
    from urd.system import progress

    progress.show()
    reading = {"max_megapixels": max_megapixels, "page": page}
    print(f"Report: {write_report(run, out, device, roi=roi, ignore=ignore, **reading)}")
