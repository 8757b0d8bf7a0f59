"""`urd calibrate` refuses at once what it could not store at the end."""

from __future__ import annotations

import numpy as np
import pytest
from conftest import picture, save

from urd.cli import cli as command
from urd.errors import UsageError


def test_more_images_than_a_model_file_holds_scores_are_refused_at_once(tmp_path, monkeypatch):
    for index in range(3):
        save(picture(np.random.default_rng(index)), tmp_path / "good" / f"{index}.png")
    monkeypatch.setattr("urd.model.schema.MOST_SCORES", 2)
    with pytest.raises(UsageError, match="has 3 images; use at most 2"):
        command(["calibrate", str(tmp_path), str(tmp_path / "good")], standalone_mode=False)
