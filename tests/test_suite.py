"""Suites: which jobs a file names, and what makes two jobs the same."""

from __future__ import annotations

import math

import pytest
from conftest import TINY
from suites import write_suite

from urd import method_version
from urd.config import FitConfig, options
from urd.errors import UsageError
from urd.presets import PRESETS
from urd.suites import suite as suite_module
from urd.suites.suite import Job, read_suite, shipped_suites

INPUTS = {"images": "a", "weights": "b", "textures": "c"}


def test_shipped_suites_name_what_they_say():
    counts = {name: len(read_suite(name).jobs) for name in shipped_suites()}
    assert counts == {
        "ablation": 15 * 5 * 3,
        "backbone-weights": 15 * 2 * 3,
        "cpu": 2 * 5 * 3,
        "encoders": 2 * 2 * 3 * 3,
        "mask-resize": 15 * 2 * 3,
        "paper": (15 + 6 + 3 + 12) * 2 * 3,
    }
    jobs = {(job.data, job.category, job.label): job for job in read_suite("paper").jobs}
    assert jobs["mvtec_ad", "cable", "urd"].settings["iterations"] == 10_000
    assert jobs["mvtec_ad", "bottle", "urd"].settings["iterations"] == 5000
    assert jobs["visa", "candle", "rd"].settings["iterations"] == 10_000
    assert jobs["mvtec_ad", "wood", "urd"].settings["foreground"] == "none"
    assert jobs["mvtec_ad", "screw", "urd"].settings["foreground"] == "auto"
    assert {job.backbone for job in jobs.values()} == {"wide_resnet50_2.tv_in1k"}


def test_a_job_has_every_setting_that_is_not_of_the_machine(tmp_path):
    for job in read_suite(write_suite(tmp_path)).jobs:
        assert set(job.settings) == set(FitConfig().to_dict()) - set(options(scope="machine"))


def test_a_job_is_its_settings_and_files_and_not_its_label(tmp_path):
    first, second = read_suite(write_suite(tmp_path)).jobs[:2]
    assert first.digest(INPUTS) != second.digest(INPUTS)
    assert first.digest(INPUTS) != first.digest({**INPUTS, "weights": "other"})
    named = Job(first.data, first.category, "of another name", first.settings)
    assert named.digest(INPUTS) == first.digest(INPUTS)


@pytest.mark.parametrize("name", [n for n in options() if n not in options(scope="machine")])
def test_every_setting_counts_and_its_default_too(tmp_path, name):
    """A default that changes must not make an old result pass for a new one.

    A job from before there was an option is today's job without that option's effect.
    """
    job = read_suite(write_suite(tmp_path, settings={}, settings_for={}, vary={})).jobs[0]
    without = {key: value for key, value in job.settings.items() if key != name}
    digests = {
        Job(job.data, job.category, job.label, settings).digest(INPUTS)
        for settings in (job.settings, without, {**without, name: "another value"})
    }
    assert len(digests) == (2 if name in suite_module._YOUNGER else 3)


def test_the_version_of_the_method_counts(tmp_path, monkeypatch):
    job = read_suite(write_suite(tmp_path)).jobs[0]
    before = job.digest(INPUTS)
    monkeypatch.setattr(method_version, "METHOD_VERSION", method_version.METHOD_VERSION + 1)
    assert job.digest(INPUTS) != before


def test_the_version_of_one_variant_counts_for_it_alone(tmp_path, monkeypatch):
    suite = read_suite(write_suite(tmp_path, vary={"variant": ["rd", "memory"]}))
    before = {job.label: job.digest(INPUTS) for job in suite.jobs}
    newer = method_version.version_of("memory") + 1
    monkeypatch.setattr(method_version, "_NEWER", {"memory": newer})
    after = {job.label: job.digest(INPUTS) for job in suite.jobs}
    assert after["rd"] == before["rd"] and after["memory"] != before["memory"]


