"""`urd fit-all`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from urd.cli.execution_options import end, execution_options
from urd.cli.options import GroupedCommand, base_options, config_options, given

if TYPE_CHECKING:
    from urd.suites.executor import Execution


@click.command("fit-all", cls=GroupedCommand)
@click.argument("root", type=click.Path(path_type=Path))
@click.option("--out", type=click.Path(path_type=Path), help="Folder for the runs and their list.")
@base_options
@execution_options
@click.option(
    "--dry-run", is_flag=True, help="List the categories; with --out only those it would train."
)
@config_options
def fit_all(
    root: Path,
    out: Path | None,
    preset: str | None,
    config_file: Path | None,
    execution: Execution,
    dry_run: bool,
    **options: Any,
) -> None:
    """Train one model for each category below ROOT.

    A category is a folder of good images, or one in MVTec layout, at any depth below ROOT. All get
    the same settings. Each run is OUT/runs/CATEGORY, with its report. OUT/models.html and
    OUT/models.json list all models and what went wrong.

    A second call trains only what is missing: new categories, and those whose good images or
    settings have changed. A stopped training continues. An old model stays until the new one is
    finished. The exit code is 1 if a category failed.
    """
    from urd.config import resolve_config
    from urd.errors import UsageError
    from urd.suites.fit_all import fit_all as train_all
    from urd.suites.fit_all import missing_categories
    from urd.suites.model_records import PAGE_NAME
    from urd.system import progress

    progress.show()
    config = resolve_config(preset=preset, config_file=config_file, options=given(options))
    if dry_run:
        for category in missing_categories(root, out, config):
            print(category)
        return
    if out is None:
        raise UsageError("give --out: a folder for the runs")
    try:
        outcome = train_all(root, out, config, execution)
    except KeyboardInterrupt as error:
        raise KeyboardInterrupt("stopped; run the same command to continue") from error
    end(execution, out, outcome, ("models trained", "already there", PAGE_NAME))
