"""Who may ask `urd serve`: tokens, sessions of browsers, names, and addresses."""

from __future__ import annotations

import os
import sys
import time

import pytest
from lines import good_bytes, tiny_run
from web import PREDICT, TOKENS, application, bearer, client_of, rows, tokens

from urd.errors import UsageError
from urd.serving.http import tokens as of_tokens
from urd.serving.http.guard import host_name
from urd.serving.http.server import bind, is_loopback
from urd.serving.http.tokens import Attempts, Caller, Sessions, Tokens

RELOAD = "/v1/models/m/reload"
HOME = {"Origin": "http://127.0.0.1:8000"}


@pytest.fixture(scope="module")
def run(tmp_path_factory, weights_file):
    return tiny_run(tmp_path_factory.mktemp("access"), weights_file)


@pytest.fixture
def open_app(tmp_path, run):
    return application(tmp_path, run)


@pytest.fixture
def app(tmp_path, run):
    return application(tmp_path, run, tokens=tokens(tmp_path))


@pytest.fixture
def client(app):
    with client_of(app) as client:
        yield client


def status(answer) -> int:
    """The status of an answer; a refusal has exactly one line of JSON."""
    if answer.status_code in (400, 401, 403, 415, 429):
        assert list(answer.json()) == ["error"]
        assert "\n" not in answer.json()["error"]
    return answer.status_code


def test_without_tokens_everything_is_allowed(open_app):
    with client_of(open_app) as client:
        assert client.get("/v1/models").status_code == 200
        assert client.post(PREDICT, content=good_bytes()).status_code == 200
        assert client.post(RELOAD).status_code == 200
        answer = client.post("/login", json={"token": "any"})
        assert answer.json()["scopes"] == ["admin", "predict", "read"]
        assert "set-cookie" not in answer.headers


@pytest.mark.parametrize(
    ("scope", "allowed"),
    [("read", (200, 403, 403)), ("predict", (403, 200, 403)), ("admin", (200, 200, 200))],
)
def test_each_scope_allows_its_part(client, scope, allowed):
    of = {"headers": bearer(scope)}
    assert (
        status(client.get("/v1/models", **of)),
        status(client.post(PREDICT, content=good_bytes(), **of)),
        status(client.post(RELOAD, **of)),
    ) == allowed
    assert status(client.get("/metrics", **of)) == allowed[0]
    assert status(client.get("/openapi.json", **of)) == allowed[0]


@pytest.mark.parametrize(
    "header",
    [
        None,
        "Bearer",
        "Bearer wrong-wrong-wrong-wrong",
        f"Bearer {TOKENS['admin'][:-1]}",
        f"Bearer {TOKENS['admin']}x",
        f"Basic {TOKENS['admin']}",
        TOKENS["admin"],
        b"Bearer \xff\xfe",
    ],
)
def test_without_the_right_token_nothing_is_done(app, client, header):
    headers = {} if header is None else {"Authorization": header}
    for answer in (
        client.get("/v1/models", headers=headers),
        client.get("/openapi.json", headers=headers),
        client.get("/metrics", headers=headers),
        client.post(PREDICT, content=good_bytes(), headers=headers),
        client.post(RELOAD, headers=headers),
    ):
        assert status(answer) == 401
        assert answer.headers["www-authenticate"] == "Bearer"
    assert rows(app) == []
    assert client.get("/healthz").status_code == client.get("/readyz").status_code == 200


@pytest.mark.parametrize("how", ["json", "data"])
def test_a_browser_logs_in_once_with_a_cookie(client, how):
    answer = client.post("/login", **{how: {"token": TOKENS["admin"]}}, headers=HOME)
    assert (answer.status_code, answer.json()["name"]) == (200, "adminer")
    cookie = answer.headers["set-cookie"]
    assert TOKENS["admin"] not in cookie
    for flag in ("HttpOnly", "SameSite=strict", "Path=/", "Max-Age=43200"):
        assert flag in cookie
    assert "Secure" not in cookie  # plain HTTP; a browser would drop it
    https = {"Origin": "https://127.0.0.1:8000"}  # a proxy speaks TLS
    answer = client.post("/login", json={"token": TOKENS["admin"]}, headers=https)
    assert "Secure" in answer.headers["set-cookie"]
    client.cookies.clear()
    client.post("/login", json={"token": TOKENS["admin"]}, headers=HOME)
    assert client.get("/v1/models").status_code == 200
    assert client.post(RELOAD, headers=HOME).status_code == 200
    assert status(client.post(RELOAD)) == 403  # a browser names its origin
    assert status(client.post(RELOAD, headers={"Origin": "http://evil.example"})) == 403
    assert client.post("/logout", headers=HOME).status_code == 204
    assert status(client.get("/v1/models")) == 401