def test_choices_with_names_and_an_untrained_encoder(tmp_path):
    encoders = {"drawn": {"weights": "none"}, "shipped": {"backbone": "builtin"}}
    drawn, shipped = read_suite(write_suite(tmp_path, vary={"encoder": encoders})).jobs[:2]
    assert (drawn.label, shipped.label) == ("drawn", "shipped")
    assert drawn.settings["weights"] == "none"
    assert "weights" not in shipped.settings


@pytest.mark.parametrize("name", PRESETS)
def test_a_job_has_one_backbone_the_first_of_its_preset(tmp_path, name):
    path = write_suite(tmp_path, settings={"preset": name}, settings_for={})
    wanted = FitConfig.from_mapping(PRESETS[name])
    assert len(wanted.backbone) > 1
    for job in read_suite(path).jobs:
        assert job.settings["backbone"] == wanted.backbone[0]
        assert job.settings["iterations"] == wanted.iterations


def test_settings_override_their_preset_and_later_layers_earlier_ones(tmp_path):
    path = write_suite(
        tmp_path,
        settings={"preset": "fast", "backbone": TINY, "batch_size": 2},
        settings_for={"folder": {"batch_size": 3}, "folder/partial": {"batch_size": 5}},
        vary={"iterations": [7]},
    )
    whole, partial = read_suite(path).jobs
    assert whole.settings["backbone"] == TINY
    assert (whole.settings["batch_size"], partial.settings["batch_size"]) == (3, 5)
    assert whole.settings["iterations"] == 7


@pytest.mark.parametrize("name", options(scope="machine"))
def test_what_belongs_to_a_machine_is_refused(tmp_path, name):
    value = FitConfig().to_dict()[name]
    for change in ({"settings": {name: value}}, {"vary": {"choice": {"mine": {name: value}}}}):
        path = write_suite(tmp_path, **change)
        with pytest.raises(UsageError, match=f"tiny.yaml: '{name}' is a machine option"):
            read_suite(path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"settings": {"iteration": 3}}, "unknown option 'iteration'"),
        ({"settings": {"preset": "slow"}}, "unknown preset 'slow'"),
        ({"vary": {"variant": ["rdx"]}}, "choose from rd"),
        ({"vary": {"backbone": ["a,b"]}}, "a job has one backbone"),
        ({"vary": {"backbone": [["a", "b"]]}}, "a job has one backbone"),
        ({"vary": {"encoder": {"mine": {"encoder": 1}}}}, "unknown option 'encoder'"),
        ({"settings": {"holdout": math.nan}}, "give a finite number"),
    ],
)
def test_settings_that_no_training_has_name_the_file(tmp_path, change, message):
    path = write_suite(tmp_path, **change)
    with pytest.raises(UsageError, match=message) as error:
        read_suite(path)
    assert str(error.value).startswith(path) and "\n" not in str(error.value)


def test_a_fault_of_ours_is_not_taken_for_one_of_the_file(tmp_path, monkeypatch):
    def fail(content):
        raise ValueError("ours")

    monkeypatch.setattr(suite_module, "parse_suite", fail)
    with pytest.raises(ValueError, match=r"^ours$"):
        read_suite(write_suite(tmp_path))


def test_unknown_suites_and_files_that_are_no_yaml(tmp_path):
    with pytest.raises(UsageError, match="no suite 'x': give a YAML file or one of ablation"):
        read_suite("x")
    (tmp_path / "a.yaml").write_text(": [")
    with pytest.raises(UsageError, match="as YAML"):
        read_suite(str(tmp_path / "a.yaml"))


def test_seeds_come_first_so_that_a_stopped_suite_has_whole_tables(tmp_path):
    jobs = read_suite(write_suite(tmp_path, seeds=[1, 0])).jobs
    assert [job.seed for job in jobs] == [1] * 4 + [0] * 4
    assert jobs[1].name == "folder/whole, urd, seed 1"
