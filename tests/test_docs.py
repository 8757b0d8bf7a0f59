"""What the documents say is what the program knows."""

from __future__ import annotations

import re
from pathlib import Path

from urd.data import SOURCES
from urd.metrics import METRICS
from urd.results.prediction_files import COLUMNS
from urd.suites.suite import shipped_suites

DOCS = Path(__file__).resolve().parents[1] / "docs"


def test_every_benchmark_is_documented_with_its_source_licence_and_size():
    text = (DOCS / "benchmarks.md").read_text()
    for source in SOURCES.values():
        row = next(line for line in text.splitlines() if f"`{source.prefix}:ROOT/" in line)
        for fact in (source.title, source.url, source.size, source.licence.partition(" http")[0]):
            assert fact in row
        assert any(f"{source.prefix}:ROOT/{c}`" in row for c in source.categories)


def test_every_suite_and_metric_is_documented():
    text = (DOCS / "benchmarks.md").read_text()
    assert all(f"| `{name}` |" in text for name in shipped_suites())
    text = (DOCS / "metrics.md").read_text()
    assert all(f"`{name}`" in text for name in METRICS)


def test_every_column_of_the_predictions_is_documented():
    text = (DOCS / "inspection.md").read_text()
    table = text.partition("| column | meaning |")[2].partition("\n\n")[0]
    assert all(f"`{column}`" in table for column in COLUMNS)


def test_links_of_the_documents_lead_somewhere():
    root = DOCS.parent
    for document in (root / "README.md", *DOCS.rglob("*.md"), root / "pretraining/MODEL_CARD.md"):
        targets = re.findall(r"\]\(([^)#]+)\)", document.read_text())
        for target in targets:
            if "://" not in target:
                assert (document.parent / target).exists(), f"{document.name}: {target}"
