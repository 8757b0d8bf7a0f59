"""Order-statistic thresholds: the bound against scipy and against simulation."""

from __future__ import annotations

import itertools
import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import beta

from urd.errors import UsageError
from urd.inspection.calibration import Calibration, enough_images, limit, upper_bound

SCORES = tuple(np.linspace(0.1, 0.4, 199))
GOOD = Calibration(SCORES, SCORES, tuple(np.linspace(0.05, 0.2, 199)), "test")


@given(st.integers(1, 3000), st.data())
def test_the_bound_is_the_quantile_of_the_beta_distribution(n, data):
    above = data.draw(st.integers(0, n - 1))
    assert upper_bound(n, above) == pytest.approx(beta.ppf(0.95, above + 1, n - above), abs=1e-9)


@pytest.mark.parametrize(("n", "percent"), [(59, 5), (299, 1)])
def test_the_largest_of_n(n, percent):
    assert upper_bound(n, 0) <= percent / 100 < upper_bound(n - 1, 0)


@pytest.mark.parametrize("draw", ["lognormal", "standard_cauchy", "random"])
@pytest.mark.parametrize(("n", "wanted"), [(40, 0.1), (200, 0.05), (30, 0.01)])
def test_simulated_false_rejects_are_as_promised(draw, n, wanted):
    """The true rate of 4,000 calibrations, by the rank of their thresholds among 10^6 scores."""
    rng = np.random.default_rng(n)
    everyone = np.sort(getattr(rng, draw)(size=1_000_000))
    samples = np.sort(rng.choice(everyone, (4000, n)), axis=1)
    first = limit(samples[0], wanted)
    assert first.threshold == samples[0, n - 1 - first.above]
    thresholds = samples[:, n - 1 - first.above]
    rates = 1 - np.searchsorted(everyone, thresholds, "right") / len(everyone)
    error = np.std(rates) / np.sqrt(len(rates))
    assert np.mean(rates) == pytest.approx(first.expected, abs=5 * error)
    assert np.mean(rates <= first.bound) == pytest.approx(0.95, abs=0.015)
    assert first.expected <= wanted or first.above == 0


def test_ties_only_lower_the_rate():
    rng = np.random.default_rng(0)
    everyone = rng.integers(0, 12, 200_000)
    found = [limit(rng.choice(everyone, 60), 0.1) for _ in range(500)]
    rates = np.array([(everyone > f.threshold).mean() for f in found])
    assert np.mean(rates) <= found[0].expected
    assert np.mean(rates <= found[0].bound) >= 0.95


@given(st.integers(1, 2000), st.sampled_from([0.01, 0.05, 0.1, 0.5]))
def test_more_images_halve_the_bound(n, wanted):
    found = limit(np.arange(n), wanted)
    assert upper_bound(n + found.more_images, found.above) <= found.bound / 2
    assert upper_bound(n + found.more_images - 1, found.above) > found.bound / 2


@pytest.mark.parametrize(
    ("wanted", "hint"), [(5, "5 % is 0.05"), (0, "5 % is 0.05"), (2.5, "2.5 % is 0.025")]
)
def test_a_share_in_percent_is_refused_with_the_right_one(wanted, hint):
    with pytest.raises(UsageError, match=f"between 0 and 1: {hint}$"):
        limit([0.1, 0.2], wanted)


def test_too_few_images_say_how_many_to_add():
    few = Calibration((*range(60),), (*range(60),), (*range(60),), "test")
    said = few.thresholds(0.01, 0.05).shortfall()
    assert said.startswith("60 images are too few for 1 % (NG)")
    assert said.endswith("a folder of 99 good images that training did not see.")


def test_too_few_images_say_what_they_promise():
    found = limit([0.3, 0.1, 0.2], 0.01)
    assert (found.threshold, found.above, found.expected) == (0.3, 0, 0.25)
    assert found.bound > 0.6


@pytest.mark.parametrize("wanted", [0.01, 0.05, 0.1, 0.3, 0.5])
def test_how_many_images_are_enough(wanted):
    n = enough_images(wanted)
    assert limit(range(n), wanted).expected <= wanted + 1e-12
    assert n == 1 or limit(range(n - 1), wanted).expected > wanted


def test_verdicts_and_the_knob():
    usual = GOOD.thresholds()
    assert usual.review.threshold < usual.reject.threshold
    between = (usual.review.threshold + usual.reject.threshold) / 2
    assert [usual.verdict(s) for s in (0.0, usual.review.threshold, between, 1.0)] == [
        "OK", "OK", "REVIEW", "NG",
    ]  # fmt: skip
    strict = GOOD.thresholds(false_reject=0.2)
    assert strict.reject.threshold < usual.reject.threshold
    assert strict.review == strict.reject
    assert strict.pixel.threshold < usual.pixel.threshold


@pytest.mark.parametrize("shares", [(0, None), (1.0, None), (0.1, 0.05), (0.1, 1.5)])
def test_shares_that_mean_nothing_are_refused(shares):
    with pytest.raises(UsageError):
        GOOD.thresholds(*shares)


@given(st.lists(st.floats(1e-6, 6), min_size=2, unique=True))
def test_the_calibrated_score_keeps_the_order_and_is_a_half_at_the_threshold(scores):
    threshold = GOOD.thresholds().reject.threshold
    assert GOOD.calibrated(threshold, threshold) == 0.5
    raw = sorted(scores)
    for low, high in itertools.pairwise(raw):
        assert GOOD.calibrated(low, threshold) <= GOOD.calibrated(high, threshold)
        if high > low * (1 + 1e-9):
            assert GOOD.calibrated(low, threshold) < GOOD.calibrated(high, threshold) < 1


def test_the_median_good_image_has_a_calibrated_score_of_a_tenth():
    wide = Calibration((0.1, 0.2, 0.6), (0.1,), (0.1,), "test")
    assert wide.calibrated(0.2, 0.6) == pytest.approx(0.1)
    same = Calibration((0.3, 0.3, 0.3), (0.1,), (0.1,), "test")
    assert same.calibrated(0.3, 0.3) == 0.5 < same.calibrated(0.31, 0.3)


def test_a_calibration_survives_json():
    assert Calibration.from_dict(json.loads(json.dumps(GOOD.to_dict()))) == GOOD
