"""`POST /v1/models/{name}/predict`: what comes in, what goes out, and what the store holds."""

from __future__ import annotations

import base64
import io
import json
import random

import numpy as np
import pytest
from lines import bad_bytes, good_bytes, tiny_run
from PIL import Image
from web import PREDICT, application, client_of, rows

from urd.inspection.judgement import SCHEMA_FILE
from urd.serving.http import batching
from urd.serving.http.answers import answer_schemas
from urd.serving.http.line_store import LineStore
from urd.serving.http.multipart import form_fields
from urd.serving.http.refusal import Refusal
from urd.serving.store import StoreError


@pytest.fixture(scope="module")
def run(tmp_path_factory, weights_file):
    return tiny_run(tmp_path_factory.mktemp("predict"), weights_file)


@pytest.fixture
def app(tmp_path, run):
    return application(tmp_path, run)


@pytest.fixture
def client(app):
    with client_of(app) as client:
        yield client


def test_an_image_gets_the_row_of_the_store_as_its_answer(app, client):
    answer = client.post(PREDICT, content=bad_bytes(), params={"part": "A 17/ü"})
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "application/json"
    content = answer.json()
    (row,) = rows(app)
    added = ("stored", "problem", "repeated", "anomaly_map", "overlay_png")
    assert {k: v for k, v in content.items() if k not in added} == row.to_dict()
    assert [content[name] for name in added] == [True, None, False, None, None]
    assert (content["verdict"], content["sequence"]) == ("NG", 1)
    assert (content["part"], content["model"], content["source"]) == ("A 17/ü", "m", "serve")
    assert content["thresholds"]["change"] is None and len(content["heat_range"]) == 2
    assert content["defects"] and content["path"] is None


def test_the_same_judgement_as_in_python(app, client):
    (expected,) = app.state.parts.service.models["m"].judge([bad_bytes(3)])
    content = client.post(PREDICT, content=bad_bytes(3)).json()
    assert content["score"] == pytest.approx(expected.score)
    assert content["verdict"] == expected.verdict
    assert content["defects"] == json.loads(json.dumps(expected.to_dict()["defects"]))


def test_an_answer_has_the_described_keys(client):
    schema = answer_schemas()["Answer"]
    for body in (good_bytes(), b"no image"):
        content = client.post(PREDICT, content=body).json()
        assert set(content) == set(schema["properties"]) == set(schema["required"])
    judgement = json.loads(SCHEMA_FILE.read_text())
    assert set(judgement["properties"]) < set(content)


def test_map_and_overlay_on_request(app, client):
    (expected,) = app.state.parts.service.models["m"].judge([bad_bytes()])
    content = client.post(PREDICT, content=bad_bytes(), params={"map": 1, "overlay": 1}).json()
    found = content["anomaly_map"]
    values = np.frombuffer(base64.b64decode(found["base64"]), "<f4").reshape(found["shape"])
    assert found["dtype"] == "float32"
    assert np.allclose(values, expected.anomaly_map, atol=1e-5)
    with Image.open(io.BytesIO(base64.b64decode(content["overlay_png"]))) as picture:
        assert picture.format == "PNG"
        assert picture.width % 48 == 0  # a tiny image is enlarged by a whole factor
        assert picture.height > picture.width  # the legend


@pytest.mark.parametrize("kind", ["image/png", "text/plain", "application/x-www-form-urlencoded"])
def test_any_content_type_but_a_form_is_an_image(client, kind):
    answer = client.post(PREDICT, content=good_bytes(), headers={"Content-Type": kind})
    assert answer.json()["verdict"] == "OK"


def test_a_form_with_an_image_and_a_part(app, client):
    answer = client.post(
        PREDICT,
        files={"image": ("../../etc/passwd", good_bytes(), "image/png")},
        data={"part": "B-2"},
    )
    assert (answer.status_code, answer.json()["part"]) == (200, "B-2")
    assert answer.json()["content_sha256"] == rows(app)[0].body["content_sha256"]


