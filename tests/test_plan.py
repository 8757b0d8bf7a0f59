"""`--iterations auto`: a training goes on while it gets better, by held-out good images alone."""

from __future__ import annotations

import json

import pytest
from conftest import assert_same_weights

from urd import Detector
from urd.config import FitConfig, resolve_config
from urd.errors import UsageError
from urd.training import plan
from urd.training.plan import Plan
from urd.training.validation import GOOD_DISTANCE


def grown(distance, iterations=100, most=1000) -> Plan:
    made = Plan(iterations, most)
    done = 0
    while done < made.iterations:
        done += 1
        if done % 10 == 0:
            made.distances[done] = distance(done)
        made.look(done)
    return made


def test_a_curve_that_falls_goes_on_to_the_limit():
    assert grown(lambda n: n**-0.5).iterations == 1000


def test_a_flat_curve_stops_as_planned():
    made = grown(lambda n: 1 + n**-0.5)
    assert made.iterations == 100 and not made.still_falls()


def test_a_curve_that_becomes_flat_stops_there():
    assert grown(lambda n: max(0.1, n**-0.5)).iterations == 400


def test_without_a_limit_it_only_says_so():
    made = grown(lambda n: n**-0.5, most=0)
    assert made.iterations == 100 and made.still_falls()


@pytest.mark.parametrize("distances", [{}, {60: 1.0}, {60: 1.0, 50: 9.0}])
def test_too_few_validations_decide_nothing(distances):
    assert not Plan(100, 1000, distances).still_falls()


def test_auto_is_two_numbers():
    config = FitConfig.from_mapping({"iterations": "auto"})
    assert (config.iterations, config.most_iterations) == (300, 3000)
    config = FitConfig.from_mapping({"iterations": "auto", "most_iterations": 500})
    assert (config.iterations, config.most_iterations) == (300, 500)
    with pytest.raises(UsageError, match="iterations cannot be 'automatic'"):
        FitConfig.from_mapping({"iterations": "automatic"})


def test_epochs_raise_the_iterations_with_the_number_of_images():
    config = FitConfig(iterations=100, epochs=4.0, batch_size=8)
    assert Plan.of(config, 20).iterations == 100
    assert Plan.of(config, 321).iterations == 161
    assert Plan.of(config, 321, planned=400).iterations == 400
    assert Plan.of(FitConfig(iterations=100), 10_000).iterations == 100


def test_who_names_a_number_of_iterations_gets_it():
    assert resolve_config(preset="fast").epochs == 4.0
    named = resolve_config(preset="fast", options={"iterations": 50})
    assert (named.iterations, named.epochs) == (50, 0.0)
    both = resolve_config(preset="fast", options={"iterations": 50, "epochs": 2})
    assert (both.iterations, both.epochs) == (50, 2.0)


def test_a_training_of_epochs_is_resumed(data, tmp_path, tiny_config, stopped_at):
    settings = {**tiny_config.to_dict(), "iterations": 2, "epochs": 3.0, "batch_size": 2}
    whole = Detector.fit(data, tmp_path / "whole", **settings)
    assert whole.config.iterations > 5
    with stopped_at(3):
        Detector.fit(data, tmp_path / "cut", **{**settings, "checkpoint_seconds": 0.0})
    resumed = Detector.fit(data, tmp_path / "cut", resume=True)
    assert resumed.config.iterations == whole.config.iterations
    assert_same_weights(tmp_path / "whole", tmp_path / "cut")


@pytest.fixture
def settings(tiny_config):
    content = tiny_config.to_dict()
    return {**content, "iterations": 10, "most_iterations": 25, "validate_every": 2, "holdout": 0.2}


def test_a_training_that_goes_on_and_is_interrupted_is_the_same(
    data, tmp_path, settings, monkeypatch, stopped_at, shown, capsys
):
    monkeypatch.setattr(plan, "_STILL_FALLS", 1.0)  # so few iterations learn little
    whole = Detector.fit(data, tmp_path / "whole", **settings)
    assert whole.config.iterations == 25
    error = capsys.readouterr().err
    assert "goes on to 20 iterations" in error and "goes on to 25 iterations" in error
    curve = [json.loads(r) for r in (tmp_path / "whole/metrics.jsonl").read_text().splitlines()]
    found = [line["validation"][GOOD_DISTANCE] for line in curve if "validation" in line]
    assert len(found) == 13 and found[-1] < found[0]

    with stopped_at(12):
        Detector.fit(data, tmp_path / "cut", **settings)
    resumed = Detector.fit(data, tmp_path / "cut", resume=True)
    assert resumed.config.iterations == 25
    assert_same_weights(tmp_path / "whole", tmp_path / "cut")
    again = Detector.fit(data, tmp_path / "cut", resume=True, **settings)
    assert again.config.iterations == 25
    header = Detector.load(tmp_path / "cut").header
    assert GOOD_DISTANCE not in header.validation
