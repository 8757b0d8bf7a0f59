"""YAML by somebody else: no file makes the program wait, fill the memory or fail in odd words."""

from __future__ import annotations

import time

import numpy as np
import pytest
from conftest import picture, save

from urd.cli import cli as command
from urd.config import read_config_file
from urd.errors import UsageError, one_line, quoted
from urd.suites.suite import read_suite
from urd.system.documents import parse_json, read_json

LAUGHS = "a: &a [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{new}: &{new} [{', '.join([f'*{old}'] * 9)}]\n"
    for old, new in zip("abcdefghi", "bcdefghij", strict=True)
)
YAML = {
    "laughs": f"{LAUGHS}seed: *j\n",
    "alias": "seed: &one 1\nbatch_size: *one\n",
    "key twice": "seed: 1\nseed: 2\n",
    "deep": "seed: " + "[" * 5000 + "]" * 5000,
    "deep in lines": "- " * 5000 + "a",
    "large": "# " + "x" * 2**20,
    "long": "roi: " + "x" * 9000,
    "longer": "roi: " + "x" * 90_000,
    "number": f"seed: 0x{'f' * 9000}",
    "sexagesimal": "seed: 1" + ":59" * 3000,
    "digits": f"seed: {'9' * 9000}",
    "infinite": "student_lr: .inf",
    "nan": "student_lr: .nan",
    "date": "seed: 2020-01-01",
    "no date": "seed: 2020-99-99",
    "set": "seed: !!set {a, b}",
    "binary": "backbone: !!binary aGVsbG8=",
    "object": "backbone: !!python/object/apply:os.system [ls]",
    "number as key": "1: 2",
    "list as key": "? [a, b]\n: 1",
    "surrogate": 'backbone: "\\ud800"',
    "zero": 'roi: "a\\0b"',
    "escape": '"see\\e[31m": 1',
    "list": "[]",
    "text": "hello",
    "true": "true",
    "nested size": "image_size: [[64], [64]]",
    "size of words": "image_size: {a: 1}",
    "open": "image_size: [64",
}


def one_short_line(caught, path):
    said = str(caught.value).replace(str(path), "")
    return said.isprintable() and len(said) < 500


@pytest.mark.parametrize("name", YAML)
def test_settings_are_refused_in_one_line(tmp_path, name):
    path = tmp_path / "settings.yaml"
    path.write_text(YAML[name])
    began = time.monotonic()
    with pytest.raises(UsageError) as caught:
        read_config_file(path)
    assert one_short_line(caught, path) and time.monotonic() - began < 5


def test_an_empty_file_of_settings_has_none(tmp_path):
    (tmp_path / "settings.yaml").write_text("# nothing yet\n")
    assert read_config_file(tmp_path / "settings.yaml") == {}


SUITE = "title: t\ndata: {mvtec_ad: [bottle]}\n"
MANY = ", ".join(map(str, range(1, 200)))
SUITES = {
    **{name: f"{SUITE}settings:\n  {text}" for name, text in YAML.items() if "\n" not in text},
    "laughs": f"{LAUGHS}{SUITE}",
    "combinations": f"{SUITE}vary:\n"
    + "".join(f"  {k}: [{MANY}]\n" for k in ("iterations", "batch_size", "white_level", "holdout")),
    "seeds": f"{SUITE}seeds: [{', '.join(map(str, range(30_000)))}]",
    "more seeds": f"{SUITE}seeds: [{', '.join(map(str, range(60_000)))}]",
    "seeds of words": f"{SUITE}seeds: [one]",
    "seed twice": f"{SUITE}seeds: [1, 1]",
    "seed in words": f"{SUITE}seeds: 3",
    "number and text": f"{SUITE}vary: {{seed_: [1, '1']}}",
    "label twice": f"{SUITE}vary: {{a: {{1: {{seed: 1}}, '1': {{seed: 2}}}}}}",
    "vary list": f"{SUITE}vary: [1]",
    "vary text": f"{SUITE}vary: {{variant: {{a: b}}}}",
    "long label": f"{SUITE}vary: {{roi: [{'x' * 300}]}}",
    "settings list": f"{SUITE}settings: [1]",
    "exceptions list": f"{SUITE}settings_for: [1]",
    "exception text": f"{SUITE}settings_for: {{mvtec_ad: x}}",
    "preset list": f"{SUITE}settings: {{preset: [a]}}",
    "preset number": f"{SUITE}settings: {{preset: 0x{'f' * 9000}}}",
    "backbone number": f"{SUITE}settings: {{backbone: 0x{'f' * 9000}}}",
    "data list": "title: t\ndata: [mvtec_ad]",
    "data number": "title: t\ndata: {1: [bottle]}",
    "category list": "title: t\ndata: {mvtec_ad: [[bottle]]}",
    "category number": f"title: t\ndata: {{mvtec_ad: [0x{'f' * 9000}]}}",
    "title list": "title: [t]\ndata: {mvtec_ad: [bottle]}",
    "published text": f"{SUITE}published: x",
    "published list": f"{SUITE}published: [[x]]",
    "published nan": f"{SUITE}published: [{{name: a, source: b, data: mvtec_ad, aupro: .nan}}]",
    "published high": f"{SUITE}published: [{{name: a, source: b, data: mvtec_ad, aupro: 101}}]",
    "published name": f"{SUITE}published: [{{name: [a], source: b, data: mvtec_ad}}]",
    "keys mixed": f"{SUITE}1: 2\nx: 3",
    "nothing": "",
}


@pytest.mark.parametrize("name", SUITES)
def test_suites_are_refused_in_one_line(tmp_path, name):
    path = tmp_path / "suite.yaml"
    path.write_text(SUITES[name])
    began = time.monotonic()
    with pytest.raises(UsageError) as caught:
        read_suite(str(path))
    assert one_short_line(caught, path) and time.monotonic() - began < 10


def test_more_images_than_a_model_file_holds_scores_are_refused_at_once(tmp_path, monkeypatch):
    for index in range(3):
        save(picture(np.random.default_rng(index)), tmp_path / "good" / f"{index}.png")
    monkeypatch.setattr("urd.system.schema.MOST_SCORES", 2)
    with pytest.raises(UsageError, match="has 3 images; 2 are the most"):
        command(["calibrate", str(tmp_path), str(tmp_path / "good")], standalone_mode=False)


def test_a_large_suite_that_ends_is_taken(tmp_path):
    path = tmp_path / "suite.yaml"
    path.write_text(f"{SUITE}seeds: [{', '.join(map(str, range(1000)))}]")
    assert len(read_suite(str(path)).jobs) == 1000


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
        ([10**5000], "a number of very many digits"),
        ("x" * 9999, "'" + "x" * 75 + "...'"),
    ],
)
def test_foreign_values_are_quoted_in_part(value, shown):
    assert quoted(value) == shown


def test_what_others_say_is_one_line():
    assert one_line("\n first \x07\u202e\n second") == r"first \x07\u202e"
    assert len(one_line("x" * 10_000)) == 200
