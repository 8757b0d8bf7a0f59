"""What people change: thresholds, and decisions about parts."""

from __future__ import annotations

import numpy as np
import pytest
from lines import bad_bytes, good_bytes, put, record

fastapi = pytest.importorskip("fastapi", reason="the extra serve is not installed")
from asking import NOBODY, decide, error_of, thresholds  # noqa: E402

from urd.serving.http.threshold_routes import _thinned  # noqa: E402

pytest_plugins = ["asking"]


# Thresholds


def test_scores_come_with_thresholds_and_good_images(service, ask):
    rows = [put(service, image) for image in (good_bytes(), bad_bytes(), b"no image")]
    found = ask.get("/v1/models/line/scores").json()
    assert found["scores"] == [[row["sequence"], row["score"]] for row in rows[:2]]
    (model,) = service.models.values()
    assert found["thresholds"] == model.facts()
    assert found["good"] == list(model.detector.header.calibration.scores)
    assert ask.get("/v1/models/line/scores?last=1").json()["scores"] == found["scores"][1:]
    assert "no model" in error_of(ask.get("/v1/models/other/scores"), 404)


def test_many_good_images_are_thinned_evenly():
    few = _thinned(tuple(map(float, range(5000))))
    assert len(few) == 2000 and (few[0], few[-1]) == (0.0, 4999.0)
    assert {2.0, 3.0} >= set(np.diff(few))


def fill_with_scores(service, scores):
    (model,) = service.models.values()
    for score in scores:
        service.store.add(record(score=float(score), model_sha256=model.sha256))
    return model


@pytest.mark.parametrize("seed", range(3))
def test_a_preview_counts_as_brute_force(service, ask, seed):
    rng = np.random.default_rng(seed)
    scores = rng.normal(1.0, 0.4, 60).round(2)
    model = fill_with_scores(service, scores)
    low, high = sorted(rng.choice(scores, 2))  # a score at a threshold is below it
    facts = model.facts()
    body = {"review": low, "reject": high, "last": 50}
    found = ask.post("/v1/models/line/thresholds/preview", json=body).json()

    def zones(review, reject):
        return np.where(
            scores[-50:] > reject, "NG", np.where(scores[-50:] > review, "REVIEW", "OK")
        )

    old, new = zones(facts["review"], facts["reject"]), zones(low, high)
    names = ("OK", "REVIEW", "NG")
    assert found["parts"] == 50 and found["changed"] == (old != new).sum()
    assert found["before"] == {name: (old == name).sum() for name in names}
    assert found["after"] == {name: (new == name).sum() for name in names}
    assert found["to"] == {name: ((new == name) & (old != new)).sum() for name in names}
    places = np.flatnonzero(old != new)[::-1]
    assert [part["sequence"] for part in found["examples"]] == [11 + place for place in places]
    good = model.detector.header.calibration.scores
    expected = (sum(score > high for score in good) + 1) / (len(good) + 1)
    assert found["thresholds"]["reject"]["expected"] == pytest.approx(expected)
    assert found["thresholds"]["reject"]["bound"] >= expected
    assert model.facts() == facts and not service.store.threshold_changes(model.sha256)


def test_a_preview_names_few_examples_of_many(service, ask):
    fill_with_scores(service, np.zeros(120))
    body = {"review": -2, "reject": -1}
    found = ask.post("/v1/models/line/thresholds/preview", json=body).json()
    assert found["changed"] == 120 and len(found["examples"]) == 100
    assert found["examples"][0]["sequence"] == 120


