"""Compares one training iteration of `urd` with a plain implementation in the same run.

    python benchmarks/training_step.py

Plain is float32, in the default memory layout, with one forward pass at a time, PyTorch's default
Adam, and explicit losses. Both include drawing synthetic anomalies. Ours is after its first epoch,
so the expert's features of the good images are cached. Both are timed alternately, so that a drift
of the machine affects them equally. The ratio is the median over the pairs. Weights are random: the
time does not depend on their values.

The limit is the rate of a large matrix product in the precision of the step, measured in the same
run. The step's share of it counts the operations of its convolutions. A profile of three steps
shows where the time goes. It slows the step a little, so it gives shares.

Then the step is timed beside one busy process of one thread, as on a machine that does other work
too. The busy process runs and pauses in turn, so that both times are of the same minutes. Then it
is timed with the number of threads that a training chooses beside the busy process.
"""

from __future__ import annotations

import argparse
import copy
import json
import math
import resource
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional
from torch.utils.flop_counter import FlopCounterMode

from urd.backbones.encoder import Encoder
from urd.backbones.registry import backbone_of
from urd.config import FitConfig
from urd.networks.detector_network import DetectorNetwork
from urd.networks.variants import VARIANTS
from urd.synthesis.corruption import corrupt
from urd.system.files import write_json
from urd.system.machine import machine, pick_device, precision_on
from urd.system.seeding import generator
from urd.training.batches import batch_indices, draw_for_iteration
from urd.training.clean_features import CleanFeatures
from urd.training.loop import autocast_for, train_iteration
from urd.training.prepare import ADAM_BETAS, build_networks
from urd.training.shared_cores import SharedCores
from urd.training.training_data import TrainingImages


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--backbone", default="resnet18.tv_in1k")
    parser.add_argument("--batch-size", type=int, default=8)
    parser.add_argument("--image-size", type=int, default=256)
    parser.add_argument("--pairs", type=int, default=8)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--only-beside", action="store_true", help="no plain step, no profile")
    parser.add_argument("--json", type=Path, default=Path("benchmarks/results/training_step.json"))
    options = parser.parse_args()
    config = FitConfig(
        backbone=(options.backbone,),
        batch_size=options.batch_size,
        image_size=(options.image_size, options.image_size),
    )
    device = pick_device(options.device)
    expert = backbone_of(config.tag, "none").load(generator(0, "encoder"))
    data = _data(config, device)
    ours = _ours(expert, data, config)
    first = math.ceil(len(data.images) / config.batch_size)
    for iteration in range(first):  # choose kernels, allocate memory, see each image once
        ours(iteration)
    if options.only_beside:
        print(json.dumps({**_beside(ours, first, options.pairs), "machine": machine(device)}))
        return
    plain = _plain(expert, data, config)
    plain(0)
    iterations = range(first, first + options.pairs)
    pairs = [(_time(ours, i, device), _time(plain, i, device)) for i in iterations]
    precision = precision_on(device, "auto")
    peak = peak_gflops(getattr(torch, precision), device)
    seconds = statistics.median(a for a, _ in pairs)
    gflop = _gflop(ours)
    result = {
        "backbone": config.tag,
        "batch_size": config.batch_size,
        "image_size": options.image_size,
        "precision": precision,
        "urd_seconds": seconds,
        "plain_seconds": statistics.median(b for _, b in pairs),
        "ratio": statistics.median(b / a for a, b in pairs),
        "ratio_range": [min(b / a for a, b in pairs), max(b / a for a, b in pairs)],
        "pairs": len(pairs),
        "gflop": gflop,
        "peak_gflop_per_second": peak,
        "share_of_peak": gflop / seconds / peak,
        "profile": _profile(ours),
        "peak_memory_mib": peak_memory_mib(device),
        **(_beside(ours, first, options.pairs) if device.type == "cpu" else {}),
        "machine": machine(device),
    }
    print(json.dumps(result, indent=2))
    write_json(options.json, result)


def _data(config: FitConfig, device: torch.device) -> TrainingImages:
    random = generator(0, "benchmark")
    shape = (32, 3, *config.image_size)
    images = torch.randint(0, 256, shape, dtype=torch.uint8, generator=random).to(device)
    return TrainingImages(images, images.flip(0), None)


def peak_gflops(dtype: torch.dtype, device: torch.device, side: int = 3072) -> float:
    """GFLOP/s of a large matrix product: the limit of the machine in that precision."""
    a = torch.randn(side, side, generator=generator(0, "peak")).to(device, dtype)
    times = [_time(lambda _: (a @ a, None)[1], 0, device) for _ in range(12)]
    return 2 * side**3 / statistics.median(times[2:]) / 1e9


def _gflop(step: Callable[[int], None]) -> float:
    with FlopCounterMode(display=False) as counter:
        step(0)
    return float(counter.get_total_flops()) / 1e9


