"""What a GPU needs of a training step, tested without one: it never waits, and can be recorded."""

from __future__ import annotations

import copy
import dataclasses

import pytest
import torch
from conftest import networks_of
from torch.utils._python_dispatch import TorchDispatchMode

from urd.networks import cosine, kernels
from urd.networks.kernels import exact_kernels
from urd.networks.variants import VARIANTS
from urd.training import clean_features
from urd.training.ahead import Ahead
from urd.training.batches import draw_batch
from urd.training.clean_features import CleanFeatures
from urd.training.gpu_iterations import GpuIterations
from urd.training.loop import autocast_for, train_batch, train_iteration
from urd.training.prepare import adam
from urd.training.schedule import set_learning_rates
from urd.training.training_data import TrainingImages

# On a GPU, these read values back: the processor waits until all work before them is done.
WAITING = {"_local_scalar_dense", "nonzero", "is_nonzero", "masked_select", "unique", "equal"}
TRAINED = [name for name, variant in VARIANTS.items() if variant.student]
CPU, META = torch.device("cpu"), torch.device("meta")


class Waits(AssertionError):
    """An operation would wait for the GPU."""


class NoWaiting(TorchDispatchMode):
    """Refuses operations that read values back, and copies from main memory to the device."""

    def __init__(self, device):
        super().__init__()
        self.device = device
        self.seen = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        name = func.overloadpacket.__name__
        self.seen += 1
        if name in WAITING:
            raise Waits(name)
        tensors = [x for x in torch.utils._pytree.tree_leaves((args, kwargs)) if is_tensor(x)]
        if name in ("index", "index_put_") and any(t.dtype == torch.bool for t in tensors[1:]):
            raise Waits(f"{name} with a mask")
        elsewhere = [t for t in tensors if t.device != self.device]
        if elsewhere and name not in ("detach", "alias"):
            raise Waits(f"{name} with a tensor in main memory")
        return func(*args, **(kwargs or {}))


def is_tensor(value):
    return isinstance(value, torch.Tensor)


def data_of(config, foreground=True):
    random = torch.Generator().manual_seed(0)
    shape = (6, 3, *config.image_size)
    images = torch.randint(0, 256, shape, dtype=torch.uint8, generator=random)
    places = torch.zeros(6, *config.image_size, dtype=torch.bool)
    places[:, 20:40, 20:40] = True
    return TrainingImages(images, images.flip(0), places if foreground else None)


def step_of(config, data, device):
    """The step on `device`, and a batch for it; without optimisers on the meta device."""
    networks = networks_of(config)
    features = None
    if networks.expert is not None:
        features = CleanFeatures(networks.expert, len(data.images))
        features.compute_all(data.images, config.batch_size)
        assert features.complete
    batch = draw_batch(data, config, 0, corrupt=networks.expert is not None)
    if device == META:
        networks.model.to(device)
        networks.eval_teacher = None  # as on a GPU
        for optimizer in (networks.student_optimizer, networks.teacher_optimizer):
            if optimizer is not None:  # the fused one has no meta kernel
                optimizer.step = lambda: None
        if features is not None:
            networks.expert.to(device)
            features.levels = [level.to(device) for level in features.levels]
        data = TrainingImages(data.images.to(device), data.textures.to(device), None)
        batch = copy.copy(batch)
        object.__setattr__(batch, "index", batch.index.to(device))
        if batch.corruption is not None:
            moved = {name: t.to(device) for name, t in vars(batch.corruption).items()}
            object.__setattr__(batch, "corruption", type(batch.corruption)(**moved))
    autocast = autocast_for(CPU, config.precision)
    return lambda: train_batch(networks, data, config, batch, autocast, features)


@pytest.fixture
def at_once(monkeypatch):
    """The losses as they are computed on a GPU."""
    monkeypatch.setattr(cosine, "_at_once", lambda a: True)


@pytest.mark.parametrize("device", [CPU, META], ids=str)
@pytest.mark.parametrize("variant", TRAINED)
def test_no_operation_of_a_step_waits_for_the_device(tiny_config, at_once, variant, device):
    config = dataclasses.replace(tiny_config, variant=variant)
    step = step_of(config, data_of(config), device)
    mode = NoWaiting(device)
    with mode:
        losses = step()
    assert mode.seen > 500
    assert all(loss.device == device for loss in losses.values())


