"""The operator's page in a real browser: what a person sees, holds, decides and changes."""

from __future__ import annotations

import socket
import threading
import time
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from lines import bad_bytes, good_bytes, put, record, served, service_of, tiny_run

from urd.inspection.prediction import Failure
from urd.serving.station import Arrived

fastapi = pytest.importorskip("fastapi", reason="the extra serve is not installed")
uvicorn = pytest.importorskip("uvicorn", reason="the extra serve is not installed")
playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
from urd.serving.http.page_routes import page_routes  # noqa: E402

SOON = 20_000  # ms, on a busy computer
XSS = "<img src=x onerror=alert(1)>"
LABELS_FIT = """() => [["NG ", "→ REVIEW"], ["REVIEW ", "→ NG"]].every(([before, after]) => {
    const item = document.querySelector("#examples li"), words = item.lastElementChild;
    words.replaceChildren(before, Object.assign(words.lastElementChild, { innerText: after }));
    return item.scrollWidth <= item.clientWidth;
})"""


def everybody(scope):
    return lambda: None


@contextmanager
def serving(service, require=everybody, routes=None):
    """The address of a server on a free port."""
    app = fastapi.FastAPI()
    app.include_router(page_routes(service, require))
    if routes is not None:
        app.include_router(routes)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        server = uvicorn.Server(
            uvicorn.Config(app, log_level="critical", timeout_graceful_shutdown=1)
        )
        thread = threading.Thread(target=server.run, kwargs={"sockets": [free]}, daemon=True)
        thread.start()
        while not server.started:
            time.sleep(0.01)

        def stop():
            server.should_exit = True
            thread.join()

        try:
            yield f"http://127.0.0.1:{free.getsockname()[1]}", stop
        finally:
            stop()


@pytest.fixture(scope="module")
def service(tmp_path_factory, weights_file):
    folder = tmp_path_factory.mktemp("page")
    return service_of(folder, served(tiny_run(folder, weights_file)))


@pytest.fixture(scope="module")
def address(service):
    for number in range(3):
        put(service, good_bytes(number), part=f"G{number}")
    put(service, bad_bytes(), part="N1")
    with serving(service) as (url, _):
        yield url


@pytest.fixture
def visit(browser):
    """Open a page as a new person; at the end, nothing may have failed or left the machine."""
    context = browser.new_context(viewport={"width": 1280, "height": 800}, service_workers="block")
    context.set_default_timeout(SOON)
    hosts, wrong = set(), []
    context.on("request", lambda request: hosts.add(urlsplit(request.url).hostname))
    context.on("weberror", lambda error: wrong.append(str(error.error)))
    context.on("dialog", lambda dialog: (wrong.append(dialog.message), dialog.dismiss()))
    context.on(
        "console",
        lambda said: wrong.append(said.text) if "Content Security Policy" in said.text else None,
    )

    def visit(url):
        page = context.new_page()
        page.goto(url)
        return page

    yield visit
    context.close()
    assert not wrong and hosts == {"127.0.0.1"}


def tile(page, part):
    return page.locator(".tile", has_text=part)


def see(locator):
    playwright.expect(locator).to_be_visible(timeout=SOON)


def reads(locator, text):
    playwright.expect(locator).to_have_text(text, timeout=SOON)


def reads_in(locator, text):
    playwright.expect(locator).to_contain_text(text, timeout=SOON)


def hold(page, part):
    tile(page, part).click()
    reads(page.locator("#stage-part"), part)
    reads(page.locator("#stage-mode"), "Held")


def test_a_new_part_appears_without_a_reload(service, address, visit):
    page = visit(address)
    see(tile(page, "N1"))
    assert tile(page, "N1").locator(".verdict").inner_text() == "NG"
    page.evaluate("window.mine = true")
    put(service, bad_bytes(5), part="new-1")
    reads(page.locator("#stage-part"), "new-1")
    reads(page.locator("#stage-verdict"), "NG")
    reads(page.locator(".tile .part").first, "new-1")
    reads_in(page.locator("#announcer"), "NG, part new-1")
    reads_in(page.locator("#state-text"), "Running")
    count = str(service.store.counts()["NG"])
    reads(page.locator("#counts [data-verdict=NG] b"), count)
    assert page.evaluate("window.mine")