@pytest.mark.parametrize(
    ("status", "kind", "body"),
    [
        (422, "multipart/form-data; boundary=x", b'--x\r\nContent-Disposition: form-data; name="a"'
         b"\r\n\r\n1\r\n--x--\r\n"),
        (422, "multipart/form-data; boundary=x", b"".join(
            b'--x\r\nContent-Disposition: form-data; name="image"\r\n\r\n1\r\n' for _ in "12"
        ) + b"--x--\r\n"),
        (400, "multipart/form-data; boundary=x", b"rubbish"),
        (400, "multipart/form-data; boundary=x", b'--x\r\nContent-Disposition: form-data; name="i'),
        (400, "multipart/form-data; boundary=x", b""),
        (400, "multipart/form-data", b"--x--\r\n"),
        (400, "multipart/form-data; boundary=" + "x" * 300, b"--x--\r\n"),
        (415, "multipart/mixed; boundary=x", b"--x--\r\n"),
    ],
)  # fmt: skip
def test_a_damaged_form_is_refused_and_leaves_no_row(app, client, status, kind, body):
    answer = client.post(PREDICT, content=body, headers={"Content-Type": kind})
    assert answer.status_code == status
    assert list(answer.json()) == ["error"]
    assert rows(app) == []


def test_a_form_with_too_many_fields():
    field = b'--x\r\nContent-Disposition: form-data; name="%d"\r\n\r\n1\r\n'
    body = b"".join(field % number for number in range(20)) + b"--x--\r\n"
    with pytest.raises(Refusal, match="over 16 fields"):
        form_fields("multipart/form-data; boundary=x", body)


@pytest.mark.parametrize("part", ["a\nb", "x" * 201, "\u202e", "%ff", "\x00"])
def test_a_part_that_is_no_printable_text_is_refused(app, client, part):
    address = f"{PREDICT}?part=%ff" if part == "%ff" else PREDICT
    params = None if part == "%ff" else {"part": part}
    answer = client.post(address, content=good_bytes(), params=params)
    assert answer.status_code == 422 and "part" in answer.json()["error"]
    assert rows(app) == []


def test_two_different_parts_are_refused_and_two_equal_ones_are_one(app, client):
    ask = {"content": good_bytes(), "params": {"part": "a"}}
    assert client.post(PREDICT, **ask, headers={"X-Part-Id": "b"}).status_code == 422
    assert client.post(PREDICT, **ask, headers={"X-Part-Id": "a"}).json()["part"] == "a"
    form = {"files": {"image": good_bytes()}, "data": {"part": "c"}}
    assert client.post(PREDICT, **form, params={"part": "a"}).status_code == 422
    assert client.post(f"{PREDICT}?part=a&part=b", content=good_bytes()).status_code == 422
    header = {"X-Part-Id": "ü".encode()}
    assert client.post(PREDICT, content=good_bytes(), headers=header).json()["part"] == "ü"
    assert client.post(PREDICT, content=good_bytes(), params={"part": ""}).json()["part"] is None


@pytest.mark.parametrize("part", ["../../etc/passwd", "/etc/passwd", "C:\\x", "a/../b", "~", "."])
def test_a_part_with_a_path_is_only_text(tmp_path, run, part):
    app = application(tmp_path, run, rule="all")
    with client_of(app) as client:
        assert client.post(PREDICT, content=good_bytes(), params={"part": part}).json()["part"] == (
            part
        )
    kept = [path for path in tmp_path.rglob("*") if path.is_file() and "sqlite" not in path.name]
    assert len(kept) == 2  # the image and its heat map
    assert all(path.is_relative_to(tmp_path / "line.sqlite.images") for path in kept)


@pytest.mark.parametrize("body", [b"", b"junk", b"\x89PNG\r\n\x1a\n", good_bytes()[:200]])
def test_an_unreadable_image_is_an_error_and_a_row(app, client, body):
    answer = client.post(PREDICT, content=body, params={"part": "p", "map": 1, "overlay": 1})
    content = answer.json()
    assert (answer.status_code, content["verdict"], content["stored"]) == (422, "ERROR", True)
    assert content["error"] and content["score"] is None
    assert content["anomaly_map"] is None and content["overlay_png"] is None
    (row,) = rows(app)
    assert (row.body["verdict"], row.body["part"]) == ("ERROR", "p")


def test_an_image_with_too_many_pixels_is_an_error(app, client):
    model = app.state.parts.service.models["m"]
    model.detector.reading = model.detector.reading.changed(max_megapixels=1)
    out = io.BytesIO()
    Image.new("L", (2000, 1000)).save(out, "PNG")
    answer = client.post(PREDICT, content=out.getvalue())
    assert answer.status_code == 422 and "max-megapixels" in answer.json()["error"]


