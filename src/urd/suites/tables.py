"""Tables of the results of a suite: Markdown and LaTeX for people, CSV for programs."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from urd.metrics import METRICS
from urd.suites.records import MEASURED_IN, BenchmarkResult
from urd.suites.suite import Suite
from urd.suites.suite_file import PublishedRow
from urd.system.csv_text import csv_text
from urd.system.files import write_text

COLUMNS = tuple(name for name, metric in METRICS.items() if metric.tabled)
MISSING = "-"
# The settings that a caption gives, where all jobs have the same.
_IN_CAPTION = (
    "variant",
    "score",
    "backbone",
    "iterations",
    "batch_size",
    "holdout",
    "foreground",
)


@dataclass(frozen=True)
class Table:
    """A header and rows of text cells. The caption has the protocol."""

    title: str
    caption: str
    header: list[str]
    rows: list[list[str]]

    def markdown(self) -> str:
        lines = [f"### {self.title}", "", self.caption, ""]
        lines += [_line(self.header), _line(["---"] * len(self.header))]
        return "\n".join([*lines, *map(_line, self.rows)]) + "\n"

    def latex(self) -> str:
        """A `table` environment that needs no package."""
        columns = "l" * 2 + "r" * (len(self.header) - 2)
        rows = [[_escape(cell) for cell in row] for row in (self.header, *self.rows)]
        body = [" & ".join(row) + r" \\" for row in rows]
        return "\n".join(
            [
                r"\begin{table}",
                rf"\caption{{{_escape(self.title)}. {_escape(self.caption)}}}",
                rf"\begin{{tabular}}{{{columns}}}",
                r"\hline",
                body[0],
                r"\hline",
                *body[1:],
                r"\hline",
                r"\end{tabular}",
                r"\end{table}",
                "",
            ]
        )


def write_tables(
    suite: Suite, results: Sequence[BenchmarkResult], labels: dict[str, str], out: Path
) -> None:
    """Write OUT/NAME.md, OUT/NAME.tex and OUT/NAME.csv. The CSV has one row per job.

    Args:
        labels: the label of each job, by its digest.
    """
    tables = make_tables(suite, results, labels)
    head = (
        f"# {suite.title}\n\n{suite.about.strip()}\n\n" if suite.about else f"# {suite.title}\n\n"
    )
    write_text(out / f"{suite.name}.md", head + "\n".join(table.markdown() for table in tables))
    write_text(out / f"{suite.name}.tex", "\n".join(table.latex() for table in tables))
    write_text(out / f"{suite.name}.csv", tidy_csv(results, labels))


@dataclass(frozen=True)
class _Grid:
    """The results of one data set, by category and label."""

    data: str
    caption: str
    categories: list[str]
    labels: list[str]
    cells: dict[tuple[str, str], list[BenchmarkResult]]


def make_tables(
    suite: Suite, results: Sequence[BenchmarkResult], labels: dict[str, str], few: int = 4
) -> list[Table]:
    """For each data set: means over categories, then each category, then intervals.

    Args:
        labels: the label of each job, by its digest.
        few: with up to this many categories each gets a table; else each metric gets one.
    """
    tables = []
    for data in suite.data:
        grid = _grid(suite, data, results, labels)
        published = [row for row in suite.published if row.data == data]
        if len(grid.categories) > 1:
            title = f"{data}: mean over {len(grid.categories)} categories"
            tables.append(_summary(title, grid, grid.categories, published))
        if len(grid.categories) <= few:
            alone = len(grid.categories) == 1
            tables += [
                _summary(f"{data}/{c}", grid, [c], published if alone else [])
                for c in grid.categories
            ]
        else:
            tables += [
                _by_category(grid, column)
                for column in ("image_auroc", "pixel_auroc", "pixel_ap", "aupro")
            ]
        tables.append(_intervals(grid))
    return tables


def tidy_csv(results: Sequence[BenchmarkResult], labels: dict[str, str]) -> str:
    """One row per job: data, settings, every metric and its interval, seconds."""
    settings = sorted({key for result in results for key in result.settings})
    rows = [_row(result, labels[result.digest]) for result in results]
    others = [key for row in rows for key in row if key != "protocol"]
    columns = dict.fromkeys(["data", "category", "label", *settings, *others, "protocol"])
    return csv_text(list(columns), rows)


def _row(result: BenchmarkResult, label: str) -> dict[str, Any]:
    return {
        "data": result.data,
        "category": result.category,
        "label": label,
        "textures": result.textures,
        **result.measured,
        "fit_seconds": result.fit_seconds,
        "evaluate_seconds": result.evaluate_seconds,
        "protocol": result.protocol,
        **result.settings,
    }


def _grid(
    suite: Suite, data: str, results: Sequence[BenchmarkResult], labels: dict[str, str]
) -> _Grid:
    jobs = [job for job in suite.jobs if job.data == data]
    of_data = [result for result in results if result.data == data]
    cells: dict[tuple[str, str], list[BenchmarkResult]] = {
        (job.category, job.label): [] for job in jobs
    }
    for result in of_data:
        cells[result.category, labels[result.digest]].append(result)
    return _Grid(
        data,
        _caption(suite, of_data, data),
        list(dict.fromkeys(job.category for job in jobs)),
        list(dict.fromkeys(job.label for job in jobs)),
        cells,
    )


def _summary(
    title: str, grid: _Grid, categories: list[str], published: list[PublishedRow]
) -> Table:
    rows = []
    for label in grid.labels:
        groups = [grid.cells[category, label] for category in categories]
        seeds = sorted({r.seed for group in groups for r in group})
        values = [[_mean_of_seed(groups, seed, column) for seed in seeds] for column in COLUMNS]
        rows.append([label, _count(groups), *(_cell(of_column) for of_column in values)])
    for row in published:
        figures = (f"{row.metrics[c]:.1f}" if c in row.metrics else MISSING for c in COLUMNS)
        note = f", {row.note}" if row.note else ""
        rows.append([f"{row.name} (published: {row.source}{note})", MISSING, *figures])
    return Table(title, grid.caption, ["", "jobs", *(METRICS[c].title for c in COLUMNS)], rows)


def _by_category(grid: _Grid, column: str) -> Table:
    rows = []
    for category in grid.categories:
        groups = [grid.cells[category, label] for label in grid.labels]
        cells = (_cell([result.percent(column) for result in group]) for group in groups)
        rows.append([category, _count(groups), *cells])
    title = f"{grid.data}: {METRICS[column].title} by category"
    return Table(title, grid.caption, ["category", "jobs", *grid.labels], rows)


def _intervals(grid: _Grid) -> Table:
    rows = [
        [category, label, *(_limits(grid.cells[category, label], column) for column in COLUMNS)]
        for category in grid.categories
        for label in grid.labels
    ]
    note = (
        "95 % bootstrap intervals over the test images, as the mean of the limits over seeds. They "
        "show how far other test images could move a figure. "
    )
    header = ["category", "", *(METRICS[c].title for c in COLUMNS)]
    return Table(f"{grid.data}: intervals", note + grid.caption, header, rows)


def _caption(suite: Suite, results: Sequence[BenchmarkResult], data: str) -> str:
    jobs = [job for job in suite.jobs if job.data == data]
    parts = [f"{len(results)} of {len(jobs)} jobs done."]
    shared = {
        key: value
        for key, value in jobs[0].settings.items()
        if key != "seed" and all(job.settings.get(key) == value for job in jobs)
    }
    said = (f"{key.replace('_', ' ')} {shared[key]}" for key in _IN_CAPTION if key in shared)
    parts.append(", ".join(said) + ".")
    if not all(result.encoder.pretrained for result in results):
        some = any(result.encoder.pretrained for result in results)
        parts.append("Some encoders are untrained." if some else "The encoder is untrained.")
    textures = sorted({result.textures for result in results})
    parts += [f"Textures: {' and '.join(textures)}."] if textures else []
    protocols = sorted({result.protocol for result in results})
    parts += [f"Protocol: {protocol}." for protocol in protocols[:1]]
    if len(protocols) > 1:
        parts.append(f"({len(protocols)} protocols: see the column of the CSV.)")
    precisions = sorted({result.precision for result in results if result.precision})
    parts += [f"Trained in {' and '.join(precisions)}."] if precisions else []
    machines = sorted({r.machine.gpu or r.machine.cpu for r in results})
    if machines:
        parts.append(f"Measured in {MEASURED_IN} on {', '.join(machines)}.")
    parts.append(
        "Percent; mean ± standard deviation over seeds, where there are several. Published rows "
        "are their authors' figures, mostly with the epoch chosen on the test set."
        if any(row.data == data for row in suite.published)
        else "Percent; mean ± standard deviation over seeds, where there are several."
    )
    return " ".join(parts)


def _mean_of_seed(
    groups: Sequence[Sequence[BenchmarkResult]], seed: int, column: str
) -> float | None:
    """Mean over categories for one seed; `None` if a category is missing."""
    values = [result.percent(column) for group in groups for result in group if result.seed == seed]
    known = [value for value in values if value is not None]
    return statistics.mean(known) if len(known) == len(groups) else None


def _cell(values: Sequence[float | None]) -> str:
    known = [value for value in values if value is not None]
    if not known:
        return MISSING
    spread = f" ± {statistics.stdev(known):.1f}" if len(known) > 1 else ""
    return f"{statistics.mean(known):.1f}{spread}"


def _limits(results: Sequence[BenchmarkResult], column: str) -> str:
    """The mean lower limit and the mean upper limit."""
    low, high = ([r.measured.get(f"{column}_{end}") for r in results] for end in ("low", "high"))
    low, high = ([share for share in shares if share is not None] for shares in (low, high))
    return (
        f"{100 * statistics.mean(low):.1f} to {100 * statistics.mean(high):.1f}" if low else MISSING
    )


def _count(groups: Sequence[Sequence[BenchmarkResult]]) -> str:
    return str(sum(len(group) for group in groups))


def _line(cells: Sequence[str]) -> str:
    return "| " + " | ".join(" ".join(cell.replace("|", "\\|").split()) for cell in cells) + " |"


_SPECIAL = {c: f"\\{c}" for c in "&%$#_{}"} | {
    "±": r"$\pm$",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "\\": r"\textbackslash{}",
    "<": "$<$",
    ">": "$>$",
    "|": "$|$",
}


def _escape(text: str) -> str:
    return "".join(_SPECIAL.get(character, character) for character in text)
