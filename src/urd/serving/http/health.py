"""`/healthz`, `/readyz` and `/metrics`, and the thread that looks for changed thresholds."""

from __future__ import annotations

import threading
import time

from fastapi import APIRouter, Depends, Response
from fastapi.responses import JSONResponse
from pydantic import BaseModel, Field

from urd.errors import UrdError
from urd.serving.http.parts import Parts
from urd.serving.http.refusal import MEANING, Error, errors
from urd.serving.service import Service
from urd.serving.store import StoreError
from urd.system.progress import warn

_STANDS_SECONDS = 60.0
_CHECK_SECONDS = 1.0  # an answer about the store is good for so long
_ROUND_SECONDS = 2.0
_KIND = "text/plain; version=0.0.4; charset=utf-8"


class Alive(BaseModel):
    alive: bool


class Ready(BaseModel):
    ready: bool


class NotReady(Error):
    ready: bool
    reasons: list[str] = Field(description="what is missing")


def health_routes(parts: Parts) -> APIRouter:
    router = APIRouter(tags=["health"])
    store = _StoreCheck(parts)

    @router.get("/healthz", summary="Whether the process lives", responses=errors(400))
    async def healthz() -> Alive:
        return Alive(alive=True)

    @router.get(
        "/readyz",
        summary="Whether images can be judged and stored",
        responses={
            **errors(400),
            503: {"model": NotReady, "description": MEANING[503]},
        },
        response_model=Ready,
    )
    def readyz() -> Response:
        parts.line.start()
        reasons = [text for text in (parts.line.problem, store.problem(), _stands(parts)) if text]
        if not reasons:
            return JSONResponse({"ready": True})
        return JSONResponse({"error": "; ".join(reasons), "ready": False, "reasons": reasons}, 503)

    @router.get(
        "/metrics",
        dependencies=[Depends(parts.access.require("read"))],
        summary="Figures for Prometheus",
        response_class=Response,
        responses={
            **errors(400, 401, 403),
            200: {
                "description": "Text",
                "content": {_KIND: {"schema": {"type": "string"}}},
            },
        },
    )
    def metrics() -> Response:
        return Response(parts.metrics.text(), headers={"Content-Type": _KIND})

    return router


def _stands(parts: Parts) -> str | None:
    stands = parts.line.idle_seconds() > _STANDS_SECONDS
    return "the thread of the network stands still" if stands else None


class _StoreCheck:
    """Whether the store can be written; asks it once a second at most."""

    def __init__(self, parts: Parts) -> None:
        self._store = parts.service.store
        self._lock = threading.Lock()
        self._asked = float("-inf")
        self._problem: str | None = None

    def problem(self) -> str | None:
        with self._lock:
            if time.monotonic() - self._asked > _CHECK_SECONDS:
                self._problem = self._ask()
                self._asked = time.monotonic()
            return self._problem

    def _ask(self) -> str | None:
        try:
            self._store.check()
        except StoreError as error:
            warn(f"urd serve: {error}")
            return "the store cannot be written"
        return None


class Rounds:
    """Every two seconds: apply thresholds that a person has set in another process."""

    def __init__(self, service: Service) -> None:
        self.service = service
        self._said: dict[str, str] = {}
        self._stop = threading.Event()

    def start(self) -> None:
        self._stop.clear()
        self._thread = threading.Thread(target=self._run, name="urd-rounds", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._stop.wait(_ROUND_SECONDS):
            self.go_round()

    def go_round(self) -> None:
        for name, model in list(self.service.models.items()):
            try:
                self.service.station.refresh(model)
                self._said.pop(name, None)
            except UrdError as error:
                if self._said.get(name) != str(error):  # once, not every two seconds
                    warn(f"urd serve: thresholds of {name} not read: {error}")
                self._said[name] = str(error)
