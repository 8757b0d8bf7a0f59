"""The application: routes, errors as JSON, and its beginning and end."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from fastapi import APIRouter, Depends, FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.openapi.utils import get_openapi
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException

from urd.serving.http.answers import answer_schemas
from urd.serving.http.guard import EarlyAnswers, Guard
from urd.serving.http.health import Rounds, health_routes
from urd.serving.http.model_routes import model_routes
from urd.serving.http.page_routes import page_routes
from urd.serving.http.parts import Parts
from urd.serving.http.predict_routes import predict_routes
from urd.serving.http.refusal import Refusal, error_answer
from urd.serving.http.settings import Settings
from urd.serving.service import Service
from urd.system.versions import VERSION

_ABOUT = """\
Judges images of parts and stores each judgement.

Every refusal is JSON with one line in `error`. Besides those named below: 400 if the request breaks
the rules of HTTP or names a Host that is not allowed, 404 for an unknown path, 405 for an unknown
method, 431 for a header over 16 KiB, and 500 if the server itself fails.
"""


def create_app(service: Service, settings: Settings | None = None) -> FastAPI:
    """An application of ASGI that judges images with the models of a service.

    `app.state.parts` gives its parts. The threads start with the first image, or when a server
    begins the application, and end when the server ends it.
    """
    parts = Parts.of(service, settings or Settings())
    rounds = Rounds(service)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        parts.line.start()
        rounds.start()
        yield
        await run_in_threadpool(rounds.stop)
        await run_in_threadpool(parts.line.stop)

    app = FastAPI(
        title="urd serve",
        version=VERSION,
        description=_ABOUT,
        openapi_url=None,
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
        lifespan=lifespan,
    )
    app.state.parts = parts
    for router in (predict_routes(parts), model_routes(parts), health_routes(parts)):
        app.include_router(router)
    app.include_router(parts.access.routes())
    app.include_router(page_routes(service, parts.access.require))
    app.include_router(_description(app, parts))
    app.add_exception_handler(HTTPException, _refused)
    app.add_exception_handler(RequestValidationError, _invalid)
    app.add_middleware(Guard, hosts=parts.settings.hosts, refused=parts.metrics.refuse)
    app.add_middleware(EarlyAnswers)
    return app


async def _refused(_: Request, error: Exception) -> Response:
    """Unknown paths and methods."""
    assert isinstance(error, HTTPException)
    return error_answer(error.status_code, str(error.detail), error.headers)


async def _invalid(_: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    first = error.errors()[0]
    place = ".".join(str(step) for step in first["loc"][1:])
    raise Refusal(422, f"{place}: {first['msg']}", "value") from error


def _description(app: FastAPI, parts: Parts) -> APIRouter:
    router = APIRouter()
    written: list[dict[str, Any]] = []

    @router.get(
        "/openapi.json",
        dependencies=[Depends(parts.access.require("read"))],
        include_in_schema=False,
    )
    def openapi() -> dict[str, Any]:
        if not written:
            written.append(_document(app, secured=parts.access.tokens is not None))
        return written[0]

    return router


def _document(app: FastAPI, *, secured: bool) -> dict[str, Any]:
    document = get_openapi(
        title=app.title, version=app.version, description=app.description, routes=app.routes
    )
    document["components"]["schemas"] |= answer_schemas()
    if secured:
        document["components"]["securitySchemes"] = {
            "token": {"type": "http", "scheme": "bearer"},
            "session": {"type": "apiKey", "in": "cookie", "name": "urd_session"},
        }
        for path, item in document["paths"].items():
            if path not in ("/healthz", "/readyz", "/login", "/logout"):
                for operation in item.values():
                    operation["security"] = [{"token": []}, {"session": []}]
    return document
