"""What an upscaling runs, by its settings."""

from __future__ import annotations

from typing import Any

import pytest

from passionsr_cli.config import UpscaleSettings
from passionsr_cli.errors import ConfigError, ModelError
from passionsr_cli.upscaling.images import checkpoint_for, open_upscaler


@pytest.mark.parametrize(
    ("options", "integer_products", "expected"),
    [
        ({}, True, "mini-w8a8"),
        ({"model": "mini"}, True, "mini-w8a8"),
        ({"backend": "openvino"}, True, "mini-w8a8"),
        # It would be slower than full precision, and no more exact.
        ({}, False, None),
        ({"backend": "torch"}, True, None),
        ({"backend": "triton"}, False, "mini-w8a8"),
        ({"checkpoint": "none"}, True, None),
        ({"model": "another"}, True, None),
        ({"checkpoint": "mine"}, False, "mine"),
        ({"model": "another", "checkpoint": "mine"}, True, "mine"),
    ],
)
def test_the_embedded_model_runs_on_integers_where_they_pay(
    options: dict[str, Any],
    integer_products: bool,
    expected: str | None,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("passionsr_cli.system.cpu.has_integer_products", lambda: integer_products)
    settings = UpscaleSettings.model_validate({"device": "cpu", **options})
    assert checkpoint_for(settings) == expected


def test_an_overlap_above_half_of_a_tile_is_refused_where_both_were_asked_for() -> None:
    with pytest.raises(ConfigError, match=r"--overlap: 200 .* give at most 64, or larger tiles"):
        open_upscaler(UpscaleSettings(tile=128, overlap=200))
    for fitting in ({"tile": 64}, {"tile": 0, "overlap": 9}, {"overlap": 999}):
        with pytest.raises(ModelError, match="unknown model 'nosuch'"):
            open_upscaler(UpscaleSettings.model_validate({"model": "nosuch", **fitting}))
