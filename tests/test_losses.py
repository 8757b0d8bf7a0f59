"""Each loss against its equation in NumPy float64, and gradients of every variant's step."""

from __future__ import annotations

import copy
from contextlib import nullcontext

import numpy as np
import pytest
import torch
from conftest import TINY
from torch.nn import functional

from urd.backbones.registry import backbone_of
from urd.config import FitConfig
from urd.networks.cosine import global_distances, local_distance
from urd.networks.variants import VARIANTS
from urd.training.losses import (
    mask_pyramid,
    reverse_distillation_loss,
    student_loss,
    teacher_loss,
)
from urd.training.prepare import build_networks
from urd.training.step import train_with_expert, train_without_expert

SIZES = ((5, 16, 12), (7, 8, 6), (9, 4, 3))


def features(seed: int, dtype: torch.dtype = torch.float64) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    maps = [torch.randn(3, *s, generator=generator, dtype=torch.float64) for s in SIZES]
    return [m.to(dtype) for m in maps]


def local_reference(a, b):
    """1 - cosine per location, one location at a time."""
    a, b = a.double().numpy(), b.double().numpy()
    out = np.empty((a.shape[0], *a.shape[2:]))
    for i, y, x in np.ndindex(out.shape):
        u, v = a[i, :, y, x], b[i, :, y, x]
        out[i, y, x] = 1 - u @ v / (np.linalg.norm(u) * np.linalg.norm(v))
    return out


def global_reference(a, b):
    flat = zip(a.double().flatten(1).numpy(), b.double().flatten(1).numpy(), strict=True)
    return np.array([1 - u @ v / (np.linalg.norm(u) * np.linalg.norm(v)) for u, v in flat])


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_teacher_loss(dtype):
    t, t_x, e, e_x = (features(seed, dtype) for seed in range(4))
    masks = [(torch.rand(3, *s[1:]) > 0.7).to(dtype) for s in SIZES]
    expected = sum(
        local_reference(t[k], e[k]).mean()
        + np.abs(local_reference(t_x[k], e[k]) - masks[k].numpy()).mean()
        + global_reference(t_x[k], e_x[k]).mean()
        for k in range(3)
    )
    assert teacher_loss(t, t_x, e, e_x, masks).item() == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_student_losses(dtype):
    s, s_x, t, e = (features(seed, dtype) for seed in range(4))
    d = global_reference
    expected = sum(
        d(s[k], t[k]).mean()
        + d(s_x[k], t[k]).mean()
        + d(s[k], e[k]).mean()
        + d(s_x[k], e[k]).mean()
        for k in range(3)
    )
    assert student_loss(s, s_x, t, e).item() == pytest.approx(expected, rel=1e-6)
    plain = sum(d(s[k], t[k]).mean() for k in range(3))
    assert reverse_distillation_loss(s, t).item() == pytest.approx(plain, rel=1e-6)


LAYOUTS = [torch.contiguous_format, torch.channels_last]


@pytest.mark.parametrize("layout", LAYOUTS)
def test_gradient_of_the_local_distance_by_finite_differences(layout):
    a, b = (features(seed)[0].contiguous(memory_format=layout) for seed in (0, 1))
    assert torch.autograd.gradcheck(lambda a: local_distance(a, b), a.requires_grad_())


@pytest.mark.parametrize("layout", LAYOUTS)
def test_gradient_of_global_distances_by_finite_differences(layout):
    a, b, c, d, e = (features(seed)[2].contiguous(memory_format=layout) for seed in range(5))
    moving = [a.requires_grad_(), b.requires_grad_()]
    assert torch.autograd.gradcheck(lambda *m: global_distances(m, [c, d, e]), moving)


def test_global_distances_of_each_pair():
    moving, fixed = [features(s)[1] for s in (0, 1)], [features(s)[1] for s in (2, 3, 4)]
    found = global_distances(moving, fixed)
    assert found.shape == (3, 2, 3)
    for i, a in enumerate(moving):
        for j, b in enumerate(fixed):
            np.testing.assert_allclose(found[:, i, j], global_reference(a, b), rtol=1e-12)


def test_gradient_of_bfloat16_features_is_that_of_float64():
    a, b = (features(seed, torch.bfloat16)[0] for seed in (0, 1))
    plain = {
        local_distance: lambda a, b: 1 - functional.cosine_similarity(a, b, dim=1),
        lambda a, b: global_distances([a], [b]): lambda a, b: (
            1 - functional.cosine_similarity(a.flatten(1), b.flatten(1), dim=1)
        ),
    }
    for ours, reference in plain.items():
        exact = a.detach().double().requires_grad_()
        reference(exact, b.double()).sum().backward()
        given = a.detach().clone().requires_grad_()
        ours(given, b).sum().backward()
        assert given.grad.dtype == torch.bfloat16
        torch.testing.assert_close(given.grad.double(), exact.grad, rtol=2**-8, atol=1e-9)


def test_distance_of_zero_features_is_one_and_has_a_gradient():
    for ours in (local_distance, lambda a, b: global_distances([a], [b])):
        zero = torch.zeros(1, 4, 2, 2, requires_grad=True)
        distance = ours(zero, torch.ones(1, 4, 2, 2))
        distance.sum().backward()
        assert (distance == 1).all()
        assert torch.isfinite(zero.grad).all()


