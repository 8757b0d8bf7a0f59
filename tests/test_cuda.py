"""What holds on an NVIDIA GPU; skipped without one. `benchmarks/gpu.py` runs these tests, too."""

from __future__ import annotations

import dataclasses
import signal

import numpy as np
import pytest
import torch
from conftest import assert_same_weights, picture, save
from test_no_waiting import data_of
from torch.nn import functional

from urd import Detector
from urd.backbones.registry import backbone_of
from urd.inspection.scoring import Scorer
from urd.networks import cosine
from urd.networks.detector_network import DetectorNetwork
from urd.networks.folding import InferenceNetworks
from urd.networks.kernels import exact_kernels
from urd.networks.variants import VARIANTS
from urd.system.seeding import generator
from urd.training import loop
from urd.training.batches import draw_batch
from urd.training.gpu_iterations import GpuIterations, own_stream
from urd.training.loop import iterations, train_batch
from urd.training.prepare import prepare_networks
from urd.training.training_data import TrainingImages

pytestmark = [
    pytest.mark.cuda,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no NVIDIA GPU here"),
]
CPU = torch.device("cpu")


@pytest.fixture
def gpu():
    return torch.device("cuda")


@pytest.fixture
def gpu_config(tiny_config, tmp_path):
    """Textures from a folder: to draw them takes longer than such a training."""
    for index in range(8):
        save(picture(np.random.default_rng(index), 64), tmp_path / "textures" / f"{index}.png")
    changes = {"iterations": 12, "precision": "auto", "textures": str(tmp_path / "textures")}
    return dataclasses.replace(tiny_config, device="cuda", **changes)


def moved(data, device):
    tensors = (data.images, data.textures, data.foreground)
    return TrainingImages(*(None if t is None else t.to(device) for t in tensors))


@pytest.mark.parametrize("tag", ["resnet18.tv_in1k", "wide_resnet50_2.tv_in1k", "builtin"])
def test_maps_of_gpu_and_cpu_are_alike(gpu, tag):
    """In float32 to 1e-4 of the largest value, in bfloat16 to 5 %."""
    expert = backbone_of(tag, "none").load(generator(0, "encoder"))
    model = DetectorNetwork.build(expert, VARIANTS["urd"], generator(0, "student")).eval()
    images = torch.rand(2, 3, 128, 160, generator=generator(0, "images"))

    def found(device, precision):
        with torch.inference_mode(), exact_kernels(device):
            networks = InferenceNetworks(model.to(device), precision)
            maps, scores = Scorer()(networks(images.to(device)), (128, 160))
            return maps.cpu(), scores.cpu()

    wanted_maps, wanted_scores = found(CPU, "float32")
    for precision, share in (("float32", 1e-4), ("bfloat16", 0.05)):
        maps, scores = found(gpu, precision)
        assert float((maps - wanted_maps).abs().max()) <= share * float(wanted_maps.max())
        assert float((scores - wanted_scores).abs().max()) <= share * float(wanted_scores.max())


def test_float32_means_float32(gpu):
    """TensorFloat-32 would be about 1e-3 off."""
    x = torch.randn(2, 256, 32, 32, generator=generator(0, "x"))
    w = torch.randn(256, 256, 3, 3, generator=generator(0, "w"))
    wanted = functional.conv2d(x.double(), w.double(), padding=1)
    with exact_kernels(gpu):
        maps = functional.conv2d(x.to(gpu), w.to(gpu), padding=1).cpu().double()
        product = (w.flatten(1).to(gpu) @ w.flatten(1).to(gpu).T).cpu().double()
    assert float((maps - wanted).abs().max()) <= 5e-5 * float(wanted.abs().max())
    exact = w.flatten(1).double() @ w.flatten(1).double().T
    assert float((product - exact).abs().max()) <= 5e-5 * float(exact.abs().max())


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_losses_and_gradients_of_gpu_and_cpu_are_alike(gpu, dtype):
    random = generator(0, "maps")
    drawn = [torch.randn(3, 64, 16, 20, generator=random) for _ in range(4)]
    drawn[0][1] = 0

    def found(device):
        maps = [m.to(device, dtype).to(memory_format=torch.channels_last) for m in drawn]
        a, b = (m.requires_grad_() for m in maps[:2])
        of_places = cosine.local_distance(a, maps[2])
        of_maps = cosine.global_distances([a, b], maps[2:])
        (of_places.square().sum() + of_maps.square().sum()).backward()
        return [t.detach().cpu() for t in (of_places, of_maps, a.grad, b.grad)]

    rounding = 1e-5 if dtype == torch.float32 else 1e-2
    for ours, theirs in zip(found(gpu), found(CPU), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=rounding, atol=rounding)


