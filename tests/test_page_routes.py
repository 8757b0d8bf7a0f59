"""The routes of the page: rows, pictures, files, scopes and the state of the line."""

from __future__ import annotations

import io
import json
import re

import numpy as np
import pytest
from lines import bad_bytes, good_bytes, put, record, service_of
from PIL import Image

from urd.serving.kept_images import heat_of
from urd.serving.outbox import Outbox
from urd.serving.store import StoreError

fastapi = pytest.importorskip("fastapi", reason="the extra serve is not installed")

from asking import client_of, decide, error_of, sequences, thresholds  # noqa: E402

from urd.serving.http import page_routes as page  # noqa: E402

pytest_plugins = ["asking"]


# Rows


def test_search_gives_the_newest_first_and_only_what_is_wanted(service, ask):
    for number in range(1, 4):
        put(service, good_bytes(number), part=f"A{number}")
    bad = put(service, bad_bytes(), part="B1")
    assert bad["verdict"] == "NG"
    assert sequences(ask.get("/v1/judgements")) == [4, 3, 2, 1]
    assert sequences(ask.get("/v1/judgements?limit=2&before=4")) == [3, 2]
    assert sequences(ask.get("/v1/judgements?after=2")) == [4, 3]
    assert sequences(ask.get("/v1/judgements?part=A&verdict=OK&model=line")) == [3, 2, 1]
    assert sequences(ask.get("/v1/judgements?verdict=NG")) == [4]
    assert sequences(ask.get("/v1/judgements?model=other")) == []
    assert sequences(ask.get("/v1/judgements?until=1000")) == []
    assert sequences(ask.get("/v1/judgements?since=1000")) == [4, 3, 2, 1]


def test_one_row_is_that_of_the_store(service, ask):
    put(service, bad_bytes(), part="A")
    row = service.store.get(1).to_dict()
    assert ask.get("/v1/judgements/1").json() == {**row, "kept": True}
    assert error_of(ask.get("/v1/judgements/2"), 404) == "there is no judgement 2"


@pytest.mark.parametrize(
    "query",
    ["limit=0", "limit=1001", "since=nan", "until=inf", "verdict=BAD", "before=x", "part="],
)
def test_values_out_of_range_are_refused_in_one_line(ask, query):
    assert query.split("=")[0] in error_of(ask.get(f"/v1/judgements?{query}"), 422)


@pytest.mark.parametrize("sequence", ["0", "-1", "x", str(2**60), "..%2f1"])
def test_only_a_number_names_a_row(ask, sequence):
    assert ask.get(f"/v1/judgements/{sequence}/image").status_code in (404, 422)


def test_counts_are_by_verdict_since_a_time(service, ask):
    put(service, good_bytes())
    put(service, bad_bytes())
    put(service, b"no image")
    found = ask.get("/v1/counts").json()
    assert found == {"total": 3, "counts": {"OK": 1, "REVIEW": 0, "NG": 1, "ERROR": 1}}
    assert ask.get("/v1/counts?since=9e10").json()["total"] == 0


# Pictures


def picture_of(answer, kind):
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"] == kind
    return Image.open(io.BytesIO(answer.content))


def test_the_image_is_upright_and_reduced(service, ask):
    turned = Image.new("RGB", (200, 100), "red")
    turned.paste("blue", (0, 0, 100, 100))
    out, exif = io.BytesIO(), Image.Exif()
    exif[0x0112] = 6  # to be turned clockwise
    turned.save(out, "JPEG", exif=exif)
    put(service, out.getvalue())
    whole = picture_of(ask.get("/v1/judgements/1/image"), "image/jpeg")
    assert whole.size == (100, 200)
    assert whole.getpixel((50, 20))[2] > 200 and whole.getpixel((50, 180))[0] > 200
    assert picture_of(ask.get("/v1/judgements/1/image?side=64"), "image/jpeg").size == (32, 64)


