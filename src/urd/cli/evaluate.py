"""`urd evaluate`."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from urd.cli.options import Opening, detector_options, only_writer
from urd.cli.tables import metrics_table, resamples_option


@click.command()
@click.argument("run", type=click.Path(path_type=Path))
@click.argument("data", type=click.Path())
@click.option(
    "--json", "json_file", type=click.Path(path_type=Path), help="Write the figures here."
)
@detector_options
@resamples_option
def evaluate(
    run: Path,
    data: str,
    json_file: Path | None,
    batch_size: int,
    opening: Opening,
    resamples: int,
) -> None:
    """Compute metrics of RUN (a run folder or a model file) on the labelled test images of DATA.

    Labels come from the folders (test/good and test/<defect>, or the layout of a benchmark). Masks
    come from ground_truth. The figures are also written to RUN/evaluation.json. Images that cannot
    be judged are counted first and left out of the metrics; then the exit code is 1.
    """
    from urd.evaluation.tally import Tally
    from urd.results.counts import sentences
    from urd.system import progress
    from urd.system.files import write_json

    progress.show()
    if run.is_dir():
        only_writer(run)
    detector = opening.open(run)
    evaluation = detector.evaluation(data, batch_size, resamples)
    result = evaluation.metrics
    tally = Tally.of(evaluation.images)
    if tally.not_judged:
        print(
            f"Not judged: {tally.not_judged} of {tally.images} images; the metrics leave them out."
        )
    metrics_table(
        f"{result['data']}: {result['n_good']} good, {result['n_defective']} defective\n"
        f"{result['variant']}, {result['backbone']}, seed {result['seed']}; "
        f"computed in {result['inference_precision']}\n{result['protocol']}",
        result,
    )
    print("\n".join(sentences(tally)))
    if json_file is not None:
        write_json(json_file, result)
    if run.is_dir():
        evaluation.write(run)
    for failure in evaluation.failures:
        print(f"not judged {failure.path}: {failure.reason}", file=sys.stderr)
    if evaluation.failures:
        raise SystemExit(1)
