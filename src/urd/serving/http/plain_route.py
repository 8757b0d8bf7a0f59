"""What the routes of the page share: errors as one line of JSON, and small bodies."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any

from fastapi import APIRouter, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute
from starlette.types import Message

from urd.errors import UrdError, UsageError
from urd.serving.http.refusal import Error, error_answer
from urd.serving.http.tokens import Scope
from urd.serving.http.uploads import read_body
from urd.serving.store import StoreError

_METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "QUERY")
_MOST_BYTES, _MOST_SECONDS = 65_536, 10.0  # of a body
Answer = Coroutine[Any, Any, Response]
Require = Callable[[Scope], Callable[..., Any]]  # from a scope to the dependency that lets it pass


class Refused(UrdError):
    """A request that is answered with an HTTP status and a reason.

    404: there is no such thing. 409: the request contradicts itself or what the store holds.
    """

    def __init__(self, status: int, reason: str) -> None:
        super().__init__(reason)
        self.status = status


class PlainRoute(APIRoute):
    """A route whose errors are one line of JSON, whatever application it is part of."""

    def get_route_handler(self) -> Callable[[Request], Answer]:
        handler = super().get_route_handler()

        async def answer(request: Request) -> Response:
            if request.method == "POST":
                request = await _with_small_body(request)
            try:
                return await handler(request)
            except RequestValidationError as error:
                return error_answer(422, _first(error))
            except UrdError as error:
                return error_answer(_status(error), str(error))

        return answer


async def _with_small_body(request: Request) -> Request:
    """The request with its body read.

    Raises:
        Refusal: the body is too large or too slow.
    """
    body = await read_body(request, _MOST_BYTES, _MOST_SECONDS)

    async def receive() -> Message:
        return {"type": "http.request", "body": body, "more_body": False}

    return Request(request.scope, receive)


def only(router: APIRouter, path: str, *allowed: str) -> None:
    """Refuse the other methods of a path that has several routes, and name all that it has.

    Without it, the answer names only the method of the first route.
    """

    async def refuse() -> Response:
        text = f"this address knows only {' and '.join(allowed)}"
        return error_answer(405, text, {"Allow": ", ".join(allowed)})

    others = [method for method in _METHODS if method not in allowed]
    router.add_api_route(path, refuse, methods=others, include_in_schema=False)


def documented(*statuses: int, body: bool = False) -> dict[int | str, dict[str, Any]]:
    """The errors of a route, for OpenAPI: those that every route has, and more."""
    said = {
        400: "The request is damaged, or its Host is not allowed.",
        401: "A token is needed.",
        403: "The token does not allow this, or the request comes from another site.",
        404: "There is no such thing.",
        408: "The body did not arrive in time.",
        409: "The request contradicts itself, or what the store holds.",
        413: "The body is too large.",
        415: "The body is encoded.",
        422: "A value is missing, of the wrong type, or out of range.",
        503: "The store cannot be read or written.",
    }
    wanted = {400, 401, 403, 422, 503, *statuses, *((408, 413, 415) if body else ())}
    return {n: {"model": Error, "description": said[n]} for n in sorted(wanted)}


def _status(error: UrdError) -> int:
    if isinstance(error, Refused):
        return error.status
    if isinstance(error, StoreError):
        return 503
    return 422 if isinstance(error, UsageError) else 500


def _first(error: RequestValidationError) -> str:
    """The first thing that is wrong; never the value itself, which may be anything."""
    found = error.errors()[0]
    place = ".".join(str(part) for part in found["loc"][1:]) or "the body"
    return f"{place}: {found['msg']}"
