"""Variants with a memory, and scores by name, from training to a saved and an exported file."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from conftest import assert_same_weights

from urd import Detector, UrdError
from urd.inspection.score import PAPER, Score
from urd.model.file import save_model
from urd.training.choose_score import _best


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """Detectors by variant and score, each trained once."""
    known = {}

    def of(data, config):
        key = (config.variant, config.score, config.holdout)
        if key not in known:
            known[key] = Detector.fit(
                data, tmp_path_factory.mktemp("memory") / "run", config=config
            )
        return known[key]

    return of


@pytest.fixture
def config(tiny_config):
    return dataclasses.replace(tiny_config, memory=60)


@pytest.mark.parametrize("variant", ["memory", "urd-memory"])
def test_a_saved_detector_with_a_memory_judges_the_same(data, config, tmp_path, trained, variant):
    detector = trained(data, dataclasses.replace(config, variant=variant))
    assert detector.model.bank.features.shape == (60, 80 + 160)
    detector.save(tmp_path / "m.safetensors")
    again = Detector.load(tmp_path / "m.safetensors")
    assert again.header.score == detector.header.score
    image = data / "test/square/000.png"
    assert again.predict(image).score == detector.predict(image).score
    assert np.array_equal(again.predict(image).anomaly_map, detector.predict(image).anomaly_map)


def test_the_memory_finds_what_it_has_not_seen(data, config, trained):
    detector = trained(data, dataclasses.replace(config, variant="memory"))
    assert detector.header.score == Score(name="memory", levels=(0.0, 0.0, 0.0), memory=1.0)
    assert detector.header.calibration.scores[0] > 0
    figures = detector.evaluate(data, resamples=0)
    assert figures["pixel_auroc"] > 0.6
    assert "no training" in figures["protocol"] and "iteration" not in figures["protocol"]


def test_the_same_seed_remembers_the_same(data, config, tmp_path):
    for name in ("a", "b"):
        wanted = dataclasses.replace(config, variant="urd-memory", score="auto")
        Detector.fit(data, tmp_path / name, config=wanted)
    assert_same_weights(tmp_path / "a", tmp_path / "b")
    a, b = (Detector.load(tmp_path / name).header for name in ("a", "b"))
    assert a.score == b.score and a.calibration == b.calibration


def test_both_parts_of_the_sum_count_for_the_median_good_image(data, config, trained):
    detector = trained(data, dataclasses.replace(config, variant="urd-memory", score="squared"))
    score = detector.header.score
    assert score.name == "squared"
    assert score.memory > 0 and score.levels[0] == score.levels[1] == score.levels[2] > 0
    assert np.median(detector.header.calibration.scores) == pytest.approx(1, abs=0.3)


@pytest.mark.parametrize("name", ["weighted", "squared", "auto"])
def test_a_score_by_name_is_in_the_header(data, config, trained, name):
    score = trained(data, dataclasses.replace(config, score=name)).header.score
    assert score.memory == 0 and score.levels == (1.0, 1.0, 1.0)
    if name != "auto":
        assert score.name == name


def test_without_held_out_images_auto_is_the_papers_score(data, config, trained):
    wanted = dataclasses.replace(config, score="auto", holdout=0.0)
    assert trained(data, wanted).header.score == PAPER


def test_a_score_of_another_variant_is_refused(data, config, trained, tmp_path):
    detector = trained(data, dataclasses.replace(config, score="weighted"))
    header = dataclasses.replace(detector.header, score=Score(memory=1.0))
    save_model(tmp_path / "m.safetensors", detector.model, header)
    with pytest.raises(UrdError, match="its score does not belong to its variant"):
        Detector.load(tmp_path / "m.safetensors")


@pytest.mark.parametrize("variant", ["memory", "urd-memory"])
def test_an_exported_file_has_the_memory_and_the_score(data, config, tmp_path, trained, variant):
    pytest.importorskip("onnxruntime")
    from urd.export.files import Export, export

    name = "paper" if variant == "memory" else "squared"
    detector = trained(data, dataclasses.replace(config, variant=variant, score=name))
    images = sorted((data / "test/square").iterdir())
    export(detector, tmp_path / "m.onnx", Export("onnx", "float32", (64, 64)), images, [])
    exported = Detector.load(tmp_path / "m.onnx")
    for image in images:
        expected, found = detector.predict(image), exported.predict(image)
        assert found.score == pytest.approx(expected.score, rel=1e-4)
        np.testing.assert_allclose(found.anomaly_map, expected.anomaly_map, rtol=1e-3, atol=1e-4)


def test_only_a_surely_better_candidate_replaces_the_first_one():
    random = np.random.default_rng(0)
    usual = np.full((30, 100), 0.5)
    better, by_chance = usual + 0.2, usual.copy()
    by_chance[0, 0] = 1  # one pair of images
    assert _best([usual, better], random) == 1
    assert _best([usual, by_chance], random) == 0
    assert _best([usual, usual], random) == 0
    assert _best([usual, usual + 0.1, better], random) == 2
