"""Every option of training, defined once: dataclass field = YAML key = flag = Python argument."""

from __future__ import annotations

import dataclasses
import math
import typing
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from urd.errors import UsageError, first_line, quoted
from urd.system.documents import read_yaml

Variant = Literal["rd", "rd-e", "rd-gii", "urd", "urd-skip"]
Precision = Literal["auto", "float32", "bfloat16"]
_LONGEST = 4096  # characters of a text, as of the path of a file
WARM_UP_ITERATIONS = 20  # of a student of the built-in backbone, whose rate rises meanwhile


def _option(default: Any, help_text: str) -> Any:
    return field(default=default, metadata={"help": help_text})


@dataclass(frozen=True)
class FitConfig:
    """Settings of one training. The defaults are those of the paper (preset `paper`)."""

    variant: Variant = _option("urd", "Which parts of the method are used.")
    backbone: str = _option(
        "wide_resnet50_2.tv_in1k",
        "timm tag of the pretrained encoder, or builtin; of several, with commas between, the "
        "first whose weights can be had. The presets name theirs and then builtin.",
    )
    weights: str = _option(
        "auto",
        "Weight file of the encoder; auto: shipped, timm's cache or download; none: untrained.",
    )
    student: Literal["full", "slim"] = _option(
        "full", "full: mirrors the encoder, as in the paper; slim: several times fewer operations."
    )
    textures: str = _option(
        "procedural", "Folder of texture images for synthetic anomalies, or procedural."
    )
    foreground: str = _option(
        "auto", "Where anomalies are painted: auto, none, otsu, grabcut, or a folder of masks."
    )
    roi: str = _option(
        "",
        "What is inspected: a mask image (white), polygons in JSON, or a folder of one per image; "
        "empty: whole images.",
    )
    ignore: str = _option("", "What is not inspected, likewise.")
    iterations: int = _option(5000, "Training iterations.")
    batch_size: int = _option(16, "Images per iteration.")
    image_size: tuple[int, int] = _option(
        (256, 256), "Size of the network's input, N or HEIGHTxWIDTH, multiples of 32."
    )
    seed: int = _option(0, "Seed of everything random.")
    device: str = _option("auto", "auto, cpu, cuda or cuda:N.")
    precision: Precision = _option("auto", "auto: bfloat16 where the machine computes in it.")
    holdout: float = _option(
        0.1, "Share of the good images kept for validation, at least 8 of them; 0: none."
    )
    validate_every: int = _option(
        0, "Iterations between validations; 0: ten times in all, at the least 50 apart."
    )
    mask_resize: Literal["chained", "direct"] = _option(
        "chained", "How masks reach the levels' sizes: from level to level, or each time anew."
    )
    student_lr: float = _option(
        0.005,
        "Learning rate of the student; with the built-in weights it is reached after "
        f"{WARM_UP_ITERATIONS} iterations.",
    )
    teacher_lr: float = _option(0.0001, "Learning rate of the teacher.")
    schedule: Literal["constant", "cosine"] = _option(
        "constant", "Learning rates: constant as in the paper, or falling to 0 along a half cosine."
    )
    checkpoint_seconds: float = _option(120.0, "Time between checkpoints, in seconds.")
    white_level: int = _option(
        65535, "16-bit value that is shown as white; 4095 for 12-bit cameras."
    )
    max_megapixels: int = _option(
        100, "Size of the largest image that is read, in millions of pixels."
    )
    page: int = _option(
        0,
        "Which page or frame of files with several is read, counted from 1; 0: such files are "
        "errors.",
    )

    def __post_init__(self) -> None:
        for name, (low, high) in _LIMITS.items():
            value = getattr(self, name)
            if not low <= value <= high:
                raise UsageError(f"{name} is {quoted(value)}; it must lie between {low} and {high}")
        if any(side % 32 or not 32 <= side <= 4096 for side in self.image_size):
            sides = "x".join(map(quoted, self.image_size))
            raise UsageError(
                f"image_size is {sides}; both sides must be multiples of 32 between 32 and 4096"
            )
        if self.batch_size == 1 and self.image_size == (32, 32):
            raise UsageError("batch_size 1 at image_size 32x32 leaves nothing to normalise over")

    @classmethod
    def from_mapping(cls, settings: Mapping[str, Any], source: str = "settings") -> FitConfig:
        """Checked settings from a YAML file, a model file or keyword arguments.

        Raises:
            UsageError: an unknown name, a value of the wrong type, or one out of range.
        """
        kinds = typing.get_type_hints(cls)
        unknown = [name for name in settings if name not in kinds]
        if unknown:
            raise UsageError(
                f"unknown option {quoted(unknown[0])} in {source}; known are {', '.join(kinds)}"
            )
        return cls(**{name: convert(name, kinds[name], v) for name, v in settings.items()})

    def to_dict(self) -> dict[str, Any]:
        """Plain values for YAML and JSON."""
        return {**dataclasses.asdict(self), "image_size": list(self.image_size)}


