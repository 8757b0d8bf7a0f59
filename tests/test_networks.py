"""Shapes, counts and the equations of encoder, bottleneck, decoder and injection."""

from __future__ import annotations

import itertools
import typing

import pytest
import torch
from conftest import TINY
from torch import nn
from torch.nn import functional
from torch.utils.flop_counter import FlopCounterMode

from urd import config
from urd.backbones.builtin import ARCHITECTURE, BUILTIN
from urd.backbones.registry import backbone_of
from urd.errors import UsageError
from urd.networks.detector_network import DetectorNetwork
from urd.networks.folding import EvenMaxPool, InferenceNetworks
from urd.networks.injection import Injection, guide
from urd.networks.student import Student, initialise
from urd.networks.variants import VARIANTS

WIDE = "wide_resnet50_2.tv_in1k"
PUBLISHED = {"rd": (108.7, 60.9), "urd-skip": (144.7, 90.4), "urd": (156.5, 100.1)}


@pytest.mark.parametrize("variant", PUBLISHED)
def test_wide_resnet_counts_are_those_of_the_method(variant):
    millions, gflop = PUBLISHED[variant]
    with torch.device("meta"):
        encoder = backbone_of(WIDE).build()
        model = DetectorNetwork(encoder, Student(encoder.pyramid, VARIANTS[variant].injection))
        with FlopCounterMode(display=False) as counter, torch.no_grad():
            model.eval()(torch.zeros(1, 3, 256, 256))
    assert sum(p.numel() for p in model.parameters()) / 1e6 == pytest.approx(millions, abs=0.3)
    assert counter.get_total_flops() / 1e9 == pytest.approx(gflop, rel=0.02)


