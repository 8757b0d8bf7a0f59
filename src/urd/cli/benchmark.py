"""`urd benchmark`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from urd.cli.execution_options import end, execution_options
from urd.cli.options import given
from urd.config import FitConfig, options

if TYPE_CHECKING:
    from urd.suites.executor import Execution
    from urd.suites.suite import Job, Suite

Function = TypeVar("Function", bound=Callable[..., Any])


def _machine_options(function: Function) -> Function:
    """The machine flags of `urd fit`, except --weights: a suite has one file per backbone."""
    for name in reversed([name for name in options(scope="machine") if name != "weights"]):
        option = FitConfig.__dataclass_fields__[name]
        help_text = f"{option.metadata['help']}  [default: {option.default}]"
        function = click.option(f"--{name.replace('_', '-')}", name, help=help_text)(function)
    return function


@click.command()
@click.argument("suite", required=False)
@click.option("--out", type=click.Path(path_type=Path), help="Folder for results and tables.")
@click.option("--list", "list_suites", is_flag=True, help="List the suites that come with urd.")
@click.option(
    "--root", "roots", multiple=True, metavar="DATA=DIR", help="Folder of a data set; repeatable."
)
@click.option(
    "--weights",
    multiple=True,
    metavar="[TAG=]FILE",
    help="Weight file for all backbones, or for one timm tag; repeatable.",
)
@_machine_options
@execution_options
@click.option("--resamples", type=click.IntRange(0, 100_000), default=1000, show_default=True)
@click.option("--keep-models", is_flag=True, help="Keep the run folders of finished jobs.")
@click.option(
    "--dry-run", is_flag=True, help="List the jobs; with --out and --root only the missing ones."
)
def benchmark(
    suite: str | None,
    out: Path | None,
    list_suites: bool,
    roots: tuple[str, ...],
    weights: tuple[str, ...],
    execution: Execution,
    resamples: int,
    keep_models: bool,
    dry_run: bool,
    **of_machine: Any,
) -> None:
    """Train and evaluate all jobs of SUITE and write tables in Markdown, CSV and LaTeX.

    SUITE is a YAML file, or the name of a suite that comes with urd. A second call runs only the
    missing jobs. A stopped job continues from its checkpoint. A failed job does not stop the
    others. With --device auto, each GPU runs one job. The exit code is 1 if a job failed.

    With --on slurm, the jobs run later: call it again to take their results.
    """
    from urd.errors import UsageError
    from urd.suites.places import Places
    from urd.suites.runner import missing_jobs, run_suite
    from urd.suites.suite import read_suite, shipped_suites
    from urd.system import progress

    if list_suites:
        for name in shipped_suites():
            shipped = read_suite(name)
            print(f"{name}: {shipped.title} ({len(shipped.jobs)} jobs)")
        return
    if suite is None or (out is None and not dry_run):
        raise UsageError("give SUITE and --out, or --list")
    progress.show()
    plan = read_suite(suite)
    places = Places(
        roots={name: Path(root) for name, root in map(_named, roots)},
        weights=dict(_weights(text) for text in weights),
        options=given(of_machine),
        execution=execution,
        keep_models=keep_models,
        resamples=resamples,
    )
    if dry_run or out is None:
        _show_jobs(missing_jobs(plan, out, places) if out and roots else plan.jobs, plan)
        return
    try:
        outcome = run_suite(plan, out, places)
    except KeyboardInterrupt as error:
        raise KeyboardInterrupt("stopped; run the same command to continue") from error
    end(execution, out, outcome, ("jobs done", "already done", f"{plan.name}.md"))


def _show_jobs(jobs: Sequence[Job], plan: Suite) -> None:
    for job in jobs:
        print(job.name)
    if not jobs:
        print(f"nothing to do: {len(plan.jobs)} of {len(plan.jobs)} done")


def _weights(text: str) -> tuple[str, str]:
    """Split TAG=FILE. A tag has no slash, so a path with = in it is still a path."""
    from urd.suites.places import EVERY

    tag, equals, file = text.partition("=")
    return (tag, file) if equals and "/" not in tag else (EVERY, text)


def _named(text: str) -> tuple[str, str]:
    from urd.errors import UsageError

    name, equals, value = text.partition("=")
    if not equals or not value:
        raise UsageError(f"'{text}' is not of the form NAME=PATH")
    return name, value
