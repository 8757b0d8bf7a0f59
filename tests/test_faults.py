"""The short form of `benchmarks/faults.py`: damaged files and kills, and nothing silently wrong."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

SCRIPT = Path(__file__).resolve().parents[1] / "benchmarks" / "faults.py"


def test_damage_and_kills_do_nothing_silently_wrong(tmp_path):
    written = tmp_path / "faults.json"
    command = [sys.executable, SCRIPT, "--short", "--parts", "files", "kills", "--json", written]
    done = subprocess.run(command, capture_output=True, text=True, timeout=900)
    assert done.returncode == 0, done.stderr
    found = json.loads(written.read_text())
    assert found["faults"] == []
    models = found["files"]["models"]
    assert models["refused"] >= models["files"] // 2  # all whose checksum was left
    assert found["kills"]["fit"]["trials"] == 1
