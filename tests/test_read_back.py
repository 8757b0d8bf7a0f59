"""What a run folder holds, read back damaged or changed: one line, or the same result as before."""

from __future__ import annotations

import copy
import dataclasses
import io
import json
import random
import zipfile

import pytest
import torch
from conftest import TINY, assert_same_weights, put
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from urd import Detector
from urd.backbones.registry import backbone_of
from urd.backbones.weights import read_weights
from urd.errors import UrdError, UsageError
from urd.evaluation.records import read_details
from urd.results.report import write_report
from urd.suites.job import run_job
from urd.system.tensor_file import sign
from urd.training.validation import SyntheticValidation


def one_line(caught):
    said = str(caught.value)
    return said.isprintable() and len(said) < 600


@pytest.fixture
def stopped(data, tiny_config, tmp_path, monkeypatch):
    """A run whose training is done, stopped before its model was written."""

    def stop(*args, **kwargs):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(SyntheticValidation, "score", stop)
        with pytest.raises(KeyboardInterrupt):
            Detector.fit(data, tmp_path / "run", config=dataclasses.replace(tiny_config, seed=3))
    return tmp_path / "run"


def changed_header(path, **values):
    """Other content in a checkpoint's header, under a checksum that fits."""
    with safe_open(path, framework="pt") as file:
        ((name, text),) = file.metadata().items()
    save_file(load_file(path), path, {name: json.dumps({**json.loads(text), **values})})
    sign(path)


def test_a_damaged_checkpoint_is_refused_and_a_whole_one_goes_on(
    stopped, data, tiny_config, tmp_path
):
    whole = {p: p.read_bytes() for p in (stopped / "checkpoint").iterdir()}
    state, expert = (stopped / "checkpoint" / f"{n}.safetensors" for n in ("state", "expert"))
    draw = random.Random(0)
    tensors = load_file(state)
    step = next(name for name in tensors if name.endswith(".step"))
    with safe_open(state, framework="pt") as file:
        texts = file.metadata()

    def flip(path):
        content = bytearray(whole[path])
        content[draw.randrange(len(content))] ^= 1 << draw.randrange(8)
        path.write_bytes(content)

    def write(content):
        save_file(content, state, texts)
        sign(state)

    damages = [
        *[lambda p=p: flip(p) for p in (state, expert) for _ in range(4)],
        *[lambda p=p: p.write_bytes(whole[p][:-100]) for p in (state, expert)],
        *[lambda v=v: changed_header(state, iteration=v) for v in (-5, 2.5, 0, "4", 10**300, None)],
        lambda: changed_header(state, settings=[]),
        lambda: changed_header(state, settings={"variant\n": 1}),
        lambda: changed_header(state, fingerprint=3),
        lambda: changed_header(state, surprise=1),
        lambda: write({n: t for n, t in tensors.items() if n != step}),
        lambda: write({**tensors, step: torch.tensor(-1.0)}),
        lambda: write({**tensors, step: torch.tensor(float("nan"))}),
        lambda: write({**tensors, step: torch.zeros(3)}),
        lambda: write({**tensors, "more": torch.zeros(3)}),
        lambda: save_file({"a": torch.zeros(3)}, expert),
        lambda: expert.unlink(),
        lambda: state.write_bytes(b"{}"),
    ]
    for damage in damages:
        damage()
        with pytest.raises(UrdError) as caught:
            Detector.fit(data, stopped, resume=True)
        assert one_line(caught)
        assert not (stopped / "model.safetensors").exists()
        for path, content in whole.items():
            path.write_bytes(content)
    Detector.fit(data, stopped, resume=True)
    config = dataclasses.replace(tiny_config, seed=3)
    Detector.fit(data, tmp_path / "in one go", config=config)
    assert_same_weights(stopped, tmp_path / "in one go")


def test_a_checkpoint_of_an_older_version_goes_on_with_a_note(stopped, data, capsys, shown):
    for name in ("state", "expert"):
        path = stopped / "checkpoint" / f"{name}.safetensors"
        with safe_open(path, framework="pt") as file:
            texts = {key: json.loads(text) for key, text in file.metadata().items()}
        for content in texts.values():
            del content["file_sha256"]
        texts = {key: json.dumps(content) for key, content in texts.items() if content}
        save_file(load_file(path), path, texts)
    Detector.fit(data, stopped, resume=True)
    assert "without a checksum" in capsys.readouterr().err
    assert (stopped / "model.safetensors").exists()


