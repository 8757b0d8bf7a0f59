"""Every training option, defined once: dataclass field = YAML key = flag = Python argument."""

from __future__ import annotations

import dataclasses
import typing
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, TypedDict

from urd.errors import UsageError, first_line, quoted
from urd.option_values import convert
from urd.presets import of_preset, overridden
from urd.system.documents import read_yaml

Variant = Literal["rd", "rd-e", "rd-gii", "urd", "urd-skip", "memory", "urd-memory"]
ScoreName = Literal["auto", "paper", "weighted", "squared"]
Precision = Literal["auto", "float32", "bfloat16"]
Scope = Literal["model", "training", "machine"]
Group = Literal["data", "training", "inspection", "advanced"]


def _option(default: Any, help_text: str, scope: Scope, group: Group, *, path: bool = False) -> Any:
    """One option.

    Args:
        scope: what the option affects. model: what is computed from an image; training: how the
            weights are found; machine: where files are and what the machine can do. The value of
            a machine option never changes a result.
        group: the heading in `urd fit --help`.
        path: the value may be the path of a file or folder. Its content counts, not its place.
    """
    return field(
        default=default, metadata={"help": help_text, "scope": scope, "group": group, "path": path}
    )


@dataclass(frozen=True)
class FitConfig:
    """Settings of one training.

    The defaults are the paper's settings, except for the learning rates of the first and the last
    iterations; the preset `paper` has also those.
    """

    variant: Variant = _option("urd", "Parts of the method to use.", "model", "training")
    backbone: tuple[str, ...] = _option(
        ("wide_resnet50_2.tv_in1k", "builtin"),
        "Pretrained encoder: builtin, or a timm tag. Separate several with commas: the first one "
        "with available weights is used.",
        "model",
        "training",
    )
    weights: str = _option(
        "auto",
        "Weight file of the encoder. auto: the shipped file, timm's cache, or timm's download; "
        "none: untrained.",
        "machine",
        "training",
        path=True,
    )
    score: ScoreName = _option(
        "paper",
        "How image and map are scored. paper: by the highest cosine distance; weighted, squared: "
        "see docs/accuracy.md; auto: the best of them on held-out images with drawn defects.",
        "model",
        "inspection",
    )
    student: Literal["full", "slim"] = _option(
        "full",
        "full: mirrors the encoder, as in the paper; slim: needs several times fewer operations.",
        "model",
        "training",
    )
    memory: int = _option(
        8192,
        "Variants with a memory: how many features of good places to remember.",
        "model",
        "training",
    )
    textures: str = _option(
        "procedural",
        "Folder of texture images for synthetic anomalies, or procedural.",
        "machine",
        "data",
        path=True,
    )
    foreground: str = _option(
        "auto",
        "Where to paint synthetic anomalies: auto, none, otsu, grabcut, or a folder of masks.",
        "training",
        "data",
        path=True,
    )
    roi: str = _option(
        "",
        "Region of interest: a mask image (white is inspected), polygons in JSON, or a folder with "
        "one mask or polygon file per image. Empty: the whole image.",
        "training",
        "inspection",
        path=True,
    )
    ignore: str = _option(
        "",
        "Region to leave out, in the same form as --roi.",
        "training",
        "inspection",
        path=True,
    )
    iterations: int = _option(
        5000,
        "Number of training iterations. auto: 300, and on to 3000 while the student still gets "
        "better on held-out good images.",
        "training",
        "training",
    )
    most_iterations: int = _option(
        0,
        "Go on to this number while the student still gets better on held-out good images. 0: do "
        "not go on.",
        "training",
        "advanced",
    )
    epochs: float = _option(
        0.0,
        "At least so many passes over the training images: with many of them, more than "
        "--iterations. 0: --iterations alone.",
        "training",
        "advanced",
    )
    batch_size: int = _option(16, "Images per iteration.", "training", "training")
    image_size: tuple[int, int] = _option(
        (256, 256),
        "Input size of the network, N or HEIGHTxWIDTH, in multiples of 32.",
        "model",
        "training",
    )
    seed: int = _option(0, "Seed of all random numbers.", "training", "training")
    device: str = _option("auto", "auto, cpu, cuda or cuda:N.", "machine", "training")
    precision: Precision = _option(
        "auto",
        "auto: bfloat16 if the hardware supports it, else float32.",
        "training",
        "advanced",
    )
    holdout: float = _option(
        0.1,
        "Share of good images held out for validation, at least 8 images; 0: none.",
        "training",
        "data",
    )
    holdout_by: str = _option(
        "",
        "Hold out whole folders at random (folder), or the good images whose paths fit a pattern "
        "such as 'day3/*'. Empty: single images at random.",
        "training",
        "data",
    )
    validate_every: int = _option(
        0,
        "Iterations between validations; 0: ten validations, at least 50 iterations apart.",
        "training",
        "advanced",
    )
    mask_resize: Literal["chained", "direct"] = _option(
        "chained",
        "How defect masks are resized for the feature levels. chained: each from the level before; "
        "direct: each from the full mask.",
        "training",
        "advanced",
    )
    student_lr: float = _option(0.005, "Learning rate of the student.", "training", "advanced")
    teacher_lr: float = _option(0.0001, "Learning rate of the teacher.", "training", "advanced")
    warm_up: int = _option(
        20,
        "Iterations in which the student's learning rate rises to its full value.",
        "training",
        "advanced",
    )
    schedule: Literal["constant", "cosine", "decay"] = _option(
        "decay",
        "Learning rates. constant: as in the paper; cosine: they fall to 0 along half a cosine; "
        "decay: they fall to 0 in the last 30 % of the iterations.",
        "training",
        "advanced",
    )
    checkpoint_seconds: float = _option(
        120.0, "Seconds between checkpoints.", "machine", "advanced"
    )
    white_level: int = _option(
        65535,
        "16-bit value that means white; 4095 for 12-bit cameras.",
        "model",
        "data",
    )
    max_megapixels: int = _option(
        100, "Largest image to read, in millions of pixels.", "machine", "data"
    )
    page: int = _option(
        0,
        "Page or frame to read from a file with several, from 1. 0: such a file is an error.",
        "model",
        "data",
    )

    def __post_init__(self) -> None:
        if isinstance(self.backbone, str):  # one name is enough
            object.__setattr__(
                self, "backbone", convert("backbone", tuple[str, ...], self.backbone)
            )
        if self.warm_up == -1:  # files that are older than the default name it so
            object.__setattr__(self, "warm_up", 20)
        for name, (low, high) in _LIMITS.items():
            value = getattr(self, name)
            if not low <= value <= high:
                raise UsageError(f"{name} is {quoted(value)}; it must be between {low} and {high}")
        if Path(self.holdout_by).is_absolute():  # it stands in model files, which hold no path
            raise UsageError(
                f"holdout_by is {quoted(self.holdout_by)}; give a pattern that fits the end of "
                "paths, such as 'day3/*'"
            )
        if any(side % 32 or not 32 <= side <= 4096 for side in self.image_size):
            sides = "x".join(map(quoted, self.image_size))
            raise UsageError(
                f"image_size is {sides}; both sides must be multiples of 32 between 32 and 4096"
            )
        if self.batch_size == 1 and self.image_size == (32, 32):
            raise UsageError("batch_size 1 is too small for image_size 32x32: raise one of them")

    @classmethod
    def from_mapping(cls, settings: Mapping[str, Any], source: str = "settings") -> FitConfig:
        """Check settings from a YAML file, a model file or keyword arguments.

        Raises:
            UsageError: an unknown name, a value of the wrong type, or one out of range.
        """
        kinds = typing.get_type_hints(cls)
        unknown = [name for name in settings if name not in kinds]
        if unknown:
            raise UsageError(
                f"unknown option {quoted(unknown[0])} in {source}; choose from {', '.join(kinds)}"
            )
        if settings.get("iterations") == AUTO:
            settings = {
                **_AUTO_ITERATIONS,
                **settings,
                "iterations": _AUTO_ITERATIONS["iterations"],
            }
        return cls(**{name: convert(name, kinds[name], v) for name, v in settings.items()})

    def to_dict(self) -> dict[str, Any]:
        """Plain values for YAML and JSON."""
        one = self.backbone[0] if len(self.backbone) == 1 else list(self.backbone)
        sides = list(self.image_size)
        return {**dataclasses.asdict(self), "backbone": one, "image_size": sides}

    @property
    def tag(self) -> str:
        """The chosen backbone. Before the choice it is the first of the list, the preferred one."""
        return self.backbone[0]

    @property
    def may_go_on(self) -> bool:
        """Whether the images may make a training longer than `iterations`."""
        return self.epochs > 0 or self.most_iterations > 0

    @property
    def trains(self) -> bool:
        """Whether there is something to train: the variant `memory` only remembers."""
        return self.variant != "memory"


