"""A folder that is watched, for the tests of `urd watch`: a pytest plugin with its fixtures."""

from __future__ import annotations

import io
import json
import os
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from exporting import small_file
from PIL import Image

from urd.serving.after import Then
from urd.serving.kept_images import KeptImages
from urd.serving.part import Part
from urd.serving.readiness import Ready
from urd.serving.served_model import ServedModel
from urd.serving.station import Station
from urd.serving.store import Store
from urd.serving.watch import Watch, WatchSettings

pytest.importorskip("onnxruntime")
OK, NG = 60, 255  # grey values of parts
PATIENCE = 60.0  # seconds until a test gives up
posix = pytest.mark.skipif(os.name == "nt", reason="a name, a link or a pipe of POSIX")


@pytest.fixture(scope="module")
def file(tmp_path_factory) -> Path:
    """An exported file whose score is the brightness of the part: NG if it is white."""
    return small_file(tmp_path_factory.mktemp("model") / "model.onnx")


@pytest.fixture(scope="module")
def model(file) -> ServedModel:
    return ServedModel.load("line", file)


@pytest.fixture
def said(monkeypatch) -> list[str]:
    """The lines on standard error."""
    lines: list[str] = []
    monkeypatch.setattr("urd.serving.saying.warn", lines.append)
    return lines


@pytest.fixture
def inbox(tmp_path) -> Path:
    (tmp_path / "in").mkdir()
    return tmp_path / "in"


def picture(value: int = OK, seed: int = 0) -> bytes:
    """A PNG; another seed, another content of the same length."""
    noise = np.random.default_rng(0).integers(-8, 8, (40, 40, 1))
    pixels = np.clip(value + noise, 0, 255).astype(np.uint8).repeat(3, axis=2)
    if value == NG:
        pixels[0, 0] = 255
    out = io.BytesIO()
    Image.fromarray(pixels).save(out, "PNG", compress_level=0)
    content = bytearray(out.getvalue())
    return bytes(content) + seed.to_bytes(4, "big")  # PNG ends before it


def put(path: Path, content: bytes | None = None, **facts) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(picture(**facts) if content is None else content)
    return path


class Line:
    """Watches of one folder with one store, one after the other."""

    def __init__(self, folder: Path, model: ServedModel, store: Path | None = None) -> None:
        self.folder, self.model = folder, model
        self.store = Store(store or folder.parent / "line.sqlite")
        self.reported: list[dict] = []

    def watch(self, *, ready="rename", then="keep", part="stem", camera="warn", **settings):
        station = Station(
            self.store, "watch", KeptImages(self.store.images, "none"), ["hook"], camera
        )
        settings = WatchSettings(Ready.parse(ready), Then.parse(then), part=Part(part), **settings)
        report = self.reported.append
        return Watch(
            station,
            self.model,
            self.folder,
            settings,
            lambda o: report(json.loads(json.dumps(o.row))),
        )

    def once(self, **settings) -> list[dict]:
        """Judge what is complete, and give back the new rows."""
        before = len(self.rows())
        self.watch(once=True, **settings).run(threading.Event())
        return self.rows()[before:]

    def rows(self) -> list[dict]:
        return [row.to_dict() for row in self.store.rows()]

    def verdicts(self) -> dict[str, str]:
        return {Path(row["path"]).name: row["verdict"] for row in self.rows()}


@pytest.fixture
def line(inbox, model) -> Line:
    return Line(inbox, model)


class Running:
    """A watch in a thread."""

    def __init__(self, watch: Watch) -> None:
        self.watch = watch
        self.stop = threading.Event()
        self.error: BaseException | None = None
        self.thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> Running:
        self.thread.start()
        return self

    def __exit__(self, *_) -> None:
        self.stop.set()
        self.thread.join(PATIENCE)
        assert not self.thread.is_alive()
        if self.error is not None:
            raise self.error

    def _run(self) -> None:
        try:
            self.watch.run(self.stop)
        except BaseException as error:
            self.error = error


def until(condition) -> None:
    end = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.01)


def killed(*_, **__):
    raise KeyboardInterrupt("killed")


def names(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*"))