@pytest.fixture(scope="module")
def evaluated(tmp_path_factory, weights_file):
    """A run folder with an evaluation, and what its three files hold."""
    from conftest import TINY, picture, save
    from numpy.random import default_rng

    rng, root = default_rng(0), tmp_path_factory.mktemp("evaluated")
    for place in ("train/good", "test/good", "test/square"):
        for index in range(6):
            save(picture(rng), root / "data" / place / f"{index}.png")
    settings = {"backbone": TINY, "weights": str(weights_file), "image_size": 64, "device": "cpu"}
    run = root / "run"
    detector = Detector.fit(root / "data", run, iterations=20, batch_size=2, **settings)
    detector.evaluation(root / "data", resamples=0).write(run)
    return run, {name: (run / name).read_text() for name in NAMES}


NAMES = ("evaluation.json", "evaluation_details.json", "metrics.jsonl")


ROC = ("curves", "roc")
WRONG = {
    "auroc text": (0, put("image_auroc", value="high")),
    "auroc above": (0, put("image_auroc", value=1.5)),
    "auroc nested": (0, put("image_auroc", value=[[1]])),
    "one end": (0, put("image_auroc_low", value=0.5)),
    "defect": (0, put("image_auroc:square", value="x")),
    "count": (0, put("n_good", value=-1)),
    "other count": (0, put("n_good", value=3)),
    "no data": (0, lambda content: content.pop("data")),
    "protocol": (0, put("protocol", value=None)),
    "surprise": (0, put("surprise", value={"a": []})),
    "images none": (1, put("images", value=[])),
    "images dictionary": (1, put("images", value={})),
    "image text": (1, put("images", 0, value="x")),
    "score none": (1, put("images", 0, "score", value=None)),
    "score text": (1, put("images", 0, "score", value="1")),
    "score huge": (1, put("images", 0, "score", value=1e300)),
    "verdict": (1, put("images", 0, "verdict", value="FINE")),
    "error with score": (1, put("images", 0, "verdict", value="ERROR")),
    "path": (1, put("images", 0, "path", value="a\0b")),
    "defect list": (1, put("images", 0, "defect", value=["good"])),
    "curve text": (1, put(*ROC, value="x")),
    "curve lengths": (1, put(*ROC, 0, value=[0.0, 1.0])),
    "curve falls": (1, put(*ROC, value=[[0, 0.5, 0.2, 1], [0, 0, 0, 1]])),
    "curve outside": (1, put(*ROC, value=[[0, 2], [0, 1]])),
    "curve empty": (1, put(*ROC, value=[[], []])),
    "no curves": (1, lambda content: content.pop("curves")),
}
TEXTS = [
    "",
    "null",
    "[]",
    "3",
    "{}",
    "[" * 100_000,
    '{"a": NaN}',
    "{",
    '{"a": 1, "a": 2}',
    "\ufeff",
]


@pytest.mark.parametrize("name", WRONG)
def test_a_changed_evaluation_is_one_line_in_the_report(evaluated, name):
    run, whole = evaluated
    index, change = WRONG[name]
    content = json.loads(whole[NAMES[index]])
    change(content)
    refused(run, whole, NAMES[index], json.dumps(content))


@pytest.mark.parametrize("name", NAMES)
def test_damaged_texts_are_one_line_in_the_report(evaluated, name):
    run, whole = evaluated
    for text in TEXTS:
        if name == "metrics.jsonl":
            text = f"{text}\n{whole[name]}"
        refused(run, whole, name, text)
    refused(run, whole, name, b"\xff\xfe" + whole[name].encode())
    if name == "evaluation_details.json":
        (run / name).unlink()
        refused(run, whole, name, None)


def refused(run, whole, name, content):
    try:
        if content is not None:
            content = content if isinstance(content, bytes) else content.encode()
            (run / name).write_bytes(content)
        with pytest.raises(UrdError, match=name.split(".")[0]) as caught:
            write_report(run)
        assert one_line(caught) and not (run / "report.html").exists()
    finally:
        (run / name).write_text(whole[name])


@pytest.mark.parametrize(
    "line",
    ['{"iteration": -1}', '{"iteration": 3, "loss": {"student": "x"}, "images_per_second": 1}',
     '{"iteration": 3, "loss": {"student": 1}}', '{"iteration": 3, "loss": [1]}', "[]",
     '{"iteration": 3, "loss": {"other": 1}, "images_per_second": 1}'],
)  # fmt: skip
def test_a_damaged_training_curve_is_one_line(evaluated, line):
    run, whole = evaluated
    refused(run, whole, "metrics.jsonl", whole["metrics.jsonl"] + line + "\n")


def test_a_last_line_that_a_kill_has_cut_is_left_out(evaluated):
    run, whole = evaluated
    (run / "metrics.jsonl").write_text(whole["metrics.jsonl"] + '{"iteration": 1')
    write_report(run, run / "cut.html")
    (run / "metrics.jsonl").write_text(whole["metrics.jsonl"])


