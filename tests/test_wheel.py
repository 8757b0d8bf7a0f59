"""The wheel holds the package alone, and asks for nothing that only tests or extras use."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
import tomllib
import zipfile
from email.parser import Parser
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
SOURCE = ROOT / "src" / "urd"
MODULES_OF = {  # where a distribution is not imported by its own name
    "opencv-python-headless": "cv2",
    "pillow": "PIL",
    "pyyaml": "yaml",
}
BUILD = "import sys; from hatchling.build import build_wheel; print(build_wheel(sys.argv[1]))"
WITH_THE_BASE = {"huggingface_hub", "markupsafe"}  # timm and Jinja need them too
# Files that are reached only after an extra was asked for.
NEEDS_AN_EXTRA = ("integrations/", "anomalib.py", "serving/", "export/", "engines/")


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> zipfile.ZipFile:
    pytest.importorskip("hatchling", reason="hatchling is not installed")
    out = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-c", BUILD, str(out)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    (path,) = out.glob("*.whl")
    return zipfile.ZipFile(path)


def project() -> dict:
    return tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def test_the_wheel_holds_the_package_alone(wheel):
    tops = {name.partition("/")[0] for name in wheel.namelist()}
    assert len(tops) == 2 and "urd" in tops
    (facts,) = tops - {"urd"}
    assert re.fullmatch(r"urd_inspect-[\d.]+\.dist-info", facts)
    assert [
        n for n in wheel.namelist() if re.search(r"tests?/|docs/|\.ipynb$|__pycache__", n)
    ] == []


def test_the_wheel_holds_what_the_package_reads(wheel):
    names = set(wheel.namelist())
    assert {"urd/py.typed", "urd/backbones/builtin.safetensors"} <= names
    data = {
        f"urd/{path.relative_to(SOURCE)}"
        for path in SOURCE.rglob("*")
        if path.is_file() and path.suffix not in (".pyc",)
    }
    assert data - names == set()
    (name,) = [n for n in names if n.endswith(".dist-info/entry_points.txt")]
    assert "urd = urd.__main__:main" in wheel.read(name).decode()


def test_installing_it_asks_for_the_base_alone(wheel):
    (name,) = [n for n in wheel.namelist() if n.endswith(".dist-info/METADATA")]
    facts = Parser().parsestr(wheel.read(name).decode())
    needed = [text for text in facts.get_all("Requires-Dist") if "extra ==" not in text]
    assert sorted(map(name_of, needed)) == sorted(map(name_of, project()["dependencies"]))
    assert {"dev", "docs", "anomalib"} <= set(facts.get_all("Provides-Extra"))


def name_of(requirement: str) -> str:
    return re.match(r"[A-Za-z0-9._-]+", requirement)[0].lower()


def test_the_base_holds_nothing_of_the_tests_or_of_extras():
    base = set(map(name_of, project()["dependencies"]))
    extras = project()["optional-dependencies"]
    others = {name_of(text) for texts in extras.values() for text in texts}
    assert base & others == set()
    assert base.isdisjoint({"pytest", "anomalib", "lightning", "scikit-learn", "scipy"})


def imported() -> dict[str, set[str]]:
    """The foreign modules that are imported where a module is loaded or a function runs."""
    found: dict[str, set[str]] = {}
    for path in SOURCE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names = []
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
                names = [node.module]
            for name in names:
                top = name.partition(".")[0]
                if top not in sys.stdlib_module_names and top != "urd":
                    found.setdefault(top, set()).add(str(path.relative_to(SOURCE)))
    return found


def test_the_package_uses_all_of_the_base_and_imports_nothing_else_without_an_extra():
    base = {MODULES_OF.get(n, n) for n in map(name_of, project()["dependencies"])}
    found = imported()
    assert base - set(found) == set(), "the base names what nobody imports"
    for module in set(found) - base - WITH_THE_BASE:
        strange = {p for p in found[module] if not p.startswith(NEEDS_AN_EXTRA)}
        assert strange == set(), module