def test_an_old_cookie_is_worth_nothing(client, monkeypatch):
    client.post("/login", json={"token": TOKENS["read"]}, headers=HOME)
    identity = client.cookies["urd_session"]
    client.post("/logout", headers=HOME)
    client.cookies.set("urd_session", identity)
    assert status(client.get("/v1/models")) == 401
    client.post("/login", json={"token": TOKENS["read"]}, headers=HOME)
    assert client.get("/v1/models").status_code == 200
    later = time.monotonic() + of_tokens.SESSION_SECONDS + 1
    monkeypatch.setattr(of_tokens.time, "monotonic", lambda: later)
    assert status(client.get("/v1/models")) == 401


def test_a_cookie_has_the_scopes_of_its_token(client):
    client.post("/login", json={"token": TOKENS["read"]}, headers=HOME)
    assert client.get("/v1/models").status_code == 200
    assert status(client.post(RELOAD, headers=HOME)) == 403
    assert status(client.post(PREDICT, content=good_bytes(), headers=HOME)) == 403


def test_a_wrong_token_beside_a_good_cookie_is_refused(client):
    client.post("/login", json={"token": TOKENS["read"]}, headers=HOME)
    assert status(client.get("/v1/models", headers={"Authorization": "Bearer x"})) == 401


@pytest.mark.parametrize(
    ("body", "kind", "expected"),
    [
        (b'{"token": 5}', "application/json", 422),
        (b"[]", "application/json", 422),
        (b"{", "application/json", 422),
        (b'{"token": ""}', "application/json", 422),
        (b"x=1", "application/x-www-form-urlencoded", 422),
        (b"\xff", "application/x-www-form-urlencoded", 422),
        (b"token", "text/plain", 415),
        (b'{"token": "%s"}' % (b"x" * 5000), "application/json", 413),
        (b'{"token": "wrong-wrong-wrong-wrong"}', "application/json", 401),
    ],
)
def test_a_wrong_login_sets_no_cookie(client, body, kind, expected):
    answer = client.post("/login", content=body, headers={"Content-Type": kind})
    assert answer.status_code == expected and list(answer.json()) == ["error"]
    assert "set-cookie" not in answer.headers


def test_too_many_wrong_logins_must_wait(client, monkeypatch):
    for _ in range(10):
        assert status(client.post("/login", json={"token": "wrong" * 5})) == 401
    answer = client.post("/login", json={"token": TOKENS["admin"]})
    assert (status(answer), answer.headers["retry-after"]) == (429, "60")
    assert client.get("/v1/models", headers=bearer("read")).status_code == 200
    later = time.monotonic() + 61
    monkeypatch.setattr(of_tokens.time, "monotonic", lambda: later)
    assert client.post("/login", json={"token": TOKENS["admin"]}).status_code == 200


def test_sessions_and_attempts_do_not_grow():
    sessions, caller = Sessions(), Caller("a", frozenset())
    first = sessions.begin(caller)
    last = [sessions.begin(caller) for _ in range(1000)][-1]
    assert sessions.caller(first) is None and sessions.caller(last) is caller
    attempts = Attempts()
    for number in range(2000):
        attempts.failed(str(number))
    assert len(attempts._failed) == 1000


@pytest.mark.parametrize("host", ["evil.example", "127.0.0.1.evil.example", "", "localhost@evil"])
def test_foreign_names_are_not_answered(open_app, host):
    with client_of(open_app) as client:
        for path in ("/healthz", "/v1/models", "/"):
            answer = client.get(path, headers={"Host": host})
            assert (answer.status_code, list(answer.json())) == (400, ["error"])
        answer = client.post(PREDICT, content=good_bytes(), headers={"Host": host})
        assert answer.status_code == 400
    assert rows(open_app) == []


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST:8000", "127.0.0.1:1", "[::1]:8000"])
def test_local_names_are_answered(open_app, host):
    with client_of(open_app) as client:
        assert client.get("/healthz", headers={"Host": host}).status_code == 200


@pytest.mark.parametrize(
    "origin", ["http://evil.example", "null", "http://127.0.0.1:8001", "http://["]
)
def test_another_site_can_change_nothing_even_without_tokens(open_app, origin):
    with client_of(open_app) as client:
        answer = client.post(PREDICT, content=good_bytes(), headers={"Origin": origin})
        assert status(answer) == 403
        assert client.get("/v1/models", headers={"Origin": origin}).status_code == 200
        assert client.post(PREDICT, content=good_bytes(), headers=HOME).status_code == 200
    assert len(rows(open_app)) == 1


