"""JSON by somebody else, read strictly; and how foreign texts are quoted."""

from __future__ import annotations

import pytest

from urd.errors import one_line, quoted
from urd.system.documents import parse_json, read_json


@pytest.mark.parametrize(
    "text",
    ["[NaN]", "[1e999]", "[-Infinity]", '{"a": 1, "a": 2}', "[" * 100_000, "9" * 5000, "", "{"],
)
def test_json_is_strict(tmp_path, text):
    with pytest.raises(ValueError) as caught:
        parse_json(text)
    assert str(caught.value).isprintable() and len(str(caught.value)) < 250
    (tmp_path / "a.json").write_text(text)
    with pytest.raises(ValueError):
        read_json(tmp_path / "a.json", 10**6)


def test_json_is_read_up_to_a_limit(tmp_path):
    (tmp_path / "a.json").write_text("[" + " " * 1000 + "1]")
    assert read_json(tmp_path / "a.json", 2000) == [1]
    with pytest.raises(ValueError, match="larger than"):
        read_json(tmp_path / "a.json", 1000)


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        ("a", "'a'"),
        ("a\nb\x1b", r"'a\nb\x1b'"),
        (3, "3"),
        ([1, 2], "[1, 2]"),
        ([10**5000], "a very long number"),
        ("x" * 9999, "'" + "x" * 75 + "...'"),
    ],
)
def test_foreign_values_are_quoted_in_part(value, shown):
    assert quoted(value) == shown


def test_what_others_say_is_one_line():
    assert one_line("\n first \x07\u202e\n second") == r"first \x07\u202e"
    assert len(one_line("x" * 10_000)) == 200