def test_the_same_batches_are_drawn(gpu, gpu_config):
    """All but the mask are equal. The noise of masks is rounded in another way."""
    data = data_of(gpu_config)
    for iteration in range(5):
        ours = draw_batch(moved(data, gpu), gpu_config, iteration, corrupt=True)
        theirs = draw_batch(data, gpu_config, iteration, corrupt=True)
        assert torch.equal(ours.index.cpu(), theirs.index)
        assert torch.equal(ours.corruption.texture_index.cpu(), theirs.corruption.texture_index)
        assert torch.equal(ours.corruption.blend.cpu(), theirs.corruption.blend)
        other = (ours.corruption.mask.cpu() != theirs.corruption.mask).float().mean()
        assert float(other) < 1e-3


@pytest.mark.parametrize("variant", ["urd", "rd"])
@pytest.mark.parametrize("precision", ["bfloat16", "float32"])
def test_no_operation_of_a_step_waits(gpu, gpu_config, variant, precision):
    """PyTorch itself raises an error where the processor would wait for the GPU."""
    config = dataclasses.replace(gpu_config, variant=variant, precision=precision)
    data = moved(data_of(config), gpu)
    backbone = backbone_of(config.tag, config.weights)
    expert = backbone.load(generator(0, "encoder"))
    networks = prepare_networks(backbone, expert, config, gpu, data.images)
    features = None
    if networks.expert is not None:
        features = loop.CleanFeatures(networks.expert, len(data.images))
        features.compute_all(data.images, config.batch_size)
    autocast = loop.autocast_for(gpu, config.precision)
    batches = [draw_batch(data, config, i, corrupt=features is not None) for i in range(4)]
    losses = [train_batch(networks, data, config, b, autocast, features) for b in batches[:2]]
    try:
        torch.cuda.set_sync_debug_mode("error")
        for batch in batches[2:]:
            loop.set_learning_rates(networks, config, 2)
            losses.append(train_batch(networks, data, config, batch, autocast, features))
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert all(bool(torch.isfinite(loss)) for found in losses for loss in found.values())


@pytest.mark.parametrize("variant", ["urd", "rd"])
@pytest.mark.parametrize("precision", ["bfloat16", "float32"])
def test_the_step_is_recorded_and_trains_as_one_that_is_not(gpu, gpu_config, variant, precision):
    """Bit for bit: losses of every iteration and weights."""
    config = dataclasses.replace(gpu_config, variant=variant, precision=precision)
    data = moved(data_of(config), gpu)
    backbone = backbone_of(config.tag, config.weights)

    def trained(record):
        expert = backbone.load(generator(0, "encoder"))
        networks = prepare_networks(backbone, expert, config, gpu, data.images)
        losses = []
        with exact_kernels(gpu), own_stream(gpu):
            once = iterations(networks, data, config, 0, record=record)
            for iteration in range(10):
                loop.set_learning_rates(networks, config, iteration)
                losses.append(once(iteration))
            once.close()
        torch.cuda.synchronize()
        assert once.recorded == record
        return losses, networks.model.state_dict()

    (losses, weights), (plain_losses, plain_weights) = trained(True), trained(False)
    assert [n for n in weights if not torch.equal(weights[n], plain_weights[n])] == []
    assert losses == plain_losses


