"""`urd tensorboard`."""

from __future__ import annotations

from pathlib import Path

import click


@click.command()
@click.argument("runs", nargs=-1, required=True, metavar="RUN...", type=click.Path(path_type=Path))
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    required=True,
    help="Folder for TensorBoard; each run gets a folder in it.",
)
def tensorboard(runs: tuple[Path, ...], out: Path) -> None:
    """Write the training curves of runs as events of TensorBoard.

    RUN is a run folder of urd fit, finished or not. The curves come from its metrics.jsonl. A
    second call replaces the events. To see them, run: tensorboard --logdir OUT
    """
    from urd.errors import UsageError
    from urd.results.tensorboard import write_events

    named = {run.absolute().name: run for run in runs}
    if len(named) < len(runs):
        raise UsageError("two runs have the same name: call urd tensorboard once for each --out")
    for name, run in named.items():
        print(f"{write_events(run, out / name)} values in {out / name}")
