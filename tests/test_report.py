"""The report: complete, without external resources, and safe against what names may hold."""

from __future__ import annotations

import json
import re
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from pages import parsed
from scipy.stats import beta, binom

from urd import Detector
from urd.cli import cli
from urd.errors import UrdError, UsageError
from urd.inspection.calibration import Calibration, chance_of_at_least
from urd.results import charts, gallery
from urd.results.counts import share_interval
from urd.results.report import write_report


@pytest.fixture(scope="module")
def once(tmp_path_factory):
    return tmp_path_factory.mktemp("trained") / "run"


@pytest.fixture
def run(data, tiny_config, tmp_path, once):
    """A trained run; all data sets of the tests are drawn with the same seed."""
    if not once.exists():
        Detector.fit(data, once, config=tiny_config)
    return shutil.copytree(once, tmp_path / "run")


def with_thresholds(run, review, reject):
    detector = Detector.load(run)
    scores = (0.9 * review, *[review] * 10, *[reject] * 10)
    calibration = Calibration(scores, scores, scores, "a test", 0.05, 0.6)
    detector.header = replace(detector.header, calibration=calibration)
    detector.save(run / "model.safetensors")


def scores_of(run):
    details = json.loads((run / "evaluation_details.json").read_text())
    return {f"{i['defect']}/{Path(i['path']).name}": i["score"] for i in details["images"]}


def section(page, title):
    """The names of the pictures under a heading."""
    text = page.text.partition(f">{title} (")[2].partition("<h2")[0]
    return re.findall(r'aria-label="Enlarge ([^"]+)"', text)


def test_a_report_shows_the_test_set_and_needs_nothing_from_outside(run, data):
    cli(["evaluate", str(run), str(data), "--resamples", "20"], standalone_mode=False)
    cli(["report", str(run)], standalone_mode=False)
    page = parsed(run / "report.html")
    text = (run / "report.html").read_text(encoding="utf-8")
    assert page.needs_nothing_from_outside()
    assert page.seen.count("dialog") == page.seen.count("image") / 2 > 0
    details = json.loads((run / "evaluation_details.json").read_text())
    missed = [i for i in details["images"] if i["defect"] == "square" and i["verdict"] == "OK"]
    rejected = [i for i in details["images"] if i["defect"] == "good" and i["verdict"] == "NG"]
    assert f"<b>{len(missed)} of 4</b>missed defects<" in text
    assert f"<b>{len(rejected)} of 4</b>good parts rejected<" in text
    assert "<b>0 of 8</b>not judged<" in text
    assert "images are too few for" in text
    metrics = json.loads((run / "evaluation.json").read_text())
    assert metrics["protocol"] in text and f"{metrics['aupro']:.4f}" in text
    assert '<h2 id="training">' in text and "student: " in text
    assert "Expected and observed false rejects" in text
    for fact in (str(data), "64x64 px (height x width)", "cores", "written 20"):
        assert fact in text
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


def test_every_mistake_is_shown_the_worst_first(run, data):
    cli(["evaluate", str(run), str(data), "--resamples", "0"], standalone_mode=False)
    scores = scores_of(run)
    rising = sorted(scores, key=scores.get)
    review, reject = (scores[rising[2]] + scores[rising[3]]) / 2, scores[rising[5]]
    with_thresholds(run, review, reject)
    page = parsed(write_report(run))
    defective = [name for name in rising if name.startswith("square")]
    good = [name for name in reversed(rising) if name.startswith("good")]
    assert section(page, "Missed defects") == [n for n in defective if scores[n] <= review]
    assert section(page, "Good parts rejected") == [n for n in good if scores[n] > reject]
    assert section(page, "Good parts to review") == [
        name for name in good if review < scores[name] <= reject
    ]
    found = [name for name in reversed(defective) if scores[name] > review]
    assert section(page, "Detected defects") == found
    right = {*found, *(name for name in good if scores[name] <= review)}
    assert set(section(page, "Borderline")) <= right


def test_a_find_at_another_place_than_the_mask_is_shown_as_a_mistake(run, data):
    with_thresholds(run, 1e-6, 2e-6)
    cli(["evaluate", str(run), str(data), "--resamples", "0"], standalone_mode=False)
    assert section(parsed(write_report(run)), "Outlined elsewhere") == []
    details = run / "evaluation_details.json"
    content = json.loads(details.read_text())
    moved = [image for image in content["images"] if image.get("on_defect")]
    assert len(moved) == 4
    moved[0]["on_defect"] = False
    details.write_text(json.dumps(content))
    page = parsed(write_report(run))
    name = f"square/{Path(moved[0]['path']).name}"
    assert section(page, "Outlined elsewhere") == [name]
    assert "<b>1 of 4</b>outlined elsewhere<" in page.text
    for image in moved:
        del image["on_defect"]  # as an older version wrote it
    details.write_text(json.dumps(content))
    assert "utlined elsewhere" not in parsed(write_report(run)).text


