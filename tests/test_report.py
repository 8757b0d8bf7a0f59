"""The report: complete, without external resources, and safe against what names may hold."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from html.parser import HTMLParser

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from scipy.stats import binom

from urd import Detector
from urd.cli import cli
from urd.errors import UrdError, UsageError
from urd.inspection.calibration import Calibration, chance_of_at_least
from urd.results import charts
from urd.results.report import write_report


@pytest.fixture
def run(data, tiny_config, tmp_path):
    Detector.fit(data, tmp_path / "run", config=tiny_config)
    return tmp_path / "run"


class Balanced(HTMLParser):
    """Every element that is opened is closed, in order."""

    def __init__(self):
        super().__init__()
        self.open, self.seen, self.links = [], [], []

    def handle_starttag(self, tag, attrs):
        self.seen.append(tag)
        self.links += [v for k, v in attrs if k in ("src", "href")]
        if tag not in ("meta", "img", "br", "rect", "path"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        if tag not in ("rect", "path"):
            assert self.open.pop() == tag


def parsed(path):
    parser = Balanced()
    parser.feed(path.read_text(encoding="utf-8"))
    assert parser.open == []
    return parser


def test_a_report_shows_the_test_set_and_needs_nothing_from_outside(run, data):
    cli(["evaluate", str(run), str(data), "--resamples", "20"], standalone_mode=False)
    cli(["report", str(run)], standalone_mode=False)
    page = parsed(run / "report.html")
    text = (run / "report.html").read_text(encoding="utf-8")
    assert "http:" not in text and "https:" not in text and "<script" not in text
    assert page.links and all(link.startswith("data:image/jpeg;base64,") for link in page.links)
    assert page.seen.count("svg") == 3
    details = json.loads((run / "evaluation_details.json").read_text())
    missed = [i for i in details["images"] if i["defect"] == "square" and i["verdict"] == "OK"]
    rejected = [i for i in details["images"] if i["defect"] == "good" and i["verdict"] == "NG"]
    assert f"<b>{len(missed)} of 4</b>missed defects<" in text
    assert f"<b>{len(rejected)} of 4</b>good parts rejected<" in text
    assert "<b>0 of 8</b>not judged<" in text
    assert "images are too few for" in text
    metrics = json.loads((run / "evaluation.json").read_text())
    assert metrics["protocol"] in text and f"{metrics['aupro']:.4f}" in text
    assert "good, calibration" in text and "synthetic anomalies" in text and "square" in text


def test_a_new_calibration_judges_the_test_set_anew(run, data):
    cli(["evaluate", str(run), str(data), "--resamples", "0"], standalone_mode=False)
    detector = Detector.load(run)
    details = json.loads((run / "evaluation_details.json").read_text())
    scores = [image["score"] for image in details["images"]]
    for low, expected in ((max(scores) + 1, "4"), (min(scores) / 2, "0")):
        calibration = Calibration((low,), (low,), (low,), "a test", 0.1, 0.5)
        detector.header = replace(detector.header, calibration=calibration)
        detector.save(run / "model.safetensors")
        write_report(run)
        text = (run / "report.html").read_text()
        assert re.findall(r"<b>(\d+) of 4</b>missed defects<", text) == [expected]


def test_without_an_evaluation_it_says_how_to_get_one(run):
    write_report(run)
    text = (run / "report.html").read_text()
    assert "urd evaluate RUN DATA" in text and "none evaluated" in text
    parsed(run / "report.html")


def test_a_model_file_needs_a_place_for_its_report(run, tmp_path):
    model = run / "model.safetensors"
    with pytest.raises(UsageError, match="--out"):
        write_report(model)
    parsed(write_report(model, tmp_path / "r.html"))


def test_pictures_that_are_gone_are_named_and_names_are_escaped(run, data):
    cli(["evaluate", str(run), str(data), "--resamples", "0"], standalone_mode=False)
    details = json.loads((run / "evaluation_details.json").read_text())
    details["images"][0]["path"] = "/nowhere/<script>alert(1)</script>.png"
    details["images"][0].update(verdict="NG", defect="square", score=9.0)
    (run / "evaluation_details.json").write_text(json.dumps(details))
    write_report(run)
    text = (run / "report.html").read_text()
    assert "cannot be shown: no such file" in text and "<script>" not in text
    parsed(run / "report.html")


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"images": 3}', "{broken"])
def test_a_damaged_evaluation_is_one_line(run, data, content):
    cli(["evaluate", str(run), str(data), "--resamples", "0"], standalone_mode=False)
    for name in ("evaluation_details.json", "evaluation.json"):
        whole = (run / name).read_text()
        (run / name).write_text(content)
        with pytest.raises(UrdError) as caught:
            write_report(run)
        assert "\n" not in str(caught.value) and not (run / "report.html").exists()
        (run / name).write_text(whole)


def test_a_new_training_ends_the_report(run, data, tiny_config):
    write_report(run)
    Detector.fit(data, run, config=tiny_config, overwrite=True)
    assert not (run / "report.html").exists()


def test_bars_are_as_high_as_their_counts_and_labels_do_not_meet():
    scores = [0.0] * 4 + [10.0] * 2 + [100.0]
    svg = charts.histogram([("all", "good", scores)], [("REVIEW", 50.0), ("NG", 50.5)])
    heights = [float(height) for height in re.findall(r'height="([\d.]+)"', svg)]
    assert heights == pytest.approx([46, 23, 11.5], abs=0.1)
    assert 'text-anchor="end">REVIEW' in svg and 'text-anchor="start">NG' in svg


@settings(max_examples=300, deadline=None)
@example([-2.2250738585e-313], [0.0, -1.0])
@given(st.lists(st.floats(-1e9, 1e9), min_size=1, max_size=5), st.lists(st.floats(-1e9, 1e9)))
def test_a_histogram_of_any_scores_can_be_drawn(scores, thresholds):
    lines = [("NG", value) for value in thresholds[:2]]
    svg = charts.histogram([("all", "good", scores)], lines)
    assert "nan" not in svg and "inf" not in svg


@settings(max_examples=200, deadline=None)
@given(st.lists(st.tuples(*[st.floats(-1e-9, 1 + 1e-9)] * 2), min_size=2, max_size=9))
def test_a_curve_of_any_rates_can_be_drawn(points):
    x, y = zip(*sorted(points), strict=True)
    svg = charts.rate_curve((x, y), "ROC", 0.3)
    assert "nan" not in svg and "inf" not in svg


@pytest.mark.parametrize(
    ("count", "n", "share"), [(0, 5, 0.1), (1, 5, 0.1), (5, 5, 0.9), (7, 82, 0.05)]
)
def test_chance_of_false_rejects_is_binomial(count, n, share):
    assert chance_of_at_least(count, n, share) == pytest.approx(binom.sf(count - 1, n, share))
