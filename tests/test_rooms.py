"""Imports point one way: from the doors to the networks, never back."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import urd

SOURCE = Path(urd.__file__).parent
# A room may import those of its own row and of the rows above it; never one of its own row that
# imports it back, which Python itself refuses.
ROWS = [
    ("errors", "method_version"),
    ("system",),
    ("option_values", "presets"),
    ("config",),
    ("metrics", "data", "synthesis", "backbones"),
    ("networks",),
    ("inspection",),
    ("model",),
    ("engines",),
    ("training", "evaluation"),
    ("detector",),
    ("results", "export", "suites", "bulk", "integrations", "doctor", "serving"),
    ("demo", "anomalib"),
    ("cli",),
    ("__main__",),
]
INDEPENDENT = {  # rooms that know nothing of these, though they stand below them
    "data": {"backbones", "synthesis", "metrics"},
    "metrics": {"backbones", "synthesis", "data", "config"},
    "synthesis": {"backbones", "data", "metrics", "config"},
    "backbones": {"synthesis", "metrics"},
    "inspection": {"backbones", "synthesis", "metrics"},
    "evaluation": {"training", "networks", "backbones", "engines", "synthesis"},
    "engines": {"synthesis", "metrics", "training"},
    "suites": {"export"},
    "export": {"evaluation", "results", "suites"},
}


def room_of(module: str) -> str:
    parts = module.split(".")
    return parts[1] if len(parts) > 1 else ""


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
        if not other or imported == "urd.__version__":
            continue  # the version
        assert row[other] <= row[own], f"{module} imports {imported}"
        assert other not in INDEPENDENT.get(own, set()), f"{module} imports {imported}"


@pytest.mark.parametrize("path", MODULES, ids=lambda p: str(p.relative_to(SOURCE)))
def test_no_module_is_over_400_lines(path):
    assert len(path.read_text().splitlines()) <= 400


def test_importing_urd_imports_no_torch():
    code = "import sys, urd; sys.exit('torch' in sys.modules or 'numpy' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize(
    "module",
    ["urd.metrics", *(f"urd.evaluation.{p.stem}" for p in (SOURCE / "evaluation").glob("*.py"))],
)
def test_metrics_and_evaluation_import_no_torch(module):
    code = f"import sys, {module.removesuffix('.__init__')}; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_help_imports_neither_pydantic_nor_yaml():
    code = "import sys, urd.cli.fit; sys.exit('pydantic' in sys.modules or 'yaml' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_opening_an_exported_file_imports_no_timm():
    code = "import sys, urd.detector, urd.results.prediction_files; sys.exit('timm' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


ONLY_POSIX = {
    "modules": {"fcntl", "pwd", "grp", "termios", "resource", "tty", "pty", "posix", "syslog"},
    "os": {"fork", "getuid", "geteuid", "getpgid", "killpg", "setsid", "mkfifo", "statvfs"}
    | {"chown", "fchmod", "sched_getaffinity", "getloadavg", "nice", "wait4", "uname"},
    "signal": {"SIGKILL", "SIGHUP", "SIGSTOP", "SIGCONT", "SIGALRM", "SIGUSR1", "alarm", "pause"},
}


def only_posix(path: Path):
    """Uses of what Windows has not, outside of a `try`, an `if` and a `with suppress`."""
    tree = ast.parse(path.read_text())
    guarded = {
        inner
        for node in ast.walk(tree)
        if isinstance(node, ast.Try | ast.If | ast.IfExp)
        or (isinstance(node, ast.With) and "suppress" in ast.unparse(node.items[0]))
        for inner in ast.walk(node)
    }
    for node in ast.walk(tree):
        names = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names if alias.name in ONLY_POSIX["modules"]]
        elif isinstance(node, ast.ImportFrom) and node.module in ONLY_POSIX["modules"]:
            names = [node.module]
        elif isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            of_module = ONLY_POSIX.get(node.value.id, set())
            names = [f"{node.value.id}.{node.attr}"] if node.attr in of_module else []
        if node not in guarded:
            yield from names


@pytest.mark.parametrize("path", MODULES, ids=lambda p: str(p.relative_to(SOURCE)))
def test_nothing_that_windows_has_not_is_used_without_a_guard(path):
    assert list(only_posix(path)) == []


def test_the_search_for_posix_finds_it(tmp_path):
    module = tmp_path / "m.py"
    module.write_text(
        "import fcntl\nimport os\nos.fork()\nif hasattr(os, 'fork'):\n    os.fork()\n"
    )
    assert list(only_posix(module)) == ["fcntl", "os.fork"]
