from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from passionsr_cli import api
from passionsr_cli.errors import StoreError
from passionsr_cli.exports import exporting
from passionsr_cli.exports.fidelity import Definition, lr_photograph, psnr


@pytest.mark.usefixtures("small_photograph")
@pytest.mark.parametrize("spoiled", [0, 1, 2])
def test_of_the_settings_of_a_dial_the_worst_counts(
    dial_folder: Path, tmp_path: Path, spoiled: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = exporting.define

    def define(*arguments: Any) -> Definition:
        made = real(*arguments)
        settings = list(made.settings)
        assert [setting.realism for setting in settings] == [0, 0.25, 1]
        settings[spoiled] = replace(settings[spoiled], image=1 - settings[spoiled].image)
        return replace(made, settings=tuple(settings))

    monkeypatch.setattr(exporting, "define", define)
    with pytest.raises(StoreError, match="dB of its definition"):
        api.export(str(dial_folder), "safetensors", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_what_computes_something_else_is_not_handed_over(
    least_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = exporting.define

    def spoiled(*arguments: Any) -> Definition:
        made = real(*arguments)
        (setting,) = made.settings
        return Definition(made.photograph, (replace(setting, image=1 - setting.image),))

    monkeypatch.setattr(exporting, "define", spoiled)
    with pytest.raises(StoreError, match="dB of its definition"):
        api.export(str(least_folder), "openvino", tmp_path / "out", size=64)
    assert not (tmp_path / "out").exists()


def test_psnr_and_the_photograph() -> None:
    a = np.zeros((3, 4, 4), np.float32)
    assert psnr(a, a) is None
    assert psnr(a, a + 0.1) == pytest.approx(-20 * math.log10(0.1))
    assert lr_photograph(16).shape == (3, 16, 16)
    assert lr_photograph(200).shape == (3, 200, 200)