def test_the_image_is_read_as_the_detector_reads_it(service, ask, monkeypatch):
    (model,) = service.models.values()
    reading = model.detector.reading.changed(white_level=4095)
    monkeypatch.setattr(model.detector, "reading", reading)
    out = io.BytesIO()
    Image.fromarray(np.full((40, 40), 2048, np.uint16)).save(out, "PNG")
    put(service, out.getvalue())
    shown = picture_of(ask.get("/v1/judgements/1/image"), "image/jpeg")
    assert abs(np.asarray(shown).mean() - 128) < 2


def test_a_browser_gets_the_same_picture_only_once(service, ask):
    put(service, good_bytes())
    for path in ("image", "heat"):
        first = ask.get(f"/v1/judgements/1/{path}")
        again = ask.get(
            f"/v1/judgements/1/{path}", headers={"If-None-Match": first.headers["etag"]}
        )
        assert first.status_code == 200 and again.status_code == 304 and not again.content
    sizes = {ask.get(f"/v1/judgements/1/image?side={n}").headers["etag"] for n in (64, 65)}
    assert len(sizes) == 2


def test_the_heat_map_is_the_kept_one(service, ask):
    put(service, bad_bytes())
    kept = heat_of(service.store.images / service.store.get(1).image).read_bytes()
    assert ask.get("/v1/judgements/1/heat").content == kept
    shown = picture_of(ask.get("/v1/judgements/1/heat?side=64"), "image/png")
    assert shown.mode == "RGBA" and shown.size == (64, 64)


def test_an_image_that_was_not_kept_has_a_reason(tmp_path, page_model):
    service = service_of(tmp_path, page_model, rule="none")
    put(service, good_bytes())
    ask = client_of(service)
    assert ask.get("/v1/judgements/1").json()["kept"] is False
    for path in ("image", "heat"):
        assert "not kept (rule: none)" in error_of(ask.get(f"/v1/judgements/1/{path}"), 404)


def test_an_image_that_is_gone_or_damaged_has_a_reason(service, ask):
    put(service, good_bytes())
    put(service, b"no image")
    assert "cannot be shown" in error_of(ask.get("/v1/judgements/2/image"), 404)
    assert "no heat map" in error_of(ask.get("/v1/judgements/2/heat"), 404)
    path = service.store.images / service.store.get(1).image
    assert ask.get("/v1/judgements/1/image").status_code == 200
    path.unlink()
    assert "gone" in error_of(ask.get("/v1/judgements/1/image"), 404)


@pytest.mark.parametrize("name", ["../secret.png", "/{root}/secret.png", "link.png", "."])
def test_no_file_outside_of_the_folder_is_shown(service, ask, tmp_path, name):
    secret = tmp_path / "secret.png"
    secret.write_bytes(good_bytes())
    heat_of(secret).write_bytes(good_bytes())
    service.store.images.mkdir()
    try:
        (service.store.images / "link.png").symlink_to(secret)
    except OSError:
        pytest.skip("links are not allowed here")
    service.store.add(record(image=name.replace("/{root}", str(tmp_path))))
    for path in ("image", "heat"):
        error_of(ask.get(f"/v1/judgements/1/{path}"), 404)


# The line


def test_the_status_says_what_is_wrong(tmp_path, page_model):
    service = service_of(tmp_path, page_model, receivers=["plc"])
    ask = client_of(service)
    empty = ask.get("/v1/status").json()
    assert empty["newest"] is None and empty["camera"] is None and empty["outbox"] == {}
    put(service, good_bytes())
    outbox = Outbox(service.store, "plc")
    outbox.park(outbox.due(1e10)[0], "refused for good")
    put(service, good_bytes())  # the same image again
    status = ask.get("/v1/status").json()
    assert status["line"] == "line" and status["keep"] == "all"
    assert status["store"] == {"ok": True, "problem": None}
    assert status["newest"]["sequence"] == 2 and 0 <= status["newest"]["age_seconds"] < 3600
    assert status["outbox"]["plc"] == {"waiting": 1, "parked": 1, "error": "refused for good"}
    assert status["parked"] == 1
    assert status["camera"]["sequence"] == 2 and "same image" in status["camera"]["messages"][0]
    (model,) = service.models.values()
    assert status["models"][0]["model_sha256"] == model.sha256
    assert status["models"][0]["change"] is None


