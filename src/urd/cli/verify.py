"""`urd verify`."""

from __future__ import annotations

from pathlib import Path

import click

from urd.cli.options import ImageFolder, Opening, detector_options

WRONG_FOUND = 3


@click.command()
@click.argument("run", type=click.Path(path_type=Path))
@click.argument("parts", type=ImageFolder())
@click.option(
    "--strict", is_flag=True, help="REVIEW is wrong too, for good parts and for bad parts."
)
@click.option(
    "--store",
    type=click.Path(path_type=Path),
    help="Use the thresholds that a person has set in this store.",
)
@click.option(
    "--json", "json_file", type=click.Path(path_type=Path), help="Write all results here."
)
@detector_options
def verify(
    run: Path,
    parts: Path,
    strict: bool,
    store: Path | None,
    json_file: Path | None,
    batch_size: int,
    opening: Opening,
) -> None:
    """Judge limit samples with RUN: parts of which you know whether they are good or bad.

    Run this at the start of a shift, and after each new model or threshold. PARTS has the folders
    good and bad. A good part must not be NG, and a bad part must not be OK. REVIEW is right for
    both, because a person then looks at the part. The exit code is 3 if a part is judged wrongly or
    cannot be judged; the command names each of them.
    """
    from urd.serving.served_model import thresholds_in_force
    from urd.serving.verify import limit_samples
    from urd.serving.verify import verify as judge_samples
    from urd.system import progress
    from urd.system.files import write_json

    progress.show()
    samples = limit_samples(parts)
    detector = opening.open(run)
    inspection = thresholds_in_force(run, store)
    found = judge_samples(detector, samples, inspection, strict=strict, batch_size=batch_size)
    wrong = [sample for sample in found if sample.wrong]
    if json_file is not None:
        write_json(json_file, [sample.to_dict() for sample in found])
    for sample in wrong:
        print(f"WRONG {sample}")
    print(f"{len(found)} limit samples judged, {len(wrong)} wrongly.")
    if wrong:
        raise SystemExit(WRONG_FOUND)
