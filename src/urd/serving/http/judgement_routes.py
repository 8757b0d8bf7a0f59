"""Routes for rows of the store: search, one row, its pictures, and what a person decides."""

from __future__ import annotations

import hashlib
import io
import threading
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path as FilePath
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Path, Query, Request, Response
from fastapi.responses import JSONResponse
from PIL import Image

from urd.data import DEFAULT_READING, Reading, UnreadableImage, read_rgb
from urd.inspection.calibration import Verdict
from urd.inspection.pictures import reduced
from urd.serving.http.page_answers import (
    MOST_SEQUENCE,
    Counts,
    Decision,
    Judgement,
    Judgements,
)
from urd.serving.http.plain_route import PlainRoute, Refused, Require, documented
from urd.serving.kept_images import heat_of
from urd.serving.record import Stored
from urd.serving.service import Service

_QUALITY = 88  # of JPEG previews
_KEPT_PREVIEWS = 64  # at most some hundred kilobytes each
_LATEST = 1e11  # seconds since 1970

_Sequence = Annotated[int, Path(ge=1, le=MOST_SEQUENCE, description="number of the judgement")]
_Time = Annotated[
    float | None,
    Query(ge=0, le=_LATEST, allow_inf_nan=False, description="seconds since 1970"),
]
_Number = Annotated[int | None, Query(ge=0, le=MOST_SEQUENCE)]
_one_at_a_time = threading.Lock()  # large images take much memory, and the line needs the CPU


def judgement_routes(service: Service, require: Require) -> APIRouter:
    """Search, single rows, previews of kept images, and reviews."""
    router = APIRouter(prefix="/v1", route_class=PlainRoute, tags=["judgements"])
    read = [Depends(require("read"))]

    @router.get("/judgements", dependencies=read, response_model=Judgements, responses=documented())
    def search(
        limit: Annotated[int, Query(ge=1, le=1000)] = 100,
        before: _Number = None,
        after: _Number = None,
        part: Annotated[str | None, Query(min_length=1, max_length=200)] = None,
        verdict: Verdict | None = None,
        model: Annotated[str | None, Query(min_length=1, max_length=200)] = None,
        since: _Time = None,
        until: _Time = None,
    ) -> Response:
        """Judgements, the newest first; `part` is the beginning of a part's identity."""
        rows = service.store.search(
            limit=limit,
            before=before,
            after=after,
            part=part,
            verdict=verdict,
            model=model,
            since=since,
            until=until,
        )
        return JSONResponse({"judgements": [_answer(row) for row in rows]})

    @router.get(
        "/judgements/{sequence}",
        dependencies=read,
        response_model=Judgement,
        responses=documented(404),
    )
    def one(sequence: _Sequence) -> Response:
        """One judgement."""
        return JSONResponse(_answer(_row(service, sequence)))

    @router.get(
        "/judgements/{sequence}/image",
        dependencies=read,
        response_class=Response,
        responses={**documented(404), **_of_type("image/jpeg")},
    )
    def image(
        request: Request,
        sequence: _Sequence,
        side: Annotated[int, Query(ge=64, le=2000, description="longer side, pixels")] = 1600,
    ) -> Response:
        """The kept image as JPEG, upright and reduced, as the detector reads it."""
        row = _row(service, sequence)
        path = _kept_file(service, row)
        model = service.models.get(row.body["model"])
        reading = DEFAULT_READING if model is None else model.detector.reading
        what = f"{row.image}|{side}|{reading}"
        return _picture(request, what, "image/jpeg", lambda: _jpeg(path, side, reading))

    @router.get(
        "/judgements/{sequence}/heat",
        dependencies=read,
        response_class=Response,
        responses={**documented(404), **_of_type("image/png")},
    )
    def heat(
        request: Request,
        sequence: _Sequence,
        side: Annotated[
            int | None, Query(ge=64, le=2000, description="longer side, pixels; absent: as kept")
        ] = None,
    ) -> Response:
        """The kept heat map as PNG with transparency, to be stretched over the image."""
        row = _row(service, sequence)
        path = heat_of(_kept_file(service, row))
        if not path.is_file():
            raise Refused(404, f"judgement {sequence} has no heat map: not judged, or deleted")
        what = f"{row.image}|heat|{side}"
        return _picture(request, what, "image/png", lambda: _png(path, side))

    @router.get("/counts", dependencies=read, responses=documented())
    def counts(since: _Time = None) -> Counts:
        """How many judgements have each verdict."""
        found = {"OK": 0, "REVIEW": 0, "NG": 0, "ERROR": 0, **service.store.counts(since or 0.0)}
        return Counts(total=sum(found.values()), counts=found)

    @router.post(
        "/judgements/{sequence}/review",
        dependencies=[Depends(require("predict"))],
        response_model=Judgement,
        responses=documented(404, 409, body=True),
    )
    def review(sequence: _Sequence, wanted: Decision) -> Response:
        """Store what a person decides about a part that is REVIEW or NG; the last one counts."""
        row = _row(service, sequence)
        if row.body["verdict"] not in ("REVIEW", "NG"):
            reason = f"judgement {sequence} is {row.body['verdict']}: there is nothing to decide"
            raise Refused(409, reason)
        stored = service.store.review(sequence, wanted.decision, wanted.person, wanted.reason)
        return JSONResponse(_answer(stored))

    return router