class FitOptions(TypedDict, total=False):
    """The options of `FitConfig` as keyword arguments; a test keeps the two equal."""

    variant: Variant
    backbone: str | Sequence[str]
    weights: str | Path
    score: ScoreName
    student: Literal["full", "slim"]
    memory: int
    textures: str | Path
    foreground: str | Path
    roi: str | Path
    ignore: str | Path
    iterations: int | Literal["auto"]
    most_iterations: int
    epochs: float
    batch_size: int
    image_size: int | str | tuple[int, int]
    seed: int
    device: str
    precision: Precision
    holdout: float
    holdout_by: str
    validate_every: int
    mask_resize: Literal["chained", "direct"]
    student_lr: float
    teacher_lr: float
    warm_up: int
    schedule: Literal["constant", "cosine", "decay"]
    checkpoint_seconds: float
    white_level: int
    max_megapixels: int
    page: int


def options(*, scope: Scope | None = None, path: bool | None = None) -> list[str]:
    """Names of the options with this scope, or this value of `path`."""
    wanted = {"scope": scope, "path": path}
    return [
        option.name
        for option in dataclasses.fields(FitConfig)
        if all(value in (None, option.metadata[key]) for key, value in wanted.items())
    ]


AUTO = "auto"
_AUTO_ITERATIONS = {"iterations": 300, "most_iterations": 3000}
_LIMITS: dict[str, tuple[float, float]] = {
    "iterations": (1, 10_000_000),
    "most_iterations": (0, 10_000_000),
    "epochs": (0.0, 100_000.0),
    "batch_size": (1, 4096),
    "memory": (1, 100_000),
    "seed": (0, 2**63 - 1),
    "holdout": (0.0, 0.5),
    "validate_every": (0, 10_000_000),
    "warm_up": (-1, 10_000_000),
    "student_lr": (0.0, 1.0),
    "teacher_lr": (0.0, 1.0),
    "checkpoint_seconds": (0.0, 1e9),
    "white_level": (1, 65535),
    "max_megapixels": (1, 10_000),
    "page": (0, 1_000_000),
}

