"""Results and orders, read back as they were written, or refused in one line."""

from __future__ import annotations

import json

import pytest
from conftest import put
from suites import result, write_suite

from urd.errors import UrdError
from urd.suites.records import read_result, read_results
from urd.suites.suite import read_suite
from urd.system.files import write_json


@pytest.fixture
def job(tmp_path):
    return read_suite(write_suite(tmp_path)).jobs[0]


def test_a_result_goes_to_json_and_back(job, tmp_path):
    limits = {"image_auroc_low": 0.25, "image_auroc_high": 1.0}
    whole = result(job, image_auroc=0.5, aupro=None, **limits)
    write_json(tmp_path / "a.json", whole.to_json())
    assert read_result(tmp_path / "a.json") == whole
    assert (whole.seed, whole.percent("image_auroc"), whole.percent("aupro")) == (0, 50.0, None)
    assert list(whole.to_json())[:3] == ["digest", "data", "category"]
    assert list(whole.to_json())[-1] == "machine"


def test_what_a_result_was_read_without_is_not_added(job, tmp_path):
    content = result(job, image_auroc=0.5).to_json()
    for key in ("method_version", "fit_seconds", "precision"):
        del content[key]
    write_json(tmp_path / "a.json", [content])
    (read,) = read_results(tmp_path / "a.json")
    assert read.method_version is None
    assert read.to_json() == content


@pytest.mark.parametrize(
    "change",
    [
        put("image_auroc", value=1.5),
        put("image_auroc", value="high"),
        put("image_auroc_low", value=0.5),
        put("settings", "seed", value="0"),
        put("encoder", "pretrained", value=None),
        put("machine", value={}),
        put("method_version", value="1"),
        put("digest", value=""),
        lambda content: content.pop("protocol"),
    ],
)
def test_a_result_that_tables_cannot_show_is_refused(job, tmp_path, change):
    content = json.loads(json.dumps(result(job, image_auroc=0.5).to_json()))
    change(content)
    write_json(tmp_path / "a.json", content)
    with pytest.raises(UrdError, match="is not a results file of a suite") as error:
        read_result(tmp_path / "a.json")
    assert str(error.value).isprintable()