def test_a_held_part_stays_while_others_come(service, address, visit):
    page = visit(address)
    hold(page, "N1")
    before = page.locator(".tile .part").all_inner_texts()
    put(service, good_bytes(7), part="later-1")
    put(service, good_bytes(8), part="later-2")
    reads(page.locator("#new-parts"), "2 new")
    assert page.locator(".tile .part").all_inner_texts() == before
    reads(page.locator("#stage-part"), "N1")
    page.keyboard.press("Escape")
    reads(page.locator("#stage-part"), "later-2")
    reads(page.locator("#stage-mode"), "Live")
    playwright.expect(page.locator("#new-parts")).to_be_hidden()


def test_image_heat_and_outlines_are_switched_by_buttons(service, address, visit):
    page = visit(address)
    hold(page, "N1")
    row = service.store.search(part="N1")[0]
    see(page.locator("#picture-heat"))
    outlines = page.locator("#picture-outlines .over")
    assert outlines.count() == len([d for d in row.body["defects"] if d["contour"]]) > 0
    assert page.locator("#picture").get_attribute("viewBox") == "0 0 48 48"
    for layer in ("heat", "outlines", "image"):
        button, shown = page.locator(f"#layer-{layer}"), page.locator(f"#picture-{layer}")
        assert button.get_attribute("aria-pressed") == "true"
        button.click()
        assert button.get_attribute("aria-pressed") == "false"
        playwright.expect(shown).to_be_hidden()
        button.click()
        see(shown)


def test_a_part_without_a_verdict_shows_its_image_or_a_reason(service, address, visit):
    (model,) = service.models.values()
    failure = Failure(Path("image"), "too late")
    service.station.conclude(model, Arrived.of(good_bytes(41), part="E-image"), failure)
    put(service, b"no image", part="E-none")
    page = visit(address)
    hold(page, "E-none")
    reads(page.locator("#stage-verdict"), "ERROR")
    reads_in(page.locator("#no-picture"), "The kept image cannot be shown: not an image")
    playwright.expect(page.locator("#picture")).to_be_hidden()
    hold(page, "E-image")
    reads_in(page.locator("#facts"), "too late")
    see(page.locator("#picture-image"))
    assert page.locator("#no-picture").inner_text() == ""


def test_keys_and_buttons_go_to_older_and_newer_parts(service, address, visit):
    page = visit(address)
    hold(page, "G1")
    page.keyboard.press("ArrowLeft")
    reads(page.locator("#stage-part"), "G0")
    page.click("#newer")
    reads(page.locator("#stage-part"), "G1")
    page.keyboard.press("ArrowRight")
    reads(page.locator("#stage-part"), "G2")
    page.click("#older")
    reads(page.locator("#stage-part"), "G1")


def test_a_point_of_the_chart_opens_its_part(service, address, visit):
    page = visit(address)
    see(tile(page, "N1"))
    scores = [score for _, score in service.store.scores(service.models["line"].sha256, 200)]
    (wanted,) = service.store.search(part="N1")
    place = [n for n, _ in service.store.scores(wanted.body["model_sha256"], 200)].index(
        wanted.sequence
    )
    marks = page.locator("#chart .points path:not(.ring)")
    playwright.expect(marks).to_have_count(len(scores), timeout=SOON)
    marks.nth(place).click(force=True)  # the chart takes the nearest point
    reads(page.locator("#stage-part"), "N1")