@pytest.mark.parametrize("variant", VARIANTS)
def test_the_same_seed_gives_the_same_weights_twice(data, gpu_config, tmp_path, variant):
    config = dataclasses.replace(gpu_config, variant=variant)
    for name in ("a", "b"):
        Detector.fit(data, tmp_path / name, config=config)
    assert_same_weights(tmp_path / "a", tmp_path / "b")


def test_the_builtin_backbone_trains(data, gpu_config, tmp_path):
    config = dataclasses.replace(gpu_config, backbone=("builtin",), weights="auto", iterations=8)
    for name in ("a", "b"):
        Detector.fit(data, tmp_path / name, config=config)
    assert_same_weights(tmp_path / "a", tmp_path / "b")


def test_a_step_that_cannot_be_recorded_trains_all_the_same(
    data, gpu_config, tmp_path, monkeypatch, capsys, shown
):
    """The recording fails in its middle, as it does at an operation that waits."""
    Detector.fit(data, tmp_path / "recorded", config=gpu_config)
    assert "cannot be recorded" not in capsys.readouterr().err
    original = loop.record_graph

    def failing(step):
        def waiting():
            losses = step()
            float(losses["student"])
            return losses

        return original(waiting)

    monkeypatch.setattr(loop, "record_graph", failing)
    Detector.fit(data, tmp_path / "plain", config=gpu_config)
    assert "cannot be recorded as a CUDA graph" in capsys.readouterr().err
    assert_same_weights(tmp_path / "recorded", tmp_path / "plain")


@pytest.mark.parametrize("stopped_at", [1, 7])
def test_a_stopped_training_resumes_to_the_same_weights(
    data, gpu_config, tmp_path, monkeypatch, stopped_at
):
    """Stopped before and after the recording."""
    config = dataclasses.replace(gpu_config, checkpoint_seconds=1e6)
    original = GpuIterations.__call__

    def interrupted(self, iteration):
        if iteration == stopped_at:
            signal.getsignal(signal.SIGINT)(signal.SIGINT, None)
        return original(self, iteration)

    with monkeypatch.context() as patch:
        patch.setattr(GpuIterations, "__call__", interrupted)
        with pytest.raises(KeyboardInterrupt):
            Detector.fit(data, tmp_path / "cut", config=config)
    Detector.fit(data, tmp_path / "cut", resume=True)
    Detector.fit(data, tmp_path / "whole", config=config)
    assert_same_weights(tmp_path / "whole", tmp_path / "cut")


@pytest.mark.parametrize("trained_on", ["cpu", "cuda"])
def test_both_devices_give_the_same_verdicts(data, gpu_config, tmp_path, trained_on):
    config = dataclasses.replace(
        gpu_config, device=trained_on, precision="float32", variant="urd-memory", memory=64
    )
    Detector.fit(data, tmp_path / "run", config=config)
    on_cpu = Detector.load(tmp_path / "run", device="cpu")
    on_gpu = Detector.load(tmp_path / "run", device="cuda")
    paths = sorted(data.rglob("test/*/*.png"))
    for ours, theirs in zip(on_gpu.predict_many(paths), on_cpu.predict_many(paths), strict=True):
        assert ours.verdict == theirs.verdict
        assert ours.score == pytest.approx(theirs.score, rel=1e-4)


def test_the_calibrated_thresholds_hold_on_the_gpu(data, gpu_config, tmp_path):
    detector = Detector.fit(data, tmp_path / "run", config=gpu_config)
    again = Detector.load(tmp_path / "run", device="cuda")
    image = data / "test" / "square" / "000.png"
    assert again.predict(image).score == detector.predict(image).score
    assert again.device.startswith("cuda")
