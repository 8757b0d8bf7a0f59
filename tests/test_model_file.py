"""Model files by somebody else: damaged, forged or hostile ones are refused in one line."""

from __future__ import annotations

import contextlib
import copy
import json
import random
import struct

import numpy as np
import pytest
import torch
from conftest import TINY, picture, put
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from urd import Detector
from urd.backbones.registry import backbone_of
from urd.backbones.timm_backbone import TimmBackbone
from urd.config import FitConfig
from urd.engines.torch_engine import TorchEngine
from urd.errors import UrdError
from urd.inspection.calibration import Calibration
from urd.model.header import ModelHeader
from urd.model.schema import DataFacts, EncoderFacts
from urd.networks.detector_network import DetectorNetwork
from urd.networks.student import Student
from urd.networks.variants import VARIANTS
from urd.system import activation_memory as memory
from urd.system.tensor_file import sign
from urd.system.versions import current_versions


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """A model file of drawn weights, and its bytes."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        encoder = backbone_of(TINY).build()
        student = Student(encoder.pyramid, VARIANTS["urd"].injection, "slim")
    header = ModelHeader(
        FitConfig(backbone=TINY, weights="none", student="slim", image_size=(64, 64)),
        (0.5, 0.5, 0.5),
        (0.25, 0.25, 0.25),
        (0.1, 0.9),
        Calibration((0.1, 0.2, 0.3), (0.1, 0.2, 0.3), (0.05, 0.1, 0.2), "a test"),
        synthetic=(0.4, 0.5),
        validation={"synthetic_image_auroc": 0.9},
        data=DataFacts(train_images=3, foreground="none"),
        encoder=EncoderFacts(tag=TINY, pretrained=False),
        versions=current_versions(),
        roi=np.ones((64, 64), bool),
    )
    engine = TorchEngine(DetectorNetwork(encoder, student), header, torch.device("cpu"))
    path = tmp_path_factory.mktemp("model") / "model.safetensors"
    Detector(engine, header).save(path)
    return path.read_bytes()


@pytest.fixture
def path(tmp_path):
    return tmp_path / "model.safetensors"


def header_of(whole):
    (length,) = struct.unpack("<Q", whole[:8])
    return json.loads(whole[8 : 8 + length]), whole[8 + length :]


def with_header(raw, body):
    raw = json.dumps(raw, separators=(",", ":")) if not isinstance(raw, str) else raw
    raw = raw.encode("utf-8", "surrogatepass")
    return struct.pack("<Q", len(raw)) + raw + body


def with_content(whole, change):
    """The same file with other content of its header, signed anew."""
    raw, body = header_of(whole)
    content = json.loads(raw["__metadata__"]["urd_model"])
    raw["__metadata__"]["urd_model"] = json.dumps(change(content) or content)
    return with_header(raw, body)


def refused(path, content, signed=True):
    path.write_bytes(content)
    if signed:
        sign(path)
    with pytest.raises(UrdError) as caught:
        Detector.load(path, "cpu")
    said = str(caught.value).replace(str(path), "")
    assert said.isprintable() and len(said) < 400
    return said


def test_every_changed_byte_is_refused(model, path):
    draw = random.Random(0)
    (length,) = struct.unpack("<Q", model[:8])
    places = [*range(8), *range(8, 8 + length, 97), length + 7, length + 8, len(model) - 1]
    places += [draw.randrange(len(model)) for _ in range(60)]
    digest = model.index(b"file_sha256")
    for place in [*places, *range(digest - 4, digest + 84, 3)]:
        changed = bytearray(model)
        changed[place] ^= 1 << draw.randrange(8)
        refused(path, bytes(changed), signed=False)


@pytest.mark.parametrize("change", ["cut", "longer", "hole", "swapped", "blank"])
def test_other_damage_is_refused(model, path, change):
    (length,) = struct.unpack("<Q", model[:8])
    body, middle = 8 + length, len(model) // 2
    end = middle + 128
    blank = bytearray(model)
    blank[blank.index(b'":{"dtype"') + 1 : blank.index(b'":{"dtype"') + 1] = b" "
    blank[:8] = struct.pack("<Q", length + 1)
    changed = {
        "cut": model[:-1],
        "longer": model + b"\0",
        "hole": model[: body + 512] + bytes(4096) + model[body + 4608 :],
        "swapped": model[:middle] + model[middle + 64 :][:64] + model[middle:][:64] + model[end:],
        "blank": bytes(blank),
    }[change]
    assert changed != model
    refused(path, changed, signed=False)


def test_a_file_of_an_older_version_is_loaded_with_a_note(model, path, capsys, shown):
    path.write_bytes(model)
    new = Detector.load(path, "cpu")
    with safe_open(path, framework="pt") as file:
        text = file.metadata()["urd_model"]
    content = json.loads(text)
    assert len(content.pop("file_sha256")) == 64
    save_file(load_file(path), path, {"urd_model": json.dumps(content)})
    old = Detector.load(path, "cpu")
    said = capsys.readouterr().err
    assert "without a checksum" in said and said.count("\n") == 1
    assert old.header.content() == new.header.content() == ModelHeader.from_json(text).content()
    image = picture(np.random.default_rng(0))
    assert old.predict(image).score == new.predict(image).score


def test_the_same_model_gives_the_same_bytes(model, path):
    path.write_bytes(model)
    Detector.load(path, "cpu").save(path)
    assert path.read_bytes() == model


WRONG = {
    "mean nan": put("mean", value=[float("nan")] * 3),
    "mean two": put("mean", value=[0.5, 0.5]),
    "mean text": put("mean", value="abc"),
    "mean outside": put("mean", value=[2.0, 0.5, 0.5]),
    "std zero": put("std", value=[0.0, 1, 1]),
    "std inf": put("std", value=[float("inf"), 1, 1]),
    "heat falls": put("heat_range", value=[1.0, 0.5]),
    "heat huge": put("heat_range", value=[0, 10**3000]),
    "scores nan": put("calibration", "scores", value=[float("nan")] * 3),
    "scores fall": put("calibration", "scores", value=[0.3, 0.2, 0.1]),
    "scores fewer": put("calibration", "scores", value=[0.3]),
    "scores none": put("calibration", value={"scores": [], "pixels": [], "source": ""}),
    "scores many": put("calibration", "scores", value=[0.5] * 200_000),
    "scores millions": put("calibration", "scores", value=[0.5] * 4_000_000),
    "share zero": put("calibration", "false_reject", value=0),
    "source number": put("calibration", "source", value=3),
    "calibration list": put("calibration", value=[1]),
    "data list": put("data", value=["train_images"]),
    "data nested": put("data", "foreground", value={"a": [[]]}),
    "data count": put("data", "train_images", value="3"),
    "data text": put("data", "foreground", value="x" * 10_000),
    "data per image": put("data", "region_of_interest", value=3),
    "versions": put("versions", value={"urd": 3}),
    "validation": put("validation", value={"synthetic_image_auroc": "high"}),
    "synthetic": put("synthetic", value=[[0.5]]),
    "encoder": put("encoder", "pretrained", value="yes\x1b[31m"),
    "unknown key": put("surprise\n", value=1),
    "config unknown": put("config", "x" * 5000, value=1),
    "config number": put("config", "image_size", value=[10**3000, 32]),
    "config float": put("config", "iterations", value=2.5),
    "config nested": put("config", "seed", value=[[[[[]]]]]),
    "config texts": put("config", "backbone", value="resnet18\0\n" * 1000),
    "config other backbone": put("config", "backbone", value="resnet18"),
    "config unknown backbone": put("config", "backbone", value="hf-hub:a/b"),
    "config list": put("config", value=[]),
    "format": put("format", value=9),
    "surrogate": put("calibration", "source", value="\ud800"),
    "no content": lambda content: [content],
    "missing": lambda content: {k: v for k, v in content.items() if k != "std"},
}


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_header_is_refused_though_its_checksum_is_right(model, path, name):
    refused(
        path, with_content(model, WRONG[name]), signed=name not in ("no content", "scores millions")
    )


@pytest.mark.parametrize(
    "text", ["[" * 100_000, '{"format":2,"format":2}', "", "null", "3", '"' + "x" * 9999]
)
def test_a_header_that_is_no_header_is_refused(model, path, text):
    raw, body = header_of(model)
    raw["__metadata__"]["urd_model"] = text
    refused(path, with_header(raw, body), signed=False)


def test_tensors_are_those_of_the_networks(model, path):
    path.write_bytes(model)
    tensors = load_file(path)
    with safe_open(path, framework="pt") as file:
        texts = file.metadata()
    name = next(n for n, t in tensors.items() if t.dim() == 4)
    for changed in (
        {n: t for n, t in tensors.items() if n != name},
        {**tensors, "one\ntoo many" * 500: torch.zeros(1)},
        {**tensors, name: tensors[name].half()},
        {**tensors, name: tensors[name][:1].clone()},
        {**tensors, name: torch.full_like(tensors[name], float("inf"))},
        {**tensors, "region_of_interest": torch.ones(32, 64, dtype=torch.bool)},
        {**tensors, "region_of_interest": torch.ones(64, 64)},
    ):
        save_file(changed, path, texts)
        refused(path, path.read_bytes())
    save_file(tensors, path, {**texts, "more": "texts"})
    refused(path, path.read_bytes())


def test_a_small_file_allocates_no_large_network(model, path, monkeypatch):
    """Of this backbone alone the encoder takes 3 GB."""
    built = []

    def recording(backbone):
        encoder = build(backbone)
        built.append(next(encoder.parameters()).is_meta)
        return encoder

    build = TimmBackbone.build
    monkeypatch.setattr(TimmBackbone, "build", recording)
    said = refused(path, with_content(model, put("config", "backbone", value="convnext_xxlarge")))
    assert "tensor" in said and built == [True]


def test_an_image_size_that_does_not_fit_into_memory_is_refused(model, path, monkeypatch):
    raw, body = header_of(with_content(model, put("config", "image_size", value=[4096, 4096])))
    at = raw.pop("region_of_interest")["data_offsets"]
    body = body[: at[0]] + body[at[1] :]
    for entry in raw.values():
        if "data_offsets" in entry and entry["data_offsets"][0] >= at[1]:
            entry["data_offsets"] = [place - at[1] + at[0] for place in entry["data_offsets"]]
    monkeypatch.setattr(memory, "free_memory", lambda device: 10**9)
    said = refused(path, with_header(raw, body))
    assert "4096x4096 needs about" in said and "1.0 GB are free" in said
    monkeypatch.setattr(memory, "free_memory", lambda device: 10**11)
    assert Detector.load(path, "cpu").config.image_size == (4096, 4096)


def test_peak_memory_is_that_of_the_maps_alive_together():
    network = torch.nn.Sequential(
        torch.nn.Conv2d(3, 8, 1), torch.nn.ReLU(), torch.nn.Conv2d(8, 2, 1), torch.nn.ReLU()
    ).to("meta")
    # The image, and at the widest place two maps of 8 channels.
    assert memory.peak_bytes(network, (32, 64)) == 4 * 32 * 64 * (3 + 8 + 8)


def test_a_header_that_could_not_be_read_back_is_not_written(model, path):
    path.write_bytes(model)
    detector = Detector.load(path, "cpu")
    detector.header.validation["synthetic_pixel_ap"] = float("nan")
    with pytest.raises(UrdError, match="cannot be written: validation"):
        detector.save(path)
    assert path.read_bytes() == model


VALUES = [
    None, True, 0, -1, 1.5, -0.0, 1e-320, 1e308, 10**399, "", "x" * 5000, "\ud800", "\udcff", "\0",
    [], {}, [1e9, -1e9, 0], [[]], {"a": 1}, [0.1] * 3, "none", "builtin", "resnet18.\n", 2**63,
]  # fmt: skip


def mutated(draw, whole):
    """One field of the header replaced or removed, or a few bytes of the tensors."""
    if draw.random() < 0.3:
        changed = bytearray(whole)
        start = struct.unpack("<Q", whole[:8])[0] + 8
        for _ in range(draw.choice((1, 3, 200))):
            changed[draw.randrange(start, len(whole))] = draw.randrange(256)
        return bytes(changed)
    raw, body = header_of(whole)
    if draw.random() < 0.2:
        entry = raw[draw.choice([name for name in raw if name != "__metadata__"])]
        entry[draw.choice(list(entry))] = draw.choice([*VALUES, "F16", "BOOL", [1], [0, 4]])
        return with_header(raw, body)

    def change(content):
        inner = content
        while True:
            key = draw.choice(list(inner))
            if isinstance(inner[key], dict) and inner[key] and draw.random() < 0.8:
                inner = inner[key]
                continue
            inner[key] = copy.deepcopy(draw.choice(VALUES))
            return

    return with_content(whole, change)


def test_mutated_files_are_refused_or_work(model, path):
    """With the checksum made anew what lies behind it must hold; without, nothing is loaded."""
    draw, loaded, image = random.Random(1), 0, picture(np.random.default_rng(0))
    for index in range(100):
        content = mutated(draw, model)
        if index % 2:
            if content != model:
                refused(path, content, signed=False)
            continue
        path.write_bytes(content)
        with contextlib.suppress(ValueError):  # the mutation may have destroyed its place
            sign(path)
        try:
            prediction = Detector.load(path, "cpu").predict(image)
        except UrdError as error:
            assert str(error).replace(str(path), "").isprintable()
            continue
        loaded += 1
        assert np.isfinite(prediction.score)
        assert prediction.verdict in ("OK", "REVIEW", "NG", None)
    assert loaded > 5