def test_a_decision_is_stored_with_name_and_reason(service, address, visit):
    sequence = put(service, bad_bytes(11), part="decide-1")["sequence"]
    page = visit(address)
    playwright.expect(page.locator("#decision")).to_be_hidden()  # not while parts pass by
    hold(page, "decide-1")
    page.fill("#decision-person", "Kim")
    page.fill("#decision-reason", "only <b>oil</b>")
    page.click("#decision .accept")
    reads_in(page.locator("#decided"), "Accepted by Kim")
    reads_in(page.locator("#decided"), "only <b>oil</b>")
    reads(tile(page, "decide-1").locator(".done"), "accepted")
    review = service.store.get(sequence).review
    assert (review["decision"], review["person"]) == ("accept", "Kim")
    assert review["reason"] == "only <b>oil</b>"
    page.click("#decision .reject")
    reads_in(page.locator("#decided"), "Rejected by Kim")
    assert service.store.get(sequence).review["decision"] == "reject"
    page.reload()
    hold(page, "decide-1")
    assert page.input_value("#decision-person") == "Kim"  # remembered


def test_thresholds_are_tried_confirmed_and_changed(service, address, visit):
    (model,) = service.models.values()
    page = visit(address)
    page.click("#open-thresholds")
    see(page.locator("#thresholds"))
    scores = [score for _, score in service.store.scores(model.sha256, 500)]
    limits = model.facts()
    low = min(scores) - 1
    page.fill("#review-at", str(low))
    page.locator("#review-at").blur()
    changed = sum(score <= limits["review"] for score in scores)
    effect = f"{changed} of the last {len(scores)} parts would change: {changed} to REVIEW."
    reads(page.locator("#effect"), effect)
    reads_in(page.locator("#review-share"), "of good parts to be REVIEW or NG")
    playwright.expect(page.locator("#examples li")).to_have_count(min(changed, 12), timeout=SOON)
    page.set_viewport_size({"width": 1920, "height": 1080})  # with larger text
    assert page.evaluate(LABELS_FIT)
    before = service.store.threshold_changes(model.sha256)
    page.click("#apply")
    reads(page.locator("#confirm-effect"), effect)
    page.fill("#confirm-person", "Kim")
    page.fill("#confirm-reason", "   ")
    page.click("#confirm button[type=submit]")
    reads(page.locator("#confirm-problem"), "Write your name and the reason.")
    assert service.store.threshold_changes(model.sha256) == before
    page.fill("#confirm-reason", "new lamp")
    page.click("#confirm button[type=submit]")
    playwright.expect(page.locator("#thresholds")).to_be_hidden(timeout=SOON)
    change = service.store.threshold_change(model.sha256)
    assert change["review"] == pytest.approx(low) and change["reject"] == limits["reject"]
    assert (change["person"], change["reason"]) == ("Kim", "new lamp")
    assert model.facts()["change"] == change["id"]
    page.click("#open-thresholds")
    reads_in(page.locator("#thresholds-base"), "by Kim")
    page.click("#as-calibrated")
    page.click("#apply")
    page.fill("#confirm-reason", "old lamp")
    page.click("#confirm button[type=submit]")
    playwright.expect(page.locator("#thresholds")).to_be_hidden(timeout=SOON)
    assert service.store.threshold_change(model.sha256)["review"] is None


def test_a_line_of_the_histogram_is_moved_by_mouse_and_keys(service, address, visit):
    page = visit(address)
    page.click("#open-thresholds")
    see(page.locator("#handle-reject"))
    page.wait_for_function("document.querySelector('#reject-at').value !== ''")
    start = float(page.input_value("#reject-at"))
    box = page.locator("#handle-reject .reach").bounding_box()
    x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    page.mouse.move(x, y)
    page.mouse.down()
    page.mouse.move(x + 60, y, steps=3)
    page.mouse.up()
    dragged = float(page.input_value("#reject-at"))
    assert dragged > start
    page.keyboard.press("ArrowLeft")
    assert float(page.input_value("#reject-at")) < dragged
    for _ in range(80):  # it stops at the other line
        page.keyboard.press("PageDown")
    assert page.input_value("#reject-at") == page.input_value("#review-at")


