"""Backbones as the rest of the house sees them: registry, description, normalisation."""

from __future__ import annotations

import sys
from dataclasses import replace

import pytest
import torch
from conftest import TINY

from urd.backbones import registry
from urd.backbones.builtin import BUILTIN, BuiltinBackbone
from urd.backbones.encoder import Normalisation, has_signed_levels
from urd.backbones.registry import backbone_of
from urd.backbones.timm_backbone import TimmBackbone
from urd.errors import UrdError, UsageError
from urd.networks.student import Student, initialise
from urd.networks.variants import VARIANTS

SIGNED = "convnext_atto.d2_in1k"


def test_a_family_claims_its_tags_and_timm_has_the_rest():
    assert isinstance(backbone_of(BUILTIN), BuiltinBackbone)
    assert isinstance(backbone_of(TINY), TimmBackbone)
    assert registry.FAMILIES[-1] is TimmBackbone  # it claims every tag


def test_a_new_family_is_one_class_and_one_line(monkeypatch):
    class Other(TimmBackbone):
        @classmethod
        def claims(cls, tag):
            return tag.startswith("other:")

    monkeypatch.setattr(registry, "FAMILIES", (Other, *registry.FAMILIES))
    assert isinstance(backbone_of("other:x"), Other)
    assert isinstance(backbone_of(TINY), TimmBackbone)


@pytest.fixture
def package(tmp_path, monkeypatch):
    """An installed package whose module has this text; it offers the tag `mine`."""

    def install(text: str, value: str = "my_backbones:Mine") -> None:
        (tmp_path / "my_backbones.py").write_text(text)
        facts = tmp_path / "my_backbones-1.0.dist-info"
        facts.mkdir()
        (facts / "METADATA").write_text("Metadata-Version: 2.1\nName: my-backbones\nVersion: 1.0\n")
        (facts / "entry_points.txt").write_text(f"[urd.backbones]\nmine = {value}\n")
        monkeypatch.syspath_prepend(str(tmp_path))
        monkeypatch.delitem(sys.modules, "my_backbones", raising=False)

    return install


def test_an_installed_package_adds_a_backbone(package):
    package(
        "from urd.backbones.timm_backbone import TimmBackbone\nclass Mine(TimmBackbone): pass\n"
    )
    assert type(registry.backbone_of("mine")).__module__ == "my_backbones"
    assert type(registry.backbone_of("resnet18.tv_in1k")) is TimmBackbone
    assert not isinstance(registry.backbone_of("builtin"), TimmBackbone)


@pytest.mark.parametrize(
    ("text", "said"),
    [("raise OSError('no card')", "from my_backbones:Mine: no card"), ("Mine = 3", "not a class")],
)
def test_a_package_that_cannot_be_loaded_is_named(package, text, said):
    package(text)
    with pytest.raises(UrdError, match=said):
        registry.backbone_of("mine")
    assert type(registry.backbone_of("resnet18.tv_in1k")) is TimmBackbone  # not its concern


def test_levels_of_another_size_than_their_stages_are_refused(monkeypatch):
    backbone = registry.backbone_of(TINY, "none")
    encoder = backbone.build()
    first, *others = encoder.pyramid.stages
    encoder.pyramid = replace(encoder.pyramid, stages=(replace(first, channels=3), *others))
    monkeypatch.setattr(backbone, "build", lambda: encoder)
    with pytest.raises(UsageError, match=r"gives levels of .* need \[\(3, 16, 16\)"):
        backbone.load(torch.Generator())


def test_preparation_is_of_built_in_weights_only():
    assert backbone_of(BUILTIN).images_to_prepare(256, 256) == 240
    assert backbone_of(TINY).images_to_prepare(256, 256) == 0
    expert = backbone_of(TINY, "none").load(torch.Generator())
    before = {name: value.clone() for name, value in expert.state_dict().items()}
    backbone_of(TINY, "none").prepare(expert, None, torch.zeros(2, 3, 64, 64, dtype=torch.uint8))
    assert all(torch.equal(before[n], v) for n, v in expert.state_dict().items())


def test_identity_tells_weights_apart(tmp_path, weights_file):
    assert backbone_of(TINY).identity(teacher_learns=True) == "auto"
    assert backbone_of(BUILTIN, "none").identity(teacher_learns=True) == "none"
    of_file = backbone_of(TINY, str(weights_file)).identity(teacher_learns=False)
    assert len(of_file) == 64 and of_file == backbone_of(BUILTIN, str(weights_file)).identity(
        teacher_learns=True
    )
    built_in = [backbone_of(BUILTIN).identity(teacher_learns=learns) for learns in (True, False)]
    assert built_in[0] != built_in[1]


def test_normalisation_is_in_float32_and_in_no_file():
    encoder = backbone_of(TINY, "none").load(torch.Generator().manual_seed(0)).eval()
    assert not [name for name in encoder.state_dict() if "normalisation" in name]
    encoder.bfloat16()
    assert encoder.normalisation.mean.dtype == encoder.normalisation.std.dtype == torch.float32
    assert encoder.network_input(torch.rand(1, 3, 64, 64)).dtype == torch.bfloat16
    assert encoder.to("meta").normalisation.mean.is_meta


def test_normalisation_by_hand():
    mean, std = (0.1, 0.2, 0.3), (0.5, 0.25, 2.0)
    image = torch.rand(2, 3, 4, 5, generator=torch.Generator().manual_seed(0))
    found = Normalisation(mean, std)(image)
    for channel in range(3):
        expected = (image[:, channel] - mean[channel]) / std[channel]
        assert torch.allclose(found[:, channel], expected)


@pytest.mark.parametrize(("tag", "signed"), [(TINY, False), (BUILTIN, False), (SIGNED, True)])
def test_signed_levels_are_seen_and_restored_by_linear_heads(tag, signed):
    random = torch.Generator().manual_seed(0)
    encoder = backbone_of(tag, "none").load(random)
    assert has_signed_levels(encoder) == encoder.pyramid.signed == signed
    student = Student(encoder.pyramid, VARIANTS["urd"].injection)
    initialise(student, random)
    restored = student.eval()(encoder.eval()(torch.rand(1, 3, 64, 64, generator=random)))
    assert any(bool((level < 0).any()) for level in restored) == signed
    heads = [name for name in student.state_dict() if ".head_" in name]
    assert bool(heads) == signed
