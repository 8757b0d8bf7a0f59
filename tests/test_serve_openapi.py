"""The description of `urd serve` fits its answers: generated requests, all checks."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis.errors import Unsatisfiable
from lines import bad_bytes, good_bytes, tiny_run
from web import application, bearer, client_of, tokens, until

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
def described(tmp_path_factory, run):
    folder = tmp_path_factory.mktemp("described")
    app = application(folder, run, hosts=frozenset({"testserver"}), tokens=tokens(folder))
    line = app.state.parts.line
    line.start()
    until(lambda: line.problem is None)
    yield schemathesis.openapi.from_asgi(
        "/openapi.json",
        always_on(app),
        headers=bearer("admin"),
        config=schemathesis.Config.from_dict({"checks": CHECKS}),
    )
    line.stop()


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
