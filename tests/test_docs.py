"""What the documents say is what the program knows."""

from __future__ import annotations

from pathlib import Path

from urd.benchmark import shipped_suites
from urd.data import SOURCES
from urd.metrics import METRICS

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
