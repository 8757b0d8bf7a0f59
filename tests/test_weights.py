"""Weight files: accepted forms, refusals that name the tensors, download from a local hub."""

from __future__ import annotations

import hashlib
import pickle
import urllib.error
import urllib.request
from email.message import Message

import pytest
import timm
import torch
from conftest import SHARED, TINY
from safetensors.torch import load_file, save_file

from urd.backbones import builtin, hub, timm_backbone
from urd.backbones.builtin import BUILTIN
from urd.backbones.registry import backbone_of, choose_backbone
from urd.backbones.timm_backbone import TimmBackbone
from urd.backbones.weights import fingerprint
from urd.config import FitConfig
from urd.doctor import doctor
from urd.errors import UrdError, UsageError
from urd.training import fit

GENERATOR = torch.Generator().manual_seed(0)


@pytest.fixture
def state(weights_file):
    return load_file(weights_file)


def test_pth_nested_and_prefixed_is_the_same_as_safetensors(state, weights_file, tmp_path):
    nested = tmp_path / "nested.pth"
    torch.save({"state_dict": {f"module.{n}": t for n, t in state.items()}, "epoch": 3}, nested)
    a = backbone_of(TINY, str(weights_file)).load(GENERATOR)
    b = backbone_of(TINY, str(nested)).load(GENERATOR)
    assert fingerprint(a) == fingerprint(b)


def test_classifier_and_stage_4_may_be_there_or_not(tmp_path):
    whole = timm.create_model("resnet18", pretrained=False).state_dict()
    stages = {n: t for n, t in whole.items() if not n.startswith(("layer4", "fc"))}
    save_file(whole, tmp_path / "whole.safetensors")
    save_file(stages, tmp_path / "stages.safetensors")
    prints = {
        fingerprint(backbone_of("resnet18", str(tmp_path / f"{name}.safetensors")).load(GENERATOR))
        for name in ("whole", "stages")
    }
    assert len(prints) == 1


@pytest.mark.parametrize("change", ["missing", "wrong shape", "unknown", "NaN"])
def test_any_other_mismatch_names_the_tensor(state, tmp_path, change):
    name = "layer1.0.conv1.weight"
    if change == "missing":
        del state[name]
    elif change == "wrong shape":
        state[name] = torch.zeros(1, 2, 3, 3)
    elif change == "unknown":
        name = "extra.weight"
        state[name] = torch.zeros(3)
    else:
        state[name] = torch.full_like(state[name], float("nan"))
    save_file(state, tmp_path / "w.safetensors")
    with pytest.raises(UsageError) as error:
        backbone_of(TINY, str(tmp_path / "w.safetensors")).load(GENERATOR)
    assert change in str(error.value)
    assert name in str(error.value)


def test_weights_of_another_architecture_are_refused(tmp_path):
    save_file(timm.create_model("resnet18").state_dict(), tmp_path / "w.safetensors")
    with pytest.raises(UsageError, match=r"do not fit backbone.*more"):
        backbone_of("resnet50.tv_in1k", str(tmp_path / "w.safetensors")).load(GENERATOR)


class Payload:
    def __reduce__(self):
        return (print, ("unpickled",))


@pytest.mark.parametrize("kind", ["pickle", "text", "cut", "absent", "empty"])
def test_foreign_files_are_refused_and_never_unpickled(tmp_path, capsys, weights_file, kind):
    path = tmp_path / ("w.safetensors" if kind == "cut" else "w.pth")
    if kind == "pickle":
        path.write_bytes(pickle.dumps({"a": Payload()}))
    elif kind == "text":
        path.write_text("not weights")
    elif kind == "cut":
        path.write_bytes(weights_file.read_bytes()[:5000])
    elif kind == "empty":
        torch.save({}, path)
    with pytest.raises(UsageError, match=path.name):
        backbone_of(TINY, str(path)).load(GENERATOR)
    assert "unpickled" not in capsys.readouterr().out


def test_untrained_encoder_is_seeded_and_leaves_the_global_generator_alone():
    before = torch.random.get_rng_state()
    prints = [
        fingerprint(backbone_of(TINY, "none").load(torch.Generator().manual_seed(s)))
        for s in (1, 1, 2)
    ]
    assert prints[0] == prints[1] != prints[2]
    assert torch.equal(before, torch.random.get_rng_state())


def test_no_network_is_one_line_that_says_what_to_do(monkeypatch):
    def refuse(*args, **kwargs):
        raise OSError("no network")

    monkeypatch.setattr(urllib.request, "urlopen", refuse)
    monkeypatch.setattr(TimmBackbone, "on_this_machine", lambda backbone: False)
    with pytest.raises(UrdError, match=r"resolve/main/model.safetensors.*--weights FILE"):
        backbone_of("resnet18.tv_in1k", "auto").load(GENERATOR)


def test_download_by_timm_from_a_local_file(monkeypatch, tmp_path):
    """The real path through timm: only the transfer itself is replaced by a local file."""
    whole = timm.create_model(TINY, pretrained=False).state_dict()
    save_file(whole, tmp_path / "model.safetensors")
    monkeypatch.setattr(TimmBackbone, "on_this_machine", lambda backbone: True)
    monkeypatch.setattr(
        "timm.models._hub.hf_hub_download", lambda *a, **k: str(tmp_path / "model.safetensors")
    )
    encoder = backbone_of(TINY, "auto").load(GENERATOR)
    assert torch.equal(encoder.body.state_dict()["conv1.0.weight"], whole["conv1.0.weight"])


