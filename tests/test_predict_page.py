"""The page of `urd predict`, and what the command says: the worst first."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
from conftest import picture, save
from pages import parsed
from PIL import Image

from urd import Detector
from urd.cli.predict_words import reduced_overlays, summary
from urd.inspection.calibration import Calibration
from urd.inspection.prediction import Prediction
from urd.results import index_page
from urd.results.counts import thresholds_in_words
from urd.results.index_page import WorstShots, badness

VERDICTS = {"NG": 3.0, "REVIEW": 2.0, "OK": 1.0}


@pytest.fixture(scope="module")
def trained(tmp_path_factory, weights_file):
    from lines import tiny_run

    return tiny_run(tmp_path_factory.mktemp("page"), weights_file)


@pytest.fixture
def run(trained, tmp_path):
    """Thresholds between the scores of `parts`: 1 is OK, 2 is REVIEW, the others are NG."""
    detector = Detector.load(trained, "cpu")
    parts(tmp_path)
    scores = [detector.predict(path).score for path in sorted((tmp_path / "parts").iterdir())]
    assert scores == sorted(scores) and len(set(scores)) == 4
    review, reject = (scores[0] + scores[1]) / 2, (scores[1] + scores[2]) / 2
    values = (0.9 * review, *[review] * 10, *[reject] * 10)
    calibration = Calibration(values, values, values, "a test", 0.05, 0.6)
    detector.header = replace(detector.header, calibration=calibration)
    detector.save(tmp_path / "run.safetensors")
    return tmp_path / "run.safetensors"


def parts(root):
    """Four images; from one to the next more of it is noise."""
    for index in range(4):
        rng = np.random.default_rng(5)
        image = picture(rng, 96)
        side = 18 * index
        image[8 : 8 + side, 8 : 8 + side] = rng.integers(0, 255, (side, side, 3))
        save(image, root / "parts" / f"part{index}.png")


def row(verdict, score, path="a.png", **more):
    facts = {"error": None, "overlay": None, "camera": [], "n_defects": 1, "calibrated": 0.9}
    return (
        {"verdict": verdict, "score": score, "path": path, "width": 9, "height": 9} | facts | more
    )


def test_many_images_name_the_bad_ones_and_the_page(urd, run, tmp_path):
    code, out, err = urd("predict", run, tmp_path / "parts", "--out", tmp_path / "p")
    assert code == 0, err
    assert out.startswith("4 images judged, 0 not") and "1 OK, 1 REVIEW, 2 NG, 0 ERROR" in out
    named = re.findall(r"^  (NG|REVIEW) .*(part\d)\.png$", out, re.MULTILINE)
    assert named == [("NG", "part3"), ("NG", "part2"), ("REVIEW", "part1")]
    assert f"Page, worst first: {tmp_path / 'p' / 'index.html'}" in out
    assert re.search(r"Thresholds: REVIEW above [\d.]+, NG above [\d.]+\.", out)
    page = parsed(tmp_path / "p" / "index.html")
    assert page.needs_nothing_from_outside()
    assert re.findall(r'aria-label="Enlarge (part\d)', page.text) == [
        *("part3", "part2", "part1", "part0")
    ]
    shown = {link for link in page.links if link.startswith("overlays/")}
    assert shown == {f"overlays/part{n}.png" for n in range(4)}
    assert all((tmp_path / "p" / name).is_file() for name in shown)


def test_one_image_says_its_verdict_and_where_its_overlay_is(urd, run, tmp_path):
    words = ["predict", run, tmp_path / "parts" / "part3.png", "--out", tmp_path / "p"]
    code, out, err = urd(*words)
    assert code == 0, err
    (result,) = [json.loads(x) for x in (tmp_path / "p/predictions.jsonl").read_text().splitlines()]
    first, second, *_ = out.splitlines()
    assert first.startswith("NG: ") and f"score {result['score']:.4g}" in first
    assert f"{result['n_defects']} defect" in first
    assert second == f"Overlay: {tmp_path / 'p' / 'overlays' / 'part3.png'}"


def test_rows_go_to_standard_output_and_words_to_standard_error(urd, run, tmp_path):
    code, out, err = urd(
        "predict", run, tmp_path / "parts", "--out", tmp_path / "p", "--json", "-", "--fail-on-ng"
    )
    assert code == 3
    assert out == (tmp_path / "p" / "predictions.jsonl").read_text()
    assert "4 images judged, 0 not" in err and "Page, worst first" in err
    words = ["--json", tmp_path / "rows.jsonl", "--overlays", "none"]
    code, out, _ = urd("predict", run, tmp_path / "parts", "--out", tmp_path / "q", *words)
    assert code == 0 and "4 images judged" in out
    assert (tmp_path / "rows.jsonl").read_text() == (tmp_path / "q/predictions.jsonl").read_text()


def test_it_says_so_if_no_image_can_be_review(urd, run, tmp_path):
    words = ["predict", run, tmp_path / "parts", "--out", tmp_path / "p", "--false-reject", 0.6]
    code, out, _ = urd(*words)
    assert code == 0 and "0 REVIEW" in out
    assert "no REVIEW: its share of good images (60 %) is not above that of NG" in out
    few = Calibration((1.0, 2.0), (1.0, 2.0), (1.0, 2.0), "a test")
    assert "2 good images are too few to tell" in thresholds_in_words(few.thresholds())


def test_overlays_have_the_size_that_was_asked_for(urd, run, tmp_path):
    image = picture(np.random.default_rng(0), 48).repeat(40, axis=0).repeat(40, axis=1)
    path = save(image, tmp_path / "large.png")
    sizes = {"a": [], "b": ["--overlay-size", 700], "c": ["--overlay-size", 0]}
    for name, words in sizes.items():
        code, out, err = urd("predict", run, path, "--out", tmp_path / name, *words)
        assert code == 0, err
        with Image.open(tmp_path / name / "overlays" / "large.png") as overlay:
            sizes[name] = overlay.width
        assert ("overlays are reduced" in out) == (name != "c")
    assert sizes == {"a": 1600, "b": 700, "c": 1920}


def test_overlays_of_rejects_are_the_pictures_of_the_page(urd, run, tmp_path):
    words = ["predict", run, tmp_path / "parts", "--out", tmp_path / "p", "--overlays", "rejects"]
    assert urd(*words)[0] == 0
    page = parsed(tmp_path / "p" / "index.html")
    assert len(re.findall("<figure", page.text)) == 3
    assert "part0.png: score" in page.text, "the others are named"
    (tmp_path / "parts" / "broken.png").write_bytes(b"no")
    assert urd(*words, "--overwrite", "--overlays", "none")[0] == 1
    page = parsed(tmp_path / "p" / "index.html")
    assert "<figure" not in page.text and "broken.png: not an image" in page.text
    assert re.findall(r"<li>(\w+)\.png: (?:score|not)", page.text) == [
        *("broken", "part3", "part2", "part1", "part0")
    ]


def test_names_are_escaped_and_links_are_quoted(urd, run, tmp_path):
    name = '<script>alert("1")&#?.png'
    save(picture(np.random.default_rng(0), 64), tmp_path / "odd" / name)
    assert urd("predict", run, tmp_path / "odd", "--out", tmp_path / "p")[0] == 0
    page = parsed(tmp_path / "p" / "index.html")
    assert page.needs_nothing_from_outside() and "<script" not in page.text
    (link,) = {link for link in page.links if link.startswith("overlays/")}
    assert link == "overlays/%3Cscript%3Ealert%28%221%22%29%26%23%3F.png"


def test_a_later_call_replaces_the_page_or_removes_it(urd, run, tmp_path, monkeypatch):
    words = ["predict", run, tmp_path / "parts", "--out", tmp_path / "p"]
    assert urd(*words)[0] == 0

    def cut(*args):
        raise KeyboardInterrupt

    monkeypatch.setattr("urd.results.prediction_files.index_page", cut)
    assert urd(*words, "--overwrite")[0] == 130
    assert not (tmp_path / "p" / "index.html").exists()


def test_only_the_worst_are_kept_whatever_the_order(monkeypatch):
    monkeypatch.setattr(index_page, "shot_of", lambda *args, name, link: name)
    judged = [row("OK", n / 7, f"ok{n}") for n in range(30)]
    judged += [row("NG", 3.0, f"ng{n}") for n in range(3)] + [row("REVIEW", 2.0, "review")]
    expected = sorted(range(len(judged)), key=lambda n: (badness(judged[n]), -n), reverse=True)[:8]
    prediction = SimpleNamespace(picture=object())
    for seed in range(5):
        worst = WorstShots(8)
        for n in np.random.default_rng(seed).permutation(len(judged)).tolist():
            worst.add(n, judged[n], prediction)
        assert sorted(worst.by_order()) == sorted(expected)


def test_the_first_ten_are_named_and_the_rest_is_counted(tmp_path):
    rows = [row("NG", 1.0 + n, f"{n}.png") for n in range(14)] + [row("OK", 0.1)]
    thresholds = Calibration((1.0,), (1.0,), (1.0,), "a test").thresholds()
    lines = list(summary(rows, tmp_path, tmp_path, thresholds))
    named = [line.split()[-1] for line in lines if line.startswith("  NG")]
    assert named == [f"{n}.png" for n in range(13, 3, -1)]
    assert "  and 4 more, see the page" in lines


def test_a_page_of_very_many_images_stays_small():
    rows = [row("OK", n / 1e5, f"/data/day/{n:06}.png") for n in range(20_000)]
    (section,) = index_page._sections(rows, {})
    assert section.count == 20_000 and len(section.others) == 1000
    assert section.others[0].name == "019999.png", "without the folder of all"


def test_only_larger_images_have_reduced_overlays():
    large = row("OK", 0.1, width=3000, height=10, overlay="x.png")
    assert reduced_overlays([row("OK", 0.1), large], 1600).startswith("1 overlays")
    assert reduced_overlays([large], 0) is None and reduced_overlays([large], 3000) is None


def test_a_shot_keeps_its_layers_and_its_size_is_bounded():
    from urd.inspection.defects import Defect
    from urd.results.shots import shot_of

    roi, mask = np.zeros((64, 64), bool), np.zeros((1500, 3000), bool)
    roi[8:56, 8:56], mask[700:702, 1000:1002] = True, True
    defect = Defect(
        (100.0, 0.0, 200.0, 50.0), [(100.0, 0.0), (200.0, 0.0)], 70.0, None, 1, 1, (0, 0)
    )
    noise = np.random.default_rng(0).random((256, 256)).astype(np.float32)
    found = Prediction(
        0.9, noise, (1500, 3000), None, "NG", 0.8, [defect] * 30, roi, heat_range=(0.0, 1.0)
    )
    image = Image.fromarray(np.random.default_rng(1).integers(0, 255, (750, 1500, 3), np.uint8))
    shot = shot_of(found, image, 640, name="x", mask=mask)
    assert shot.wide and (shot.width, shot.height) == (3000, 1500)
    assert shot.image.startswith("data:image/jpeg;base64,") and len(shot.image) < 400_000
    assert shot.heat.startswith("data:image/webp;base64,") and len(shot.heat) < 30_000
    assert shot.defects.startswith("M100 0L200 0Z") and len(shot.numbers) == 20
    assert (shot.numbers[0].left, shot.numbers[0].top) == (3.33, 0.0)
    assert shot.mask, "the smallest mark is not lost when its mask is reduced"
    xs = [float(x) for x in re.findall(r"[ML]([\d.]+) ", shot.mask)]
    assert (min(xs), max(xs)) == pytest.approx((1000 - 24, 1002 + 24), abs=8), "around, not on it"
    left, top, width, height = shot.detail
    assert left < 1000 < left + width and top < 700 < top + height
    assert width / height == pytest.approx(2) and width == pytest.approx(600)
    assert shot.roi.startswith("M0 0H3000V1500H0Z M".replace("Z M", "ZM"))
    assert shot.sizes[0] == "1: 70 px" and shot.sizes[-1] == "and 10 more"