def test_unknown_models_and_wrong_values(app, client):
    for address, status in (
        ("/v1/models/other/predict", 404),
        ("/v1/models/..%2f..%2fetc/predict", 404),
        (f"{PREDICT}?map=perhaps", 422),
        (f"{PREDICT}/", 404),
    ):
        answer = client.post(address, content=good_bytes(), follow_redirects=False)
        assert (answer.status_code, list(answer.json())) == (status, ["error"]), address
    answer = client.get(PREDICT)
    assert (answer.status_code, answer.headers["allow"]) == (405, "POST")
    zipped = {"Content-Encoding": "gzip"}
    assert client.post(PREDICT, content=good_bytes(), headers=zipped).status_code == 415
    assert rows(app) == []


def test_a_repeated_key_gives_the_earlier_row_and_status(app, client):
    key = {"Idempotency-Key": "part-1"}
    first = client.post(PREDICT, content=bad_bytes(), headers=key)
    again = client.post(PREDICT, content=bad_bytes(), headers=key, params={"map": 1})
    assert (first.status_code, again.status_code) == (200, 200)
    assert (first.json()["repeated"], again.json()["repeated"]) == (False, True)
    assert {**again.json(), "repeated": False} == first.json()
    for _ in "12":
        answer = client.post(PREDICT, content=b"junk", headers={"Idempotency-Key": "part-2"})
        assert (answer.status_code, answer.json()["sequence"]) == (422, 2)
    assert len(rows(app)) == 2


def test_a_key_of_another_image_never_gives_its_verdict(app, client):
    key = {"Idempotency-Key": "part-1"}
    assert client.post(PREDICT, content=good_bytes(), headers=key).json()["verdict"] == "OK"
    answer = client.post(PREDICT, content=bad_bytes(), headers=key)
    assert (answer.status_code, list(answer.json())) == (409, ["error"])
    for wrong in ("", "x" * 201, "ü".encode()):
        answer = client.post(PREDICT, content=good_bytes(), headers={"Idempotency-Key": wrong})
        assert answer.status_code == 422
    assert len(rows(app)) == 1


def test_two_requests_with_one_key_at_once_are_one_row(app, client, monkeypatch):
    """Both are judged, because neither is stored when the other comes."""
    monkeypatch.setattr("urd.serving.http.predict_routes._known", lambda store, arrived: None)
    key = {"Idempotency-Key": "k"}
    first = client.post(PREDICT, content=good_bytes(), headers=key).json()
    second = client.post(PREDICT, content=good_bytes(), headers=key).json()
    assert second["sequence"] == first["sequence"] and second["repeated"]
    assert client.post(PREDICT, content=bad_bytes(), headers=key).status_code == 409
    assert len(rows(app)) == 1


def test_an_answer_after_the_deadline_is_an_error(tmp_path, run):
    app = application(tmp_path, run, deadline_ms=0.001)
    with client_of(app) as client:
        answer = client.post(PREDICT, content=good_bytes(), headers={"Idempotency-Key": "k"})
        content = answer.json()
        assert (answer.status_code, content["verdict"]) == (504, "ERROR")
        assert content["error"].startswith("too late: ") and "limit is 0.001 ms" in content["error"]
        again = client.post(PREDICT, content=good_bytes(), headers={"Idempotency-Key": "k"})
        assert (again.status_code, again.json()["repeated"]) == (504, True)
    assert [row.body["verdict"] for row in rows(app)] == ["ERROR"]


def test_an_answer_that_waited_too_long_for_the_disk_is_an_error(tmp_path, run, monkeypatch):
    app = application(tmp_path, run, deadline_ms=60_000)
    line = app.state.parts.line
    late = iter([None, None, None, batching.Failure(batching.IN_MEMORY, "too late: x")])
    monkeypatch.setattr(line, "_late", lambda job: next(late))
    with client_of(app) as client:
        answer = client.post(PREDICT, content=bad_bytes(), params={"map": 1})
    content = answer.json()
    assert (answer.status_code, content["verdict"], content["score"]) == (504, "ERROR", None)
    assert content["stored"] and content["problem"] == "the row in the store says NG"
    assert content["anomaly_map"] is None and content["defects"] == []


