"""Imports point one way: from the doors to the networks, never back."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import urd

SOURCE = Path(urd.__file__).parent
# A module may import those of its own row and of the rows above it.
ROWS = [
    (
        "urd",
        "urd.errors",
        "urd.system.seeding",
        "urd.system.documents",
        "urd.system.schemas",
        "urd.system.files",
        "urd.system.tensor_file",
        "urd.system.progress",
        "urd.config",
        "urd.system.machine",
        "urd.system.threads",
        "urd.system.csv_text",
        "urd.system.telemetry",
    ),
    ("urd.networks",),
    ("urd.synthesis",),
    ("urd.data",),
    ("urd.training",),
    ("urd.inspection.scoring", "urd.inspection.calibration", "urd.inspection.defects", "urd.inspection.judge"),
    ("urd.metrics",),
    (
        "urd.training.validation",
        "urd.training.training_data",
        "urd.model.header",
        "urd.model.file",
        "urd.inspection.pictures",
        "urd.evaluation.map_files",
    ),
    ("urd.inspection.prediction", "urd.evaluation.tally", "urd.evaluation.evaluate"),
    ("urd.training.fit", "urd.doctor", "urd.engines"),
    ("urd.detector",),
    ("urd.demo", "urd.suites", "urd.results.prediction_files", "urd.results.report", "urd.export"),
    ("urd.cli", "urd.__main__", "urd.anomalib"),
]
INDEPENDENT = {  # rooms that know nothing of these, though they stand below them
    "urd.synthesis": {"urd.networks"},
    "urd.data": {"urd.networks", "urd.synthesis"},
    "urd.metrics": {"urd.networks", "urd.synthesis", "urd.data", "urd.training", "urd.inspection.scoring"},
    "urd.inspection.scoring": {"urd.synthesis", "urd.data", "urd.training"},
    "urd.suites": {"urd.demo"},
    "urd.inspection.pictures": {"urd.networks", "urd.synthesis", "urd.training"},
}


def room_of(module: str) -> str:
    rooms = [room for row in ROWS for room in row if f"{module}.".startswith(f"{room}.")]
    return max(rooms, key=len)


def imports_of(path: Path):
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("urd"):
            if node.module == "urd":
                yield from (f"urd.{alias.name}" for alias in node.names)
            else:
                yield node.module
        elif isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name.startswith("urd"))


MODULES = sorted(SOURCE.rglob("*.py"))


@pytest.mark.parametrize("path", MODULES, ids=lambda p: str(p.relative_to(SOURCE)))
def test_imports_point_one_way(path):
    module = "urd." + ".".join(path.relative_to(SOURCE).with_suffix("").parts)
    module = module.removesuffix(".__init__")
    row = {room: index for index, rooms in enumerate(ROWS) for room in rooms}
    own = room_of(module)
    if path == SOURCE / "__init__.py":
        return  # offers the public names, lazily
    for imported in imports_of(path):
        other = room_of(imported)
        assert row[other] <= row[own], f"{module} imports {imported}"
        assert other not in INDEPENDENT.get(own, set()), f"{module} imports {imported}"


@pytest.mark.parametrize("path", MODULES, ids=lambda p: str(p.relative_to(SOURCE)))
def test_no_module_is_over_400_lines(path):
    assert len(path.read_text().splitlines()) <= 400


def test_importing_urd_imports_no_torch():
    code = "import sys, urd; sys.exit('torch' in sys.modules or 'numpy' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_help_imports_neither_pydantic_nor_yaml():
    code = "import sys, urd.cli.fit; sys.exit('pydantic' in sys.modules or 'yaml' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_opening_an_exported_file_imports_no_timm():
    code = "import sys, urd.detector, urd.results.prediction_files; sys.exit('timm' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
