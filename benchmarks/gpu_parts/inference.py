"""Latency and throughput of the engine that `urd predict` uses."""

from __future__ import annotations

import numpy as np
import torch

from gpu_parts import images
from gpu_parts.parts import Report, Setting
from gpu_parts.timing import forget_memory, median_seconds, memory_mib
from urd.backbones.registry import backbone_of
from urd.engines.torch_engine import TorchEngine
from urd.model.header import ModelHeader
from urd.networks.detector_network import DetectorNetwork
from urd.networks.folding import InferenceNetworks
from urd.networks.variants import VARIANTS
from urd.system.seeding import generator
from urd.training.gpu_iterations import own_stream, record_graph


def inference(report: Report, setting: Setting) -> None:
    """From uint8 images in main memory to maps and scores in main memory; median of calls.

    `recorded_milliseconds` is the time of the networks alone at batch 1, if one call starts all
    their operations: what an engine that records them could reach.
    """
    device = torch.device(setting.device)
    rows = []
    for tag in (images.WIDE, images.RESNET18)[: 1 if setting.dry else 2]:
        config = images.config_of(setting, tag)
        backbone = backbone_of(config.tag, "none")
        expert = images.untrained(config)
        random = generator(0, "student")
        model = DetectorNetwork.build(expert, VARIANTS["urd"], random, config.student).eval()
        header = ModelHeader(config, backbone.mean, backbone.std, (0.0, 1.0))
        for precision in ("bfloat16", "float32"):
            forget_memory(device)
            engine = TorchEngine(model, header, device, precision)
            for batch in (1, 8, 64)[: 1 if setting.dry else 3]:
                shape = (batch, *config.image_size, 3)
                pixels = np.random.default_rng(0).integers(0, 256, shape, np.uint8)

                def judge(engine: TorchEngine = engine, pixels: np.ndarray = pixels) -> object:
                    return engine(pixels, None)

                seconds = median_seconds(judge, device, calls=40, most_seconds=1.0)
                rows.append(
                    {
                        "backbone": config.tag,
                        "precision": precision,
                        "batch": batch,
                        "milliseconds": round(1000 * seconds, 3),
                        "images_per_second": round(batch / seconds, 1),
                        "memory_mib": memory_mib(device),
                    }
                )
                report(rows=rows)
            if device.type == "cuda":
                rows[-1]["recorded_milliseconds"] = _recorded(model, config.image_size, precision)
                report(rows=rows)


@torch.inference_mode()
def _recorded(model: DetectorNetwork, size: tuple[int, int], precision: str) -> float | str:
    device = torch.device("cuda")
    networks = InferenceNetworks(model.to(device), precision)
    image = torch.rand(1, 3, *size, device=device)

    def run() -> dict[str, torch.Tensor]:
        _, student = networks(image)
        return {"finest": student[0]}

    with own_stream(device):
        for _ in range(3):
            run()
        try:
            repeat, _ = record_graph(run)
        except RuntimeError as error:
            return str(error)[:300]
        seconds = median_seconds(repeat, device, calls=40, most_seconds=1.0)
    return round(1000 * seconds, 3)
