"""Pipes, sockets and devices where a file is wanted: refused, and never opened, for that waits."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

from urd import Detector
from urd.backbones.weights import read_weights
from urd.config import read_config_file
from urd.data import UnreadableImage, find_named, read_mask, read_rgb, read_rois
from urd.data.check import check
from urd.engines.registry import open_exported
from urd.errors import UsageError
from urd.evaluation.map_files import read_map
from urd.evaluation.records import read_details
from urd.model.file import load_model
from urd.results.prediction_files import predict_to
from urd.suites.suite import read_suite
from urd.system.documents import read_json
from urd.system.files import refuse_special, special, write_json
from urd.system.tensor_file import open_tensors
from urd.training.fit import fit

pytestmark = pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes on this system")


@pytest.fixture
def pipe(tmp_path):
    """Nobody writes to it: to open it would wait for ever."""
    os.mkfifo(tmp_path / "pipe")
    return tmp_path / "pipe"


def test_what_is_special(pipe, tmp_path):
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(tmp_path / "s"))
        assert special(tmp_path / "s") == "a socket"
    (tmp_path / "link.png").symlink_to(pipe)
    assert special(tmp_path / "link.png") == special(pipe) == "a pipe"
    assert special(Path("/dev/zero")) == "a device"
    (tmp_path / "file").touch()
    (tmp_path / "loop").symlink_to("loop")
    for path in ("file", "", "absent", "loop", "x" * 300, "no\0name"):
        assert special(tmp_path / path) is None
        refuse_special(tmp_path / path)


READERS = {
    "settings": read_config_file,
    "map": read_map,
    "suite": lambda path: read_suite(str(path)),
    "weights": read_weights,
    "model": load_model,
    "checkpoint": lambda path: open_tensors(path, "any"),
    "evaluation": lambda path: read_details(
        path.rename(path.with_name("evaluation_details.json")).parent
    ),
    "region": lambda path: read_rois(str(path), "", (64, 64)),
    "json": lambda path: read_json(path, 1000),
    "onnx": lambda path: open_exported(path.rename(path.with_suffix(".onnx"))),
    "to write": lambda path: write_json(path, {}),
}


@pytest.mark.parametrize("what", READERS)
def test_a_pipe_is_refused_before_it_is_opened(what, pipe):
    with pytest.raises(UsageError, match="is not a regular file but a pipe"):
        READERS[what](pipe)


def test_an_image_that_is_none_gets_its_reason(pipe, tmp_path):
    image = pipe.rename(tmp_path / "a.png")
    for path, kind in ((image, "pipe"), (Path("/dev/zero"), "device")):
        with pytest.raises(UnreadableImage, match=f"not a regular file but a {kind}"):
            read_rgb(path)
        with pytest.raises(UnreadableImage, match=f"not a regular file but a {kind}"):
            read_mask(path)


def test_a_pipe_among_the_images_is_an_error_row(pipe, data, tiny_config, tmp_path):
    detector = Detector.fit(data, config=tiny_config)
    pipe.rename(data / "test/good/pipe.png")
    heic = data / "test/good/photo"
    heic.write_bytes(b"\0\0\0\x18ftypheic\0\0\0\0mif1heic")
    found = find_named([str(data / "test")], tmp_path / "out")
    (tmp_path / "out").mkdir()
    rows = predict_to(tmp_path / "out", detector, found.images)
    errors = {Path(row["path"]).name: row["error"] for row in rows if row["verdict"] == "ERROR"}
    assert len(rows) == 10 and errors.keys() == {"pipe.png", "photo"}
    assert errors["pipe.png"] == "not a regular file but a pipe"
    assert errors["photo"].startswith("HEIC files are not supported")
    evaluation = detector.evaluation(data, resamples=0)
    assert {failure.path.name for failure in evaluation.failures} == {"pipe.png", "photo"}


def test_data_with_pipes_is_checked_and_trained_on(pipe, data, tiny_config):
    pipe.rename(data / "train/good/pipe.png")
    assert "pipe.png: not a regular file" in check(data).problems["unreadable"][0]
    fitted = fit(data, None, tiny_config)
    assert [error.path.name for error in fitted.skipped] == ["pipe.png"]
