"""The text of a suite file: each wrong thing is one line that names it."""

from __future__ import annotations

import time

import pytest
from hostile_yaml import LAUGHS, SETTINGS, one_short_line
from suites import write_suite

from urd.errors import UsageError
from urd.suites.suite import read_suite
from urd.suites.suite_file import parse_suite


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"colour": 1}, "unknown key 'colour'"),
        ({"data": {"mvtec": "all"}}, "unknown data 'mvtec'"),
        ({"data": {"mvtec_ad": ["nut"]}}, "no category 'nut'"),
        ({"data": {}, "settings_for": {}}, "the key 'data' is missing"),
        ({"data": 3}, "data must have 'key: value' lines, not 3"),
        ({"data": {"folder": "whole"}, "settings_for": {}}, "data folder must be a list"),
        ({"title": None}, "the key 'title' is missing"),
        ({"settings_for": {"folder/nut": {}}}, "settings_for 'folder/nut'"),
        ({"seeds": [0, 0]}, "has the same entry twice"),
        ({"seeds": [1.7]}, "whole numbers"),
        ({"seeds": [True]}, "whole numbers"),
        ({"seeds": [float("inf")]}, "whole numbers"),
        ({"vary": {"seed": [1, 2]}}, "seed is not a setting here"),
        ({"settings": {"seed": 7}}, "seed is not a setting here"),
        ({"settings_for": {"folder": {"seed": 7}}}, "seed is not a setting here"),
        ({"vary": {"preset": ["paper", "fast"]}}, "vary its options instead"),
        ({"vary": {"backbone": "abc"}}, "vary backbone must be a list"),
        ({"vary": {"encoder": {"mine": 1}}}, "vary encoder must have 'key: value' lines, not 1"),
        ({"published": [{"name": "A", "data": "visa"}]}, "data that is not in the suite"),
        ({"published": [{"name": "A", "data": "folder"}]}, "has no source"),
        ({"published": [{"name": "A", "source": "b", "data": ["folder"]}]}, "data must be a text"),
        (
            {"published": [{"name": "A", "source": "b", "data": "folder", "x": 1}]},
            "with unknown 'x'",
        ),
    ],
)
def test_what_is_no_suite_says_why(tmp_path, change, message):
    path = write_suite(tmp_path, **change)
    with pytest.raises(UsageError, match=message) as error:
        read_suite(path)
    assert str(error.value).startswith(path) and "\n" not in str(error.value)


def test_categories_that_yaml_reads_as_numbers(tmp_path):
    (tmp_path / "a.yaml").write_text("title: x\ndata: {btad: [01, 02]}\n")
    assert [job.category for job in read_suite(str(tmp_path / "a.yaml")).jobs] == ["01", "02"]


def test_varied_settings_are_named_with_their_option(tmp_path):
    """Only variants and backbones speak for themselves."""
    vary = {
        "variant": ["rd", "urd"],
        "student_lr": [0.005, 0.001],
        "how": {"with both": {"batch_size": 4}},
    }
    jobs = read_suite(write_suite(tmp_path, vary=vary, seeds=[0])).jobs
    assert {frozenset(job.label.split(", ")) for job in jobs} == {
        frozenset((variant, rate, "with both"))
        for variant in ("rd", "urd")
        for rate in ("student_lr=0.005", "student_lr=0.001")
    }
    assert {job.settings["student_lr"] for job in jobs} == {0.005, 0.001}


def test_a_published_row_holds_percent():
    row = {"name": "A", "source": "2020", "data": "btad", "aupro": 98, "note": "n"}
    (parsed,) = parse_suite({"title": "t", "data": {"btad": "all"}, "published": [row]}).published
    assert (parsed.name, parsed.source, parsed.note, parsed.metrics) == (
        "A",
        "2020",
        "n",
        {"aupro": 98.0},
    )


SUITE = "title: t\ndata: {mvtec_ad: [bottle]}\n"
MANY = ", ".join(map(str, range(1, 200)))
SUITES = {
    **{name: f"{SUITE}settings:\n  {text}" for name, text in SETTINGS.items() if "\n" not in text},
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
    assert one_short_line(caught.value, path) and time.monotonic() - began < 10


def test_a_large_suite_that_ends_is_taken(tmp_path):
    path = tmp_path / "suite.yaml"
    path.write_text(f"{SUITE}seeds: [{', '.join(map(str, range(1000)))}]")
    assert len(read_suite(str(path)).jobs) == 1000
