"""Flags that say where the jobs of a verb run."""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import click

from urd.cli.options import with_flags

if TYPE_CHECKING:
    from pathlib import Path

    from urd.suites.executor import Execution
    from urd.suites.runner import Outcome


def execution_options(function: Callable[..., None]) -> Callable[..., None]:
    """Flags for the executor; the verb gets `execution`."""

    @functools.wraps(function)
    def with_execution(on: str, jobs: int, sbatch: str, submit: bool, **options: Any) -> None:
        from urd.suites.executor import Execution

        function(execution=Execution(on, jobs, sbatch, submit), **options)

    flags = [
        click.option(
            "--on",
            default="local",
            show_default=True,
            metavar="WHERE",
            help="Where jobs run: local, ray (on this machine), ray:ADDRESS (a Ray cluster), or "
            "slurm (writes OUT/array.sbatch).",
        ),
        click.option(
            "--jobs",
            type=click.IntRange(0, 256),
            default=0,
            help="Jobs at once.  [default: one per GPU or one per 8 cores; on a cluster all that "
            "fit]",
        ),
        click.option(
            "--sbatch",
            default="",
            metavar="OPTIONS",
            help="With --on slurm: options for sbatch, such as '--time=2:00:00 --gres=gpu:1'.",
        ),
        click.option(
            "--submit", is_flag=True, help="With --on slurm: call sbatch with the script."
        ),
    ]
    return with_flags(flags, with_execution)


def end(execution: Execution, out: Path, outcome: Outcome, words: tuple[str, str, str]) -> None:
    """Print what jobs have become, and exit with 1 if one failed.

    Args:
        words: for jobs that ran, for those that were done before, and the file to look at.
    """
    ran, kept, see = words
    _show_failed(outcome.failed)
    _show_script(execution, out, outcome.waiting)
    waiting = f"{len(outcome.waiting)} waiting, " if outcome.waiting else ""
    print(
        f"{len(outcome.ran)} {ran}, {len(outcome.kept)} {kept}, {waiting}"
        f"{len(outcome.failed)} failed; see {out / see}"
    )
    if outcome.failed:
        raise SystemExit(1)


def _show_script(execution: Execution, out: Path, waiting: list[str]) -> None:
    """Print the script for SLURM, unless it was submitted."""
    from urd.suites.slurm_executor import SCRIPT_NAME

    script = out / SCRIPT_NAME
    if execution.on == "slurm" and not execution.submit and waiting and script.exists():
        print(script.read_text(encoding="utf-8"))
        print(f"Now run: sbatch {script}")


def _show_failed(failed: Mapping[str, str]) -> None:
    """Print each reason once, with the jobs that it stopped."""
    by_reason: dict[str, list[str]] = {}
    for name, reason in failed.items():
        by_reason.setdefault(reason, []).append(name)
    for reason, names in by_reason.items():
        alone = len(names) == 1
        print(f"failed {names[0] if alone else f'{len(names)} jobs'}: {reason}", file=sys.stderr)
        for name in () if alone else names:
            print(f"  {name}", file=sys.stderr)