def test_a_network_that_fails_is_an_error_for_its_image_alone(app, client, monkeypatch):
    engine = app.state.parts.service.models["m"].detector.engine
    bad = app.state.parts.service.models["m"].detector.judging(None).prepare(bad_bytes()).pixels
    real = type(engine).__call__

    def fails(self, pixels, rois):
        if any((image == bad).all() for image in pixels):
            raise RuntimeError("out of memory\nsecond line")
        return real(self, pixels, rois)

    monkeypatch.setattr(type(engine), "__call__", fails)
    answer = client.post(PREDICT, content=bad_bytes())
    assert (answer.status_code, answer.json()["verdict"]) == (500, "ERROR")
    assert answer.json()["error"] == "the detector failed: out of memory"
    model = app.state.parts.service.models["m"]
    items = [batching.prepare(model, image) for image in (good_bytes(), bad_bytes(), b"junk")]
    verdicts = [result.verdict for result in batching.judge(model, items)]
    assert verdicts == ["OK", "ERROR", "ERROR"]


def test_a_mistake_of_ours_ends_no_thread(client, monkeypatch):
    def fails(*_):
        raise ZeroDivisionError

    with monkeypatch.context() as patch:
        patch.setattr(batching, "judge", fails)
        assert client.post(PREDICT, content=good_bytes()).status_code == 500
    assert client.post(PREDICT, content=good_bytes()).status_code == 200


def test_a_strict_camera_makes_an_odd_image_an_error(tmp_path, run):
    app = application(tmp_path, run, camera="strict")
    with client_of(app) as client:
        assert client.post(PREDICT, content=good_bytes()).status_code == 200
        answer = client.post(PREDICT, content=good_bytes(), params={"overlay": 1})
    assert (answer.status_code, answer.json()["verdict"]) == (422, "ERROR")
    assert "the same image as before" in answer.json()["error"]
    assert answer.json()["overlay_png"] is None


def test_a_failing_store_stops_no_line(app, client, monkeypatch):
    def full(self, additions):
        raise StoreError("the store failed: database or disk is full")

    monkeypatch.setattr(LineStore, "add_many", full)
    answer = client.post(PREDICT, content=bad_bytes())
    content = answer.json()
    assert (answer.status_code, content["verdict"]) == (200, "NG")
    assert (content["stored"], content["sequence"]) == (False, None)
    assert content["problem"] == "the store failed: database or disk is full"
    assert "urd_store_failures_total 1.0" in client.get("/metrics").text


@pytest.mark.parametrize("count", [200])
def test_mutated_uploads_always_get_an_answer_in_json(app, client, count):
    chance = random.Random(0)
    statuses = {mutated_upload(client, chance) for _ in range(count)}
    assert statuses <= {200, 400, 409, 415, 422}
    assert {200, 422} <= statuses


def mutated_upload(client, chance: random.Random) -> int:
    """Send an image or a form with some changed, lost or doubled bytes."""
    image = chance.choice(_images())
    kind, body = "image/png", image
    if chance.random() < 0.4:
        kind = "multipart/form-data; boundary=abc"
        head = b'--abc\r\nContent-Disposition: form-data; name="%s"\r\n\r\n'
        body = head % b"part" + b"p\r\n" + head % b"image" + image + b"\r\n--abc--\r\n"
    mutated = bytearray(body)
    for _ in range(chance.randrange(4)):
        place = chance.randrange(len(mutated))
        end = place + chance.randrange(1, 40)
        match chance.randrange(4):
            case 0:
                mutated[place] = chance.randrange(256)
            case 1:
                del mutated[place:end]
            case 2:
                mutated[place:place] = mutated[place:end]
            case 3:
                mutated[place:] = b""
        if not mutated:
            break
    headers = {"Content-Type": kind}
    if chance.random() < 0.2:
        headers["Idempotency-Key"] = str(chance.randrange(3))
    answer = client.post(
        PREDICT,
        content=bytes(mutated),
        headers=headers,
        params={"map": chance.randrange(2), "overlay": chance.randrange(2)},
    )
    content = answer.json()
    if "verdict" in content:
        assert (content["verdict"] == "ERROR") == (answer.status_code != 200)
        assert content["stored"]
    else:
        assert content["error"] and "\n" not in content["error"]
    return answer.status_code


def _images() -> list[bytes]:
    if not _MADE:
        picture = Image.open(io.BytesIO(bad_bytes()))
        for kind in ("PNG", "JPEG", "BMP", "TIFF", "WEBP", "GIF", "PPM"):
            out = io.BytesIO()
            picture.save(out, kind)
            _MADE.append(out.getvalue())
    return _MADE


_MADE: list[bytes] = []