def test_changed_thresholds_decide_the_next_part(service, ask):
    first = put(service, good_bytes())
    assert first["verdict"] == "OK"
    answer = thresholds(ask, review=0.0, reject=first["score"] + 1, change_seen=None)
    assert answer.status_code == 200, answer.text
    facts = answer.json()
    assert facts["change"] == 1 and facts["changes"][0]["person"] == "Kim"
    assert facts["in_force"]["review"]["threshold"] == 0.0
    assert facts["calibrated"]["review"]["threshold"] == first["thresholds"]["review"]
    assert facts == ask.get("/v1/models/line/thresholds").json()
    assert put(service, good_bytes())["verdict"] == "REVIEW"
    back = thresholds(ask, review=None, reject=None, change_seen=1).json()
    assert back["change"] == 2 and back["in_force"] == back["calibrated"]
    assert put(service, good_bytes())["verdict"] == "OK"


def test_thresholds_that_another_person_changed_are_not_overwritten(service, ask):
    values = {"review": 1.0, "reject": 2.0}
    assert thresholds(ask, **values, change_seen=None).status_code == 200
    (model,) = service.models.values()
    for seen in (None, 2):
        late = thresholds(ask, **values, change_seen=seen)
        assert "another person" in error_of(late, 409)
    # Also a change of another process, which this one has not seen.
    service.store.change_thresholds("line", model.sha256, 3.0, 4.0, "Ana", "from the shell")
    assert "another person" in error_of(thresholds(ask, **values, change_seen=1), 409)
    assert [c["person"] for c in service.store.threshold_changes(model.sha256)] == ["Ana", "Kim"]
    assert ask.get("/v1/models/line/thresholds").json()["change"] == 2


@pytest.mark.parametrize(
    ("change", "status"),
    [
        ({"review": 2.0, "reject": 1.0}, 409),
        ({"review": 2.0, "reject": None}, 409),
        ({"person": " "}, 422),
        ({"reason": "\t\n"}, 422),
        ({"reason": ""}, 422),
        ({"review": "1"}, 422),
        ({"review": True}, 422),
        ({"review": 1e10}, 422),
        ({"misspelt": 1}, 422),
    ],
)
def test_wrong_thresholds_are_refused_and_nothing_is_stored(service, ask, change, status):
    wanted = {"review": 1.0, "reject": 2.0, "change_seen": None}
    error_of(thresholds(ask, **{**wanted, **change}), status)
    (model,) = service.models.values()
    assert not service.store.threshold_changes(model.sha256) and model.change is None


@pytest.mark.parametrize("number", ["NaN", "Infinity", "-Infinity", "1e999"])
def test_thresholds_that_are_no_numbers_are_refused(service, ask, number):
    body = f'{{"review": {number}, "reject": {number}, "last": 5}}'
    kind = {"Content-Type": "application/json"}
    error_of(ask.post("/v1/models/line/thresholds/preview", content=body, headers=kind), 422)


def test_the_methods_of_an_address_are_named(ask):
    refused = ask.delete("/v1/models/line/thresholds")
    assert error_of(refused, 405) and refused.headers["allow"] == "GET, POST"


# Decisions of people


def test_a_decision_is_stored_and_the_last_one_counts(service, ask):
    put(service, bad_bytes())
    row = decide(ask, 1, reason="only oil").json()
    assert row["reviewed"]["reason"] == "only oil" and row["verdict"] == "NG"
    decide(ask, 1, decision="reject", person="Ana")
    review = service.store.get(1).review
    assert (review["decision"], review["person"]) == ("reject", "Ana")
    assert ask.get("/v1/judgements/1").json()["reviewed"] == review


def test_there_is_nothing_to_decide_about_other_parts(service, ask):
    put(service, good_bytes())
    put(service, b"no image")
    assert "is OK: there is nothing to decide" in error_of(decide(ask, 1), 409)
    assert "is ERROR" in error_of(decide(ask, 2), 409)
    error_of(decide(ask, NOBODY), 404)
    assert service.store.get(1).review is None


@pytest.mark.parametrize("change", [{"person": " "}, {"decision": "ok"}, {"reason": "x" * 501}])
def test_a_wrong_decision_is_not_stored(service, ask, change):
    put(service, bad_bytes())
    error_of(decide(ask, 1, **change), 422)
    assert service.store.get(1).review is None
