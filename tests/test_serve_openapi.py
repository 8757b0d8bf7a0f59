"""The description of `urd serve` fits its answers: generated requests, all checks."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis.errors import Unsatisfiable
from lines import bad_bytes, good_bytes, put, served, service_of, tiny_run
from web import application, bearer, client_of, tokens, until

from urd.data.images_in_memory import IN_MEMORY
from urd.inspection.prediction import Failure
from urd.serving.http import batching
from urd.serving.http.answers import FAILED
from urd.serving.http.app import create_app
from urd.serving.http.settings import Settings

schemathesis = pytest.importorskip("schemathesis")
GenerationMode = schemathesis.GenerationMode

EXAMPLES = 10  # a thousand were tried by hand
OURS = [
    "POST /v1/models/{name}/predict",
    "POST /v1/models/{name}/reload",
    "GET /v1/models",
    "GET /healthz",
    "GET /readyz",
    "GET /metrics",
    "POST /login",
    "POST /logout",
]
OF_THE_PAGE = [
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
]
# A valid request can hold no image: 422 with the verdict ERROR. A wrong login can be too large.
CHECKS = {
    "positive_data_acceptance": {
        "expected-statuses": ["2xx", "401", "403", "404", "409", "422", "429"]
    },
    "negative_data_rejection": {
        "expected-statuses": ["400", "401", "403", "404", "405", "409", "413", "415", "422", "429"]
    },
}


@pytest.fixture(scope="module")
def run(tmp_path_factory, weights_file):
    return tiny_run(tmp_path_factory.mktemp("openapi"), weights_file)


@pytest.fixture(scope="module")
def app(tmp_path_factory, run):
    folder = tmp_path_factory.mktemp("described")
    app = application(folder, run, hosts=frozenset({"testserver"}), tokens=tokens(folder))
    line = app.state.parts.line
    line.start()
    until(lambda: line.problem is None)
    yield app
    line.stop()


@pytest.fixture(scope="module")
def described(app):
    return schemathesis.openapi.from_asgi(
        "/openapi.json",
        always_on(app),
        headers=bearer("admin"),
        config=schemathesis.Config.from_dict({"checks": CHECKS}),
    )


@pytest.fixture(scope="module")
def of_the_page(tmp_path_factory, run):
    """The same application with two rows, by the usual checks."""
    service = service_of(tmp_path_factory.mktemp("page"), served(run))
    put(service, good_bytes())
    put(service, bad_bytes())
    app = create_app(service, Settings(hosts=frozenset({"testserver"})))
    return schemathesis.openapi.from_asgi("/openapi.json", always_on(app))


def always_on(app):
    """The application without its beginning and end, which schemathesis has for each request."""

    async def called(scope, receive, send):
        if scope["type"] == "http":
            await app(scope, receive, send)
            return
        for step in ("startup", "shutdown"):
            await receive()
            await send({"type": f"lifespan.{step}.complete"})

    return called


@pytest.mark.parametrize("name", OURS)
@pytest.mark.parametrize("mode", [GenerationMode.POSITIVE, GenerationMode.NEGATIVE])
def test_generated_requests_get_described_answers(described, name, mode):
    fuzz(described, name, mode, EXAMPLES)


@pytest.mark.parametrize("name", OF_THE_PAGE)
@pytest.mark.parametrize("mode", [GenerationMode.POSITIVE, GenerationMode.NEGATIVE])
def test_generated_requests_of_the_page_get_described_answers(of_the_page, name, mode):
    fuzz(of_the_page, name, mode, examples=6)


@pytest.mark.parametrize("image", [good_bytes(), bad_bytes(), b"no image"])
def test_answers_to_images_are_described(described, image):
    operation = described.find_operation_by_label(OURS[0])
    case = operation.Case(
        path_parameters={"name": "m"},
        query={"map": True, "overlay": True},
        body=image,
        media_type="application/octet-stream",
    )
    answer = case.call_and_validate(headers=bearer("predict"))
    assert answer.status_code == (422 if image == b"no image" else 200)


def test_rare_answers_are_described(app, described, monkeypatch):
    parts = app.state.parts
    predict, ready = (described.find_operation_by_label(name) for name in (OURS[0], OURS[4]))

    def answer(operation, status: int, image: bytes | None = None, **headers) -> None:
        more = {} if image is None else {"body": image, "media_type": "application/octet-stream"}
        path = {} if image is None else {"path_parameters": {"name": "m"}}
        found = operation.Case(**path, **more).call(headers={**bearer("predict"), **headers})
        assert found.status_code == status
        assert str(status) in operation.definition.raw["responses"]
        operation.validate_response(found)

    with monkeypatch.context() as patch:
        patch.setattr(parts.gate, "places", 0)
        answer(predict, 503, good_bytes())
    with monkeypatch.context() as patch:
        patch.setattr(parts.line, "_late", lambda job: Failure(IN_MEMORY, "too late: 9 ms"))
        answer(predict, 504, good_bytes())
    with monkeypatch.context() as patch:
        patch.setattr(batching, "judge", lambda *_: [Failure(IN_MEMORY, f"{FAILED}x")])
        answer(predict, 500, good_bytes())
    with monkeypatch.context() as patch:
        patch.setattr(batching, "judge", lambda *_: 1 / 0)
        answer(predict, 500, good_bytes())
    key = {"Idempotency-Key": "k"}
    answer(predict, 200, good_bytes(), **key)
    answer(predict, 200, good_bytes(), **key)
    answer(predict, 409, bad_bytes(), **key)
    answer(predict, 415, good_bytes(), **{"Content-Encoding": "gzip"})
    answer(predict, 413, bytes(parts.settings.max_bytes + 1))
    answer(predict, 403, good_bytes(), **bearer("read"))
    answer(predict, 401, good_bytes(), Authorization="Bearer x")
    monkeypatch.setattr(parts.line, "problem", "the first image is not judged yet")
    answer(ready, 503)


def fuzz(schema, name: str, mode: GenerationMode, examples: int) -> None:
    """Send generated requests of one operation, right or wrong ones, and check the answers."""
    operation = schema.find_operation_by_label(name)

    @given(operation.as_strategy(generation_mode=mode))
    @settings(
        max_examples=examples,
        deadline=None,
        database=None,
        derandomize=True,
        suppress_health_check=list(HealthCheck),
    )
    def check(case):
        case.call_and_validate(headers=bearer("admin"))

    try:
        check()
    except Unsatisfiable:  # it takes nothing that could be wrong
        assert mode == GenerationMode.NEGATIVE and not operation.body


def test_the_description_holds_all_our_routes_and_no_page_from_elsewhere(tmp_path, run):
    app = application(tmp_path, run)
    with client_of(app) as client:
        document = client.get("/openapi.json").json()
        assert {name.split()[1] for name in OURS} <= set(document["paths"])
        assert client.get("/docs").status_code == client.get("/redoc").status_code == 404
    answer = document["components"]["schemas"]["Answer"]
    assert {"verdict", "stored", "camera", "anomaly_map"} <= set(answer["required"])
    assert len(answer["required"]) == len(set(answer["required"]))
    assert "securitySchemes" not in document["components"]
