"""On the package index `urd` is another project: every hint names our distribution."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

from urd.errors import UsageError
from urd.system.extras import DISTRIBUTION, how_to_install, optional

ROOT = Path(__file__).resolve().parents[1]
OTHER = re.compile(r"pip3? +install[^\n]*[\s'\"`]urd(?![\w./-])|['\"`]urd\[|\burd\[[a-z]+\]")


def tracked_texts():
    listed = subprocess.run(
        ["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=False, text=True
    ).stdout.split("\0")
    names = [name for name in listed if name] or [str(p) for p in ROOT.rglob("*.py")]
    for name in names:
        if Path(name).suffix in (
            ".py",
            ".md",
            ".toml",
            ".html",
            ".yaml",
            ".yml",
            "",
            ".sh",
            ".txt",
        ):
            yield name, (ROOT / name).read_text(encoding="utf-8")


def test_no_hint_leads_to_the_other_project():
    this = Path(__file__).name
    found = [
        (name, line)
        for name, text in tracked_texts()
        if Path(name).name != this
        for line in text.splitlines()
        if OTHER.search(line)
    ]
    assert found == []


@pytest.mark.parametrize(
    "hint",
    [
        "pip install urd",
        "pip install 'urd[onnx]'",
        "pip install -U urd",
        "`urd[openvino]`",
        "or urd[onnx]",
    ],
)
def test_the_pattern_sees_such_hints(hint):
    assert OTHER.search(hint)


@pytest.mark.parametrize("hint", ["pip install urd-inspect", "pip install 'urd-inspect[onnx]'"])
def test_the_pattern_passes_ours(hint):
    assert not OTHER.search(hint)


def test_a_missing_extra_names_our_distribution():
    assert f'name = "{DISTRIBUTION}"' in (ROOT / "pyproject.toml").read_text()
    with pytest.raises(UsageError, match=re.escape("pip install 'urd-inspect[onnx]'")):
        optional("no_such_runtime", "onnx")
    assert how_to_install("openvino") == "pip install 'urd-inspect[openvino]'"


def test_the_doctor_says_how_to_get_what_is_missing(monkeypatch):
    from urd import doctor

    monkeypatch.setattr(doctor, "find_spec", lambda name: None if name == "nncf" else name)
    found = doctor.doctor()
    assert found.missing_extras == ["pip install 'urd-inspect[openvino]'"]
    assert not found.line["OpenVINO files"] and found.line["ONNX files"]
