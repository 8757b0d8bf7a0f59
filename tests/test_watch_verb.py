"""The command `urd watch`, its rules and its regions."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from exporting import header, small_file
from PIL import Image
from watched import PATIENCE, Line, names, put

from urd.engines.facts import Facts
from urd.errors import UsageError
from urd.serving.after import Then
from urd.serving.part import Part
from urd.serving.readiness import Ready
from urd.serving.served_model import ServedModel
from urd.serving.store import Store

pytest_plugins = ["watched"]


# Settings and the command


@pytest.mark.parametrize(
    ("make", "text"),
    [
        *((Ready.parse, text) for text in ("", "rest:", "rest:0", "rest:x", "rest:1.5", "done:1")),
        (Ready.parse, "rest:99999999999"),
        *((Then.parse, text) for text in ("", "move", "move:", "copy:x")),
        *((Part, text) for text in ("", "(", "no group", "(a)(b)")),
    ],
)
def test_rules_that_are_none_are_refused(make, text):
    with pytest.raises(UsageError):
        make(text)


def test_parts():
    path = Path("in/SN0042_top.v2.png")
    assert Part("stem").of(path) == "SN0042_top.v2"
    assert Part("none").of(path) is None
    assert Part(r"SN(\d+)").of(path) == "0042"
    assert Part(r"X(\d+)").of(path) is None and Part("X|(a)").of(Path("X")) is None


def test_the_command_prints_a_line_for_each_image(urd, file, inbox, tmp_path):
    call = ["watch", file, inbox, "--store", tmp_path / "s.sqlite", "--ready", "rename", "--once"]
    put(inbox / "a.png")
    put(inbox / "b\nc.png", b"no image")
    code, out, error = urd(*call)
    assert code == 1 and len(out.splitlines()) == 2  # one is an ERROR
    assert " OK " in out and str(inbox / "a.png") in out and "not an image" in out
    start = f"watching {inbox} with model (onnx cpu float32); store {tmp_path / 's.sqlite'}; "
    assert f"{start}ready rename, then keep; no receivers\n" in error
    put(inbox / "d.png", seed=1)
    assert "1 judged: 1 OK, 0 REVIEW, 0 NG; 1 not judged (ERROR), moved to " in error
    assert error.endswith(".aside\n")
    code, out, error = urd(*call, "--json", "--name", "A", "--part", "none")
    assert code == 0 and error.endswith("1 judged: 1 OK, 0 REVIEW, 0 NG; 0 not judged (ERROR)\n")
    row = json.loads(out)
    assert (row["sequence"], row["model"], row["part"]) == (3, "A", None)
    put(inbox / "e.png", seed=2)
    assert urd(*call, "--quiet")[:2] == (0, "")
    assert urd(*call)[2].endswith("nothing new to judge\n")
    store = Store(tmp_path / "s.sqlite")
    assert store.counts() == {"OK": 3, "ERROR": 1} and store.newest().body["model"] == "model"


def test_a_pattern_that_fits_no_name_is_said_once_and_counted(urd, file, inbox, tmp_path):
    call = ["watch", file, inbox, "--store", tmp_path / "s.sqlite", "--ready", "rename", "--once"]
    for number in range(3):
        put(inbox / f"{number}.png", seed=number)
    put(inbox / "SN7.png", seed=9)
    _, _, error = urd(*call, "--part", "SN([0-9]+)")
    first, rest = [line for line in error.splitlines() if "--part" in line]
    assert first == "--part 'SN([0-9]+)' does not fit '0.png': a row has no part"
    assert rest.endswith("'2.png': a row has no part (2 more, 3 in all)")
    assert Store(tmp_path / "s.sqlite").search(part="7")[0].body["part"] == "7"
    put(inbox / "8.png", seed=10)
    assert "--part" not in urd(*call, "--part", "none")[2]


@pytest.mark.parametrize(
    "options",
    [
        ("--ready", "soon"),
        ("--then", "burn"),
        ("--part", "("),
        ("--mm-per-pixel", "0"),
        ("--device", "cuda"),
        ("--roi", "x"),
    ],
)
def test_wrong_options_are_refused(urd, file, inbox, tmp_path, options):
    store = tmp_path / "s.sqlite"
    code, _, error = urd("watch", file, inbox, "--store", store, "--once", *options)
    assert code == 2 and len(error.splitlines()) <= 2


def test_an_exported_file_needs_no_torch(file, inbox, tmp_path):
    put(inbox / "a.png")
    call = ["watch", str(file), str(inbox), "--store", str(tmp_path / "s.sqlite"), "--once"]
    code = (
        "import sys; from urd.cli import cli; cli.main(sys.argv[1:], standalone_mode=False); "
        "sys.exit('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code, *call], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert " OK " in done.stdout


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 0), (signal.SIGINT, 130)])
def test_a_signal_ends_it_after_the_images_in_hand(file, inbox, tmp_path, number, code):
    put(inbox / "a.png")
    command = [sys.executable, "-m", "urd", "watch", file, inbox, "--ready", "rename"]
    process = subprocess.Popen(
        [*command, "--store", tmp_path / "s.sqlite"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert " OK " in process.stdout.readline()
    process.send_signal(number)
    _, error = process.communicate(timeout=PATIENCE)
    assert process.returncode == code
    assert ("urd: interrupted" in error) == (code == 130)
    assert names(inbox) == ["a.png"]  # no lock is left


@pytest.fixture
def with_regions(tmp_path) -> ServedModel:
    """A detector with one region of interest per image."""
    data = header().data.model_copy(update={"region_of_interest": "one per image"})
    facts = Facts(header(data=data).without_paths(), "float32")
    return ServedModel.load("line", small_file(tmp_path / "m.onnx", facts))


def test_a_detector_without_its_regions_is_refused(with_regions, inbox):
    with pytest.raises(UsageError, match="one region per image"):
        Line(inbox, with_regions).watch()


def test_regions_are_found_by_the_name_of_the_file(with_regions, inbox, tmp_path):
    mask = np.zeros((40, 40), np.uint8)
    mask[20:, 20:] = 255
    (tmp_path / "regions").mkdir()
    Image.fromarray(mask).save(tmp_path / "regions" / "a.png")
    with_regions.detector.inspect_in(str(tmp_path / "regions"))
    put(inbox / "a.png")
    put(inbox / "b.png")
    line = Line(inbox, with_regions)
    line.once()
    assert line.verdicts() == {"a.png": "OK", "b.png": "ERROR"}
    errors = [row["error"] for row in line.rows() if row["error"]]
    assert len(errors) == 1 and "no region of interest" in errors[0]