def test_misses_have_the_outline_of_their_mask_and_a_detail(run, data, monkeypatch):
    cli(["evaluate", str(run), str(data), "--resamples", "0"], standalone_mode=False)
    with_thresholds(run, 1e6, 2e6)
    monkeypatch.setattr(gallery, "MOST", 3)
    page = parsed(write_report(run))
    missed = page.text.partition(">Missed defects (4)<")[2].partition("<h2")[0]
    first = missed.partition("<figure")[2].partition("</figure>")[0]
    assert '<g class="mask"><path class="under" d="M' in first
    assert missed.count("<figure") == 3 and "1 more without a picture" in missed
    (data / "ground_truth").rename(data / "elsewhere")
    page = parsed(write_report(run))
    assert page.text.count("<figure") and '<g class="mask">' not in page.text


def test_a_run_that_is_not_there_is_named(urd, tmp_path):
    code, _, err = urd("report", tmp_path / "typo")
    assert code == 2 and f"there is no run folder or model file {tmp_path / 'typo'}" in err


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
    svg = charts.histogram([("all", scores)], (50.0, 50.5))
    assert re.findall(r'rect class="(\w+)"', svg) == ["OK", "OK", "NG"]
    heights = [float(height) for height in re.findall(r'height="([\d.]+)"', svg)]
    assert heights == pytest.approx([46, 23, 11.5], abs=0.1)
    assert 'text-anchor="end">REVIEW' in svg and 'text-anchor="start">NG' in svg


@settings(max_examples=300, deadline=None)
@example([-2.2250738585e-313], [0.0, -1.0])
@given(st.lists(st.floats(-1e9, 1e9), min_size=1, max_size=5), st.lists(st.floats(-1e9, 1e9)))
def test_a_histogram_of_any_scores_can_be_drawn(scores, thresholds):
    limits = tuple(sorted(thresholds)[:2]) if len(thresholds) > 1 else None
    svg = charts.histogram([("all", scores)], limits)
    assert "nan" not in svg and "inf" not in svg


@settings(max_examples=200, deadline=None)
@given(st.lists(st.tuples(*[st.floats(-1e-9, 1 + 1e-9)] * 2), min_size=2, max_size=9))
def test_a_curve_of_any_rates_can_be_drawn(points):
    x, y = zip(*sorted(points), strict=True)
    svg = charts.rate_curve((x, y), "ROC", 0.3, [("NG", 0.5, 1.0)])
    assert "nan" not in svg and "inf" not in svg


@settings(max_examples=200, deadline=None)
@example([1e-300, 1.0], True)
@given(st.lists(st.floats(-1e9, 1e9), min_size=1, max_size=5), st.booleans())
def test_a_chart_of_any_training_can_be_drawn(values, logarithmic):
    lines = [charts.Line("a", range(len(values)), values), charts.Line("b", [7], values[:1])]
    svg = charts.line_chart(lines, "Losses", logarithmic=logarithmic)
    assert "nan" not in svg and "inf" not in svg and "a: " in svg


def test_a_long_training_is_thinned_and_keeps_its_end():
    line = charts.Line("student", range(10_000), [1.0] * 9_999 + [2.0])
    path = re.findall(r'class="curve" [^>]*d="M([^"]*L[^"]*)"', charts.line_chart([line], "x"))[0]
    points = path.split("L")
    assert len(points) <= 402 and points[-1].split()[0] == "376.0"
    assert float(points[-1].split()[1]) < float(points[-2].split()[1]), "2.0 is above 1.0"


@pytest.mark.parametrize(("count", "n"), [(0, 7), (3, 30), (30, 30), (1, 2)])
def test_shares_have_exact_intervals(count, n):
    low, high = share_interval(count, n)
    assert low == pytest.approx(beta.ppf(0.025, count, n - count + 1) if count else 0, abs=1e-9)
    assert high == pytest.approx(beta.ppf(0.975, count + 1, n - count) if count < n else 1)


@pytest.mark.parametrize(
    ("count", "n", "share"), [(0, 5, 0.1), (1, 5, 0.1), (5, 5, 0.9), (7, 82, 0.05)]
)
def test_chance_of_false_rejects_is_binomial(count, n, share):
    assert chance_of_at_least(count, n, share) == pytest.approx(binom.sf(count - 1, n, share))
