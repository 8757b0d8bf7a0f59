"""What the documents say is what the program knows."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import click
import pytest
from documents import LOGS, pages

from urd.cli import VERBS, cli
from urd.data import SOURCES
from urd.inspection.calibration import upper_bound
from urd.metrics import METRICS
from urd.networks.variants import VARIANTS
from urd.presets import PRESETS
from urd.results.prediction_files import COLUMNS
from urd.suites.suite import shipped_suites

DOCS = Path(__file__).resolve().parents[1] / "docs"
INSTRUCTIONS = [page for page in pages() if page.parent != LOGS]


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


def test_the_promises_of_the_thresholds_are_those_of_the_program():
    text = (DOCS / "thresholds.md").read_text()
    table = text.partition("| good images | lowest share")[2].partition("\n\n")[0]
    rows = re.findall(r"^\| (\d+) \| ([\d.]+) % \| ([\d.]+) % \|$", table, flags=re.M)
    assert len(rows) >= 5
    for count, expected, most in rows:
        n = int(count)
        assert float(expected) == pytest.approx(100 / (n + 1), rel=0.05)
        assert float(most) == pytest.approx(100 * upper_bound(n, 0), rel=0.02)


def test_every_preset_and_variant_is_documented():
    text = (DOCS / "choosing.md").read_text()
    assert all(f"| `{name}` |" in text for name in PRESETS)
    text = (DOCS / "researcher.md").read_text()
    assert all(f"| `{name}` |" in text for name in VARIANTS)


def test_the_numbers_of_the_presets_are_those_of_the_program():
    text = (DOCS / "choosing.md").read_text()
    for name, settings in PRESETS.items():
        (row,) = re.findall(rf"^\| `{name}` \|.*$", text, flags=re.M)
        for option in ("iterations", "memory"):
            if option in settings:
                assert f"{settings[option]:,} " in row, f"{name}: {option}"


def test_every_extra_is_documented():
    project = tomllib.loads((DOCS.parent / "pyproject.toml").read_text())["project"]
    text = (DOCS / "start.md").read_text()
    for extra in set(project["optional-dependencies"]) - {"dev", "docs"}:
        assert re.search(rf"urd-inspect\[[\w,]*\b{extra}\b", text), extra


def flags() -> set[str]:
    """All flags of all verbs."""

    def of(command: click.Command) -> set[str]:
        own = {name for option in command.params for name in option.opts + option.secondary_opts}
        inner = command.commands.values() if isinstance(command, click.Group) else ()
        return own.union(*map(of, inner))

    context = click.Context(cli)
    commands = [cli.get_command(context, verb) for verb in VERBS]
    return {"--help", "--version"}.union(*map(of, [cli, *commands]))


# Flags of pip, of Python and of the scripts in benchmarks/ that a text may name.
OTHERS = {"--index-url", "--no-index", "--find-links", "--dest", "--short", "--cores"}
OTHERS |= {"--only-beside"}


@pytest.mark.parametrize("page", INSTRUCTIONS, ids=lambda page: page.name)
def test_every_flag_and_verb_that_a_text_names_is_there(page):
    known = flags() | OTHERS
    text = re.sub(r"^(`{3,}).*?^\1$", "", page.read_text(), flags=re.S | re.M)
    for code in re.findall(r"`([^`\n]+)`", text):
        if code.startswith("python "):
            continue
        for flag in re.findall(r"(?<![\w-])--[a-z][a-z-]*", code):
            assert flag in known, f"{page.name}: {code}"
        if verb := re.match(r"urd ([a-z][a-z-]*)\b", code):
            assert verb[1] in VERBS, f"{page.name}: {code}"


def texts_of_the_source() -> str:
    """The source, with texts that go on in the next line as one."""
    found = "".join(path.read_text() for path in sorted((DOCS.parent / "src").rglob("*.py")))
    return re.sub(r"\"\s*\n\s*(?:rf?|f)?\"", "", found)


NOT_OURS = ("urd", "urd: command not found")


def test_the_errors_of_the_page_are_those_of_the_program():
    text, source = (DOCS / "troubleshooting.md").read_text(), texts_of_the_source()
    named = [
        code
        for row in re.findall(r"^\| ([^|]*) \|", text, flags=re.M)
        for code in re.findall(r"`([^`]+)`", row)
        if code not in NOT_OURS
    ]
    assert len(named) > 50
    # Words in capitals stand for what differs from case to case.
    pieces = {code: re.split(r"\b[A-Z]+(?:x[A-Z])?\b|\.\.\.|'[^']*'|\d+", code) for code in named}
    missing = {
        code: piece.strip()
        for code, parts in pieces.items()
        for piece in parts
        if len(piece.strip()) > 6 and piece.strip(" :;,.[]") not in source
    }
    assert sorted(missing.values()) == []
