"""Sizes and work against the papers' tables."""

from __future__ import annotations

import pytest
import torch

from passionsr_cli.description import ModelDescription
from passionsr_cli.models.costs import compression_rows, layer_costs, measure
from passionsr_cli.models.one_step import OneStepModel
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


def test_layers_cost_what_a_hand_counts(tiny_description: ModelDescription) -> None:
    with torch.device("meta"):
        model = OneStepModel(tiny_description)
    layers = {layer.name: layer.operations for layer in layer_costs(model, 64)}
    # 12 channels of 32×32 become 8 through 3×3.
    assert layers["vae.encoder.conv_in"] == 2 * 32 * 32 * 8 * 12 * 9
    # 64 px are 16×16 latents, 8×8 in the UNet's second block, whose 16 channels are two heads of 8.
    block = "unet.down_blocks.1.attentions.0.transformer_blocks.0"
    assert layers[f"{block}.attn1.to_q"] == 2 * 64 * 16 * 16
    assert layers[f"{block}.attn1"] == 2 * (2 * 64 * 64 * 16)
    # Three tokens of context, eight wide.
    assert layers[f"{block}.attn2.to_k"] == 2 * 3 * 8 * 16
    assert layers[f"{block}.attn2"] == 2 * (2 * 64 * 3 * 16)


def test_what_is_left_out_costs_nothing(
    tiny_description: ModelDescription, dial_description: ModelDescription
) -> None:
    whole, without = (
        {part.name: part for part in measure(d)}["vae"]
        for d in (tiny_description, dial_description)
    )
    # Two residual blocks of two 3×3 convolutions, and an attention of four products, 16 channels.
    per_pixel = 4 * 9 * 16 * 16 + 4 * 16 * 16
    assert whole.operations - without.operations == 2 * 128**2 * per_pixel
    norms, biases = 5 * 2 * 16, 8 * 16
    assert whole.parameters - without.parameters == per_pixel + norms + biases
