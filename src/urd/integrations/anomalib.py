"""The method as a model of anomalib (https://github.com/open-edge-platform/anomalib).

    from anomalib.data import MVTecAD
    from anomalib.engine import Engine
    from urd.anomalib import Urd

    engine = Engine(max_epochs=40)
    engine.fit(model=Urd(backbone="builtin"), datamodule=MVTecAD(category="screw"))

Training, networks, loss and map are those of `urd fit`. Splits, thresholds and metrics are
anomalib's. Its export is not supported, see `Urd`. This module needs an extra:
`pip install 'urd-inspect[anomalib]'`.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any, NoReturn

import torch
from anomalib import LearningType
from anomalib.data import ImageBatch, InferenceBatch
from anomalib.models.components import AnomalibModule
from anomalib.pre_processing import PreProcessor
from lightning.pytorch.utilities.types import STEP_OUTPUT
from torch import Tensor, nn
from torch.optim import Optimizer
from torchvision.transforms.v2 import Compose, Resize

from urd.backbones.base import Backbone
from urd.backbones.registry import backbone_of, choose_backbone
from urd.config import FitConfig
from urd.errors import UsageError
from urd.inspection.scoring import Scorer
from urd.networks.detector_network import DetectorNetwork
from urd.networks.variants import VARIANTS
from urd.synthesis.corruption import corrupt, draw_corruption
from urd.synthesis.foreground import foreground_masks
from urd.system.seeding import generator
from urd.training.loop import autocast_for
from urd.training.prepare import adam, prepare_networks
from urd.training.schedule import set_learning_rates
from urd.training.step import Networks, train_with_expert, train_without_expert
from urd.training.synthesis_inputs import read_textures

_VARIANTS = [name for name, variant in VARIANTS.items() if not variant.memory]
_FOREGROUNDS = ("none", "otsu", "grabcut")
_NO_EXPORT = (
    "anomalib's export resizes without antialiasing, so its files would give other scores than its "
    "Engine: train with urd fit and export with urd export, or use urd.Detector in Python"
)


class UrdNetworks(nn.Module):
    """Images (B, 3, H, W) in [0, 1] to anomalib's `InferenceBatch` of score and map.

    The expert is a submodule, so that it moves to the device with teacher and student. It is never
    trained, and its normalisation layers stay in evaluation mode.
    """

    def __init__(self, config: FitConfig) -> None:
        super().__init__()
        self.backbone = backbone_of(config.tag, config.weights)
        encoder = self.backbone.load(generator(config.seed, "encoder"))
        networks = prepare_networks(self.backbone, encoder, config, torch.device("cpu"), None)
        self.pair: DetectorNetwork = networks.model
        # Not the folded copy for this CPU, because the Engine chooses device and precision.
        frozen = encoder.requires_grad_(False).eval()
        self.expert = frozen if networks.expert is not None else None

    def train(self, mode: bool = True) -> UrdNetworks:
        """Always evaluation mode: the training step sets training mode where it is needed."""
        return super().train(False)

    def forward(self, images: Tensor) -> InferenceBatch:
        maps, scores = Scorer()(self.pair(images), (images.shape[2], images.shape[3]))
        return InferenceBatch(pred_score=scores, anomaly_map=maps[:, None])


class Urd(AnomalibModule):
    """Expert, teacher and student, trained by anomalib's `Engine` on its data modules.

    Args:
        variant, backbone, weights, textures, seed, mask_resize, student_lr, teacher_lr, precision:
            as for `urd fit`; the defaults are the paper's settings.
        image_size: (height, width), multiples of 32.
        foreground: where to paint anomalies: `none`, `otsu` or `grabcut`, found per image.

    Each step sets the learning rates from the settings and the iteration, so a scheduler has no
    effect. With an expert there are two optimisers, so Lightning counts two steps per batch: for
    5,000 iterations pass `max_steps=10_000`.

    anomalib's export raises an error. It resizes without antialiasing, so its files would give
    other scores than its Engine. `urd fit` and `urd export` make files that agree.

    Raises:
        UsageError: a setting cannot be used.
    """

    def __init__(
        self,
        variant: str = "urd",
        backbone: str = "wide_resnet50_2.tv_in1k,builtin",
        weights: str = "auto",
        textures: str = "procedural",
        foreground: str = "none",
        image_size: tuple[int, int] = (256, 256),
        seed: int = 0,
        mask_resize: str = "chained",
        student_lr: float = 0.005,
        teacher_lr: float = 0.0001,
        precision: str = "auto",
        pre_processor: nn.Module | bool = True,
        post_processor: nn.Module | bool = True,
        evaluator: Any = True,
        visualizer: Any = True,
    ) -> None:
        if variant not in _VARIANTS:
            raise UsageError(
                f"variant '{variant}': choose from {', '.join(_VARIANTS)}; a memory needs urd fit"
            )
        if foreground not in _FOREGROUNDS:
            raise UsageError(f"foreground '{foreground}': choose from {', '.join(_FOREGROUNDS)}")
        config = FitConfig.from_mapping(
            {
                "variant": variant,
                "backbone": backbone,
                "weights": weights,
                "textures": textures,
                "foreground": foreground,
                "image_size": image_size,
                "seed": seed,
                "mask_resize": mask_resize,
                "student_lr": student_lr,
                "teacher_lr": teacher_lr,
                "precision": precision,
                "schedule": "constant",  # the number of iterations is the Engine's
            }
        )
        chosen = choose_backbone(config.backbone, config.weights)
        self.config = replace(config, backbone=(chosen.tag,))
        if pre_processor is True:
            pre_processor = self.configure_pre_processor(self.config.image_size)
        super().__init__(pre_processor, post_processor, evaluator, visualizer)
        self.automatic_optimization = False  # the teacher steps before the student
        self.model: UrdNetworks = UrdNetworks(self.config)
        self.textures: Tensor | None = None
        self._trained = False

    @staticmethod
    def configure_pre_processor(image_size: tuple[int, int] | None = None) -> PreProcessor:
        """Only resize: textures are blended into images before normalisation."""
        return PreProcessor(transform=Compose([Resize(image_size or (256, 256), antialias=True)]))

    def forward(self, batch: Tensor, *args: Any, **kwargs: Any) -> Any:
        """Images (B, 3, H, W) in [0, 1] of any size, resized as in the Engine.

        anomalib's own `forward` resizes without antialiasing.
        """
        transform: Any = getattr(self.pre_processor, "transform", None)
        found = self.model(transform(batch) if transform else batch)
        return self.post_processor(found) if self.post_processor else found

    def to_torch(self, *args: Any, **kwargs: Any) -> NoReturn:
        """Raise `UsageError`, like `to_onnx` and `to_openvino`, which `Engine.export` calls."""
        raise UsageError(_NO_EXPORT)

    def to_onnx(self, *args: Any, **kwargs: Any) -> NoReturn:
        raise UsageError(_NO_EXPORT)

    def to_openvino(self, *args: Any, **kwargs: Any) -> NoReturn:
        raise UsageError(_NO_EXPORT)

    def configure_optimizers(self) -> list[Optimizer]:
        """The student's optimiser and, with an expert, the teacher's."""
        student = self.model.pair.student
        assert student is not None
        found: list[Optimizer] = [adam(student, self.config.student_lr)]
        if self.model.expert is not None:
            found.append(adam(self.model.pair.teacher, self.config.teacher_lr))
        return found

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Remember that these weights come from a training."""
        super().on_load_checkpoint(checkpoint)
        self._trained = True

    def on_test_start(self) -> None:
        """Refuse to test a student that has learnt nothing.

        Raises:
            UsageError: `Engine.fit` had another object, or none.
        """
        if not self._trained:
            raise UsageError(
                "this Urd is not trained: give Engine.test the object that Engine.fit had, or a "
                "ckpt_path"
            )

    def on_fit_start(self) -> None:
        """Move the textures to the device, one byte per value."""
        self.textures = read_textures(self.config).to(self.device)

    def on_train_start(self) -> None:
        """Prepare the built-in backbone with good images before the training."""
        backbone, pair = self.model.backbone, self.model.pair
        if not backbone.images_to_prepare(*self.config.image_size):
            return
        images = self._good_images(backbone)
        if self.model.expert is not None:
            backbone.prepare(self.model.expert, pair.teacher, images)
        else:
            backbone.prepare(pair.teacher, None, images)
        # Each process saw other images, so all take the state of the first one.
        self.model.load_state_dict(self.trainer.strategy.broadcast(self.model.state_dict()))

    def _good_images(self, backbone: Backbone) -> Tensor:
        """(N, 3, H, W) uint8, as training sees them; the order of later batches does not change."""
        found: list[Tensor] = []
        # Not the whole pre-processor: outside training it resizes without antialiasing.
        resize: Any = getattr(self.pre_processor, "transform", None) or nn.Identity()
        with torch.random.fork_rng(devices=[]):
            loader: Any = self.trainer.train_dataloader
            for batch in loader:
                found += (resize(batch.image).clamp(0, 1) * 255).round().byte()
                if len(found) >= backbone.images_to_prepare(*found[0].shape[1:]):
                    break
        return torch.stack(found)

    def training_step(self, batch: ImageBatch, batch_idx: int) -> None:
        """One iteration of the method on the batch's good images; logs the losses."""
        optimizers: Any = self.optimizers()  # Lightning's wrappers, which count the steps
        student, *others = optimizers if isinstance(optimizers, list) else [optimizers]
        teacher = others[0] if others else None
        networks = Networks(self.model.pair, student, self.model.expert, teacher)
        iteration = self.global_step // (1 + len(others))
        set_learning_rates(networks, self.config, iteration)
        autocast = autocast_for(self.device, self.config.precision)
        assert batch.image is not None
        clean = batch.image.clamp(0, 1)
        if networks.expert is None:
            losses = train_without_expert(networks, clean, autocast)
        else:
            corrupted, mask = self._corrupted(clean)
            losses = train_with_expert(
                networks,
                clean,
                corrupted,
                mask,
                self.config.mask_resize,
                autocast,
            )
        self._trained = True
        self.log_dict({f"loss_{name}": value for name, value in losses.items()}, prog_bar=True)
        self.model.eval()

    def _corrupted(self, clean: Tensor) -> tuple[Tensor, Tensor]:
        """x~ and M, seeded by Lightning's step, so that a resumed training draws the same."""
        assert self.textures is not None
        draw = draw_corruption(
            self._foreground(clean),
            (clean.shape[2], clean.shape[3]),
            len(clean),
            len(self.textures),
            generator(self.config.seed, "synthesis", self.global_step),
            clean.device,
        )
        textures = self.textures[draw.texture_index].float() / 255
        return corrupt(clean, textures, draw), draw.mask

    def _foreground(self, clean: Tensor) -> Tensor | None:
        pixels = (clean * 255).round().byte().permute(0, 2, 3, 1).cpu().numpy()
        masks, _ = foreground_masks(list(pixels), self.config.foreground)
        return None if masks is None else masks.to(clean.device)

    def validation_step(self, batch: ImageBatch, batch_idx: int) -> STEP_OUTPUT:
        """Scores and maps of the batch, for anomalib's thresholds and metrics."""
        return batch.update(**self.model(batch.image)._asdict())

    @property
    def trainer_arguments(self) -> dict[str, Any]:
        return {"num_sanity_val_steps": 0}

    @property
    def learning_type(self) -> LearningType:
        return LearningType.ONE_CLASS
