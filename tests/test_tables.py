"""What the tables of a suite say."""

from __future__ import annotations

import csv
import io
import statistics

import pytest
from conftest import TINY
from suites import CONTENT, result, write_suite

from urd.suites.suite import read_suite
from urd.suites.tables import make_tables, tidy_csv


@pytest.fixture
def tabled(tmp_path):
    row = {"name": "Other", "source": "2020", "data": "folder", "image_auroc": 98.76}
    suite = read_suite(write_suite(tmp_path, seeds=[0, 1, 2], published=[row]))
    return suite, {job.digest({}): job.label for job in suite.jobs}


def test_tables_hold_means_over_categories_and_spread_over_seeds(tabled):
    suite, labels = tabled
    values = {("whole", 0): 0.9, ("whole", 1): 0.92, ("whole", 2): 0.97}
    values |= {("partial", 0): 0.7, ("partial", 1): 0.8, ("partial", 2): 0.6}
    limits = {"image_auroc_low": 0.5, "image_auroc_high": 0.99}
    results = [
        result(job, image_auroc=values[job.category, job.seed], **limits)
        for job in suite.jobs
        if job.label == "rd"
    ]
    summary, of_first, of_second, intervals = make_tables(suite, results, labels)
    rows = {row[0]: row for row in summary.rows}
    per_seed = [100 * (values["whole", s] + values["partial", s]) / 2 for s in (0, 1, 2)]
    expected = f"{statistics.mean(per_seed):.1f} ± {statistics.stdev(per_seed):.1f}"
    assert rows["rd"][:3] == ["rd", "6", expected]
    assert rows["urd"] == ["urd", "0", *["-"] * 6]
    assert rows["Other (published: 2020)"][2] == "98.8"
    assert of_first.rows[0][:3] == ["rd", "3", "93.0 ± 3.6"]
    assert (of_second.title, of_second.rows[0][2]) == ("folder/partial", "70.0 ± 10.0")
    assert len(of_first.rows) == 2  # what others published is of the whole data set
    by_category = make_tables(suite, results, labels, few=1)[1]
    assert by_category.rows[0] == ["whole", "3", "93.0 ± 3.6", "-"]
    assert intervals.rows[0][:3] == ["whole", "rd", "50.0 to 99.0"]
    for table in (summary, by_category, intervals):
        assert "6 of 12 jobs done" in table.caption
        assert "of a test" in table.caption
        assert "Trained in bfloat16 and float32" in table.caption
        lines = table.markdown().splitlines()
        assert {line.count("|") for line in lines[4:]} == {len(table.header) + 1}
        assert "variant" not in table.caption  # it is varied
        assert f"backbone {TINY}" in table.caption
        assert "Measured in float32 on a processor" in table.caption
        assert "10 \\% \\& more" in table.latex()
        assert table.latex().count(r"\\") == len(table.rows) + 1


def test_a_caption_gives_the_variant_and_the_score_of_all_jobs(tmp_path):
    settings = {**CONTENT["settings"], "variant": "urd", "score": "squared"}
    suite = read_suite(write_suite(tmp_path, settings=settings, vary={}))
    labels = {job.digest({}): job.label for job in suite.jobs}
    table = make_tables(suite, [], labels)[0]
    assert f"variant urd, score squared, backbone {TINY}, " in table.caption


def test_a_mean_over_categories_needs_every_category(tabled):
    suite, labels = tabled
    results = [result(job, image_auroc=0.9) for job in suite.jobs if job.category == "whole"]
    summary, *_ = make_tables(suite, results, labels)
    assert summary.rows[0][2] == "-"


def test_csv_has_a_row_per_job(tabled):
    suite, labels = tabled
    results = [result(job, image_auroc=0.9, aupro=None) for job in suite.jobs[:3]]
    rows = list(csv.DictReader(io.StringIO(tidy_csv(results, labels))))
    assert [row["label"] for row in rows] == ["rd", "urd", "rd"]
    assert [row["variant"] for row in rows] == ["rd", "urd", "rd"]
    assert [row["category"] for row in rows] == ["whole", "whole", "partial"]
    assert {(row["image_auroc"], row["aupro"], row["seed"]) for row in rows} == {("0.9", "", "0")}
