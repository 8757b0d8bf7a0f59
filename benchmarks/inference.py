"""Measures latency and throughput of each way to compute scores, on one core and on two.

    python benchmarks/inference.py [--backbones resnet18.tv_in1k builtin] [--student slim]

`plain` is the trained model in float32, in the default memory layout, without folding. All ratios
refer to it. The other ways are those of `Detector.load`: torch in float32, torch in bfloat16 if the
machine supports it, and the files of `urd export`. The input is uint8 RGB at 256 px, the output map
and score. GFLOP count the convolutions. The peak is a large matrix product in the same precision
and process. Weights are random: the time does not depend on their values. Each number of cores is
measured in its own process, bound to these cores.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from urd.networks.student import Size

SIDE = 256
BATCHES = (1, 8)
_SECONDS = 3.0
_PEAK_SIDE = 3072


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--backbones",
        nargs="+",
        default=["builtin", "resnet18.tv_in1k", "wide_resnet50_2.tv_in1k"],
    )
    parser.add_argument("--variant", default="urd")
    parser.add_argument("--student", choices=("full", "slim"), default="full")
    parser.add_argument("--cores", nargs="+", type=int, default=[1, 2])
    parser.add_argument("--json", type=Path, default=Path("benchmarks/results/inference.json"))
    parser.add_argument("--worker", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.worker:
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: options.worker])
        for row in measured(options.backbones, options.variant, options.student):
            print(json.dumps({"cores": options.worker, **row}), flush=True)
        return
    from urd.system.files import write_json
    from urd.system.machine import machine

    rows: list[dict[str, Any]] = []
    for cores in options.cores:
        command = [sys.executable, __file__, "--worker", str(cores), "--variant", options.variant]
        command += ["--student", options.student, "--backbones", *options.backbones]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as worker:
            assert worker.stdout is not None
            for line in worker.stdout:
                rows.append(json.loads(line))
                print(_line(rows[-1]), flush=True)
        if worker.returncode != 0:
            raise SystemExit(f"the measurement on {cores} cores failed; nothing was written")
    what = {"variant": options.variant, "student": options.student}
    write_json(options.json, {**what, "rows": rows, "machine": machine()})


def measured(backbones: list[str], variant: str, student: Size) -> Iterator[dict[str, Any]]:
    """One row per backbone, way and batch size."""
    import torch

    torch.set_num_threads(len(os.sched_getaffinity(0)))
    peaks = {name: _peak(getattr(torch, name)) for name in _precisions()}
    for tag in backbones:
        plain: dict[int, float] = {}
        for way, precision, size_mb, call, gflop in _ways(tag, variant, student):
            for batch in BATCHES:
                seconds = _median_seconds(lambda call=call, batch=batch: call(batch))
                plain.setdefault(batch, seconds)
                rate = gflop * batch / seconds
                yield {
                    "backbone": tag,
                    "way": way,
                    "batch": batch,
                    "ms_per_image": round(1000 * seconds / batch, 2),
                    "images_per_second": round(batch / seconds, 1),
                    "faster_than_plain": round(plain[batch] / seconds, 2),
                    "share_of_peak": round(rate / peaks[precision], 3) if precision else None,
                    "gflop_per_image": round(gflop, 1),
                    "file_mb": size_mb,
                }


def _ways(
    tag: str, variant: str, student: Size
) -> Iterator[tuple[str, str | None, float | None, Callable[[int], object], float]]:
    """Name, precision of the peak for comparison, file size, the call, GFLOP per image."""
    import numpy as np
    import torch
    from PIL import Image
    from torch.utils.flop_counter import FlopCounterMode

    from urd import Detector
    from urd.backbones.registry import backbone_of
    from urd.config import FitConfig
    from urd.demo.dataset import render_sample
    from urd.engines.registry import ENGINES, open_exported
    from urd.engines.torch_engine import TorchEngine
    from urd.export.files import Export, export
    from urd.inspection.scoring import Scorer
    from urd.model.header import ModelHeader
    from urd.networks.detector_network import DetectorNetwork
    from urd.networks.variants import VARIANTS
    from urd.system.seeding import generator

    cpu = torch.device("cpu")
    config = FitConfig(backbone=(tag,), variant=variant, student=student, image_size=(SIDE, SIDE))
    backbone = backbone_of(tag, "none")
    encoder = backbone.load(generator(0, "encoder"))
    random = generator(0, "student")
    model = DetectorNetwork.build(encoder, VARIANTS[variant], random, student).eval()
    header = ModelHeader(config, backbone.mean, backbone.std, (0.0, 1.0))
    pixels = np.random.default_rng(0).integers(0, 256, (max(BATCHES), SIDE, SIDE, 3), np.uint8)

    def plainly(batch: int) -> object:
        with torch.inference_mode():
            rgb = torch.from_numpy(pixels[:batch]).permute(0, 3, 1, 2).float() / 255
            maps, scores = Scorer()(model(rgb.contiguous()), (SIDE, SIDE))
            return scores.numpy(), maps.numpy()

    with FlopCounterMode(display=False) as counter:
        plainly(1)
    gflop = counter.get_total_flops() / 1e9
    yield "plain, torch float32", "float32", None, plainly, gflop
    for precision in _precisions():
        engine = TorchEngine(model, header, cpu, precision)
        yield (
            f"torch {precision}",
            precision,
            None,
            lambda batch, engine=engine: engine(pixels[:batch], None),
            gflop,
        )
    detector = Detector(TorchEngine(model, header, cpu, "float32"), header)
    with tempfile.TemporaryDirectory() as folder:
        images = []
        for index in range(16):
            images.append(Path(folder, f"{index}.png"))
            rendered, _ = render_sample("denim", None, "train", index, 0)
            Image.fromarray(rendered).save(images[-1])
        for form, suffix in ((e.format, e.suffix) for e in ENGINES):
            for precision in ("float32", "float16", "int8"):
                out = Path(folder, f"{form}-{precision}{suffix}")
                export(detector, out, Export(form, precision), images, images)
                beside = out.with_suffix(".bin") if form == "openvino" else out
                size_mb = round(beside.stat().st_size / 1e6, 1)
                opened = open_exported(out)
                of_peak = "float32" if precision == "float32" else None
                yield (
                    f"{form} {precision}",
                    of_peak,
                    size_mb,
                    lambda batch, opened=opened: opened(pixels[:batch], None),
                    gflop,
                )


def _precisions() -> list[str]:
    """float32, and bfloat16 if the machine has instructions for it."""
    import torch

    from urd.system.machine import computes_in_bfloat16

    return ["float32", *(["bfloat16"] if computes_in_bfloat16(torch.device("cpu")) else [])]


def _peak(dtype: Any) -> float:
    """GFLOP/s of a large matrix product."""
    import torch

    a = torch.randn(_PEAK_SIDE, _PEAK_SIDE).to(dtype)
    seconds = _median_seconds(lambda: a @ a)
    return 2 * _PEAK_SIDE**3 / seconds / 1e9


def _median_seconds(call: Callable[[], object]) -> float:
    for _ in range(2):
        call()
    times: list[float] = []
    while sum(times) < _SECONDS or len(times) < 3:
        began = time.perf_counter()
        call()
        times.append(time.perf_counter() - began)
    return statistics.median(times)


def _line(row: dict[str, Any]) -> str:
    peak = "" if row["share_of_peak"] is None else f"  {100 * row['share_of_peak']:.0f} % of peak"
    return (
        f"{row['cores']} cores  {row['backbone']:<24} {row['way']:<22} batch {row['batch']}  "
        f"{row['ms_per_image']:8.2f} ms/image  {row['faster_than_plain']:5.2f}x{peak}"
    )


if __name__ == "__main__":
    main()