@pytest.mark.skipif(not SHARED.is_dir(), reason="no ../shared with real weights")
def test_real_resnet18():
    file = SHARED / "weights" / "resnet18.tv_in1k.stages1-3.safetensors"
    encoder = backbone_of("resnet18.tv_in1k", str(file)).load(GENERATOR)
    first = encoder.body.state_dict()["conv1.weight"].flatten()[:4]
    expected = torch.tensor([-0.010419, -0.006136, -0.001810, 0.074841])
    torch.testing.assert_close(first, expected, atol=1e-6, rtol=0)


def test_names_of_a_whole_model_are_found_in_a_flattened_one(tmp_path):
    tag = "convnext_atto.d2_in1k"
    whole = timm.create_model(tag, pretrained=False).state_dict()
    save_file(whole, tmp_path / "w.safetensors")
    encoder = backbone_of(tag, str(tmp_path / "w.safetensors")).load(GENERATOR)
    assert torch.equal(encoder.body.state_dict()["stem_0.weight"], whole["stem.0.weight"])


@pytest.fixture
def shipped(monkeypatch, tmp_path):
    """A built-in backbone with drawn weights, in the place of the released one."""
    encoder = backbone_of(BUILTIN).build()
    file = tmp_path / "builtin.safetensors"
    halves = {n: t.half() if t.dim() == 4 else t for n, t in encoder.weights().items()}
    save_file(halves, file)
    monkeypatch.setattr(builtin, "FILE", file)
    monkeypatch.setattr(builtin, "SHA256", hashlib.sha256(file.read_bytes()).hexdigest())
    return file


def test_builtin_weights_are_checked_and_in_single_precision(shipped):
    encoder = backbone_of(BUILTIN, "auto").load(GENERATOR)
    assert all(p.dtype == torch.float32 for p in encoder.parameters())
    assert torch.equal(encoder.body.conv1.weight, load_file(shipped)["conv1.weight"].float())
    shipped.write_bytes(shipped.read_bytes()[:-1] + b"x")
    with pytest.raises(UrdError, match="damaged"):
        backbone_of(BUILTIN, "auto").load(GENERATOR)


@pytest.mark.parametrize(("code", "reachable"), [(404, True), (403, False), (503, False)])
def test_a_hub_that_refuses_is_none(monkeypatch, code, reachable):
    def answer(request, timeout):
        raise urllib.error.HTTPError(request.full_url, code, "", Message(), None)

    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    monkeypatch.setattr(urllib.request, "urlopen", answer)
    assert hub.hub_reachable() == reachable
    monkeypatch.setattr(urllib.request, "urlopen", None)  # a call would fail
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert not hub.hub_reachable()


def test_of_several_backbones_the_first_whose_weights_can_be_had(shipped, monkeypatch):
    monkeypatch.setattr(timm_backbone, "hub_reachable", lambda: False)
    monkeypatch.setattr(
        timm_backbone, "cached_weights_available", lambda tag: tag == "resnet34.tv_in1k"
    )

    def choose(names, *weights):
        return choose_backbone(FitConfig(backbone=names).backbone, *weights).tag

    assert choose("resnet18.tv_in1k") == "resnet18.tv_in1k"  # alone it is not replaced
    assert choose("resnet18.tv_in1k,builtin") == BUILTIN
    assert choose("resnet18.tv_in1k, resnet34.tv_in1k,builtin") == "resnet34.tv_in1k"
    assert choose("resnet18.tv_in1k,builtin", "file.safetensors") == "resnet18.tv_in1k"
    monkeypatch.setattr(timm_backbone, "hub_reachable", lambda: True)
    assert choose("resnet18.tv_in1k,builtin") == "resnet18.tv_in1k"
    with pytest.raises(UsageError, match="give at least one name"):
        choose(" ,")


@pytest.mark.parametrize("other", [BUILTIN, "resnet34.tv_in1k"])
def test_only_in_place_of_the_builtin_one_are_imagenet_weights_recommended(
    shipped, monkeypatch, other
):
    said = []
    monkeypatch.setattr(fit, "note", said.append)
    monkeypatch.setattr(timm_backbone, "hub_reachable", lambda: False)
    monkeypatch.setattr(timm_backbone, "cached_weights_available", lambda tag: "34" in tag)
    fit._chosen(FitConfig(backbone=f"resnet18.tv_in1k,{other}"))
    assert f"urd uses {other}." in said[0]
    assert ("more accurate" in said[0]) == (other == BUILTIN)


def test_doctor_says_which_backbones_are_usable_and_why_not(shipped, monkeypatch):
    monkeypatch.setattr(urllib.request, "urlopen", None)  # a call would fail
    monkeypatch.setattr(timm_backbone, "cached_weights_available", lambda tag: "50" in tag)
    found = {b.tag: b for b in doctor(["nonsense", "resnet18"]).backbones}
    assert "/timm/resnet18.a1_in1k/resolve" in found["resnet18"].reason  # timm's choice
    assert found[BUILTIN].usable and found["wide_resnet50_2.tv_in1k"].usable
    assert "--weights FILE" in found["resnet18.tv_in1k"].reason
    assert "unknown backbone" in found["nonsense"].reason and not found["nonsense"].usable
    shipped.unlink()
    assert not doctor().backbones[0].usable


def test_the_doctors_reasons_fit_the_terminal_but_for_an_address(urd, monkeypatch):
    monkeypatch.setenv("COLUMNS", "70")
    monkeypatch.setattr(timm_backbone, "cached_weights_available", lambda tag: False)
    printed = urd("doctor")[1].splitlines()
    reasons = [line.strip() for line in printed if line.startswith("    ")]
    assert any(line.startswith("https://") for line in reasons)
    assert all(len(line) <= 66 or line.startswith("https://") for line in reasons)
