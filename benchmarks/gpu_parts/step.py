"""The training step: ours, a plain one, and the limit of the card."""

from __future__ import annotations

import copy
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import count
from typing import Any

import torch
import training_step
from torch.utils.flop_counter import FlopCounterMode

from gpu_parts import images
from gpu_parts.card import nvidia_smi
from gpu_parts.parts import Report, Setting
from gpu_parts.timing import finish, forget_memory, memory_mib, seconds_of
from urd.backbones.encoder import Encoder
from urd.config import FitConfig
from urd.networks.kernels import exact_kernels
from urd.system.machine import precision_on
from urd.training.gpu_iterations import own_stream
from urd.training.loop import Iterations, iterations
from urd.training.prepare import build_networks
from urd.training.schedule import set_learning_rates
from urd.training.step import Networks
from urd.training.training_data import TrainingImages


class Ours:
    """Our iterations in order, as in a training.

    Attributes:
        seconds_to_start: until the step was recorded: with the expert's features of all images.
    """

    def __init__(
        self,
        expert: Encoder,
        data: TrainingImages,
        config: FitConfig,
        *,
        record: bool = True,
        change: Callable[[Networks], None] = lambda networks: None,
    ) -> None:
        self.config = config
        self.device = data.images.device
        self._numbers = count()
        began = time.perf_counter()
        with exact_kernels(self.device):
            self.networks = build_networks(
                expert, _teacher(expert, self.device), config, self.device
            )
            change(self.networks)
            self.once: Iterations = iterations(self.networks, data, config, 0, record=record)
            for _ in range(6):  # also the first repetitions of a recorded step
                self()
            finish(self.device)
        self.seconds_to_start = time.perf_counter() - began

    def __call__(self) -> None:
        iteration = next(self._numbers)
        set_learning_rates(self.networks, self.config, iteration)
        self.once(iteration)

    @property
    def recorded(self) -> bool:
        return bool(getattr(self.once, "recorded", False))


def _teacher(expert: Encoder, device: torch.device) -> Encoder:
    return copy.deepcopy(expert).to(device).to(memory_format=torch.channels_last)


def step(report: Report, setting: Setting) -> None:
    """Times ours and a plain step alternately, then counts operations and looks where time goes.

    Plain is float32, one forward pass at a time, without kept features, in the default memory
    layout, with PyTorch's default Adam: see `training_step.py`. Both draw their batches.
    """
    config = images.config_of(setting, images.WIDE)
    device = torch.device(setting.device)
    expert, data = images.untrained(config), images.images_of(setting, config)
    block = 2 if setting.dry else 20
    report(
        backbone=config.tag,
        weights="random: the time does not depend on them",
        batch_size=config.batch_size,
        image_size=config.image_size[0],
        images=len(data.images),
        precision=precision_on(device, config.precision),
    )
    with own_stream(device):
        forget_memory(device)
        ours = Ours(expert, data, config)
        seconds = [_block(ours, block, device) for _ in range(1 if setting.dry else 5)]
        report(
            urd_seconds=statistics.median(seconds),
            urd_range=[min(seconds), max(seconds)],
            recorded=ours.recorded,
            seconds_to_start=ours.seconds_to_start,
            memory_mib=memory_mib(device),
            nvidia_smi_under_load=nvidia_smi(),
        )
        _against_plain(report, setting, ours, expert, data)
        ours.once.close()
        del ours
        forget_memory(device)
        _peak(report, setting, config, statistics.median(seconds), expert, data)


def _block(step: Callable[[], object], times: int, device: torch.device) -> float:
    """Mean seconds of several steps one after the other, without a wait between them."""
    return seconds_of(lambda: [step() for _ in range(times)], device) / times


def _against_plain(
    report: Report, setting: Setting, ours: Ours, expert: Encoder, data: TrainingImages
) -> None:
    device = ours.device
    plain = training_step._plain(expert, data, ours.config)
    numbers = count()

    def plainly() -> None:
        plain(next(numbers))

    found: dict[str, list[tuple[float, float]]] = {"plain_float32": [], "plain_tf32": []}
    for way, rows in found.items():
        with _tf32(way == "plain_tf32"):
            for _ in range(1 if setting.dry else 3):  # chooses kernels
                plainly()
            for _ in range(1 if setting.dry else 4):
                mine = _block(ours, 2 if setting.dry else 20, device)
                rows.append((mine, _block(plainly, 1 if setting.dry else 4, device)))
        ratios = [theirs / mine for mine, theirs in rows]
        report(
            **{
                f"{way}_seconds": statistics.median(theirs for _, theirs in rows),
                f"faster_than_{way}": statistics.median(ratios),
                f"faster_than_{way}_range": [min(ratios), max(ratios)],
            }
        )


