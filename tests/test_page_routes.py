"""Routes of the operator's page: search, pictures, thresholds, decisions, the state of the line."""

from __future__ import annotations

import io
import json
import re

import numpy as np
import pytest
from lines import bad_bytes, good_bytes, record, served, station, tiny_run
from PIL import Image

from urd.serving.kept_images import heat_of
from urd.serving.outbox import Outbox
from urd.serving.service import Service
from urd.serving.station import Arrived
from urd.serving.store import StoreError

fastapi = pytest.importorskip("fastapi", reason="the extra serve is not installed")
from fastapi.testclient import TestClient  # noqa: E402

from urd.serving.http import page_routes as page  # noqa: E402
from urd.serving.http.threshold_routes import _thinned  # noqa: E402

NOBODY = 2**40


@pytest.fixture(scope="module")
def opened(tmp_path_factory, weights_file):
    return served(tiny_run(tmp_path_factory.mktemp("page_routes"), weights_file))


@pytest.fixture
def model(opened):
    opened.set_thresholds(None)
    return opened


@pytest.fixture
def service(tmp_path, model):
    return service_with(tmp_path, model)


def service_with(folder, model, **settings):
    line = station(folder, "serve", **settings)
    return Service(line.store, {model.name: model}, line)


@pytest.fixture
def ask(service):
    return client_of(service)


def client_of(service, require=lambda scope: lambda: None):
    app = fastapi.FastAPI()
    app.include_router(page.page_routes(service, require))
    return TestClient(app)


def put(service, image, **facts):
    """Judge an image and store it; gives the row."""
    (model,) = service.models.values()
    (result,) = model.judge([image])
    return service.station.conclude(model, Arrived.of(image, **facts), result).row


def error_of(answer, status):
    assert answer.status_code == status, answer.text
    assert list(answer.json()) == ["error"] and "\n" not in answer.json()["error"]
    return answer.json()["error"]


def sequences(answer):
    assert answer.status_code == 200, answer.text
    return [row["sequence"] for row in answer.json()["judgements"]]


# Rows


def test_search_gives_the_newest_first_and_only_what_is_wanted(service, ask):
    for number in range(1, 4):
        put(service, good_bytes(number), part=f"A{number}")
    bad = put(service, bad_bytes(), part="B1")
    assert bad["verdict"] == "NG"
    assert sequences(ask.get("/v1/judgements")) == [4, 3, 2, 1]
    assert sequences(ask.get("/v1/judgements?limit=2&before=4")) == [3, 2]
    assert sequences(ask.get("/v1/judgements?after=2")) == [4, 3]
    assert sequences(ask.get("/v1/judgements?part=A&verdict=OK&model=line")) == [3, 2, 1]
    assert sequences(ask.get("/v1/judgements?verdict=NG")) == [4]
    assert sequences(ask.get("/v1/judgements?model=other")) == []
    assert sequences(ask.get("/v1/judgements?until=1000")) == []
    assert sequences(ask.get("/v1/judgements?since=1000")) == [4, 3, 2, 1]


def test_one_row_is_that_of_the_store(service, ask):
    put(service, bad_bytes(), part="A")
    row = service.store.get(1).to_dict()
    assert ask.get("/v1/judgements/1").json() == {**row, "kept": True}
    assert error_of(ask.get("/v1/judgements/2"), 404) == "there is no judgement 2"


@pytest.mark.parametrize(
    "query",
    ["limit=0", "limit=1001", "since=nan", "until=inf", "verdict=BAD", "before=x", "part="],
)
def test_values_out_of_range_are_refused_in_one_line(ask, query):
    assert query.split("=")[0] in error_of(ask.get(f"/v1/judgements?{query}"), 422)


@pytest.mark.parametrize("sequence", ["0", "-1", "x", str(2**60), "..%2f1"])
def test_only_a_number_names_a_row(ask, sequence):
    assert ask.get(f"/v1/judgements/{sequence}/image").status_code in (404, 422)