_LIMITS: dict[str, tuple[float, float]] = {
    "iterations": (1, 10_000_000),
    "batch_size": (1, 4096),
    "seed": (0, 2**63 - 1),
    "holdout": (0.0, 0.5),
    "validate_every": (0, 10_000_000),
    "student_lr": (0.0, 1.0),
    "teacher_lr": (0.0, 1.0),
    "checkpoint_seconds": (0.0, 1e9),
    "white_level": (1, 65535),
    "max_megapixels": (1, 10_000),
    "page": (0, 1_000_000),
}

PRESETS: dict[str, dict[str, Any]] = {
    "paper": {"backbone": "wide_resnet50_2.tv_in1k,builtin"},
    "fast": {"backbone": "resnet18.tv_in1k,builtin", "iterations": 1000, "batch_size": 8},
    "edge": {
        "backbone": "resnet18.tv_in1k,builtin",
        "student": "slim",
        "iterations": 1000,
        "batch_size": 8,
    },
}


def resolve_config(
    *,
    preset: str | None = None,
    config_file: Path | None = None,
    options: Mapping[str, Any] | None = None,
) -> FitConfig:
    """Settings in rising order of precedence: defaults, preset, configuration file, options."""
    return FitConfig.from_mapping(given_settings(preset or "paper", config_file, options))


def given_settings(
    preset: str | None, config_file: Path | None, options: Mapping[str, Any] | None
) -> dict[str, Any]:
    """What a preset, a configuration file and options say, the last of them first."""
    if preset is not None and preset not in PRESETS:
        raise UsageError(f"unknown preset {quoted(preset)}; known are {', '.join(PRESETS)}")
    of_preset = PRESETS[preset] if preset is not None else {}
    of_file = read_config_file(config_file) if config_file is not None else {}
    return {**of_preset, **of_file, **(options or {})}


def read_config_file(path: Path) -> dict[str, Any]:
    """The settings that a YAML file names, checked."""
    try:
        content = read_yaml(path)
    except ValueError as error:
        raise UsageError(f"cannot read {path} as YAML: {first_line(error)}") from error
    content = {} if content is None else content
    if not isinstance(content, dict):
        raise UsageError(f"{path} must hold 'option: value' lines")
    try:
        FitConfig.from_mapping(content)
    except UsageError as error:
        raise UsageError(f"{path}: {error}") from error
    return content


def convert(name: str, kind: Any, value: Any) -> Any:
    """`value` as the type of the option, from YAML, the command line or Python."""
    try:
        if typing.get_origin(kind) is Literal:
            if value not in typing.get_args(kind):
                raise ValueError(f"choose from {', '.join(typing.get_args(kind))}")
            return value
        if typing.get_origin(kind) is tuple:
            return _image_size(value)
        if kind is str:
            return _text(value)
        if isinstance(value, bool):
            raise ValueError("a number is needed")
        needed = "a whole number is needed" if kind is int else "a number is needed"
        try:
            number = kind(value)
        except (TypeError, ValueError) as error:  # its own message speaks of Python
            raise ValueError(needed) from error
        if not math.isfinite(number):
            raise ValueError("a finite number is needed")
        if not isinstance(value, str) and number != value:
            raise ValueError(needed)
        return number
    except (TypeError, ValueError, OverflowError) as error:
        raise UsageError(f"{name} cannot be {quoted(value)}: {first_line(error)}") from error


def _text(value: Any) -> str:
    """A text or path; odd bytes of file names are lone surrogates in it, others are refused."""
    if not isinstance(value, str | Path):
        raise ValueError("a text is needed")
    text = str(value)
    if len(text) > _LONGEST or "\0" in text:
        raise ValueError(f"a text of at most {_LONGEST} characters, none of them 0, is needed")
    text.encode("utf-8", "surrogateescape")
    return text


def _image_size(value: Any) -> tuple[int, int]:
    """256, "256", "256x512" or [256, 512] as (height, width)."""
    parts = value.lower().split("x") if isinstance(value, str) else value
    parts = [parts] if isinstance(parts, int) else list(parts)
    try:
        sides = [int(part) for part in parts]
    except (TypeError, ValueError) as error:  # its own message speaks of Python
        raise ValueError("give N or HEIGHTxWIDTH") from error
    if any(isinstance(part, float) and not part.is_integer() for part in parts):
        raise ValueError("whole numbers are needed")
    if len(sides) not in (1, 2):
        raise ValueError("give N or HEIGHTxWIDTH")
    return sides[0], sides[-1]
