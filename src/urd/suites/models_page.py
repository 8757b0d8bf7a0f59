"""The page that lists all models of `urd fit-all`."""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import quote

from urd.results.pages import render
from urd.suites.model_records import ListedModel, ModelList
from urd.system.progress import clock

# What a row says of its category, the most urgent first.
FAILED, OPEN, WAITING, TRAINED, GONE = "failed", "no thresholds", "waiting", "trained", "gone"
_ORDER = (FAILED, OPEN, WAITING, TRAINED, GONE)


@dataclass(frozen=True)
class Row:
    """A category on the page; `model` is the newest that is there."""

    category: str
    state: str
    model: ListedModel | None
    reason: str = ""


def models_page(models: ModelList) -> str:
    """One HTML file without external resources; its links lead to the runs beside it."""
    rows = rows_of(models)
    return render(
        "suites/models.html",
        root=models.root,
        rows=rows,
        counts=[(state, sum(row.state == state for row in rows)) for state in _ORDER],
        seconds=sum(model.seconds or 0 for model in models.models),
        clock=clock,
        link=link,
    )


def rows_of(models: ModelList) -> list[Row]:
    """One row per category, those that need attention first."""
    of_category = {model.category: model for model in models.models}
    reasons = {failed.category: failed.reason for failed in models.failed}
    waiting, gone = set(models.waiting), set(models.gone)
    rows = []
    for category in {*of_category, *reasons, *waiting}:
        model = of_category.get(category)
        if category in reasons:
            rows.append(Row(category, FAILED, model, reasons[category]))
        elif category in waiting:
            rows.append(Row(category, WAITING, model))
        elif model is None or category in gone:
            rows.append(Row(category, GONE, model))
        elif model.held_out is None:
            rows.append(Row(category, OPEN, model, "No good images are held out: urd calibrate."))
        else:
            rows.append(Row(category, TRAINED, model))
    return sorted(rows, key=lambda row: (_ORDER.index(row.state), row.category))


def link(path: str) -> str:
    """A path below OUT as the address of a link on the page."""
    return quote(path, errors="surrogateescape")
