"""The scripts of `benchmarks/` start, and all that they import is there, in functions too."""

from __future__ import annotations

import ast
import json
import runpy
import shutil
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest
import torch

from urd import Detector

BENCHMARKS = Path(__file__).resolve().parents[1] / "benchmarks"
SCRIPTS = sorted(BENCHMARKS.glob("*.py"))
RESULTS = BENCHMARKS / "results"


FILES = sorted(BENCHMARKS.rglob("*.py"))


@pytest.mark.parametrize("file", FILES, ids=lambda path: str(path.relative_to(BENCHMARKS)))
def test_what_a_script_imports_is_there(file, monkeypatch):
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    tree = ast.parse(file.read_text())
    names: dict[str, object] = {}
    for statement in imports_of_ours(tree):
        exec(compile(ast.Module([statement], []), str(file), "exec"), names)
    modules = {name: value for name, value in names.items() if isinstance(value, ModuleType)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            owner = modules.get(node.value.id)
            assert owner is None or hasattr(owner, node.attr), f"{node.value.id}.{node.attr}"


def imports_of_ours(tree):
    """Of the library and of the scripts; what else they compare with may not be installed."""
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module is not None:
            if node.module.split(".")[0] in ("urd", "fault_injection"):
                yield node
        elif isinstance(node, ast.Import):
            ours = [alias for alias in node.names if alias.name.split(".")[0] == "urd"]
            if ours:
                yield ast.copy_location(ast.Import(ours), node)


def test_modules_that_a_script_imports_by_name_are_there():
    code = "import runpy; runpy.run_path('faults.py')['_import_everything']()"
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, cwd=BENCHMARKS)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.name)
def test_starts(script):
    done = subprocess.run([sys.executable, script, "--help"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "usage" in done.stdout


def test_the_table_of_figures_holds_what_was_measured(tmp_path):
    shutil.copy(RESULTS / "job.json", tmp_path)
    script = BENCHMARKS / "speed.py"
    command = [sys.executable, script, "--collect", "--results", tmp_path]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    measured = json.loads((tmp_path / "job.json").read_text())
    rows = [line for line in done.stdout.splitlines() if line.startswith("| whole job")]
    assert len(rows) == 1
    assert f"{measured['ratio']:.2f}x" in rows[0]
    assert (tmp_path / "speed.md").read_text() == done.stdout.removesuffix("\n")


def test_the_guide_is_averaged_over_good_and_defective_places(data, tiny_config, tmp_path):
    Detector.fit(data, tmp_path / "run", config=tiny_config)
    command = [sys.executable, BENCHMARKS / "guide.py", tmp_path / "run", data]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    means = json.loads(done.stdout)
    assert len(means) == 6 and all(0 <= mean <= 1 for mean in means.values())


def test_a_corner_that_lags_is_seen_against_the_interior_and_not_the_edge():
    corners = runpy.run_path(str(BENCHMARKS / "corners.py"))
    distances = torch.full((32, 32), 9.0)  # the edge
    distances[4:-4, 4:-4] = 0.5
    distances[:2, :2] = distances[:2, -2:] = distances[-2:, :2] = 0.1
    distances[-2:, -2:] = torch.tensor([[1.0, 2.0], [1.0, 2.0]])
    assert corners["_worst_corner"](distances, 2) == pytest.approx(1.5)
    assert corners["_interior"](distances) == pytest.approx(0.5)
