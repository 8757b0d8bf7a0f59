"""The routes of the page in an application of their own: a pytest plugin with its fixtures."""

from __future__ import annotations

import pytest
from lines import served, service_of, tiny_run

fastapi = pytest.importorskip("fastapi", reason="the extra serve is not installed")
from fastapi.testclient import TestClient  # noqa: E402

from urd.serving.http import page_routes as page  # noqa: E402

NOBODY = 2**40


@pytest.fixture(scope="module")
def opened(tmp_path_factory, weights_file):
    return served(tiny_run(tmp_path_factory.mktemp("page_routes"), weights_file))


@pytest.fixture
def page_model(opened):
    opened.set_thresholds(None)
    return opened


@pytest.fixture
def service(tmp_path, page_model):
    return service_of(tmp_path, page_model)


@pytest.fixture
def ask(service):
    return client_of(service)


def client_of(service, require=lambda scope: lambda: None):
    app = fastapi.FastAPI()
    app.include_router(page.page_routes(service, require))
    return TestClient(app)


def error_of(answer, status):
    assert answer.status_code == status, answer.text
    assert list(answer.json()) == ["error"] and "\n" not in answer.json()["error"]
    return answer.json()["error"]


def sequences(answer):
    assert answer.status_code == 200, answer.text
    return [row["sequence"] for row in answer.json()["judgements"]]


def thresholds(ask, **more):
    return ask.post("/v1/models/line/thresholds", json={"person": "Kim", "reason": "lamp", **more})


def decide(ask, sequence, **more):
    body = {"decision": "accept", "person": "Kim", **more}
    return ask.post(f"/v1/judgements/{sequence}/review", json=body)
