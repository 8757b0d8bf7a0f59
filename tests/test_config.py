"""Settings: where they come from, and how wrong ones are refused."""

from __future__ import annotations

import dataclasses
import typing

import pytest

from urd.config import FitConfig, FitOptions, options, resolve_config
from urd.errors import UsageError
from urd.networks.variants import VARIANTS


def test_flags_override_the_file_which_overrides_the_preset(tmp_path):
    file = tmp_path / "c.yaml"
    file.write_text("iterations: 7\nimage_size: 64x96\nseed: 3\n")
    config = resolve_config(preset="fast", config_file=file, options={"seed": "4"})
    assert config.backbone[0] == "resnet18.tv_in1k" and config.variant == "urd-memory"
    assert (config.iterations, config.seed) == (7, 4)
    assert config.image_size == (64, 96)


def test_every_seed_is_exact():
    largest = 2**63 - 1
    assert resolve_config(options={"seed": str(largest)}).seed == largest
    assert resolve_config(options={"seed": 2**53 + 1}).seed == 2**53 + 1


@pytest.mark.parametrize(
    ("options", "message"),
    [
        *(({"seed": wrong}, "seed") for wrong in (2**63, 1.5, "1.5", float("nan"))),
        ({"iterations": "2.5"}, r"'2\.5': give a whole number, or auto"),
        ({"holdout": "much"}, "holdout cannot be 'much': give a number"),
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


def test_the_arguments_of_fit_are_the_options():
    """An editor shows them; `FitConfig` defines them."""
    fields = {field.name for field in dataclasses.fields(FitConfig)}
    assert set(typing.get_type_hints(FitOptions)) == fields


def test_each_option_has_a_scope_a_group_and_a_help_text():
    for field in dataclasses.fields(FitConfig):
        assert field.metadata["scope"] in ("model", "training", "machine")
        assert field.metadata["group"] in ("data", "training", "inspection", "advanced")
        assert field.metadata["help"].endswith(".")
    assert options(scope="machine") == [
        *("weights", "textures", "device", "checkpoint_seconds", "max_megapixels")
    ]
    assert options(path=True) == ["weights", "textures", "foreground", "roi", "ignore"]


def test_fit_config_the_command_and_the_method_have_one_default():
    assert FitConfig() == resolve_config()
    paper = {"warm_up": 0, "schedule": "constant"}  # as published; ours begin and end gently
    assert dataclasses.replace(FitConfig(), **paper) == resolve_config(preset="paper")
    assert FitConfig().backbone == ("wide_resnet50_2.tv_in1k", "builtin")


def test_only_variants_with_a_student_train():
    assert {name: FitConfig(variant=name).trains for name in VARIANTS} == {
        name: variant.student for name, variant in VARIANTS.items()
    }


def test_several_backbones_are_names_with_commas_or_a_list():
    for value in ("a,b", " a , b ", ["a", "b"], ("a", "b")):
        config = FitConfig.from_mapping({"backbone": value})
        assert config.backbone == ("a", "b") and config.tag == "a"
    assert FitConfig(backbone="a").to_dict()["backbone"] == "a"
    for wrong in ("", " , ", [], 3, [1]):
        with pytest.raises(UsageError, match="backbone cannot be"):
            FitConfig.from_mapping({"backbone": wrong})


def test_a_file_may_name_a_preset_which_a_flag_overrides(tmp_path):
    file = tmp_path / "c.yaml"
    file.write_text("preset: fast\nbatch_size: 3\n")
    config = resolve_config(config_file=file)
    assert (config.iterations, config.batch_size) == (100, 3)
    edge = resolve_config(preset="edge", config_file=file)
    assert (edge.student, edge.batch_size) == ("slim", 3)
    file.write_text("preset: quick\n")
    with pytest.raises(UsageError, match=r"c\.yaml: unknown preset 'quick'"):
        resolve_config(config_file=file)
