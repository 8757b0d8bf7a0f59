"""The scripts of `benchmarks/` start: what they import is still there."""

from __future__ import annotations

import json
import runpy
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from urd import Detector

BENCHMARKS = Path(__file__).resolve().parents[1] / "benchmarks"
SCRIPTS = sorted(BENCHMARKS.glob("*.py"))
RESULTS = BENCHMARKS / "results"


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
