"""The pages of reports and predictions in a real browser: nothing is cut, pictures enlarge."""

from __future__ import annotations

import numpy as np
import pytest
from conftest import picture, save

WIDTHS = (1400, 820, 390)


@pytest.fixture(scope="module")
def pages(tmp_path_factory, weights_file):
    """The report of a run, and the page of a prediction with wide and square images."""
    from lines import tiny_run

    from urd.cli import cli
    from urd.data import read_layout

    root = tmp_path_factory.mktemp("pages")
    run = tiny_run(root, weights_file)
    rng = np.random.default_rng(3)
    data = root / "data"
    save(picture(rng, 64), data / "train/good/0.png")
    for index in range(3):
        save(picture(rng, 64), data / f"test/good/{index}.png")
        image, mask = picture(rng, 64), np.zeros((64, 64), np.uint8)
        image[20:30, 20:30] = rng.integers(0, 255, (10, 10, 3))
        mask[20:30, 20:30] = 255
        save(image, data / f"test/a_type_of_defect_with_a_long_name/{index}.png")
        save(mask, data / f"ground_truth/a_type_of_defect_with_a_long_name/{index}_mask.png")
    save(np.tile(picture(rng, 64), (1, 8, 1)), root / "images" / f"{'long_' * 30}.png")
    save(picture(rng, 64)[:, ::-1], root / "images" / "square.png")
    assert len(read_layout(data).test) == 6
    for words in (
        ["evaluate", run, data, "--resamples", 20],
        ["report", run],
        ["predict", run, root / "images", data / "test", "--out", root / "out"],
    ):
        cli([str(word) for word in words], standalone_mode=False)
    return {"report": run / "report.html", "predictions": root / "out" / "index.html"}


def shown(browser, path, width, scheme="light"):
    page = browser.new_page(viewport={"width": width, "height": 800}, color_scheme=scheme)
    asked = []
    page.on("request", lambda request: asked.append(request.url))
    page.goto(path.as_uri())
    assert [url for url in asked if not url.startswith(("file:", "data:"))] == []
    return page


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("name", ["report", "predictions"])
def test_nothing_is_wider_than_the_window(browser, pages, name, width):
    page = shown(browser, pages[name], width)
    page.evaluate("document.querySelectorAll('details').forEach((d) => (d.open = true))")
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    cut = "[...document.querySelectorAll('table')].filter((t) => t.getBoundingClientRect().right"
    assert page.evaluate(f"{cut} > innerWidth).length") == 0
    page.close()


@pytest.mark.parametrize("name", ["report", "predictions"])
def test_a_click_enlarges_a_picture_whose_heat_can_be_switched_off(browser, pages, name):
    page = shown(browser, pages[name], 390)
    page.locator("button.views").first.click()
    dialog = page.locator("dialog:popover-open")
    frame, heat = dialog.locator(".frame"), dialog.locator(".heat")
    assert dialog.count() == 1 and heat.evaluate("(e) => getComputedStyle(e).display") != "none"
    dialog.locator(".t-heat").uncheck()
    assert heat.evaluate("(e) => getComputedStyle(e).display") == "none"
    before = frame.bounding_box()["width"]
    dialog.locator(".t-large").check()
    assert frame.bounding_box()["width"] == pytest.approx(2 * before, rel=0.01)
    assert page.evaluate("document.documentElement.scrollWidth") <= 390, "it scrolls inside"
    page.keyboard.press("Escape")
    assert page.locator("dialog:popover-open").count() == 0
    page.close()


def test_the_heat_map_lies_over_the_whole_image(browser, pages):
    page = shown(browser, pages["predictions"], 1400)
    for figure in page.locator("figure").all()[:3]:
        image, heat = (figure.locator(f"[id$='{part}']").first for part in ("-image", "-heat"))
        assert image.bounding_box()["width"] == heat.bounding_box()["width"] > 100
        assert image.bounding_box()["height"] == heat.bounding_box()["height"]
    page.close()


def test_pages_are_dark_where_people_want_it(browser, pages):
    grounds = []
    for scheme in ("light", "dark"):
        page = shown(browser, pages["report"], 820, scheme)
        grounds.append(page.evaluate("getComputedStyle(document.body).backgroundColor"))
        page.close()
    assert grounds == ["rgb(255, 255, 255)", "rgb(20, 24, 28)"]