def test_the_guard_sees_operations_that_wait():
    x = torch.arange(4.0)
    there = torch.empty(4, device=META)
    for wait in (
        lambda: float(x[0]),
        lambda: bool(torch.isfinite(x).all()),
        lambda: x[x > 1],
        lambda: x.nonzero(),
        lambda: x.index_put_((x > 1,), torch.ones(())),
    ):
        with pytest.raises(Waits), NoWaiting(CPU):
            wait()
    for wait in (
        lambda: torch.zeros(4).to(META),
        lambda: there[torch.arange(2)],
        lambda: there.copy_(torch.zeros(4)),
    ):
        with pytest.raises(Waits), NoWaiting(META):
            wait()
    with NoWaiting(META):
        there.masked_fill(there > 0, 0.0)


def test_drawing_a_batch_does_wait_so_it_is_not_part_of_the_step(tiny_config):
    with pytest.raises(Waits), NoWaiting(CPU):
        draw_batch(data_of(tiny_config), tiny_config, 0, corrupt=True)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16], ids=str)
def test_losses_at_once_are_those_sample_by_sample(dtype, monkeypatch):
    random = torch.Generator().manual_seed(0)
    drawn = [torch.randn(3, 8, 4, 5, generator=random, dtype=torch.float64) for _ in range(4)]
    drawn[0][1], drawn[0][2, :, 0] = 0, 0  # a whole map, and some places

    def found():
        maps = [m.to(dtype).to(memory_format=torch.channels_last) for m in drawn]
        a, b = (m.requires_grad_() for m in maps[:2])
        of_places = cosine.local_distance(a, maps[2])
        of_maps = cosine.global_distances([a, b], maps[2:])
        (of_places.square().sum() + of_maps.square().sum()).backward()
        return [of_places, of_maps, a.grad, b.grad]

    one_by_one = found()
    monkeypatch.setattr(cosine, "_at_once", lambda a: True)
    rounding = {torch.float64: 1e-12, torch.float32: 1e-5, torch.bfloat16: 1e-2}[dtype]
    for ours, theirs in zip(found(), one_by_one, strict=True):
        assert ours.dtype == theirs.dtype
        torch.testing.assert_close(ours, theirs, rtol=rounding, atol=rounding)


def trained(config, data, *, record, iterations):
    """Losses and weights after some iterations as on a GPU, or as on a CPU (`record` is "cpu")."""
    networks, found = networks_of(config), []
    autocast = autocast_for(CPU, config.precision)
    features = CleanFeatures(networks.expert, len(data.images))
    if record == "cpu":
        once = lambda i: train_iteration(networks, data, config, i, autocast, features)  # noqa: E731
    else:
        features.compute_all(data.images, config.batch_size)
        gpu = once = GpuIterations(
            lambda i: draw_batch(data, config, i, corrupt=True),
            lambda batch: train_batch(networks, data, config, batch, autocast, features),
            CPU,
            0,
            record,
        )
    for iteration in range(iterations):
        set_learning_rates(networks, config, iteration)
        found.append(once(iteration))
    if record != "cpu":
        gpu.close()
        assert gpu.recorded == (record is recording)
    return found, networks.model.state_dict()


def recording(step):
    """In place of a CUDA graph: does not run the step; each repetition overwrites the losses."""
    losses = {"teacher": torch.zeros(()), "student": torch.zeros(())}

    def repeat():
        for name, loss in step().items():
            losses[name].copy_(loss)

    return repeat, losses


def refusing(step):
    raise RuntimeError("operation not permitted when stream is capturing\nmore")


@pytest.mark.parametrize("record", [recording, refusing, None])
def test_iterations_of_a_gpu_train_as_those_of_a_cpu(tiny_config, record, capsys, shown):
    """With a recorded step, with one that cannot be recorded, and without: the same training."""
    data = data_of(tiny_config)
    wanted_losses, wanted = trained(tiny_config, data, record="cpu", iterations=7)
    losses, weights = trained(tiny_config, data, record=record, iterations=7)
    assert [name for name in wanted if not torch.equal(wanted[name], weights[name])] == []
    assert losses == wanted_losses  # those of earlier iterations are not overwritten
    told = capsys.readouterr().err
    assert ("cannot be recorded as a CUDA graph" in told) == (record is refusing)
    assert "more" not in told.split("capturing")[-1]


