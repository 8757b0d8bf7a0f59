"""`urd serve`: its models, their reload, its health and its figures."""

from __future__ import annotations

import shutil
import threading
from dataclasses import replace

import numpy as np
import pytest
from lines import bad_bytes, good_bytes, tiny_run
from web import PREDICT, application, client_of, until

from urd import Detector
from urd.serving.http import health
from urd.serving.http.app import create_app
from urd.serving.http.line_store import LineStore
from urd.serving.store import StoreError

RELOAD = "/v1/models/m/reload"


@pytest.fixture(scope="module")
def trained(tmp_path_factory, weights_file):
    return tiny_run(tmp_path_factory.mktemp("models"), weights_file)


@pytest.fixture
def run(trained, tmp_path):
    """A run that the test may change."""
    return shutil.copytree(trained, tmp_path / "run")


@pytest.fixture
def app(tmp_path, run):
    return application(tmp_path, run)


@pytest.fixture
def client(app):
    with client_of(app) as client:
        yield client


def recalibrated(run) -> None:
    """Write other thresholds into the run."""
    detector = Detector.load(run)
    detector.calibrate([np.full((48, 48, 3), value, np.uint8) for value in range(20)], "grey")
    detector.save(run / "model.safetensors")


def other_size(run, trained) -> None:
    detector = Detector.load(trained)
    detector.header = replace(detector.header, config=replace(detector.config, image_size=(96, 64)))
    detector.save(run / "model.safetensors")


def test_what_is_in_force(app, client):
    (facts,) = client.get("/v1/models").json()["models"]
    model = app.state.parts.service.models["m"]
    assert facts["name"] == "m" and facts["sha256"] == model.sha256
    assert facts["engine"] == "torch cpu float32" and facts["image_size"] == [64, 64]
    assert facts["thresholds"] == model.facts() and facts["thresholds"]["change"] is None
    assert facts["calibration"]["images"] == 6
    assert facts["heat_range"] == client.post(PREDICT, content=bad_bytes()).json()["heat_range"]


def test_a_reload_takes_the_new_file_and_its_own_thresholds(app, client, run):
    before = client.get("/v1/models").json()["models"][0]
    service = app.state.parts.service
    service.store.change_thresholds("m", before["sha256"], 1.0, 2.0, "ada", "trial")
    service.station.refresh(service.models["m"])
    assert client.post(RELOAD).json()["changed"] is False
    assert client.get("/v1/models").json()["models"][0]["thresholds"]["change"] == 1
    recalibrated(run)
    answer = client.post(RELOAD)
    content = answer.json()
    assert answer.status_code == 200 and content["changed"]
    assert content["before_sha256"] == before["sha256"] != content["model"]["sha256"]
    assert content["model"]["calibration"]["source"] == "grey"
    assert content["model"]["thresholds"]["change"] is None
    row = client.post(PREDICT, content=good_bytes()).json()
    assert row["model_sha256"] == content["model"]["sha256"]
    assert row["thresholds"] == content["model"]["thresholds"]


@pytest.mark.parametrize("damage", ["broken", "absent", "size", "uncalibrated", "check"])
def test_a_model_that_cannot_serve_is_refused_and_the_old_one_goes_on(
    tmp_path, run, trained, damage
):
    app = application(
        tmp_path, run, check=lambda model: ["a.png: a bad part is OK"] if damage == "check" else []
    )
    with client_of(app) as client:
        before = client.get("/v1/models").json()
        file = run / "model.safetensors"
        match damage:
            case "broken":
                file.write_bytes(file.read_bytes()[:-100])
            case "absent":
                file.unlink()
            case "size":
                other_size(run, trained)
            case "uncalibrated":
                detector = Detector.load(trained)
                detector.header = replace(detector.header, calibration=None)
                detector.save(file)
        answer = client.post(RELOAD)
        assert (answer.status_code, list(answer.json())) == (409, ["error"])
        assert "not loaded" in answer.json()["error"]
        assert client.get("/v1/models").json() == before
        assert client.post(PREDICT, content=bad_bytes()).json()["verdict"] == "NG"


def test_a_reload_opens_and_reads_as_before(app, client, run):
    model = app.state.parts.service.models["m"]
    model.detector.reading = model.detector.reading.changed(max_megapixels=1)
    model._in_force = (replace(model.inspection, smallest_area=7.0), None)
    recalibrated(run)
    assert client.post(RELOAD).json()["changed"]
    new = app.state.parts.service.models["m"]
    assert new is not model and new.detector.reading.max_megapixels == 1
    assert new.inspection.smallest_area == 7.0


def test_a_reload_takes_no_path_and_no_unknown_model(client):
    assert client.post("/v1/models/other/reload").status_code == 404
    answer = client.post(RELOAD, params={"path": "/etc/passwd"}, json={"path": "/etc/passwd"})
    assert answer.status_code == 200 and answer.json()["changed"] is False


def test_one_reload_at_a_time_while_images_are_judged(tmp_path, run):
    begun, go = threading.Event(), threading.Event()

    def check(_):
        begun.set()
        assert go.wait(30)
        return []

    with client_of(application(tmp_path, run, check=check)) as client:
        answers = []
        first = threading.Thread(target=lambda: answers.append(client.post(RELOAD)))
        first.start()
        assert begun.wait(30)
        answer = client.post(RELOAD)
        assert answer.status_code == 409 and "already" in answer.json()["error"]
        assert client.post(PREDICT, content=good_bytes()).status_code == 200
        go.set()
        first.join(30)
        assert answers[0].status_code == 200


