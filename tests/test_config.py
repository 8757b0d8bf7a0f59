"""Settings: where they come from, and how wrong ones are refused."""

from __future__ import annotations

import pytest

from urd.config import resolve_config
from urd.errors import UsageError


def test_flags_go_before_the_file_and_the_file_before_the_preset(tmp_path):
    file = tmp_path / "c.yaml"
    file.write_text("iterations: 7\nimage_size: 64x96\nseed: 3\n")
    config = resolve_config(preset="fast", config_file=file, options={"seed": "4"})
    assert (config.backbone, config.iterations, config.seed) == ("resnet18.tv_in1k,builtin", 7, 4)
    assert config.image_size == (64, 96)


def test_every_seed_is_exact():
    largest = 2**63 - 1
    assert resolve_config(options={"seed": str(largest)}).seed == largest
    assert resolve_config(options={"seed": 2**53 + 1}).seed == 2**53 + 1


@pytest.mark.parametrize(
    ("options", "message"),
    [
        *(({"seed": wrong}, "seed") for wrong in (2**63, 1.5, "1.5", float("nan"))),
        ({"iterations": "2.5"}, r"'2\.5': a whole number is needed"),
        ({"holdout": "much"}, "holdout cannot be 'much': a number is needed"),
        *(
            ({"image_size": wrong}, f"'{wrong}': give N or HEIGHTxWIDTH")
            for wrong in ("large", "256x", "1x2x3")
        ),
        ({"image_size": "16"}, "multiples of 32"),
        ({"image_size": "32", "batch_size": 1}, "batch_size 1"),
    ],
)
def test_wrong_values_are_refused_in_words(options, message):
    with pytest.raises(UsageError, match=message):
        resolve_config(options=options)
