"""Refused requests: a status, one line of JSON, and a count by reason."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fastapi.responses import JSONResponse
from pydantic import BaseModel, Field

from urd.errors import one_line

RETRY_SECONDS = 1


class Error(BaseModel):
    """Why a request was refused."""

    error: str = Field(description="one line")


class Refusal(Exception):
    """A request that is not carried out.

    Attributes:
        status: of HTTP. reason: one word for the count. headers: of the answer.
    """

    def __init__(
        self, status: int, text: str, reason: str, headers: Mapping[str, str] | None = None
    ) -> None:
        super().__init__(text)
        self.status = status
        self.reason = reason
        self.headers = dict(headers or {})

    @classmethod
    def busy(cls, text: str, reason: str) -> Refusal:
        """503: come again."""
        return cls(503, text, reason, {"Retry-After": str(RETRY_SECONDS)})


def error_answer(status: int, text: str, headers: Mapping[str, str] | None = None) -> JSONResponse:
    return JSONResponse({"error": one_line(text)}, status, headers)


def errors(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """The refusals of a route, for its description."""
    return {
        status: {
            "model": Error,
            "description": MEANING[status],
            **({"headers": _HEADERS[status]} if status in _HEADERS else {}),
        }
        for status in sorted(statuses)
    }


MEANING = {
    400: "The request is damaged, or its Host is not allowed",
    401: "No token, or a wrong one",
    403: "The token does not allow this, or the request comes from another site",
    404: "There is no such model",
    408: "The body did not arrive in time",
    409: "It does not fit what is there",
    413: "The body is too large",
    415: "This encoding or type of body is not read",
    422: "A value is wrong",
    429: "Too many wrong tokens",
    500: "The server failed",
    503: "Not now; nothing was judged",
}
_RETRY = {"Retry-After": {"description": "seconds", "schema": {"type": "string"}}}
_HEADERS = {
    401: {"WWW-Authenticate": {"schema": {"type": "string"}}},
    429: _RETRY,
    503: _RETRY,
}
