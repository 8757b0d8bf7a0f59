"""`urd evaluate`."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from urd.cli.options import inference_options, only_writer, reading_options, roi_options
from urd.cli.tables import metrics_table, resamples_option


@click.command()
@click.argument("run", type=click.Path(path_type=Path))
@click.argument("data")
@click.option(
    "--json", "json_file", type=click.Path(path_type=Path), help="Write the figures here."
)
@inference_options
@resamples_option
@roi_options
@reading_options
def evaluate(
    run: Path,
    data: str,
    json_file: Path | None,
    batch_size: int,
    device: str,
    precision: str | None,
    roi: str,
    ignore: str,
    max_megapixels: int | None,
    page: int | None,
    resamples: int,
) -> None:
    """Compute metrics of RUN (a run folder or a model file) on the labelled test images of DATA.

    Labels come from the folders (test/good and test/<defect>, or the layout of a benchmark). Masks
    come from ground_truth. The figures are also written to RUN/evaluation.json. Images that cannot
    be judged are counted first and left out of the metrics; then the exit code is 1.
    """
    from urd.detector import Detector
    from urd.evaluation.tally import Tally
    from urd.system import progress
    from urd.system.files import write_json

    progress.show()
    if run.is_dir():
        only_writer(run)
    detector = Detector.load(run, device, precision)
    detector.reading = detector.reading.changed(max_megapixels=max_megapixels, page=page)
    if roi or ignore:
        detector.inspect_in(roi, ignore)
    evaluation = detector.evaluation(data, batch_size, resamples)
    result = evaluation.metrics
    tally = Tally.of(evaluation.images)
    if tally.not_judged:
        print(
            f"Not judged: {tally.not_judged} of {tally.images} images; the metrics leave them out."
        )
    metrics_table(
        f"{result['data']}: {result['n_good']} good, {result['n_defective']} defective\n"
        f"{result['variant']}, {result['backbone']}, seed {result['seed']}\n{result['protocol']}",
        result,
    )
    print(tally.sentence())
    if json_file is not None:
        write_json(json_file, result)
    if run.is_dir():
        evaluation.write(run)
    for failure in evaluation.failures:
        print(f"not judged {failure.path}: {failure.reason}", file=sys.stderr)
    if evaluation.failures:
        raise SystemExit(1)
