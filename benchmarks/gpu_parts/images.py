"""The packed images, and networks with random weights."""

from __future__ import annotations

import json
from typing import Any

import torch

from gpu_parts.pack import CONTENTS, DATA, WEIGHTS
from gpu_parts.parts import Setting
from urd.backbones.encoder import Encoder
from urd.backbones.registry import backbone_of
from urd.config import FitConfig
from urd.data import decode_all, read_layout
from urd.synthesis.foreground import foreground_masks
from urd.system.seeding import generator
from urd.training.training_data import TrainingImages

WIDE, RESNET18 = "wide_resnet50_2.tv_in1k", "resnet18.tv_in1k"
_DRY = "test_resnet.r160_in1k"


def config_of(setting: Setting, tag: str, **changes: Any) -> FitConfig:
    """The default settings of `urd fit` at batch 16; tiny ones in a dry run."""
    side = 64 if setting.dry else json.loads((setting.pack / CONTENTS).read_text())["image_size"]
    return FitConfig(
        backbone=(_DRY if setting.dry else tag,),
        weights="none",
        batch_size=2 if setting.dry else 16,
        image_size=(side, side),
        device=setting.device,
        **changes,
    )


def untrained(config: FitConfig) -> Encoder:
    return backbone_of(config.tag, "none").load(generator(0, "encoder"))


def images_of(setting: Setting, config: FitConfig) -> TrainingImages:
    """The packed good images with their foreground; turned over they serve as textures."""
    paths = [sample.path for sample in read_layout(setting.pack / DATA).train]
    decoded = decode_all(paths, config.image_size).images
    foreground, _ = foreground_masks(list(decoded), "auto")
    images = torch.from_numpy(decoded).permute(0, 3, 1, 2).to(config.device)
    if foreground is not None:
        foreground = foreground.to(config.device)
    return TrainingImages(images, images.flip(0, 2), foreground)


def weights_of(setting: Setting) -> str:
    return "none" if setting.dry else str(setting.pack / WEIGHTS)