def test_counts_are_by_verdict_since_a_time(service, ask):
    put(service, good_bytes())
    put(service, bad_bytes())
    put(service, b"no image")
    found = ask.get("/v1/counts").json()
    assert found == {"total": 3, "counts": {"OK": 1, "REVIEW": 0, "NG": 1, "ERROR": 1}}
    assert ask.get("/v1/counts?since=9e10").json()["total"] == 0


# Pictures


def picture_of(answer, kind):
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"] == kind
    return Image.open(io.BytesIO(answer.content))


def test_the_image_is_upright_and_reduced(service, ask):
    turned = Image.new("RGB", (200, 100), "red")
    turned.paste("blue", (0, 0, 100, 100))
    out, exif = io.BytesIO(), Image.Exif()
    exif[0x0112] = 6  # to be turned clockwise
    turned.save(out, "JPEG", exif=exif)
    put(service, out.getvalue())
    whole = picture_of(ask.get("/v1/judgements/1/image"), "image/jpeg")
    assert whole.size == (100, 200)
    assert whole.getpixel((50, 20))[2] > 200 and whole.getpixel((50, 180))[0] > 200
    assert picture_of(ask.get("/v1/judgements/1/image?side=64"), "image/jpeg").size == (32, 64)


def test_the_image_is_read_as_the_detector_reads_it(service, ask, monkeypatch):
    (model,) = service.models.values()
    reading = model.detector.reading.changed(white_level=4095)
    monkeypatch.setattr(model.detector, "reading", reading)
    out = io.BytesIO()
    Image.fromarray(np.full((40, 40), 2048, np.uint16)).save(out, "PNG")
    put(service, out.getvalue())
    shown = picture_of(ask.get("/v1/judgements/1/image"), "image/jpeg")
    assert abs(np.asarray(shown).mean() - 128) < 2


def test_a_browser_gets_the_same_picture_only_once(service, ask):
    put(service, good_bytes())
    for path in ("image", "heat"):
        first = ask.get(f"/v1/judgements/1/{path}")
        again = ask.get(
            f"/v1/judgements/1/{path}", headers={"If-None-Match": first.headers["etag"]}
        )
        assert first.status_code == 200 and again.status_code == 304 and not again.content
    sizes = {ask.get(f"/v1/judgements/1/image?side={n}").headers["etag"] for n in (64, 65)}
    assert len(sizes) == 2


def test_the_heat_map_is_the_kept_one(service, ask):
    put(service, bad_bytes())
    kept = heat_of(service.store.images / service.store.get(1).image).read_bytes()
    assert ask.get("/v1/judgements/1/heat").content == kept
    shown = picture_of(ask.get("/v1/judgements/1/heat?side=64"), "image/png")
    assert shown.mode == "RGBA" and shown.size == (64, 64)


def test_an_image_that_was_not_kept_has_a_reason(tmp_path, model):
    service = service_with(tmp_path, model, rule="none")
    put(service, good_bytes())
    ask = client_of(service)
    assert ask.get("/v1/judgements/1").json()["kept"] is False
    for path in ("image", "heat"):
        assert "not kept (rule: none)" in error_of(ask.get(f"/v1/judgements/1/{path}"), 404)


def test_an_image_that_is_gone_or_damaged_has_a_reason(service, ask):
    put(service, good_bytes())
    put(service, b"no image")
    assert "cannot be shown" in error_of(ask.get("/v1/judgements/2/image"), 404)
    assert "no heat map" in error_of(ask.get("/v1/judgements/2/heat"), 404)
    path = service.store.images / service.store.get(1).image
    assert ask.get("/v1/judgements/1/image").status_code == 200
    path.unlink()
    assert "gone" in error_of(ask.get("/v1/judgements/1/image"), 404)


@pytest.mark.parametrize("name", ["../secret.png", "/{root}/secret.png", "link.png", "."])
def test_no_file_outside_of_the_folder_is_shown(service, ask, tmp_path, name):
    secret = tmp_path / "secret.png"
    secret.write_bytes(good_bytes())
    heat_of(secret).write_bytes(good_bytes())
    service.store.images.mkdir()
    try:
        (service.store.images / "link.png").symlink_to(secret)
    except OSError:
        pytest.skip("links are not allowed here")
    service.store.add(record(image=name.replace("/{root}", str(tmp_path))))
    for path in ("image", "heat"):
        error_of(ask.get(f"/v1/judgements/1/{path}"), 404)