@pytest.mark.parametrize("tag", ["builtin", WIDE])
def test_a_slim_student_more_than_halves_the_operations(tag):
    flops = {}
    for size in ("full", "slim"):
        with torch.device("meta"):
            encoder = backbone_of(tag).build()
            model = DetectorNetwork(encoder, Student(encoder.pyramid, "guided", size))
            with FlopCounterMode(display=False) as counter, torch.no_grad():
                model.eval()(torch.zeros(1, 3, 256, 256))
        flops[size] = counter.get_total_flops()
    assert flops["slim"] < 0.5 * flops["full"]


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("size", [(64, 64), (64, 96)])
@pytest.mark.parametrize("student_size", ["full", "slim"])
def test_student_restores_the_teachers_shapes(variant, size, student_size):
    encoder = backbone_of(TINY).build()
    student = Student(encoder.pyramid, VARIANTS[variant].injection, student_size)
    features = encoder(torch.rand(2, 3, *size))
    assert [f.shape for f in student(features)] == [f.shape for f in features]
    assert [f.shape[2:] for f in features] == [(size[0] // s, size[1] // s) for s in (4, 8, 16)]


def test_mirrored_decoder_of_a_bottleneck_backbone():
    with torch.device("meta"):
        encoder = backbone_of(WIDE).build()
        student = Student(encoder.pyramid, "none")
    stages = (student.decoder.stage_3, student.decoder.stage_2, student.decoder.stage_1)
    assert [len(stage) for stage in stages] == [3, 4, 6]
    up = [m for m in student.modules() if isinstance(m, nn.ConvTranspose2d)]
    assert len(up) == 6  # main path and shortcut of each stage's first block
    assert all(m.kernel_size == (2, 2) and m.stride == (2, 2) for m in up)


def test_variant_names_of_the_configuration_are_those_of_the_networks():
    assert set(typing.get_args(config.Variant)) == set(VARIANTS)


@pytest.mark.parametrize(
    ("tag", "reason"),
    [
        ("resnet19", "unknown backbone"),
        ("vit_tiny_patch16_224", "strides"),
        ("", "unknown"),
        ("swin_tiny_patch4_window7_224", "cannot use a 128x128 image"),
    ],
)
def test_unusable_backbones_are_refused_with_the_reason(tag, reason):
    with pytest.raises(UsageError, match=reason):
        backbone_of(tag).build()


def test_a_backbone_of_another_family_gets_basic_blocks():
    encoder = backbone_of("convnext_atto.d2_in1k", "none").load(torch.Generator())
    assert [s.width for s in encoder.pyramid.stages] == [None] * 3
    features = encoder(torch.rand(1, 3, 64, 64))
    restored = Student(encoder.pyramid, "guided").eval()(features)
    assert [f.shape for f in restored] == [f.shape for f in features]


def _reference_cbr(x, block):
    """Convolution, batch norm by its definition, ReLU, in float64 and training mode."""
    conv, norm = block[0], block[1]
    x = functional.conv2d(x, conv.weight.double(), padding=conv.padding)
    mean = x.mean((0, 2, 3), keepdim=True)
    variance = ((x - mean) ** 2).mean((0, 2, 3), keepdim=True)
    x = (x - mean) / (variance + norm.eps).sqrt()
    x = x * norm.weight.double()[:, None, None] + norm.bias.double()[:, None, None]
    return x.clamp_min(0)


@pytest.mark.parametrize("guided", [True, False])
def test_injection_is_the_papers_equation(guided):
    torch.manual_seed(0)
    module = Injection(6, 4, guided=guided).double()
    s, t = torch.randn(2, 6, 8, 8).double(), torch.randn(2, 6, 8, 8).double()
    finer = torch.randn(2, 4, 16, 16).double()
    half = functional.interpolate(finer, scale_factor=0.5, mode="bilinear")
    injected = _reference_cbr(t + _reference_cbr(half, module.align), module.fuse)
    if guided:
        dot = (s * t).sum(1, keepdim=True)
        g = dot / (s.norm(dim=1, keepdim=True) * t.norm(dim=1, keepdim=True))
        injected = _reference_cbr(g * injected + (1 - g) * s, module.inject)
    expected = _reference_cbr(torch.cat([s, injected], 1), module.merge)
    torch.testing.assert_close(module(s, t, finer), expected, atol=1e-6, rtol=1e-6)


def test_the_guide_passes_no_gradient():
    s = torch.randn(1, 3, 4, 4, requires_grad=True)
    assert not guide(s, torch.randn(1, 3, 4, 4)).requires_grad


def test_initialisation_is_xavier_and_seeded():
    encoder = backbone_of(TINY).build()
    students = [Student(encoder.pyramid, "guided") for _ in range(2)]
    for student in students:
        initialise(student, torch.Generator().manual_seed(3))
    for a, b in zip(students[0].parameters(), students[1].parameters(), strict=True):
        assert torch.equal(a, b)
    conv = students[0].bottleneck.shrink_2[0]
    fan = sum(nn.init._calculate_fan_in_and_fan_out(conv.weight))
    assert conv.weight.std().item() == pytest.approx((2 / fan) ** 0.5, rel=0.05)


def _with_statistics(model):
    """Norms that do something: drawn statistics, scales and shifts."""
    random = torch.Generator().manual_seed(3)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            for tensor, low, high in (
                (module.running_mean, -0.2, 0.2),
                (module.running_var, 0.5, 2.0),
                (module.weight.data, 0.5, 1.5),
                (module.bias.data, -0.2, 0.2),
            ):
                tensor.uniform_(low, high, generator=random)
    return model.eval()


@pytest.mark.parametrize(
    ("tag", "variant"),
    [(TINY, name) for name in VARIANTS]
    + [("builtin", "urd"), ("regnetx_002.pycls_in1k", "urd"), ("resnetv2_50.a1h_in1k", "rd")],
)
def test_networks_for_inference_compute_the_same(tag, variant):
    model = DetectorNetwork.build(
        backbone_of(tag).build(), VARIANTS[variant], torch.Generator().manual_seed(0)
    )
    model = _with_statistics(model)
    image = torch.randn(2, 3, 96, 64, generator=torch.Generator().manual_seed(1))
    before = {name: value.clone() for name, value in model.state_dict().items()}
    fast, half = (InferenceNetworks(model, name) for name in ("float32", "bfloat16"))
    norms = [sum(isinstance(m, nn.BatchNorm2d) for m in n.modules()) for n in (model, fast)]
    assert norms[1] < norms[0]
    with torch.no_grad():
        exact, found, rounded = (
            list(itertools.chain(*network(image))) for network in (model, fast, half)
        )
    for a, b, c in zip(exact, found, rounded, strict=True):
        assert torch.allclose(a, b, rtol=1e-4, atol=1e-4 * float(a.abs().max()))
        alike = functional.cosine_similarity(a.flatten(1), c.float().flatten(1))
        assert float(alike.min()) > 0.99
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


class ReluBetween(nn.Module):
    """A norm that is registered just after a convolution, and applied to something else."""

    def __init__(self, conv):
        super().__init__()
        self.conv = conv
        self.norm = nn.BatchNorm2d(conv.out_channels)

    def forward(self, x):
        return self.norm(self.conv(x).relu())


def test_a_norm_that_belongs_elsewhere_is_not_folded():
    model = DetectorNetwork.build(backbone_of(TINY).build(), VARIANTS["rd"], torch.Generator())
    shrink = model.student.bottleneck.shrink_2
    model.student.bottleneck.shrink_2 = ReluBetween(shrink[0])
    model = _with_statistics(model)
    image = torch.randn(1, 3, 64, 64, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        expected, found = model(image), InferenceNetworks(model, "float32")(image)
    for a, b in zip(itertools.chain(*expected), itertools.chain(*found), strict=True):
        assert torch.allclose(a, b, atol=1e-4)


def test_max_pool_of_slices_is_max_pool():
    x = torch.randn(2, 5, 12, 20, generator=torch.Generator().manual_seed(0))
    kept = x.clone()
    assert torch.equal(EvenMaxPool()(x), functional.max_pool2d(x, 3, 2, 1))
    assert torch.equal(x, kept)


def test_the_built_in_encoder_is_the_plain_one_until_it_is_whitened():
    encoder = backbone_of(BUILTIN, "none").load(torch.Generator().manual_seed(0)).eval()
    plain = backbone_of(ARCHITECTURE).build().eval()
    plain.normalisation = encoder.normalisation
    plain.load_weights(encoder.body.state_dict())
    images = torch.rand(2, 3, 64, 96, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        levels = zip(encoder(images), plain(images), strict=True)
        assert all(torch.equal(a, b) for a, b in levels)
        encoder.heads[1].bias.fill_(0.5)
        assert torch.equal(encoder(images)[0], plain(images)[0])
        assert not torch.equal(encoder(images)[1], plain(images)[1])
