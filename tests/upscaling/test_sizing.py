from __future__ import annotations

import pytest
from pydantic import ValidationError

from passionsr_cli.config import UpscaleSettings
from passionsr_cli.errors import ImageError
from passionsr_cli.upscaling.sizing import TargetSize


@pytest.mark.parametrize(
    ("settings", "size", "label"),
    [
        ({}, (400, 200), "x4"),
        ({"scale": 1}, (100, 50), "x1"),
        ({"scale": 2.5}, (250, 125), "x2.5"),
        ({"scale": 3.14159}, (314, 157), "x3.14159"),
        ({"scale": 8}, (800, 400), "x8"),
        ({"width": 333}, (333, 166), "w333"),
        ({"height": 201}, (402, 201), "h201"),
        ({"width": 300, "height": 300}, (300, 150), "300x300"),
        ({"width": 300, "height": 300, "fit": "cover"}, (600, 300), "300x300"),
        ({"width": 300, "height": 300, "fit": "fill"}, (300, 300), "300x300"),
    ],
)
def test_sizes(settings: dict[str, object], size: tuple[int, int], label: str) -> None:
    target = TargetSize.of(UpscaleSettings.model_validate(settings))
    assert target.of_input((100, 50), 4) == size
    assert target.label(4) == label


@pytest.mark.parametrize(
    "settings",
    [{"width": 99}, {"height": 401}, {"width": 150, "height": 49, "fit": "fill"}],
)
def test_smaller_than_the_input_or_too_large_is_refused(settings: dict[str, object]) -> None:
    target = TargetSize.of(UpscaleSettings.model_validate(settings))
    with pytest.raises(ImageError, match=r"100×50 px, .* 1 to 8 times as large"):
        target.of_input((100, 50), 4)


@pytest.mark.parametrize(
    "settings",
    [
        {"scale": 0.5},
        {"scale": 9},
        {"scale": float("nan")},
        {"scale": 2, "width": 100},
        {"fit": "cover", "width": 100},
        {"width": 0},
    ],
)
def test_sizes_that_cannot_be_are_refused(settings: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        UpscaleSettings.model_validate(settings)
