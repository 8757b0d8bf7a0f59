"""A configuration file by somebody else: one line, and never a long wait."""

from __future__ import annotations

import time

import pytest
from hostile_yaml import SETTINGS, one_short_line

from urd.config import read_config_file
from urd.errors import UsageError


@pytest.mark.parametrize("name", SETTINGS)
def test_settings_are_refused_in_one_line(tmp_path, name):
    path = tmp_path / "settings.yaml"
    path.write_text(SETTINGS[name])
    began = time.monotonic()
    with pytest.raises(UsageError) as caught:
        read_config_file(path)
    assert one_short_line(caught.value, path) and time.monotonic() - began < 5


def test_an_empty_file_of_settings_has_none(tmp_path):
    (tmp_path / "settings.yaml").write_text("# nothing yet\n")
    assert read_config_file(tmp_path / "settings.yaml") == {}
