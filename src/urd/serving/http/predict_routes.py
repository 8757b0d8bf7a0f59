"""`POST /v1/models/{name}/predict`."""

from __future__ import annotations

import asyncio
import time
from typing import Annotated, Any

from anyio import CapacityLimiter
from anyio.to_thread import run_sync
from fastapi import APIRouter, Depends, Header, Query, Request, Response

from urd.data.images_in_memory import IN_MEMORY
from urd.inspection.prediction import Failure
from urd.serving.http.answers import Answer, Wanted
from urd.serving.http.batching import Job, refuse_other_image
from urd.serving.http.multipart import form_fields, is_multipart
from urd.serving.http.parts import Parts, known_model
from urd.serving.http.refusal import Refusal, errors
from urd.serving.http.uploads import read_body, refuse_length
from urd.serving.record import Stored
from urd.serving.station import Arrived, Outcome
from urd.serving.store import Store, StoreError

LONGEST = 200  # characters of a part's identity or a key
_READERS = 4  # threads that take forms apart
_ABOUT = """\
The body is an image file as it is, or a form (multipart/form-data) with the file in the field
`image` and, if you like, the part's identity in the field `part`.

Each image becomes a row of the store. A request with an `Idempotency-Key` that was used before for
this model gets the earlier row with the same status, without map and picture; if its image is
another one, the status is 409.

* 200: judged. If `stored` is false, the row is not in the store, and `problem` says why.
* 422: the image cannot be read or used; the verdict is ERROR and the row is stored. Or a value of
  the request is wrong; then the body has only `error`.
* 504: the answer came after the deadline; the verdict is ERROR.
* 500: the network failed; the verdict is ERROR.
* 503: no place is free; nothing was judged and there is no row. Send it again.
"""
_FILE = {"type": "string", "format": "binary"}
_BODY = {
    "required": True,
    "content": {
        "application/octet-stream": {"schema": _FILE},
        "multipart/form-data": {
            "schema": {
                "type": "object",
                "properties": {
                    "image": _FILE,
                    "part": {"type": "string", "maxLength": LONGEST},
                },
                "required": ["image"],
            }
        },
    },
}


def predict_routes(parts: Parts) -> APIRouter:
    router = APIRouter(tags=["judge"])
    settings, line, gate = parts.settings, parts.line, parts.gate
    readers = CapacityLimiter(_READERS)

    @router.post(
        "/v1/models/{name}/predict",
        dependencies=[Depends(parts.access.require("predict"))],
        summary="Judge one image",
        description=_ABOUT,
        response_class=Response,
        responses={
            **errors(400, 401, 403, 404, 408, 409, 413, 415, 503),
            200: _answer("OK, REVIEW or NG"),
            422: _answer("The image cannot be judged; or a value is wrong", or_error=True),
            500: _answer("The network or the server failed", or_error=True),
            504: _answer("The answer came after the deadline"),
        },
        openapi_extra={"requestBody": _BODY},
    )
    async def predict(
        request: Request,
        name: str,
        part: Annotated[
            str | None, Query(max_length=LONGEST, description="identity of the part")
        ] = None,
        x_part_id: Annotated[
            str | None, Header(max_length=LONGEST, description="the same in a header, as UTF-8")
        ] = None,
        idempotency_key: Annotated[
            str | None,
            Header(min_length=1, max_length=LONGEST, description="requests with one key: one row"),
        ] = None,
        map: Annotated[bool, Query(description="with the anomaly map")] = False,
        overlay: Annotated[bool, Query(description="with a picture")] = False,
    ) -> Response:
        began = time.monotonic()
        model = known_model(parts.service, name)
        refuse_length(request, settings.max_bytes)
        key = _key(name, idempotency_key)
        ids = _ids(request)
        wanted = Wanted(map, overlay)
        with gate.place() as hold:
            body = await read_body(request, settings.max_bytes, settings.upload_seconds, hold)
            kind = request.headers.get("content-type", "")
            arrived = await run_sync(_arrived, kind, body, ids, key, began, limiter=readers)
            del body
            known = await run_sync(_known, parts.service.store, arrived) if key else None
            if known is not None:
                outcome = Outcome(known.to_dict(), Failure(IN_MEMORY, ""), new=False)
                parts.metrics.concluded(name, outcome)
                answer = Answer.of(outcome, wanted)
            else:
                job = Job(model, arrived, wanted)
                line.submit(job)
                answer = await asyncio.wrap_future(job.answer)
        parts.metrics.seconds.labels(name).observe(time.monotonic() - began)
        return Response(answer.body, answer.status, media_type="application/json")

    return router


def _answer(description: str, *, or_error: bool = False) -> dict[str, Any]:
    places = ["Answer", "Error"] if or_error else ["Answer"]
    refs = [{"$ref": f"#/components/schemas/{place}"} for place in places]
    schema = {"anyOf": refs} if or_error else refs[0]
    return {"description": description, "content": {"application/json": {"schema": schema}}}


def _arrived(kind: str, body: bytes, ids: list[str], key: str | None, began: float) -> Arrived:
    """The image in a body, and whose it is.

    Raises:
        Refusal: a form is damaged or has no image, or an identity is wrong.
    """
    if is_multipart(kind):
        fields = form_fields(kind, body)
        if "image" not in fields:
            raise Refusal(422, "the form has no field image", "value")
        body = fields["image"]
        ids = [*ids, _utf8(fields.get("part", b""))]
    return Arrived.of(body, began=began, part=_part(ids), key=key)


def _ids(request: Request) -> list[str]:
    """What the address and the headers say about the part.

    Raises:
        Refusal: it is not UTF-8.
    """
    ids = [
        *request.query_params.getlist("part"),
        *(_utf8(text.encode("latin-1")) for text in request.headers.getlist("x-part-id")),
    ]
    _part(ids)
    return ids


def _part(ids: list[str]) -> str | None:
    """The one identity of a part; `None`: none was given.

    Raises:
        Refusal: there are several, or it is too long or not printable.
    """
    given = {text for text in ids if text}
    if len(given) > 1:
        raise Refusal(422, "two different identities of the part were given", "value")
    for part in given:
        if len(part) > LONGEST or not part.isprintable() or "\ufffd" in part:
            raise Refusal(
                422, f"part must be at most {LONGEST} printable characters in UTF-8", "value"
            )
        return part
    return None


def _utf8(text: bytes) -> str:
    try:
        return text.decode("utf-8")
    except UnicodeDecodeError as error:
        raise Refusal(422, "the identity of the part is not UTF-8", "value") from error


def _key(model: str, key: str | None) -> str | None:
    if key is None:
        return None
    if not (key.isascii() and key.isprintable()):
        raise Refusal(422, "Idempotency-Key must be printable ASCII", "value")
    return f"serve:{model}:{key}"


def _known(store: Store, arrived: Arrived) -> Stored | None:
    """The row of an earlier request with this key.

    Raises:
        Refusal: that request had another image.
    """
    try:
        row = store.by_key(arrived.key or "")
    except StoreError:  # the attempt to store the row will say it
        return None
    if row is not None:
        refuse_other_image(row.body, arrived)
    return row
