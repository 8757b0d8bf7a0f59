"""Tables of metrics on the terminal."""

from __future__ import annotations

from typing import Any

import click

resamples_option = click.option(
    "--resamples",
    type=click.IntRange(0, 100_000),
    default=1000,
    show_default=True,
    help="Bootstrap resamples of the test images, for 95 % intervals; 0: no intervals.",
)


def compared(ratio: float) -> str:
    """A ratio of speeds in words: 1.4 times faster, or 1.4 times slower for 0.7."""
    ratio, word = (ratio, "faster") if ratio >= 1 else (1 / ratio, "slower")
    return "as fast" if ratio < 1.05 else f"{ratio:.1f} times {word}"


def metrics_table(title: str, result: dict[str, Any]) -> None:
    """Print a result of `urd.metrics.evaluate`; a table per type of defect follows for several."""
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    from urd.metrics import METRICS
    from urd.metrics.protocol import describe

    table = Table("metric", title=escape(title), title_justify="left")
    table.add_column("value", justify="right")
    if any(name.endswith("_low") for name in result):
        table.add_column("95 % interval")
    for row in describe(result):
        table.add_row(*row[: len(table.columns)])
    console = Console()
    console.print(table)
    if result.get("n_vanished_masks"):
        console.print(
            f"{result['n_vanished_masks']} masks are empty after resizing: they have no component."
        )
    by_type = [metric for metric in METRICS.values() if metric.by_type]
    types = [name.partition(":")[2] for name in result if name.startswith(f"{by_type[0].name}:")]
    if len(types) > 1:
        of_types = Table("defect", *(m.title for m in by_type), title="By type of defect")
        for name in types:
            values = (result.get(f"{metric.name}:{name}") for metric in by_type)
            of_types.add_row(escape(name), *("-" if v is None else f"{v:.4f}" for v in values))
        console.print(of_types)
