"""Sizes and work against the papers' tables."""

from __future__ import annotations

import pytest

from passionsr_cli.models.costs import compression_rows, measure
from passionsr_cli.registry import describe


def test_passionsr_fp_has_the_published_size_and_work() -> None:
    costs = {part.name: part for part in measure(describe("passionsr-fp"))}
    assert costs["unet"].parameters / 1e6 == pytest.approx(865.9, abs=0.1)
    assert costs["vae"].parameters / 1e6 == pytest.approx(83.7, abs=0.1)
    # PassionSR, Table 3: params (M) and operations (G).
    published = {
        ("none", "W32A32"): (949, 4240),
        ("unet", "W8A8"): (300, 3732),
        ("unet", "W6A6"): (246, 3689),
        ("unet + vae", "W8A8"): (238, 1060),
        ("unet + vae", "W6A6"): (178, 795),
    }
    rows = {(row.parts, row.bits): row for row in compression_rows(list(costs.values()))}
    for key, (parameters, operations) in published.items():
        assert rows[key].parameters / 1e6 == pytest.approx(parameters, abs=1)
        assert rows[key].operations / 1e9 == pytest.approx(operations, rel=0.002)


def test_embedded_model_is_small() -> None:
    costs = measure(describe("mini"))
    assert sum(part.parameters for part in costs) <= 12e6