@pytest.mark.parametrize(
    ("header", "name"),
    [("a.b:80", "a.b"), ("A.", "a"), ("[::1]", "[::1]"), ("[::1]:9", "[::1]"), ("[::1]x", "")],
)
def test_the_name_in_a_host(header, name):
    assert host_name(header) == name


def test_every_answer_has_the_security_headers(client):
    for path in ("/healthz", "/v1/models", "/nothing"):
        headers = client.get(path).headers
        assert headers["content-security-policy"].startswith("default-src 'self'")
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["referrer-policy"] == "no-referrer"
        assert headers["cache-control"] == "no-store"


def test_a_failure_of_ours_shows_nothing_of_the_inside(app, client, monkeypatch, capsys):
    def fails(*_):
        raise ZeroDivisionError("secret\nsecond line")

    monkeypatch.setattr(app.state.parts.service.station, "conclude", fails)
    answer = client.post(PREDICT, content=good_bytes(), headers=bearer("predict"))
    assert answer.status_code == 500
    assert answer.json() == {"error": "the server failed; its log says why"}
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert "ZeroDivisionError: secret (" in line and "second" not in line


def test_the_file_of_tokens(tmp_path):
    path = tmp_path / "tokens"
    path.write_text(
        "# a comment\n\nread,predict aaaaaaaaaaaaaaaaaaaa the line\nadmin bbbbbbbbbbbbbbbbbbbb\n"
    )
    read = Tokens.read(path)
    assert read.caller("a" * 20) == Caller("the line", frozenset({"read", "predict"}))
    assert read.caller("b" * 20) == Caller("admin", frozenset({"read", "predict", "admin"}))
    assert read.caller("c" * 20) is None
    assert "aaaa" not in repr(read)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "has no token"),
        ("read", "SCOPE TOKEN"),
        ("read short", "shorter than 20"),
        ("write aaaaaaaaaaaaaaaaaaaa", "read, predict or admin"),
        ("aaaaaaaaaaaaaaaaaaaa read", "read, predict or admin"),
        ("read aaaaaaaaaaaaaaaaaaaa\nadmin aaaaaaaaaaaaaaaaaaaa", "line 2: .* twice"),
    ],
)
def test_a_wrong_file_of_tokens(tmp_path, text, message):
    path = tmp_path / "tokens"
    path.write_text(text)
    with pytest.raises(UsageError, match=message) as refused:
        Tokens.read(path)
    assert "aaaa" not in str(refused.value)
    with pytest.raises(UsageError, match="cannot be read"):
        Tokens.read(tmp_path / "absent")


def test_an_address_for_others_needs_tokens(urd, tmp_path, run):
    store = tmp_path / "line.sqlite"
    code, _, err = urd("serve", run, "--store", store, "--host", "0.0.0.0", "--port", 0)
    assert code == 2 and "--tokens FILE" in err
    assert not store.exists()
    with bind("127.0.0.1", 0) as local, bind("0.0.0.0", 0) as everywhere:
        assert is_loopback(local) and not is_loopback(everywhere)


@pytest.mark.skipif(os.name != "posix", reason="modes of files")
def test_wrong_calls_are_one_line(urd, tmp_path, run, monkeypatch):
    store = ("--store", tmp_path / "line.sqlite", "--port", 0)
    path = tmp_path / "tokens"
    path.write_text("read aaaaaaaaaaaaaaaaaaaa\n")
    path.chmod(0o644)
    code, _, err = urd("serve", tmp_path / "absent", *store, "--tokens", path)
    assert code == 2 and f"chmod 600 {path}" in err and "absent" in err
    for wrong, said in (
        ((run, run), "two models have the name run"),
        ((f"a b={run}",), "the name 'a b' is wrong"),
        ((f"={run}",), "the name '' is wrong"),
        ((f"m={run}", "--host", "no.such.host.invalid"), "no such address"),
        ((f"m={run}", "--allow-host", "a:80"), "without a port"),
        ((f"m={run}", "--allow-host", "a/b"), "without a port"),
        ((f"m={run}", "--tokens", tmp_path), "cannot be read"),
        ((f"m={run}", "--false-reject", "2"), "between 0 and 1"),
    ):
        code, _, err = urd("serve", *wrong, *store)
        assert (code, err.count("\n")) == (2, 1) and said in err, err
    with monkeypatch.context() as patch:
        patch.setitem(sys.modules, "fastapi", None)
        code, _, err = urd("serve", run, *store)
        assert code == 2 and "pip install" in err and "[serve]" in err
    with bind("127.0.0.1", 0) as bound:
        bound.listen()
        port = bound.getsockname()[1]
        code, _, err = urd("serve", f"m={run}", *store[:2], "--port", port)
        assert code == 1 and "in use" in err