@contextmanager
def _tf32(on: bool) -> Iterator[None]:
    """TensorFloat-32 for products and convolutions, or for neither."""
    owners: tuple[Any, ...] = (torch.backends.cudnn, torch.backends.cuda.matmul)
    before = [owner.allow_tf32 for owner in owners]
    for owner in owners:
        owner.allow_tf32 = on
    try:
        yield
    finally:
        for owner, value in zip(owners, before, strict=True):
            owner.allow_tf32 = value


def _peak(
    report: Report,
    setting: Setting,
    config: FitConfig,
    seconds: float,
    expert: Encoder,
    data: TrainingImages,
) -> None:
    """The share of the rate of a large matrix product; then the step without a recording."""
    device = torch.device(setting.device)
    side = 256 if setting.dry else 8192
    peak = training_step.peak_gflops(torch.bfloat16, device, side)
    report(peak_bfloat16_gflop_per_second=peak)
    eager = Ours(expert, data, config, record=False)
    with FlopCounterMode(display=False) as counter:
        eager()
    gflop = counter.get_total_flops() / 1e9
    report(gflop=gflop, gflop_per_second=gflop / seconds, share_of_peak=gflop / seconds / peak)
    report(not_recorded_seconds=_block(eager, 2 if setting.dry else 20, device))
    report(kernels=_kernels(eager, device))
    eager.once.close()


# What a kernel of a profile counts as, by the first of these that its name contains.
_KINDS = {
    "copy to or from the GPU": ("memcpy", "memset"),
    "batch norm": ("batch_norm", "bn_fw", "bn_bw"),
    "optimiser": ("adam", "multi_tensor"),
    "pooling": ("pool",),
    "convolution": ("conv", "fprop", "dgrad", "wgrad", "xmma", "cudnn", "implicit", "nchwtonhwc"),
    "matrix product": ("gemm", "gemv", "cublas", "splitk", "cutlass", "nvjet"),
    "sums": ("reduce",),
    "choice of elements": ("index", "gather", "scatter"),
    "elementwise": (
        "elementwise",
        "cat",
    ),
}


def _kernels(step: Callable[[], object], device: torch.device) -> dict[str, Any]:
    """Time of the kernels of a step by kind, and the ten that take longest, over three steps."""
    if device.type != "cuda":
        return {}
    steps = 3
    activities = [torch.profiler.ProfilerActivity.CUDA]
    with torch.profiler.profile(activities=activities) as profile:
        for _ in range(steps):
            step()
        finish(device)
    spent = dict.fromkeys([*_KINDS, "other"], 0.0)
    events = [event for event in profile.key_averages() if event.self_device_time_total > 0]
    for event in events:
        name = event.key.lower()
        kinds = (kind for kind, parts in _KINDS.items() if any(part in name for part in parts))
        spent[next(kinds, "other")] += event.self_device_time_total / 1000 / steps
    events.sort(key=lambda event: -event.self_device_time_total)
    return {
        "milliseconds_by_kind": {kind: round(time_, 3) for kind, time_ in spent.items()},
        "kernels_per_step": round(sum(event.count for event in events) / steps),
        "longest": [
            [event.key[:120], round(event.self_device_time_total / 1000 / steps, 3)]
            for event in events[:10]
        ],
    }


def compiled(report: Report, setting: Setting) -> None:
    """The step with teacher, student and expert through torch.compile, recorded and not."""
    config = images.config_of(setting, images.WIDE)
    device = torch.device(setting.device)
    expert, data = images.untrained(config), images.images_of(setting, config)

    def compile_all(networks: Networks) -> None:
        assert networks.expert is not None
        for network in (networks.model.teacher, networks.student, networks.expert):
            network.compile(dynamic=False)

    with own_stream(device):
        ours = Ours(expert, data, config, change=compile_all)
        report(
            seconds_to_start=ours.seconds_to_start,
            recorded=ours.recorded,
            urd_seconds=_block(ours, 2 if setting.dry else 40, device),
            memory_mib=memory_mib(device),
        )
        ours.once.close()