def test_the_status_answers_although_the_store_fails(service, ask, monkeypatch):
    def fail(*_, **__):
        raise StoreError("the disk is full")

    monkeypatch.setattr(service.store, "check", fail)
    assert ask.get("/v1/status").json()["store"] == {"ok": False, "problem": "the disk is full"}
    monkeypatch.setattr(service.store, "search", fail)
    answer = ask.get("/v1/status").json()
    assert answer["newest"] is None and not answer["store"]["ok"] and answer["models"]
    assert error_of(ask.get("/v1/judgements"), 503) == "the disk is full"


def test_a_failed_check_of_the_store_is_tried_again(service, monkeypatch):
    now, failing = [100.0], [True]

    def check():
        if failing[0]:
            raise StoreError("locked")

    monkeypatch.setattr(service.store, "check", check)
    monkeypatch.setattr(page.time, "monotonic", lambda: now[0])
    checks = page.StoreChecks(service.store)
    assert checks.problem() == "locked"
    failing[0] = False
    assert checks.problem() == "locked"  # not asked again within two seconds
    now[0] += 2.1
    assert checks.problem() is None
    failing[0] = True
    assert checks.problem() is None  # a good one holds for twenty
    now[0] += 20.1
    assert checks.problem() == "locked"


# Files, scopes, description


def test_the_page_is_served_with_a_strict_policy(ask):
    answer = ask.get("/")
    assert answer.headers["content-type"].startswith("text/html")
    policy = answer.headers["content-security-policy"]
    assert policy.startswith("default-src 'self';") and "unsafe" not in policy
    for name in page.FILES:
        file = ask.get(f"/page/{name}")
        assert file.status_code == 200 and file.headers["x-content-type-options"] == "nosniff"
    assert ask.get("/page/app.js").headers["content-type"].startswith("text/javascript")


@pytest.mark.parametrize(
    "name", ["index.html", "..%2fstore.py", "%2e%2e/page/app.js", "APP.JS", "app.js%00", ""]
)
def test_no_other_file_is_served(ask, name):
    assert ask.get(f"/page/{name}").status_code == 404


def test_the_page_has_no_inline_code_and_no_foreign_address():
    html = (page._FOLDER / "index.html").read_text(encoding="utf-8")
    assert not re.search(r"<script(?![^>]*\ssrc=)|<style|\sstyle=|\son\w+=", html)
    for path in [*page.FILES.values(), page._FOLDER / "index.html"]:
        text = path.read_text(encoding="utf-8").replace("http://www.w3.org/2000/svg", "")
        assert not re.search(r"https?:|//\w+\.\w+/|innerHTML|insertAdjacentHTML|eval\(", text), path


def test_each_route_asks_for_its_scope(service):
    asked = []

    def require(scope):
        def note():
            asked.append(scope)

        return note

    ask = client_of(service, require)
    put(service, bad_bytes())
    for path in ("/", "/page/app.js"):
        ask.get(path)
    assert asked == []
    reading = ["/v1/judgements", "/v1/judgements/1", "/v1/judgements/1/image", "/v1/counts"]
    reading += ["/v1/judgements/1/heat", "/v1/models/line/scores", "/v1/models/line/thresholds"]
    for path in [*reading, "/v1/status"]:
        ask.get(path)
    ask.post("/v1/models/line/thresholds/preview", json={"review": 1, "reject": 2})
    assert asked == ["read"] * 9
    decide(ask, 1)
    thresholds(ask, review=1, reject=2, change_seen=None)
    assert asked[9:] == ["predict", "admin"]


def test_answers_are_as_described(service, ask):
    """The schemas of OpenAPI hold for rows that the routes give without a check of their own."""
    from urd.serving.http.page_answers import Judgement, Judgements

    put(service, bad_bytes(), part="A")
    put(service, b"no image")
    decide(ask, 1)
    Judgements.model_validate(ask.get("/v1/judgements").json())
    Judgement.model_validate(ask.get("/v1/judgements/1").json())
    document = json.dumps(ask.get("/openapi.json").json())
    assert "HTTPValidationError" not in document and "/v1/status" in document