def test_bfloat16_features_are_compared_in_float32():
    a, b = (features(seed, torch.bfloat16)[0] for seed in (0, 1))
    local, whole = local_distance(a, b), global_distances([a], [b])[:, 0, 0]
    assert local.dtype == whole.dtype == torch.float32
    np.testing.assert_allclose(local.numpy(), local_reference(a, b), atol=1e-6)
    np.testing.assert_allclose(whole.numpy(), global_reference(a, b), atol=1e-6)


def test_chained_masks_lose_small_defects_that_direct_ones_keep():
    sizes = [(64, 64), (32, 32), (16, 16)]
    mask = torch.zeros(1, 1, 256, 256)
    mask[..., 70:75, 70:75] = 1  # covers the 2x2 centre of one level-3 cell, and little of level 2
    chained, direct = (mask_pyramid(mask, sizes, how) for how in ("chained", "direct"))
    assert [m.shape[1:] for m in chained] == sizes
    assert torch.equal(chained[0], direct[0])
    assert direct[2].sum() == 1
    assert chained[2].sum() == 0


def test_mask_pyramid_by_brute_force():
    mask = (torch.rand(2, 1, 64, 64, generator=torch.Generator().manual_seed(0)) > 0.5).float()
    for level, size in zip(mask_pyramid(mask, [(16, 16), (8, 8)], "chained"), (16, 8), strict=True):
        assert level.shape == (2, size, size)
    first = mask_pyramid(mask, [(16, 16), (8, 8)], "chained")[0]
    m = mask[:, 0].numpy()
    # A quarter of the size, bilinear: the mean of the middle four of each 4x4 square.
    middle = (m[:, 1::4, 1::4] + m[:, 1::4, 2::4] + m[:, 2::4, 1::4] + m[:, 2::4, 2::4]) / 4
    np.testing.assert_array_equal(first.numpy(), middle >= 0.5)


def _step(networks, variant, x, x_corrupt, mask):
    if VARIANTS[variant].teacher_learns:
        return train_with_expert(networks, x, x_corrupt, mask, "chained", nullcontext)
    return train_without_expert(networks, x, nullcontext)


@pytest.mark.parametrize("variant", [name for name in VARIANTS if name != "memory"])
def test_gradient_reaches_every_trainable_parameter(variant):
    torch.manual_seed(0)
    expert = backbone_of(TINY, "none").load(torch.Generator().manual_seed(0))
    config = FitConfig(
        backbone=TINY, variant=variant, student_lr=0.0, teacher_lr=0.0, precision="float32"
    )
    networks = build_networks(expert, copy.deepcopy(expert), config, torch.device("cpu"))
    mask = torch.zeros(4, 1, 64, 64)
    mask[..., 16:40, 16:40] = 1
    _step(networks, variant, torch.rand(4, 3, 64, 64), torch.rand(4, 3, 64, 64), mask)
    trained = dict(networks.model.student.named_parameters())
    if VARIANTS[variant].teacher_learns:
        trained |= {f"teacher.{n}": p for n, p in networks.model.teacher.named_parameters()}
    else:
        assert all(p.grad is None for p in networks.model.teacher.parameters())
    # A convolution's weight under a batch norm sees a gradient even where it nearly cancels.
    silent = [n for n, p in trained.items() if p.grad is None or not p.grad.abs().max() > 0]
    assert silent == []


def test_one_step_is_the_plain_one_forward_at_a_time_step():
    """Batching the frozen passes changes nothing but rounding."""
    torch.manual_seed(0)
    expert = backbone_of(TINY).build()
    config = FitConfig(backbone=TINY, precision="float32")
    x, x_corrupt = torch.rand(4, 3, 64, 64), torch.rand(4, 3, 64, 64)
    mask = (torch.rand(4, 1, 64, 64) > 0.8).float()
    fast = build_networks(expert, copy.deepcopy(expert), config, torch.device("cpu"))
    losses = _step(fast, "urd", x, x_corrupt, mask)

    slow = build_networks(expert, copy.deepcopy(expert), config, torch.device("cpu"))
    frozen = copy.deepcopy(expert).eval()
    teacher, student = slow.model.teacher, slow.model.student
    with torch.no_grad():
        e, e_x = frozen(x), frozen(x_corrupt)
    teacher.train()
    t, t_x = teacher(x), teacher(x_corrupt)
    sizes = [tuple(f.shape[2:]) for f in t]
    loss_t = teacher_loss(t, t_x, e, e_x, mask_pyramid(mask, sizes))
    loss_t.backward()
    slow.teacher_optimizer.step()
    teacher.eval()
    with torch.no_grad():
        t, t_x = teacher(x), teacher(x_corrupt)
    student.train()
    loss_s = student_loss(student(t), student(t_x), t, e)
    loss_s.backward()
    slow.student_optimizer.step()
    assert losses["teacher"].item() == pytest.approx(loss_t.item(), abs=1e-5)
    assert losses["student"].item() == pytest.approx(loss_s.item(), abs=1e-5)
    for one, other in ((fast.model.teacher, teacher), (fast.model.student, student)):
        ours, plain = (torch.cat([p.grad.flatten() for p in m.parameters()]) for m in (one, other))
        assert (ours - plain).norm() < 1e-2 * plain.norm()  # rounding turns a few steps of Adam
    buffers = dict(fast.model.named_buffers())
    for name, buffer in slow.model.named_buffers():
        torch.testing.assert_close(buffers[name], buffer, atol=1e-4, rtol=1e-3)
