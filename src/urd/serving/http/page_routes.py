"""The operator's page: its files, the state of the line, and the routes that it needs."""

from __future__ import annotations

import time
from datetime import datetime
from pathlib import Path
from typing import Any

from fastapi import APIRouter, Depends, Response
from fastapi.responses import FileResponse

from urd.serving.http.judgement_routes import judgement_routes
from urd.serving.http.page_answers import (
    CameraState,
    ModelState,
    Newest,
    ReceiverState,
    Status,
    StoreState,
    Waiting,
)
from urd.serving.http.plain_route import PlainRoute, Refused, Require, documented
from urd.serving.http.threshold_routes import threshold_routes
from urd.serving.outbox import outbox_counts
from urd.serving.record import Stored
from urd.serving.service import Service
from urd.serving.store import Store, StoreError

_FOLDER = Path(__file__).parents[1] / "page"
_TYPES = {".js": "text/javascript", ".css": "text/css", ".svg": "image/svg+xml"}
FILES = {path.name: path for path in sorted(_FOLDER.iterdir()) if path.suffix in _TYPES}
HEADERS = {
    "Content-Security-Policy": (
        "default-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'; "
        "object-src 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-cache",
}
_LOOKED_AT = 8  # rows, for odd images
_CHECKED_FOR = 20.0  # seconds that a good check of the store holds
_RETRY = 2.0  # seconds after a bad one


def page_routes(service: Service, require: Require) -> APIRouter:
    """All routes of the operator's page.

    The files of the page need no token: they hold no data, and the page shows the form for it.

    Args:
        require: gives the dependency of FastAPI that lets a scope pass: read, predict or admin.
    """
    router = APIRouter(route_class=PlainRoute)
    checks = StoreChecks(service.store)

    @router.get("/", include_in_schema=False)
    def page() -> Response:
        return FileResponse(_FOLDER / "index.html", headers=HEADERS)

    @router.get("/page/{name}", include_in_schema=False)
    def file(name: str) -> Response:
        if name not in FILES:
            raise Refused(404, "there is no such file")
        path = FILES[name]
        return FileResponse(path, headers=HEADERS, media_type=_TYPES[path.suffix])

    @router.get(
        "/v1/status",
        dependencies=[Depends(require("read"))],
        responses=documented(),
        tags=["line"],
    )
    def status() -> Status:
        """The state of the line. It answers also if the store fails, and says so."""
        problem = checks.problem()
        facts: dict[str, Any] = {"newest": None, "camera": None, "outbox": {}, "parked": 0}
        try:
            facts = _facts_of(service.store)
        except StoreError as error:
            problem = problem or str(error)
        return Status(
            line=service.store.path.stem,
            keep=service.station.images.rule,
            store=StoreState(ok=problem is None, problem=problem),
            models=[
                ModelState(
                    name=name, model_sha256=model.sha256, engine=model.engine, **model.facts()
                )
                for name, model in list(service.models.items())
            ],
            receivers=[ReceiverState(**known(row)) for row in service.receivers()],
            **facts,
        )

    router.include_router(judgement_routes(service, require))
    router.include_router(threshold_routes(service, require))
    return router


class StoreChecks:
    """Whether the store can be written, tried every 20 s however many ask."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._next = 0.0
        self._problem: str | None = None

    def problem(self) -> str | None:
        """Why the store cannot be written; `None`: it can."""
        if time.monotonic() >= self._next:
            self._next = time.monotonic() + _CHECKED_FOR
            try:
                self._store.check()
                self._problem = None
            except StoreError as error:
                self._problem = str(error)
                self._next = time.monotonic() + _RETRY
        return self._problem


def known(row: dict[str, Any]) -> dict[str, Any]:
    """The fields that the page shows of a receiver."""
    return {name: row.get(name) for name in ReceiverState.model_fields}


def _facts_of(store: Store) -> dict[str, Any]:
    rows = store.search(limit=_LOOKED_AT)
    outbox = {name: Waiting(**counts) for name, counts in outbox_counts(store).items()}
    odd = next((row for row in rows if row.body["camera"]), None)
    return {
        "newest": _newest(rows[0]) if rows else None,
        "camera": odd and CameraState(sequence=odd.sequence, messages=odd.body["camera"]),
        "outbox": outbox,
        "parked": sum(counts.parked for counts in outbox.values()),
    }


def _newest(row: Stored) -> Newest:
    judged = row.body["time"]
    age = time.time() - datetime.fromisoformat(judged).timestamp()
    return Newest(sequence=row.sequence, time=judged, age_seconds=round(max(0.0, age), 1))
