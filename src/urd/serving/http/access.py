"""Who may ask for what: dependencies of routes, and the login of browsers."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any
from urllib.parse import parse_qs

from fastapi import APIRouter, Request, Response
from fastapi.responses import JSONResponse
from pydantic import BaseModel, Field

from urd.serving.http.refusal import Refusal, errors
from urd.serving.http.tokens import (
    EVERYBODY,
    SESSION_SECONDS,
    Attempts,
    Caller,
    Scope,
    Sessions,
    Tokens,
)
from urd.serving.http.uploads import read_body
from urd.system.documents import parse_json

COOKIE = "urd_session"
_LOGIN_BYTES = 4096
_LOGIN_SECONDS = 10.0
_SAFE = ("GET", "HEAD", "OPTIONS")
Dependency = Callable[[Request], Coroutine[Any, Any, Caller]]


class LoggedIn(BaseModel):
    """What a caller may do."""

    name: str
    scopes: list[Scope]


class Login(BaseModel):
    """The body of a login."""

    token: str = Field(min_length=1, max_length=1000)


class Access:
    """Finds the caller of a request: by a token, or by the cookie of a browser."""

    def __init__(self, tokens: Tokens | None) -> None:
        self.tokens = tokens
        self._sessions = Sessions()
        self._attempts = Attempts()

    def require(self, scope: Scope) -> Dependency:
        """A dependency for routes that need a scope; it gives the caller.

        Raises:
            Refusal: 401 without a valid token or cookie, 403 if that does not allow it.
        """

        async def caller_with_scope(request: Request) -> Caller:
            caller = self._caller(request)
            if caller is None:
                given = "authorization" in request.headers
                raise Refusal(
                    401,
                    "the token is wrong" if given else "give a token: Authorization: Bearer TOKEN",
                    "token",
                    {"WWW-Authenticate": "Bearer"},
                )
            if scope not in caller.scopes:
                raise Refusal(403, f"this needs a token with the scope {scope}", "scope")
            return caller

        return caller_with_scope

    def _caller(self, request: Request) -> Caller | None:
        if self.tokens is None:
            return EVERYBODY
        kind, _, token = request.headers.get("authorization", "").partition(" ")
        if kind:
            return self.tokens.caller(token.strip()) if kind.lower() == "bearer" else None
        caller = self._sessions.caller(request.cookies.get(COOKIE, ""))
        # `Guard` compares the origin; browsers name it in every request that changes something
        if caller and request.method not in _SAFE and "origin" not in request.headers:
            raise Refusal(403, "a session needs the header Origin", "origin")
        return caller

    def routes(self) -> APIRouter:
        """`/login` and `/logout`."""
        router = APIRouter(tags=["access"])
        router.add_api_route(
            "/login",
            self._login,
            methods=["POST"],
            response_model=LoggedIn,
            responses=errors(400, 401, 403, 408, 413, 415, 422, 429),
            summary="Begin a session of a browser",
            description=(
                "Send a token as JSON or as a form. The answer sets a cookie for twelve hours. "
                "If no tokens are in use, it sets none."
            ),
            openapi_extra={
                "requestBody": {
                    "required": True,
                    "content": {
                        kind: {"schema": Login.model_json_schema()}
                        for kind in ("application/json", "application/x-www-form-urlencoded")
                    },
                }
            },
        )
        router.add_api_route(
            "/logout",
            self._logout,
            methods=["POST"],
            status_code=204,
            responses=errors(400, 403),
            summary="End the session of a browser",
        )
        return router

    async def _login(self, request: Request) -> Response:
        token = _token(
            request.headers.get("content-type", ""),
            await read_body(request, _LOGIN_BYTES, _LOGIN_SECONDS),
        )
        if self.tokens is None:
            return _logged_in(EVERYBODY)
        address = request.client.host if request.client else ""
        if self._attempts.too_many(address):
            raise Refusal(
                429, "too many wrong tokens: wait a minute", "login", {"Retry-After": "60"}
            )
        caller = self.tokens.caller(token)
        if caller is None:
            self._attempts.failed(address)
            raise Refusal(401, "the token is wrong", "token", {"WWW-Authenticate": "Bearer"})
        answer = _logged_in(caller)
        answer.set_cookie(
            COOKIE,
            self._sessions.begin(caller),
            max_age=SESSION_SECONDS,
            httponly=True,
            samesite="strict",
            secure=request.headers.get("origin", "").startswith("https:"),  # before a proxy
        )
        return answer

    async def _logout(self, request: Request) -> Response:
        self._sessions.end(request.cookies.get(COOKIE, ""))
        answer = Response(status_code=204)
        answer.delete_cookie(COOKIE, httponly=True, samesite="strict")
        return answer


def _logged_in(caller: Caller) -> JSONResponse:
    return JSONResponse({"name": caller.name, "scopes": sorted(caller.scopes)})


def _token(kind: str, body: bytes) -> str:
    """The token in the body of a login.

    Raises:
        Refusal: there is none.
    """
    kind = kind.partition(";")[0].strip().lower()
    try:
        if kind == "application/json":
            content = parse_json(body)
            token = content.get("token") if isinstance(content, dict) else None
        elif kind == "application/x-www-form-urlencoded":
            fields = parse_qs(body.decode("utf-8"), max_num_fields=10)
            token = fields.get("token", [None])[0]
        else:
            raise Refusal(415, "send the token as JSON or as a form", "type")
    except ValueError as error:
        raise Refusal(422, "the body cannot be read", "value") from error
    if not isinstance(token, str) or not 1 <= len(token) <= 1000:
        raise Refusal(422, "the field token is missing", "value")
    return token