# Thresholds


def thresholds(ask, **more):
    return ask.post("/v1/models/line/thresholds", json={"person": "Kim", "reason": "lamp", **more})


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


def decide(ask, sequence, **more):
    body = {"decision": "accept", "person": "Kim", **more}
    return ask.post(f"/v1/judgements/{sequence}/review", json=body)


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


# The line


def test_the_status_says_what_is_wrong(tmp_path, model):
    service = service_with(tmp_path, model, receivers=["plc"])
    ask = client_of(service)
    empty = ask.get("/v1/status").json()
    assert empty["newest"] is None and empty["camera"] is None and empty["outbox"] == {}
    put(service, good_bytes())
    outbox = Outbox(service.store, "plc")
    outbox.park(outbox.due(1e10)[0], "refused for good")
    put(service, good_bytes())  # the same image again
    status = ask.get("/v1/status").json()
    assert status["line"] == "line" and status["keep"] == "all"
    assert status["store"] == {"ok": True, "problem": None}
    assert status["newest"]["sequence"] == 2 and 0 <= status["newest"]["age_seconds"] < 3600
    assert status["outbox"]["plc"] == {"waiting": 1, "parked": 1, "error": "refused for good"}
    assert status["parked"] == 1
    assert status["camera"]["sequence"] == 2 and "same image" in status["camera"]["messages"][0]
    (model,) = service.models.values()
    assert status["models"][0]["model_sha256"] == model.sha256
    assert status["models"][0]["change"] is None


def test_the_status_answers_although_the_store_fails(service, ask, monkeypatch):
    def fail(*_, **__):
        raise StoreError("the disk is full")

    monkeypatch.setattr(service.store, "check", fail)
    assert ask.get("/v1/status").json()["store"] == {"ok": False, "problem": "the disk is full"}
    monkeypatch.setattr(service.store, "search", fail)
    answer = ask.get("/v1/status").json()
    assert answer["newest"] is None and not answer["store"]["ok"] and answer["models"]
    assert error_of(ask.get("/v1/judgements"), 503) == "the disk is full"


def test_a_failed_check_of_the_store_is_tried_again(service, monkeypatch):
    now, failing = [100.0], [True]

    def check():
        if failing[0]:
            raise StoreError("locked")

    monkeypatch.setattr(service.store, "check", check)
    monkeypatch.setattr(page.time, "monotonic", lambda: now[0])
    checks = page.StoreChecks(service.store)
    assert checks.problem() == "locked"
    failing[0] = False
    assert checks.problem() == "locked"  # not asked again within two seconds
    now[0] += 2.1
    assert checks.problem() is None
    failing[0] = True
    assert checks.problem() is None  # a good one holds for twenty
    now[0] += 20.1
    assert checks.problem() == "locked"


# Files, scopes, description


def test_the_page_is_served_with_a_strict_policy(ask):
    answer = ask.get("/")
    assert answer.headers["content-type"].startswith("text/html")
    policy = answer.headers["content-security-policy"]
    assert policy.startswith("default-src 'self';") and "unsafe" not in policy
    for name in page.FILES:
        file = ask.get(f"/page/{name}")
        assert file.status_code == 200 and file.headers["x-content-type-options"] == "nosniff"
    assert ask.get("/page/app.js").headers["content-type"].startswith("text/javascript")


@pytest.mark.parametrize(
    "name", ["index.html", "..%2fstore.py", "%2e%2e/page/app.js", "APP.JS", "app.js%00", ""]
)
def test_no_other_file_is_served(ask, name):
    assert ask.get(f"/page/{name}").status_code == 404


