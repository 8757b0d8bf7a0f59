"""Flags that say where the jobs of a verb run."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import click

from urd.cli.options import with_flags

if TYPE_CHECKING:
    from pathlib import Path

    from urd.suites.executor import Execution


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


def show_script(execution: Execution, out: Path, waiting: list[str]) -> None:
    """Print the script for SLURM, unless it was submitted."""
    from urd.suites.slurm_executor import SCRIPT_NAME

    script = out / SCRIPT_NAME
    if execution.on == "slurm" and not execution.submit and waiting and script.exists():
        print(script.read_text(encoding="utf-8"))
        print(f"Now run: sbatch {script}")
