"""Exported files by the plain runtimes, against torch."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import picture, save
from exporting import one_torch_export
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from urd import Detector
from urd.cli import cli
from urd.data import read_layout, resize_rgb
from urd.errors import UrdError, UsageError
from urd.export.files import Export, export
from urd.export.graph import resized
from urd.training.training_data import held_out

onnxruntime = pytest.importorskip("onnxruntime")
openvino = pytest.importorskip("openvino")
onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxscript")
FLOAT = onnx.TensorProto.FLOAT


@pytest.fixture(scope="module", autouse=True)
def quick():
    with one_torch_export():
        yield


@pytest.fixture(scope="module")
def fitted(tmp_path_factory):
    """A small calibrated detector, its data, and its run folder."""
    from conftest import TINY
    from safetensors.torch import save_file

    from urd.backbones.registry import backbone_of
    from urd.config import FitConfig

    folder = tmp_path_factory.mktemp("export")
    rng = np.random.default_rng(0)
    for index in range(20):
        save(picture(rng, 90), folder / "data" / "train" / "good" / f"{index:03}.png")
    for index in range(4):
        save(picture(rng, 90), folder / "data" / "test" / "good" / f"{index:03}.png")
        image = picture(rng, 90)
        image[10:40, 12:50] = rng.integers(0, 255, (30, 38, 3))
        save(image, folder / "data" / "test" / "square" / f"{index:03}.png")
    encoder = backbone_of(TINY, "none").load(torch.Generator().manual_seed(0))
    save_file(encoder.body.state_dict(), folder / "tiny.safetensors")
    config = FitConfig(
        backbone=TINY,
        weights=str(folder / "tiny.safetensors"),
        iterations=6,
        batch_size=4,
        image_size=(64, 96),
        precision="float32",
        device="cpu",
    )
    detector = Detector.fit(folder / "data", folder / "run", config=config)
    return detector, folder / "data", folder / "run"


def images_of(data: Path) -> tuple[list[Path], list[Path]]:
    layout = read_layout(data)
    return [s.path for s in layout.test], [s.path for s in layout.train]


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 150), st.integers(1, 150), st.integers(1, 120), st.integers(1, 120))
def test_resizing_inside_of_the_file_is_pillows(height, width, new_height, new_width):
    rng = np.random.default_rng(height * 1000 + width)
    image = rng.integers(0, 256, (height, width, 3)).astype(np.uint8)
    pillow = resize_rgb(Image.fromarray(image), (new_height, new_width))
    ours = resized(
        torch.from_numpy(image)[None].permute(0, 3, 1, 2).float(), (new_height, new_width)
    )
    assert np.array_equal(ours[0].permute(1, 2, 0).numpy(), np.asarray(pillow, np.float32))


def by_onnxruntime(path: Path, image: np.ndarray) -> dict[str, np.ndarray]:
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, session.run(None, {"images": image}), strict=True))


def by_openvino(path: Path, image: np.ndarray) -> dict[str, np.ndarray]:
    core = openvino.Core()
    exact = {"INFERENCE_PRECISION_HINT": "f32"}
    found = core.compile_model(core.read_model(path), "CPU", exact)(image)
    return {name: np.array(found[name]) for name in ("map", "score", "calibrated")}


RUNTIMES = {"onnx": (".onnx", by_onnxruntime), "openvino": (".xml", by_openvino)}


@pytest.mark.parametrize("form", RUNTIMES)
def test_the_plain_runtime_agrees_with_torch_on_image_files(fitted, form, tmp_path):
    detector, data, _ = fitted
    suffix, run = RUNTIMES[form]
    out = tmp_path / f"model{suffix}"
    parity = export(detector, out, Export(form), *images_of(data)).parity
    assert parity.images == 8 and parity.verdicts_changed == []
    assert json.loads((tmp_path / f"model{suffix}.parity.json").read_text())["images"] == 8
    path = tmp_path / "photo.jpg"
    Image.fromarray(picture(np.random.default_rng(7), 120)[:100]).save(path, quality=90)
    expected = detector.predict(path)
    found = run(out, np.asarray(Image.open(path).convert("RGB"))[None])
    assert float(found["score"][0]) == pytest.approx(expected.score, rel=1e-3)
    assert float(found["calibrated"][0]) == pytest.approx(expected.calibrated, rel=1e-2)
    np.testing.assert_allclose(found["map"][0], expected.anomaly_map, atol=5e-3)


def test_int8_leaves_the_first_and_the_students_last_convolutions(fitted, tmp_path):
    """They carry most of the error; the other convolutions have weights of eight bits."""
    detector, data, _ = fitted
    wanted = Export("onnx", "int8", size=(64, 96), allow_changes=True)
    export(detector, tmp_path / "m.onnx", wanted, *images_of(data))
    graph = onnx.load(tmp_path / "m.onnx").graph
    floats = {weight.name for weight in graph.initializer if weight.data_type == FLOAT}
    convolutions = [node for node in graph.node if node.op_type in ("Conv", "ConvTranspose")]
    left = [node.input[1] for node in convolutions if node.input[1] in floats]
    assert len(left) == 4 < len(convolutions) / 4
    assert sum(".student.decoder.stage_" in name for name in left) == 3

    wanted = Export("openvino", "int8", size=(64, 96), allow_changes=True)
    export(detector, tmp_path / "m.xml", wanted, *images_of(data))
    nodes = openvino.Core().read_model(tmp_path / "m.xml").get_ordered_ops()
    inputs = {
        node.input(1).get_shape()[1]: node.input_value(0).get_node().get_type_name()
        for node in nodes
        if node.get_type_name() == "Convolution"
    }
    assert inputs.pop(3) != "FakeQuantize" and set(inputs.values()) == {"FakeQuantize"}


@pytest.mark.parametrize("form", RUNTIMES)
@pytest.mark.parametrize("precision", ["float16", "int8"])
def test_small_precisions_stay_close_and_say_how_close(fitted, form, precision, tmp_path):
    detector, data, _ = fitted
    out = tmp_path / f"model{RUNTIMES[form][0]}"
    wanted = Export(form, precision, allow_changes=True)
    written = export(detector, out, wanted, *images_of(data))
    assert 0 < written.parity.score_difference < (0.05 if precision == "float16" else 0.5)
    # Its thresholds are of its own scores of the images that training held out.
    unseen = held_out(images_of(data)[1], detector.header)
    opened = Detector.load(out)
    scores = sorted(opened.predict(path).score for path in unseen)
    assert len(scores) == 8 and scores != list(detector.header.calibration.scores)
    assert opened.header.calibration.scores == pytest.approx(scores, rel=1e-3)
    assert written.facts.thresholds_of == "this file"
    torchs = sorted(detector.predict(path).score for path in unseen)
    assert detector.header.calibration.scores == pytest.approx(torchs, rel=1e-5)


@pytest.mark.parametrize("form", RUNTIMES)
def test_a_detector_opens_the_file_and_answers_as_before(fitted, form, tmp_path):
    detector, data, _ = fitted
    out = tmp_path / f"model{RUNTIMES[form][0]}"
    export(detector, out, Export(form), *images_of(data))
    opened = Detector.load(out)
    for path in images_of(data)[0]:
        expected, found = detector.predict(path), opened.predict(path)
        assert found.score == pytest.approx(expected.score, rel=1e-4)
        assert (found.verdict, found.size) == (expected.verdict, expected.size)
    assert opened.evaluate(data, resamples=0)["image_auroc"] == pytest.approx(
        detector.evaluate(data, resamples=0)["image_auroc"]
    )
    with pytest.raises(UsageError, match="use the run"):
        opened.save(tmp_path / "again.safetensors")
    cli(
        ["predict", str(out), str(data / "test"), "--out", str(tmp_path / "p")],
        standalone_mode=False,
    )
    assert len((tmp_path / "p" / "predictions.jsonl").read_text().splitlines()) == 8


def test_the_region_of_interest_travels_with_the_file(data, tiny_config, tmp_path):
    mask = np.zeros((48, 48), np.uint8)
    mask[:, :24] = 255
    config = replace(tiny_config, roi=str(save(mask, tmp_path / "roi.png")))
    detector = Detector.fit(data, config=config)
    export(detector, tmp_path / "m.onnx", Export("onnx"), *images_of(data))
    opened = Detector.load(tmp_path / "m.onnx")
    np.testing.assert_array_equal(opened.header.roi, detector.header.roi)
    image = images_of(data)[0][0]
    found, expected = opened.predict(image), detector.predict(image)
    np.testing.assert_allclose(found.anomaly_map, expected.anomaly_map, atol=1e-4)
    assert (found.anomaly_map[:, 32:] == 0).all()


def test_changed_verdicts_are_refused_and_nothing_is_written(fitted, tmp_path, monkeypatch):
    detector, data, _ = fitted
    from urd.export import files

    real = files.compare
    monkeypatch.setattr(
        files,
        "compare",
        lambda *args: replace(real(*args), verdicts_changed=["a.png"], changes=["NG to OK"]),
    )
    with pytest.raises(UrdError, match=r"1 of 8 verdicts differ .* --allow-changes|a\.png"):
        export(detector, tmp_path / "m.onnx", Export("onnx"), *images_of(data))
    assert list(tmp_path.iterdir()) == []
    wanted = Export("onnx", allow_changes=True)
    found = export(detector, tmp_path / "m.onnx", wanted, *images_of(data))
    assert found.parity.verdicts_changed
    assert (tmp_path / "m.onnx").exists()


def test_a_fixed_size_takes_no_other(fitted, tmp_path):
    detector, data, _ = fitted
    export(detector, tmp_path / "m.onnx", Export("onnx", size=(64, 96)), *images_of(data))
    assert by_onnxruntime(tmp_path / "m.onnx", np.zeros((3, 64, 96, 3), np.uint8))[
        "score"
    ].shape == (3,)
    with pytest.raises(Exception, match=r"(?i)invalid|dimension"):
        by_onnxruntime(tmp_path / "m.onnx", np.zeros((1, 65, 96, 3), np.uint8))


@pytest.mark.parametrize("form", ["onnx", "openvino"])
def test_a_detector_resizes_to_what_the_file_takes(fitted, form, tmp_path):
    detector, data, _ = fitted
    out = tmp_path / f"m{'.onnx' if form == 'onnx' else '.xml'}"
    # At another size the file has thresholds of its own, so a verdict may differ from torch's.
    export(detector, out, Export(form, size=(80, 70), allow_changes=True), *images_of(data))
    path = images_of(data)[0][-1]
    with Image.open(path) as image:
        expected = detector.predict(resize_rgb(image.convert("RGB"), (80, 70)))
    found = Detector.load(out).predict(path)
    assert found.size == (90, 90)
    assert found.score == pytest.approx(expected.score, rel=1e-4)
    np.testing.assert_allclose(found.anomaly_map, expected.anomaly_map, atol=1e-4)
    with pytest.raises(UsageError, match="positive"):
        Export(form, size=(0, 70))


def test_int8_needs_good_images_that_can_be_read(fitted, tmp_path):
    detector, data, _ = fitted
    images, _ = images_of(data)
    for good, message in (([], "good training images"), ([tmp_path / "gone.png"], "can be read")):
        with pytest.raises(UsageError, match=message):
            export(detector, tmp_path / "m.onnx", Export("onnx", "int8"), images, good)
    assert list(tmp_path.iterdir()) == []


def test_no_file_beside_is_replaced_unasked(fitted, tmp_path):
    _, data, run = fitted
    (tmp_path / "m.bin").write_bytes(b"mine")
    for name, message in (("m.xml", "m.bin exists"), ("M.XML", "must end in .xml")):
        args = ["export", str(run), str(data), "--format", "openvino"]
        with pytest.raises(UsageError, match=message):
            cli([*args, "--out", str(tmp_path / name)], standalone_mode=False)
    assert [path.name for path in tmp_path.iterdir()] == ["m.bin"]


@pytest.mark.parametrize("name", ["foreign.onnx", "foreign.xml", "missing.onnx"])
def test_foreign_files_are_refused_in_one_line(tmp_path, name):
    path = tmp_path / name
    if not name.startswith("missing"):
        path.write_bytes(b"not a network")
    with pytest.raises(UrdError) as caught:
        Detector.load(path)
    assert "\n" not in str(caught.value) and name in str(caught.value)


def test_the_command_takes_the_images_of_the_last_evaluation(fitted, tmp_path, capsys):
    _, data, run = fitted
    out = tmp_path / "m.onnx"
    with pytest.raises(UsageError, match="give DATA"):
        cli(["export", str(run), "--format", "onnx", "--out", str(out)], standalone_mode=False)
    cli(["evaluate", str(run), str(data), "--resamples", "0"], standalone_mode=False)
    cli(["export", str(run), "--format", "onnx", "--out", str(out)], standalone_mode=False)
    assert "0 verdicts changed" in capsys.readouterr().out
    with pytest.raises(UsageError, match="--overwrite"):
        cli(["export", str(run), "--format", "onnx", "--out", str(out)], standalone_mode=False)
    again = ["export", str(run), "--format", "onnx", "--out", str(tmp_path / "other.onnx")]
    with pytest.raises(UsageError, match="good training images"):  # those were test images
        cli([*again, "--precision", "int8"], standalone_mode=False)
    for content in ("{broken", '{"images": [3]}'):
        (run / "evaluation_details.json").write_text(content)
        with pytest.raises(UrdError, match="evaluat"):
            cli(again, standalone_mode=False)
    with pytest.raises(UsageError, match="must end in"):
        args = ["export", str(run), "--format", "openvino", "--out", str(tmp_path / "m.bin")]
        cli(args, standalone_mode=False)
