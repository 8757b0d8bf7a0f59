"""The shipped file of the built-in backbone: what it is, and what is said of it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file

from urd.networks import build_encoder, builtin
from urd.networks.builtin import BUILTIN
from urd.networks.weights import load_encoder

CARD = Path(__file__).resolve().parents[1] / "pretraining" / "MODEL_CARD.md"


def test_small_finite_and_in_half_precision():
    tensors = load_file(builtin.FILE)
    assert builtin.FILE.stat().st_size < 6 * 2**20
    assert sum(p.numel() for p in build_encoder(BUILTIN).parameters()) < 3e6
    assert all(t.dtype == torch.float16 for t in tensors.values() if t.dim() == 4)
    assert all(torch.isfinite(t).all() for t in tensors.values())


def test_loading_is_deterministic_and_asks_no_generator():
    first, second = (
        load_encoder(BUILTIN, "auto", torch.Generator().manual_seed(seed)) for seed in (0, 1)
    )
    for a, b in zip(first.parameters(), second.parameters(), strict=True):
        assert torch.equal(a, b)


def test_model_card_tells_the_file_and_its_recipe():
    card = CARD.read_text()
    assert builtin.SHA256 in card
    assert f"{builtin.FILE.stat().st_size / 1e6:.1f} MB" in card
    with safe_open(builtin.FILE, framework="pt") as file:
        recipe = json.loads(file.metadata()["urd_pretraining"])
    assert f"{recipe['steps']:,} steps of {recipe['batch_size']} images" in card
    assert f"{recipe['images']:,} images" in card


def test_the_recipe_of_the_file_is_the_default_of_the_command():
    training = pytest.importorskip("pretraining.training")
    with safe_open(builtin.FILE, framework="pt") as file:
        recipe = json.loads(file.metadata()["urd_pretraining"])
    assert training.Recipe(**recipe) == training.Recipe()