def test_the_page_has_no_inline_code_and_no_foreign_address():
    html = (page._FOLDER / "index.html").read_text(encoding="utf-8")
    assert not re.search(r"<script(?![^>]*\ssrc=)|<style|\sstyle=|\son\w+=", html)
    for path in [*page.FILES.values(), page._FOLDER / "index.html"]:
        text = path.read_text(encoding="utf-8").replace("http://www.w3.org/2000/svg", "")
        assert not re.search(r"https?:|//\w+\.\w+/|innerHTML|insertAdjacentHTML|eval\(", text), path


def test_each_route_asks_for_its_scope(service):
    asked = []

    def require(scope):
        def note():
            asked.append(scope)

        return note

    ask = client_of(service, require)
    put(service, bad_bytes())
    for path in ("/", "/page/app.js"):
        ask.get(path)
    assert asked == []
    reading = ["/v1/judgements", "/v1/judgements/1", "/v1/judgements/1/image", "/v1/counts"]
    reading += ["/v1/judgements/1/heat", "/v1/models/line/scores", "/v1/models/line/thresholds"]
    for path in [*reading, "/v1/status"]:
        ask.get(path)
    ask.post("/v1/models/line/thresholds/preview", json={"review": 1, "reject": 2})
    assert asked == ["read"] * 9
    decide(ask, 1)
    thresholds(ask, review=1, reject=2, change_seen=None)
    assert asked[9:] == ["predict", "admin"]


def test_answers_are_as_described(service, ask):
    """The schemas of OpenAPI hold for rows that the routes give without a check of their own."""
    from urd.serving.http.page_answers import Judgement, Judgements

    put(service, bad_bytes(), part="A")
    put(service, b"no image")
    decide(ask, 1)
    Judgements.model_validate(ask.get("/v1/judgements").json())
    Judgement.model_validate(ask.get("/v1/judgements/1").json())
    document = json.dumps(ask.get("/openapi.json").json())
    assert "HTTPValidationError" not in document and "/v1/status" in document


@pytest.fixture(scope="module")
def described(tmp_path_factory, opened):
    """The whole application with two rows, for generated requests."""
    schemathesis = pytest.importorskip("schemathesis", reason="schemathesis is not installed")
    from urd.serving.http.app import create_app
    from urd.serving.http.settings import Settings

    service = service_with(tmp_path_factory.mktemp("described"), opened)
    put(service, good_bytes())
    put(service, bad_bytes())
    app = create_app(service, Settings(hosts=frozenset({"testserver"})))

    async def without_threads(scope, receive, send):
        if scope["type"] == "http":
            await app(scope, receive, send)
            return
        for step in ("startup", "shutdown"):
            await receive()
            await send({"type": f"lifespan.{step}.complete"})

    return schemathesis.openapi.from_asgi("/openapi.json", without_threads)


@pytest.mark.parametrize("mode", ["POSITIVE", "NEGATIVE"])
@pytest.mark.parametrize(
    "name",
    [
        "GET /v1/judgements",
        "GET /v1/judgements/{sequence}",
        "GET /v1/judgements/{sequence}/image",
        "GET /v1/judgements/{sequence}/heat",
        "POST /v1/judgements/{sequence}/review",
        "GET /v1/counts",
        "GET /v1/status",
        "GET /v1/models/{name}/scores",
        "GET /v1/models/{name}/thresholds",
        "POST /v1/models/{name}/thresholds",
        "POST /v1/models/{name}/thresholds/preview",
    ],
)
def test_generated_requests_get_described_answers(described, name, mode):
    from hypothesis import HealthCheck, given, settings
    from hypothesis.errors import Unsatisfiable
    from schemathesis import GenerationMode

    operation = described.find_operation_by_label(name)

    @given(operation.as_strategy(generation_mode=GenerationMode[mode]))
    @settings(
        max_examples=6,  # hundreds were tried by hand
        deadline=None,
        database=None,
        derandomize=True,
        suppress_health_check=list(HealthCheck),
    )
    def check(case):
        case.call_and_validate()

    try:
        check()
    except Unsatisfiable:  # it takes nothing that could be wrong
        assert mode == "NEGATIVE" and not operation.body
