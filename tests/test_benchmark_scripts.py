"""The scripts of `benchmarks/` start, and all that they import is there, in functions too."""

from __future__ import annotations

import ast
import json
import runpy
import shutil
import subprocess
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace

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
    page = tmp_path / "speed.md"
    page.write_text("Kept.\n<!-- From here on: made by benchmarks/speed.py -->\nold figures\n")
    script = BENCHMARKS / "speed.py"
    command = [sys.executable, script, "--collect", "--results", tmp_path, "--page", page]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    measured = json.loads((tmp_path / "job.json").read_text())
    rows = [line for line in done.stdout.splitlines() if line.startswith("| whole job")]
    assert len(rows) == 1
    assert f"{measured['ratio']:.2f}" in rows[0]
    assert page.read_text().startswith("Kept.\n")
    assert page.read_text().endswith(done.stdout.removesuffix("\n"))
    assert "old figures" not in page.read_text()


def test_the_guide_is_averaged_over_good_and_defective_places(data, tiny_config, tmp_path):
    Detector.fit(data, tmp_path / "run", config=tiny_config)
    command = [sys.executable, BENCHMARKS / "guide.py", tmp_path / "run", data]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    means = json.loads(done.stdout)
    assert len(means) == 6 and all(0 <= mean <= 1 for mean in means.values())


def test_a_place_that_was_not_learnt_stands_out(data, tiny_config, monkeypatch):
    learnt = runpy.run_path(str(BENCHMARKS / "learnt_places.py"))["_learnt"]
    same, other = torch.tensor([1.0, 0.0]), torch.tensor([0.0, 1.0])

    def model(images):
        teacher = [same[None, :, None, None].expand(len(images), 2, s, s) for s in (16, 8, 4)]
        student = [(same + 0.1 * other)[:, None, None].expand_as(t).clone() for t in teacher]
        student[0][:, :, -4:, -4:] = other[:, None, None]
        return teacher, student

    row = learnt(SimpleNamespace(config=tiny_config, model=model), data)
    usual = 1 - 1 / 1.01**0.5
    assert row["worst_over_median"] == pytest.approx([1 / usual, 1, 1], abs=0.01)
    assert row["mean"] == pytest.approx([(15 * usual + 1) / 16, usual, usual], abs=1e-4)


@pytest.mark.parametrize("path", sorted(RESULTS.glob("*.json")), ids=lambda path: path.name)
def test_a_result_names_no_folder_of_a_machine(path):
    for value in texts(json.loads(path.read_text())):
        assert not value.startswith(("/", "~")), value


def texts(value):
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, list):
        for inner in value:
            yield from texts(inner)
    elif isinstance(value, str):
        yield from value.split()