def test_a_change_by_another_person_is_not_overwritten(service, address, visit):
    (model,) = service.models.values()
    page = visit(address)
    page.click("#open-thresholds")
    see(page.locator("#thresholds"))
    page.focus("#handle-reject")
    page.keyboard.press("PageUp")
    service.store.change_thresholds("line", model.sha256, None, None, "Ana", "first")
    page.click("#apply")
    page.fill("#confirm-person", "Kim")
    page.fill("#confirm-reason", "second")
    page.click("#confirm button[type=submit]")
    reads_in(page.locator("#confirm-problem"), "another person has changed the thresholds")
    assert service.store.threshold_change(model.sha256)["person"] == "Ana"


def test_texts_from_outside_stay_texts(service, address, visit):
    put(service, bad_bytes(21), part=XSS)
    service.store.add(record(None, None, part=f"2{XSS}", camera=(XSS,), model=XSS))
    page = visit(address)
    reads(tile(page, "2<img").locator(".part"), f"2{XSS}")
    reads_in(page.locator("#problems"), XSS)
    page.locator(".tile", has=page.get_by_text(XSS, exact=True)).click()
    reads(page.locator("#stage-part"), XSS)
    assert page.locator("img[src=x]").count() == 0


def test_search_by_part_verdict_and_time(service, address, visit):
    page = visit(address)
    see(tile(page, "G0"))
    page.click("#open-search")
    page.fill("#search-part", "G")
    page.click("#search button[type=submit]")
    reads(page.locator("#parts-title"), "Search: 3 found")
    assert page.locator(".tile .part").all_inner_texts() == ["G2", "G1", "G0"]
    put(service, good_bytes(31), part="G-after-search")
    page.fill("#search-part", "N1")
    page.select_option("#search-verdict", "NG")
    page.fill("#search-since", "2001-01-01T00:00")
    page.click("#search button[type=submit]")
    reads(page.locator("#parts-title"), "Search: 1 found")
    page.fill("#search-since", "2099-01-01T00:00")
    page.click("#search button[type=submit]")
    reads(page.locator("#no-parts"), "No part fits this search.")
    page.click("#end-search")
    reads(page.locator("#parts-title"), "Latest parts")
    reads(page.locator(".tile .part").first, "G-after-search")


def test_a_server_that_is_gone_cannot_look_like_a_good_line(service, visit):
    with serving(service) as (url, stop):
        page = visit(url)
        see(page.locator(".tile").first)
        playwright.expect(page.locator("#lost")).to_be_hidden()
        stop()
        see(page.locator("#lost"))
        reads(page.locator("#lost-title"), "The server does not answer.")
        reads(page.locator("#state-text"), "No contact")
        playwright.expect(page.locator("body.lost")).to_have_count(1)


def test_a_page_without_a_token_asks_for_it_and_goes_on(service, visit):
    def require(scope):
        def check(request: fastapi.Request) -> None:
            if request.cookies.get("session") != "yes":
                raise fastapi.HTTPException(401)

        return check

    routes = fastapi.APIRouter()

    @routes.post("/login")
    async def login(request: fastapi.Request) -> fastapi.Response:
        if (await request.json())["token"] != "secret":
            return fastapi.responses.JSONResponse({"error": "the token is wrong"}, 401)
        answer = fastapi.Response(status_code=204)
        answer.set_cookie("session", "yes", httponly=True, samesite="strict")
        return answer

    with serving(service, require, routes) as (url, _):
        page = visit(url)
        see(page.locator("#login"))
        page.fill("#token", "wrong")
        page.click("#login button[type=submit]")
        reads(page.locator("#login-problem"), "the token is wrong")
        page.fill("#token", "secret")
        page.click("#login button[type=submit]")
        see(page.locator(".tile").first)
        playwright.expect(page.locator("#login")).to_be_hidden()