def _row(service: Service, sequence: int) -> Stored:
    row = service.store.get(sequence)
    if row is None:
        raise Refused(404, f"there is no judgement {sequence}")
    return row


def _answer(row: Stored) -> dict[str, Any]:
    return {**row.to_dict(), "kept": row.image is not None}


def _kept_file(service: Service, row: Stored) -> FilePath:
    """The kept image of a row. Its name comes from the store alone, and must be in its folder."""
    if row.image is None:
        rule = service.station.images.rule
        raise Refused(404, f"the image of judgement {row.sequence} was not kept (rule: {rule})")
    folder = service.store.images.resolve()
    path = (folder / row.image).resolve()
    if not path.is_relative_to(folder):
        raise Refused(404, f"the image of judgement {row.sequence} is not in the folder of images")
    if not path.is_file():
        raise Refused(404, f"the image of judgement {row.sequence} is gone: pruned or deleted")
    return path


def _picture(request: Request, what: str, kind: str, make: Callable[[], bytes]) -> Response:
    """A picture with a tag, so that a browser asks for it again but gets it only once."""
    tag = f'"{hashlib.sha256(what.encode()).hexdigest()[:24]}"'
    headers = {"ETag": tag, "Cache-Control": "private, no-cache"}
    if request.headers.get("if-none-match") == tag:
        return Response(status_code=304, headers=headers)
    try:
        with _one_at_a_time:
            content = make()
    except (UnreadableImage, OSError) as error:
        reason = getattr(error, "reason", None) or getattr(error, "strerror", None) or "damaged"
        raise Refused(404, f"the kept image cannot be shown: {reason}") from error
    return Response(content, media_type=kind, headers=headers)


@lru_cache(maxsize=_KEPT_PREVIEWS)
def _jpeg(path: FilePath, side: int, reading: Reading) -> bytes:
    out = io.BytesIO()
    reduced(read_rgb(path, reading=reading), side).save(out, "JPEG", quality=_QUALITY)
    return out.getvalue()


@lru_cache(maxsize=_KEPT_PREVIEWS)
def _png(path: FilePath, side: int | None) -> bytes:
    if side is None:
        return path.read_bytes()
    out = io.BytesIO()
    with Image.open(path, formats=["PNG"]) as opened:
        reduced(opened.convert("RGBA"), side).save(out, "PNG", compress_level=1)
    return out.getvalue()


def _of_type(kind: str) -> dict[int | str, dict[str, Any]]:
    content = {kind: {"schema": {"type": "string", "format": "binary"}}}
    return {
        200: {"description": "The picture.", "content": content},
        304: {"description": "The picture that the browser has is the same."},
    }