_PRESET = "preset"


def resolve_config(
    *,
    preset: str | None = None,
    config_file: Path | None = None,
    options: Mapping[str, Any] | None = None,
) -> FitConfig:
    """The settings. Options override the file, which overrides the preset and the defaults."""
    return FitConfig.from_mapping(given_settings(preset, config_file, options))


def given_settings(
    preset: str | None, config_file: Path | None, options: Mapping[str, Any] | None
) -> dict[str, Any]:
    """The settings of a preset, a configuration file and options; later ones override earlier ones.

    The file may name a preset under the key `preset`; the argument `preset` overrides it.

    Raises:
        UsageError: the preset is unknown, or the file cannot be used.
    """
    of_file = read_config_file(config_file) if config_file is not None else {}
    named = of_file.pop(_PRESET, None)
    base = of_preset(named if preset is None else preset)
    return overridden(base, {**of_file, **(options or {})})


def read_config_file(path: Path) -> dict[str, Any]:
    """Read and check the settings in a YAML file; the key `preset` is allowed."""
    try:
        content = read_yaml(path)
    except ValueError as error:
        raise UsageError(f"cannot read {path} as YAML: {first_line(error)}") from error
    content = {} if content is None else content
    if not isinstance(content, dict):
        raise UsageError(f"{path} must contain lines of the form 'option: value'")
    try:
        of_preset(content.get(_PRESET))
        FitConfig.from_mapping({k: v for k, v in content.items() if k != _PRESET})
    except UsageError as error:
        raise UsageError(f"{path}: {error}") from error
    return content
