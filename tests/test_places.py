"""What a machine adds to a suite: files, devices, and nothing that shapes a result."""

from __future__ import annotations

import dataclasses

import pytest
from conftest import TINY
from suites import write_suite

from urd.backbones.timm_backbone import TimmBackbone
from urd.config import FitConfig, options
from urd.errors import UsageError
from urd.suites.executor import Execution
from urd.suites.places import MACHINE_OPTIONS, Places
from urd.suites.suite import read_suite


@pytest.fixture
def weights(tmp_path):
    (tmp_path / "w.safetensors").write_bytes(b"")
    return str(tmp_path / "w.safetensors")


def test_a_file_for_all_is_not_of_the_built_in_backbone(tmp_path, weights):
    encoders = {"drawn": {"weights": "none"}, "shipped": {"backbone": "builtin"}, "else": {}}
    suite = read_suite(write_suite(tmp_path, vary={"encoder": encoders}))
    places = Places({}, {"*": weights})
    files = {job.label: places.weights_of(job) for job in suite.jobs}
    assert files == {"drawn": "none", "shipped": "auto", "else": weights}
    by_tag = Places({}, {"builtin": weights})
    assert {job.label: by_tag.weights_of(job) for job in suite.jobs}["shipped"] == weights


def test_a_weight_file_is_of_one_backbone(tmp_path, weights):
    places = Places({}, {"*": weights})
    with pytest.raises(UsageError, match=r"racm_in1k.* cannot share a weight file.*TAG=FILE"):
        places.check(read_suite("backbone-weights"))
    places.check(read_suite("encoders"))  # a built-in one and another


def test_places_that_the_suite_has_no_use_for(tmp_path, weights):
    suite = read_suite(write_suite(tmp_path))
    places = Places({"folder": tmp_path}, {"*": weights})
    places.check(suite)
    for change, message in (
        ({"roots": {"folder": tmp_path, "typo": tmp_path}}, "--root typo"),
        ({"weights": {"resnet18": weights}}, "no backbone resnet18"),
        ({"weights": {"*": "absent.pth"}}, r"no weight file at absent\.pth"),
        ({"options": {"textures": "absent"}}, "no texture folder at absent"),
    ):
        with pytest.raises(UsageError, match=message):
            dataclasses.replace(places, **change).check(suite)


def test_weights_that_cannot_be_had_are_said_before_the_first_job(tmp_path, weights, monkeypatch):
    jobs = read_suite(write_suite(tmp_path)).jobs
    monkeypatch.setattr(TimmBackbone, "available", lambda self: False)
    with pytest.raises(UsageError, match=rf"{TINY} are not .*'backbone: builtin' under") as raised:
        Places({}).check_backbones(jobs)
    assert "--backbone" not in str(raised.value) and "--weights TAG=FILE" in str(raised.value)
    Places({}, {"*": weights}).check_backbones(jobs)
    Places({}, execution=Execution("slurm")).check_backbones(jobs)  # not of this machine
    encoders = {"drawn": {"weights": "none"}, "shipped": {"backbone": "builtin"}}
    Places({}).check_backbones(read_suite(write_suite(tmp_path, vary={"e": encoders})).jobs)
    monkeypatch.setattr(TimmBackbone, "available", lambda self: True)
    Places({}).check_backbones(jobs)


def test_options_are_those_of_a_machine():
    assert {*MACHINE_OPTIONS, "weights"} == set(options(scope="machine"))
    for name, message in (
        ("iterations", "'iterations' is not a machine option"),
        ("weights", "'weights' is not a machine option"),
        ("nonsense", "'nonsense' is not a machine option"),
    ):
        with pytest.raises(UsageError, match=message):
            Places({}, options={name: 3})
    with pytest.raises(UsageError, match="max_megapixels is 0"):
        Places({}, options={"max_megapixels": 0})


def test_a_job_is_trained_with_its_settings_and_the_options_of_the_machine(tmp_path, weights):
    (job, *_) = read_suite(write_suite(tmp_path)).jobs
    of_machine = {"device": "cuda:3", "max_megapixels": 7, "textures": str(tmp_path)}
    given = Places({}, {"*": weights}, of_machine).options_of(job)
    assert "device" not in given  # for the executor to choose
    config = FitConfig.from_mapping(given)
    assert (config.weights, config.max_megapixels, config.textures) == (weights, 7, str(tmp_path))
    assert {key: config.to_dict()[key] for key in job.settings} == job.settings


def test_a_missing_root_says_where_the_data_is(tmp_path):
    job = read_suite("ablation").jobs[0]
    with pytest.raises(UsageError, match=r"pass --root mvtec_ad=DIR .*https://www\.mvtec\.com"):
        Places({}).data_of(job)
    assert Places({"mvtec_ad": tmp_path}).data_of(job) == f"mvtec_ad:{tmp_path / job.category}"
