"""Addresses and secrets of webhooks."""

from __future__ import annotations

import base64

import pytest

from urd.errors import UsageError
from urd.serving.webhook import Webhook, read_secret, webhooks_of

SECRET = bytes(range(32))


def test_names_are_stable_and_show_no_path():
    urls = ["https://MES.example/a?token=x", "http://other:81/", "https://mes.example/b"]
    names = [hook.name for hook in webhooks_of(urls, [SECRET])]
    assert names[:2] == ["webhook:mes.example", "webhook:other:81"]
    assert names[2].startswith("webhook:mes.example#") and len(set(names)) == 3
    assert [h.name for h in webhooks_of([*urls, "https://new/"], [SECRET])][:3] == names
    assert "token" not in repr(webhooks_of(urls, [SECRET])) and "\\x" not in repr(
        webhooks_of(urls, [SECRET])
    )


def test_each_webhook_may_have_its_own_secret():
    urls = ["https://a/", "https://b/"]
    assert [h.secret for h in webhooks_of(urls, [b"a", b"b"])] == [b"a", b"b"]
    assert [h.secret for h in webhooks_of(urls, [b"a"])] == [b"a", b"a"]
    with pytest.raises(UsageError, match="2 webhooks and 3 secrets"):
        webhooks_of(urls, [b"a"] * 3)


@pytest.mark.parametrize(
    "url",
    [
        "",
        "mes.example/urd",
        "ftp://mes/urd",
        "https://",
        "https://user:word@mes/",
        "https://mes/#part",
        "https://mes/a b",
        "https://mes/ä",
        "https://mes:0x/",
        "https://mes:99999/",
        "https://[::1/",
    ],
)
def test_wrong_addresses_are_refused_in_one_line(url):
    with pytest.raises(UsageError, match="--webhook") as error:
        webhooks_of([url], [SECRET])
    assert "\n" not in str(error.value) and "word" not in str(error.value).split("password")[0]


def test_the_same_address_twice_is_refused():
    with pytest.raises(UsageError, match="given twice"):
        webhooks_of(["https://a/x", "https://a/x"], [SECRET])


def test_parts_of_an_address():
    hook = Webhook("https://[::1]:8443/a/b?c=d", SECRET, "webhook:x")
    assert (hook.host, hook.port, hook.target, hook.secure) == ("::1", 8443, "/a/b?c=d", True)
    hook = Webhook("HTTP://mes", SECRET, "webhook:x")
    assert (hook.host, hook.port, hook.target, hook.secure) == ("mes", 80, "/", False)


def test_a_secret_file_holds_24_to_64_bytes(tmp_path):
    path = tmp_path / "secret"
    for count in (24, 64):
        path.write_text(f"whsec_{base64.b64encode(bytes(count)).decode()}\n")
        assert read_secret(path) == bytes(count)
    whole = base64.b64encode(bytes(32)).decode()
    short, long = base64.b64encode(bytes(23)).decode(), base64.b64encode(bytes(65)).decode()
    for text in ("", whole, f"whsec_{short}", f"whsec_{long}", f"whsec_{whole[:-1]}", "whsec_é*"):
        path.write_text(text, encoding="utf-8")
        with pytest.raises(UsageError, match="must hold one line") as error:
            read_secret(path)
        assert not text or text not in str(error.value)
    path.write_bytes(b"\xff\xfe")
    with pytest.raises(UsageError, match="cannot be read"):
        read_secret(path)
    with pytest.raises(UsageError, match="cannot be read"):
        read_secret(tmp_path / "absent")
