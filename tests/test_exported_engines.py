"""A detector of an exported file in a service: several threads, worker processes."""

from __future__ import annotations

import pickle
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from exporting import grey, header, small_file, tiny_detector

from urd import Detector
from urd.engines.openvino_engine import OpenVinoEngine
from urd.errors import UrdError

pytest.importorskip("onnxruntime")
pytest.importorskip("openvino")
SUFFIXES = (".onnx", ".xml")


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_threads_get_what_a_single_one_gets(tmp_path, suffix):
    detector = Detector.load(small_file(tmp_path / f"m{suffix}"))
    rng = np.random.default_rng(0)
    images = [rng.integers(0, 255, (600, 700, 3)).astype(np.uint8) for _ in range(6)]
    alone = [detector.predict(image) for image in images]
    with ThreadPoolExecutor(6) as pool:
        found = list(pool.map(detector.predict, images * 8))
    for index, prediction in enumerate(found):
        expected = alone[index % 6]
        assert (prediction.score, prediction.verdict) == (expected.score, expected.verdict)
        assert np.array_equal(prediction.anomaly_map, expected.anomaly_map)


def test_no_call_of_openvino_waits_for_another(tmp_path):
    """Two calls at once: the second finds the only request taken, and gets one of its own."""
    engine = Detector.load(small_file(tmp_path / "m.xml")).engine
    assert isinstance(engine, OpenVinoEngine)
    with engine._request() as first, engine._request() as second:
        assert first is not second
        engine(grey(3)[None], None)
    with engine._request() as again:
        assert again in (first, second) or len(engine._idle) == 2


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_detector_survives_pickle(tmp_path, suffix, monkeypatch):
    path = small_file(tmp_path / f"m{suffix}")
    monkeypatch.chdir(tmp_path)
    detector = Detector.load(path.name)
    detector.calibrate([grey(value) for value in range(20, 40)], "good")  # not saved
    pickled = pickle.dumps(detector)
    monkeypatch.chdir("/")
    assert len(pickled) < 20_000  # the path, not the weights
    again = pickle.loads(pickled)
    assert again.predict(grey(60)).verdict == detector.predict(grey(60)).verdict == "NG"
    small_file(path, most=200.0)
    with pytest.raises(UrdError, match="replaced after"):
        pickle.loads(pickled)
    path.unlink()
    with pytest.raises(UrdError, match="no file at"):
        pickle.loads(pickled)


def test_a_detector_of_torch_survives_pickle():
    detector = tiny_detector(header())
    again = pickle.loads(pickle.dumps(detector))
    image = np.random.default_rng(0).integers(0, 255, (50, 60, 3)).astype(np.uint8)
    expected, found = detector.predict(image), again.predict(image)
    assert found.score == expected.score
    assert np.array_equal(found.anomaly_map, expected.anomaly_map)
