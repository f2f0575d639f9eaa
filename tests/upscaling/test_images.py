"""What an upscaling runs, by its settings."""

from __future__ import annotations

from typing import Any

import pytest

from passionsr_cli.config import UpscaleSettings
from passionsr_cli.upscaling.images import checkpoint_for


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