def test_images_that_were_not_judged_are_taken(evaluated):
    run, whole = evaluated
    details = json.loads(whole["evaluation_details.json"])
    row = {"path": "a.png", "defect": "good", "score": None, "verdict": "ERROR", "reason": "cut"}
    details["images"].append(row)
    (run / "evaluation_details.json").write_text(json.dumps(details))
    assert read_details(run).images[-1].row() == row
    write_report(run, run / "not judged.html")
    assert "a.png: cut" in (run / "not judged.html").read_text()
    (run / "evaluation_details.json").write_text(whole["evaluation_details.json"])


def test_mutated_evaluations_are_refused_or_shown(evaluated, monkeypatch):
    run, whole = evaluated
    detector = Detector.load(run, "cpu")
    monkeypatch.setattr(Detector, "load", lambda *args: detector)
    draw, shown = random.Random(0), 0
    values = [None, True, -1, 0, 1, 0.5, 1e9, 1e308, "", "x" * 5000, [], {}, [0.0, 1.0], "OK", "NG"]
    for _ in range(50):
        name = draw.choice(NAMES[:2])
        content = json.loads(whole[name])
        inner = content
        while True:
            key = draw.choice(list(inner) if isinstance(inner, dict) else range(len(inner)))
            if not isinstance(inner[key], dict | list) or not inner[key] or draw.random() < 0.2:
                break
            inner = inner[key]
        inner[key] = copy.deepcopy(draw.choice(values))
        (run / name).write_text(json.dumps(content))
        try:
            write_report(run, run / "mutated.html")
            shown += 1
        except UrdError as error:
            assert str(error).isprintable()
        (run / name).write_text(whole[name])
    assert 0 < shown < 50


@pytest.mark.parametrize(
    "order",
    ["", "[", "[]", "{}", '{"data_path": 3, "options": {}, "resamples": 0, "identity": {}}',
     '{"data_path": "x", "options": {"config": 1}, "resamples": 0, "identity": {}}'],
)  # fmt: skip
def test_a_damaged_order_of_a_suite_is_one_line(tmp_path, order):
    (tmp_path / "job.json").write_text(order)
    with pytest.raises(UrdError, match="is not an order of a suite") as caught:
        run_job(tmp_path)
    assert one_line(caught)


def odd_weights(tensors):
    first = next(name for name, value in tensors.items() if value.dim() == 4)
    name, value = first, tensors[first]
    return {
        "sparse": {**tensors, name: value.to_sparse()},
        "meta": {**tensors, name: value.to("meta")},
        "quantised": {**tensors, name: torch.quantize_per_tensor(value, 0.1, 0, torch.qint8)},
        "complex": {**tensors, name: value.to(torch.complex64)},
        "whole numbers": {**tensors, name: value.long()},
        "nan": {**tensors, name: value * float("nan")},
        "long name": {**tensors, "x\n" * 5000: value},
        "number as name": {10**5000: value},
        "list": [value],
        "text": "text",
    }


def test_odd_weight_files_are_one_line(weights_file, tmp_path):
    path = tmp_path / "odd.pth"
    for content in odd_weights(load_file(weights_file)).values():
        torch.save(content, path)
        with pytest.raises(UsageError) as caught:
            backbone_of(TINY, str(path)).load(torch.Generator())
        assert one_line(caught)


def test_a_weight_file_that_unpacks_to_far_more_is_not_read(weights_file, tmp_path):
    content = io.BytesIO()
    torch.save({"a": torch.zeros(10**6)}, content)
    with zipfile.ZipFile(content) as old, zipfile.ZipFile(tmp_path / "packed.pth", "w") as new:
        for part in old.namelist():
            new.writestr(part, old.read(part), zipfile.ZIP_DEFLATED)
    with pytest.raises(UsageError, match="cannot be read as weights"):
        read_weights(tmp_path / "packed.pth")


def test_hostile_safetensors_are_one_line(tmp_path):
    path = tmp_path / "hostile.safetensors"
    for header in (
        b"{" * 1000, b'{"a":{"dtype":"F32","shape":[4],"data_offsets":[0,1]}}', b"[]", b"\xff",
        b'{"a":{"dtype":"F32","shape":[18446744073709551615,9],"data_offsets":[0,4]}}',
    ):  # fmt: skip
        for length in (len(header), 2**63, 10**8):
            path.write_bytes(length.to_bytes(8, "little") + header + bytes(4))
            with pytest.raises(UsageError) as caught:
                read_weights(path)
            assert one_line(caught)