def test_thresholds_that_another_process_sets_are_applied(app, client, tmp_path):
    service = app.state.parts.service
    model = service.models["m"]
    other = LineStore(service.store.path)
    other.change_thresholds("m", model.sha256, 0.0, 1e6, "ada", "trial")
    other.close()
    until(lambda: model.change == 1)
    content = client.post(PREDICT, content=good_bytes()).json()
    assert (content["verdict"], content["thresholds"]["change"]) == ("REVIEW", 1)
    assert 'change="1"' in client.get("/metrics").text


def test_thresholds_that_cannot_be_read_are_said_once(app, shown, capsys, monkeypatch):
    def fails(_):
        raise StoreError("the store failed")

    monkeypatch.setattr(app.state.parts.service.station, "refresh", fails)
    rounds = health.Rounds(app.state.parts.service)
    rounds.go_round()
    rounds.go_round()
    assert capsys.readouterr().err.count("thresholds of m not read: the store failed") == 1


def test_a_server_is_ready_after_its_first_image_and_while_it_can_store(app, monkeypatch):
    go = threading.Event()
    monkeypatch.setattr("urd.serving.http.batching.trial", lambda model: go.wait(30))
    monkeypatch.setattr(health, "_CHECK_SECONDS", 0.0)
    from starlette.testclient import TestClient

    with TestClient(app, base_url="http://127.0.0.1") as client:
        answer = client.get("/readyz")
        assert answer.status_code == 503
        assert answer.json()["reasons"] == ["the first image is not judged yet"]
        go.set()
        until(lambda: client.get("/readyz").status_code == 200)
        with monkeypatch.context() as patch:
            patch.setattr(LineStore, "check", _full)
            answer = client.get("/readyz")
            assert (answer.status_code, answer.json()["ready"]) == (503, False)
            assert answer.json()["error"] == "the store cannot be written"
            assert client.get("/healthz").json() == {"alive": True}
        assert client.get("/readyz").json() == {"ready": True}
        monkeypatch.setattr(app.state.parts.line, "idle_seconds", lambda: 1000.0)
        assert "stands still" in client.get("/readyz").json()["error"]


def _full(_):
    raise StoreError("the store /secret/line.sqlite failed: disk full")


def test_a_model_that_does_not_work_is_never_ready(app, monkeypatch):
    from starlette.testclient import TestClient

    def fails(model):
        raise RuntimeError("no GPU any more")

    monkeypatch.setattr("urd.serving.http.batching.trial", fails)
    with TestClient(app, base_url="http://127.0.0.1") as client:
        until(lambda: "a model cannot judge" in client.get("/readyz").json().get("error", ""))


def test_figures_for_prometheus(app, client, monkeypatch):
    client.post(PREDICT, content=bad_bytes())
    client.post(PREDICT, content=bad_bytes())  # the same image: the camera watch says it
    client.post(PREDICT, content=b"junk", headers={"Idempotency-Key": "k"})
    client.post(PREDICT, content=b"junk", headers={"Idempotency-Key": "k"})
    client.post("/v1/models/other/predict", content=b"junk")
    app.state.parts.service.store.add_many([_event()])
    answer = client.get("/metrics")
    assert answer.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
    for line in (
        'urd_judgements_total{model="m",verdict="NG"} 2.0',
        'urd_judgements_total{model="m",verdict="ERROR"} 1.0',
        'urd_judgements_total{model="m",verdict="OK"} 0.0',
        'urd_repeated_total{model="m"} 1.0',
        'urd_camera_messages_total{model="m"} 1.0',
        'urd_request_seconds_count{model="m"} 4.0',
        'urd_queue_seconds_count{model="m"} 3.0',
        'urd_refused_total{reason="model"} 1.0',
        'urd_refused_total{reason="full"} 0.0',
        'urd_outbox_waiting{receiver="hook"} 1.0',
        'urd_outbox_parked{receiver="hook"} 0.0',
        "urd_queue_length 0.0",
        "urd_places 64.0",
        "urd_places_taken 0.0",
        "urd_store_failures_total 0.0",
        "urd_store_readable 1.0",
        "process_resident_memory_bytes ",
    ):
        assert line in answer.text, line
    monkeypatch.setattr("urd.serving.http.metrics.outbox_counts", _full)
    assert "urd_store_readable 0.0" in client.get("/metrics").text


def _event():
    from lines import record

    from urd.serving.store import Addition

    return Addition(record(), ["hook"])


def test_the_thread_turns_without_work(app, client):
    until(lambda: 0 <= app.state.parts.line.idle_seconds() < 0.5)
    turned = app.state.parts.line._turned
    until(lambda: app.state.parts.line._turned > turned)


def test_an_application_ends_and_begins_again(app):
    for _ in "12":
        with client_of(app) as client:
            assert client.post(PREDICT, content=good_bytes()).status_code == 200
    names = [thread.name for thread in threading.enumerate()]
    assert not [name for name in names if name.startswith("urd-")]


def test_an_application_needs_no_lifespan(tmp_path, run):
    import asyncio

    import httpx

    app = create_app(application(tmp_path, run).state.parts.service)

    async def ask():
        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
            return await client.post(PREDICT, content=good_bytes())

    assert asyncio.run(ask()).json()["verdict"] == "OK"
    app.state.parts.line.stop()