def test_batches_drawn_ahead_are_those_of_their_iterations(tiny_config):
    data = data_of(tiny_config)
    ahead = Ahead(lambda i: draw_batch(data, tiny_config, i, corrupt=True), CPU, 5)
    try:
        for iteration in range(5, 12):
            wanted = draw_batch(data, tiny_config, iteration, corrupt=True)
            for ours, theirs in zip(ahead.take().tensors(), wanted.tensors(), strict=True):
                assert torch.equal(ours, theirs)
    finally:
        ahead.close()


def test_an_error_while_drawing_ahead_reaches_the_training():
    def draw(iteration):
        raise RuntimeError(f"no memory in {iteration}")

    ahead = Ahead(draw, CPU, 3)
    with pytest.raises(RuntimeError, match="no memory in 3"):
        ahead.take()
    ahead.close()


def test_features_of_all_images_are_those_of_single_batches(tiny_config, monkeypatch):
    data, expert = data_of(tiny_config), networks_of(tiny_config).expert
    features = CleanFeatures(expert, len(data.images))
    features.compute_all(data.images, 4)  # six images: the second batch begins anew
    index = torch.tensor([5, 0, 3, 3])
    with torch.no_grad():
        clean = data.images[index].float() / 255
        wanted = expert(clean)
        assert all(map(torch.equal, features(index, clean), wanted))
        monkeypatch.setattr(clean_features, "_SHARE", 0.0)
        small = CleanFeatures(expert, len(data.images))
        small.compute_all(data.images, 4)
        assert not small.complete and not small.fits
        assert all(map(torch.equal, small(index, clean), wanted))


def test_a_rate_that_is_a_tensor_is_changed_in_place(tiny_config):
    networks = networks_of(tiny_config)
    student = networks.student
    networks.student_optimizer = adam(student, tiny_config.student_lr, recorded=True)
    (group,) = networks.student_optimizer.param_groups
    rate = group["lr"]
    set_learning_rates(networks, tiny_config, 0)
    assert group["lr"] is rate and group["capturable"]
    assert float(rate) == pytest.approx(tiny_config.student_lr / tiny_config.warm_up)


def settings():
    owners = torch.backends.cudnn, torch.backends.cuda.matmul
    flags = torch.backends.cudnn.deterministic, torch.backends.cudnn.benchmark
    return (*flags, *(owner.allow_tf32 for owner in owners))


def test_kernels_are_exact_inside_and_the_users_choice_stays():
    user, inside = (False, True, True, True), (True, False, False, False)
    before = settings()
    cudnn, matmul = torch.backends.cudnn, torch.backends.cuda.matmul
    try:
        cudnn.benchmark = cudnn.allow_tf32 = matmul.allow_tf32 = True
        with exact_kernels(CPU):
            assert settings() == user
        with pytest.raises(KeyError), exact_kernels(torch.device("cuda")):
            with exact_kernels(torch.device("cuda:1")):
                assert settings() == inside
            assert settings() == inside
            raise KeyError
        assert settings() == user
        assert kernels._inside == 0
    finally:
        cudnn.benchmark, cudnn.allow_tf32, matmul.allow_tf32 = before[1:]


def test_kernels_are_exact_for_users_of_the_newer_settings():
    cudnn, matmul = torch.backends.cudnn, torch.backends.cuda.matmul
    if not hasattr(cudnn, "conv"):
        pytest.skip("this version of PyTorch has only the older settings")
    before = cudnn.conv.fp32_precision, matmul.fp32_precision
    try:
        cudnn.conv.fp32_precision, matmul.fp32_precision = "ieee", "tf32"
        with exact_kernels(torch.device("cuda")):
            assert (cudnn.conv.fp32_precision, matmul.fp32_precision) == ("ieee", "ieee")
        assert (cudnn.conv.fp32_precision, matmul.fp32_precision) == ("ieee", "tf32")
    finally:
        cudnn.conv.fp32_precision, matmul.fp32_precision = before
