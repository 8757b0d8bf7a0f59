"""Code that decides about figures does not change unnoticed: see `urd.method_version`.

    python tests/test_method_version.py > tests/fixtures/method_digest.txt

stores the digest of the code as it is now, beside the version of the method.
"""

from __future__ import annotations

import ast
import hashlib
from collections.abc import Iterator
from pathlib import Path

import urd
from urd.method_version import METHOD_VERSION

SOURCE = Path(urd.__file__).parent
STORED = Path(__file__).parent / "fixtures" / "method_digest.txt"
# Rooms that learn, score and measure; and what in them never changes a figure.
COUNTED = (
    "backbones",
    "data",
    "inspection/scoring.py",
    "metrics",
    "networks",
    "synthesis",
    "training",
)
NOT_COUNTED = {
    "data/check.py",  # says what is wrong with a data set
    "data/sources.py",  # names, addresses and licences of public data sets
    "training/checkpoint.py",  # a training that goes on is bit-equal to one in one go, as is tested
    "training/curve.py",  # what the training writes down on its way
    "training/schema.py",  # what these files must hold
}
_WITHOUT_MEANING = {"annotation", "ctx", "kind", "returns", "type_comment", "type_params"}


def test_the_method_is_the_one_of_its_version():
    assert STORED.read_text() == line(), (
        "Code that decides about figures has changed. If a figure may come out differently, raise "
        f"METHOD_VERSION in src/urd/method_version.py (now {METHOD_VERSION}). If every figure is "
        "bit-equal, declare that by storing the new digest. In both cases run\n"
        "    python tests/test_method_version.py > tests/fixtures/method_digest.txt"
    )


def line() -> str:
    """The version of the method and the digest of its code."""
    digest = hashlib.sha256()
    for path in modules():
        digest.update(text_of(ast.parse(path.read_text(encoding="utf-8"))).encode())
    return f"{METHOD_VERSION} {digest.hexdigest()}\n"


def modules() -> list[Path]:
    paths = [SOURCE / name for name in COUNTED]
    files = {file for path in paths for file in (path.rglob("*.py") if path.is_dir() else [path])}
    return sorted(files - {SOURCE / name for name in NOT_COUNTED})


def text_of(node: object) -> str:
    """A syntax tree as text, the same in every version of Python.

    Comments, docstrings, annotations and the layout of lines do not count.
    """
    if isinstance(node, list):
        return f"[{','.join(map(text_of, node))}]"
    if not isinstance(node, ast.AST):
        return repr(node)
    fields = (f"{name}={text_of(value)}" for name, value in sorted(fields_of(node)))
    return f"{type(node).__name__}({','.join(fields)})"


def fields_of(node: ast.AST) -> Iterator[tuple[str, object]]:
    for name, value in ast.iter_fields(node):
        if name in _WITHOUT_MEANING or (value is None and not isinstance(node, ast.Constant)):
            continue
        if name == "body" and isinstance(value, list):
            value = without_docstring(node, value)
        if value != []:
            yield name, value


def without_docstring(node: ast.AST, body: list[ast.stmt]) -> list[ast.stmt]:
    owners = ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef
    return body[1:] if isinstance(node, owners) and ast.get_docstring(node) is not None else body


def test_comments_docstrings_and_layout_do_not_count():
    first = 'def f(x: int) -> int:\n    """Old."""\n    return g(x, 1)  # why'
    second = "def f(x):\n    return g(\n        x,\n        1,\n    )\n"
    assert text_of(ast.parse(first)) == text_of(ast.parse(second))


def test_whatever_is_computed_counts():
    texts = [
        "def f(x): return x + 1",
        "def f(x): return x + 2",
        "def f(x): return x + 1.0",
        "def f(x): return x - 1",
        "def f(x=1): return x + 1",
        "def f(x): return x",
        "def f(x): return None",
        "def f(x): return",
        "def f(y): return y + 1",
        "def f(x): return x + '1'",
        "@g\ndef f(x): return x + 1",
    ]
    assert len({text_of(ast.parse(text)) for text in texts}) == len(texts)


def test_what_is_named_is_there():
    assert all((SOURCE / name).exists() for name in (*COUNTED, *NOT_COUNTED))
    assert len(modules()) > 30


def test_the_text_is_the_same_in_every_version_of_python():
    """Strings with values in them, and what newer versions of Python give more fields."""
    text = 'def f(x): return f"a{x!r:>{x + 1}.2f}b" "c", (lambda *a, k=None: -1.5e3)'
    digest = hashlib.sha256(text_of(ast.parse(text)).encode()).hexdigest()
    assert digest == "30dd005ed0f082505b3e9ca696c9c1f4eb546ac9f8d2c90617d0691069fe62bc"


if __name__ == "__main__":
    print(line(), end="")
