"""`urd predict --on ray`: its flags, and what the verb says at the end."""

from __future__ import annotations

import dataclasses
import functools
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from urd.cli.listed_names import with_listed
from urd.cli.options import Opening, with_flags

if TYPE_CHECKING:
    from urd.bulk.predict import Outcome
    from urd.inspection.judge import Inspection

LOCAL = "local"
NG_FOUND = 3
OVERLAY_SIZE = 1600  # pixels of the longer side, if nobody asks for another size


def cluster_options(function: Callable[..., None]) -> Callable[..., None]:
    """Flags that let a cluster do the work of `urd predict`; the verb is then not called."""

    @functools.wraps(function)
    def on_this_machine_or_not(on: str, jobs: int, out: str, **options: Any) -> None:
        if on != LOCAL:
            raise SystemExit(predict_on(on, out=out, jobs=jobs, **options))
        refuse_without_cluster([*options["images"], out], jobs)
        function(out=Path(out), **options)

    flags = [
        click.option(
            "--on",
            default=LOCAL,
            show_default=True,
            metavar="WHERE",
            help="Where images are judged: local, ray (on this machine), or ray:ADDRESS (a Ray "
            "cluster). With ray, IMAGES and --out may be URIs such as s3://BUCKET/FOLDER, --out "
            "gets Parquet files, and the same command goes on after a stop.",
        ),
        click.option(
            "--jobs",
            type=click.IntRange(0, 4096),
            default=0,
            help="With --on ray: processes at once.  [default: all that fit]",
        ),
    ]
    return with_flags(flags, on_this_machine_or_not)


def refuse_without_cluster(names: Sequence[str], jobs: int) -> None:
    """Refuse what only a cluster can do.

    Raises:
        UsageError: one of the names is a URI, or `jobs` is given.
    """
    from urd.bulk.file_systems import is_uri
    from urd.errors import UsageError

    for uri in filter(is_uri, names):
        raise UsageError(f"{uri} is a URI, which needs --on ray")
    if jobs:
        raise UsageError("--jobs needs --on ray: one process on this machine uses all cores")


def predict_on(
    where: str,
    *,
    run: Path,
    images: tuple[str, ...],
    out: str,
    jobs: int,
    batch_size: int,
    opening: Opening,
    inspection: Inspection,
    fail_on_ng: bool,
    overlays: str,
    overlay_size: int,
    maps: bool,
    json_file: Path | None,
    overwrite: bool,
) -> int:
    """Judge images on a Ray cluster, print the counts, and return the exit code.

    Raises:
        UsageError, UrdError, KeyboardInterrupt: as `urd.bulk.predict.predict_on_ray`.
    """
    from urd.bulk.predict import Asked, predict_on_ray
    from urd.errors import UsageError
    from urd.system import progress
    from urd.system.ray_session import is_ray

    if not is_ray(where):
        raise UsageError(f"--on {where} cannot be used; choose local, ray or ray:ADDRESS")
    if maps or json_file is not None:
        flag = "--maps" if maps else "--json"
        raise UsageError(f"{flag} cannot be used with --on: run urd predict without --on")
    progress.show()
    asked = Asked(
        where,
        run,
        with_listed(images),
        out,
        inspection,
        **dataclasses.asdict(opening),
        batch_size=batch_size,
        overlays=overlays,
        overlay_side=overlay_size,
        overwrite=overwrite,
        workers=jobs,
        for_ng=fail_on_ng,
    )
    outcome = predict_on_ray(asked)
    _say(outcome, asked.run, out)
    if outcome.rows.n_failed:
        return 1
    return NG_FOUND if fail_on_ng and outcome.rows.verdicts["NG"] else 0


def _say(outcome: Outcome, run: Path, out: str) -> None:
    from urd.cli.predict_words import camera, counts, limits

    rows = outcome.rows
    for verdict, path, reason in rows.failed:
        print(f"{verdict or 'failed'} {path}: {reason}", file=sys.stderr)
    if (more := rows.n_failed - len(rows.failed)) > 0:
        print(f"and {more} more with an error", file=sys.stderr)
    for line in (
        *counts(rows.verdicts, out, outcome.thresholds),
        *limits(outcome.thresholds, run),
    ):
        print(line)
    if rows.odd is not None:
        print(camera(rows.n_odd, *rows.odd))
