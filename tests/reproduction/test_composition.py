from __future__ import annotations

from pathlib import Path

import pytest
from calibrating import Finished

from passionsr_cli import methods
from passionsr_cli.calibration.bits import settings_for
from passionsr_cli.models.costs import layer_costs
from passionsr_cli.models.one_step import OneStepModel
from passionsr_cli.quantization.schemes import ATTENTION, LayerPlan
from passionsr_cli.reproduction.composition import composition, planned_composition


def test_bits_and_operations_add_up(
    tiny_folder: Path, tiny_model: OneStepModel, finished: Finished
) -> None:
    floating = "vae.decoder.conv_out"
    values = {
        "model": str(tiny_folder),
        "method": "svdquant",
        "method_settings": {"svdquant": {"ranks": {"linear": 4, "convolution": 2}}},
        "float_layers": (floating,),
        "crops": 1,
        "crop_px": 32,
        "device": "cpu",
        "precision": "fp32",
    }
    checkpoint = finished(settings_for("w4a4", None, values), "made")
    found = composition(checkpoint, 4)
    parameters = checkpoint.manifest.model.parameters
    size = sum(tensor.nbytes for tensor in checkpoint.entry.tensors().values())
    bits = [found[f"{what}_bits"] for what in ("weight", "branch", "rest")]
    assert sum(bits) == pytest.approx(8 * size / parameters)
    assert 2 < found["weight_bits"] < 8
    branches = sum(
        16 * record.plan.rank * (shape[0] + shape[1] * (shape[2] * shape[3] if shape[2:] else 1))
        for record in checkpoint.manifest.layers
        if isinstance(record.plan, LayerPlan)
        for shape in [record.weight_shape]
    )
    assert found["branch_bits"] == pytest.approx(branches / parameters)

    shares = [found[f"{what}_share"] for what in ("named", "eight", "bf16", "float")]
    assert sum(shares) == pytest.approx(100)
    work = {costs.name: costs.operations for costs in layer_costs(tiny_model.to("meta"))}
    kept = {
        name: work[name]
        for name in checkpoint.manifest.settings["eight_bit_layers"]  # type: ignore[union-attr]
        if name in work and name != floating
    }
    scale = work[floating] / found["float_share"]
    assert found["eight_share"] * scale == pytest.approx(sum(kept.values()))
    attention = sum(
        work[record.name] for record in checkpoint.manifest.layers if record.kind == ATTENTION
    )
    assert found["named_share"] * scale > attention
    assert composition(checkpoint, None)["named_share"] == 0

    settings = settings_for("w4a4", None, values)
    design = methods.build(settings).design
    planned = planned_composition(tiny_model.description, settings, design, 4)
    # Biases and norms of nothing but 0 and 1, as new layers have them, are stored in 16 bits.
    assert size < 1e6 * planned.pop("mb") < 1.1 * size
    assert found.pop("rest_bits") < planned.pop("rest_bits")
    assert planned == pytest.approx(found)