def _beside(step: Callable[[int], None], first: int, pairs: int) -> dict[str, float]:
    """Seconds of a step alone and beside a busy process, and the ratio, medians over pairs."""
    busy = subprocess.Popen([sys.executable, "-c", "while True: pass"])
    alone, beside, chosen = [], [], []
    cores = SharedCores(None)
    before = cores.threads
    try:
        for iteration in range(first, first + pairs):
            for seconds, signal_ in ((alone, signal.SIGSTOP), (beside, signal.SIGCONT)):
                busy.send_signal(signal_)
                seconds.append(_time(step, iteration, torch.device("cpu")))
        for done in range(1, pairs + 5):  # the first ones show that the cores are shared
            chosen.append(_time(step, first, torch.device("cpu")))
            cores.done(done)
    finally:
        busy.kill()
        torch.set_num_threads(before)
    ratio = statistics.median(b / a for a, b in zip(alone, beside, strict=True))
    return {
        "alone_seconds": statistics.median(alone),
        "beside_seconds": statistics.median(beside),
        "beside_ratio": ratio,
        "beside_chosen_threads": cores.threads,
        "beside_chosen_seconds": statistics.median(chosen[4:]),
        "beside_chosen_ratio": statistics.median(chosen[4:]) / statistics.median(alone),
    }


# What an operation of a profile counts as, by the first of these that its name contains.
_KINDS = {
    "convolution": ("convolution",),
    "batch norm": ("batch_norm",),
    "pooling": ("pool",),
    "activation": ("clamp_min", "threshold", "relu"),
    "addition and copies": ("add_", "aten::add", "copy_", "aten::cat", "fill_", "index"),
    "losses": ("_LocalDistance", "_GlobalDistances", "sum", "square", "mul", "addcmul", "bmm"),
    "optimiser": ("adam",),
}


def _profile(step: Callable[[int], None]) -> dict[str, float]:
    """Share of the operators' own time by kind, over three steps."""
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as profile:
        for iteration in range(3):
            step(iteration)
    spent = dict.fromkeys([*_KINDS, "other"], 0.0)
    for event in profile.key_averages():
        names = (kind for kind, parts in _KINDS.items() if any(p in event.key for p in parts))
        spent[next(names, "other")] += event.self_cpu_time_total
    total = sum(spent.values())
    return {kind: round(time_ / total, 3) for kind, time_ in spent.items()}


def peak_memory_mib(device: torch.device) -> int:
    """Of the process, or of a GPU's memory; both implementations are in it."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) // 2**20
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024


def _time(step: Callable[[int], None], iteration: int, device: torch.device) -> float:
    began = time.perf_counter()
    step(iteration)
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter() - began


def _ours(expert: Encoder, data: TrainingImages, config: FitConfig) -> Callable[[int], None]:
    networks = build_networks(expert, copy.deepcopy(expert), config, data.images.device)
    autocast = autocast_for(data.images.device, "auto")
    assert networks.expert is not None
    features = CleanFeatures(networks.expert, len(data.images))

    def step(iteration: int) -> None:
        train_iteration(networks, data, config, iteration, autocast, features)

    return step


def _plain(expert: Encoder, data: TrainingImages, config: FitConfig) -> Callable[[int], None]:
    """The equations of the method, one after the other."""
    device = data.images.device
    of_student = generator(0, "student")
    model = DetectorNetwork.build(copy.deepcopy(expert), VARIANTS["urd"], of_student).to(device)
    teacher, student = model.teacher, model.student
    frozen = copy.deepcopy(expert).to(device).eval().requires_grad_(False)
    adam_t = torch.optim.Adam(teacher.parameters(), config.teacher_lr, ADAM_BETAS)
    adam_s = torch.optim.Adam(student.parameters(), config.student_lr, ADAM_BETAS)

    def step(iteration: int) -> None:
        index = batch_indices(len(data.images), config.batch_size, config.seed, iteration)
        clean = data.images[index.to(device)].float() / 255
        draw = draw_for_iteration(data, index.to(device), config, iteration)
        corrupted = corrupt(clean, data.textures[draw.texture_index].float() / 255, draw)
        x, y = clean, corrupted
        with torch.no_grad():
            e_x = frozen(x)
            e_y = frozen(y)
        teacher.train()
        t_x = teacher(x)
        t_y = teacher(y)
        loss = sum(
            _local(t_x[k], e_x[k]).mean()
            + (_local(t_y[k], e_x[k]) - _resized(draw.mask, t_x[k])).abs().mean()
            + _whole(t_y[k], e_y[k]).mean()
            for k in range(3)
        )
        adam_t.zero_grad()
        loss.backward()
        adam_t.step()
        teacher.eval()
        with torch.no_grad():
            t_x = teacher(x)
            t_y = teacher(y)
        s_x = student(t_x)
        s_y = student(t_y)
        loss = sum(
            _whole(s, target[k]).mean()
            for target in (t_x, e_x)
            for k in range(3)
            for s in (s_x[k], s_y[k])
        )
        adam_s.zero_grad()
        loss.backward()
        adam_s.step()

    return step


def _local(a: Tensor, b: Tensor) -> Tensor:
    return 1 - functional.cosine_similarity(a, b, dim=1)


def _whole(a: Tensor, b: Tensor) -> Tensor:
    return 1 - functional.cosine_similarity(a.flatten(1), b.flatten(1), dim=1)


def _resized(mask: Tensor, like: Tensor) -> Tensor:
    return (functional.interpolate(mask, like.shape[2:], mode="bilinear")[:, 0] >= 0.5).float()


if __name__ == "__main__":
    main()
