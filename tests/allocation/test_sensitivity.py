from __future__ import annotations

import pytest
import torch
from torch import Tensor

from passionsr_cli.allocation import sensitivity
from passionsr_cli.allocation.sensitivity import Candidates, measure_sensitivity
from passionsr_cli.methods.stages import StartBounds, StartTransform
from passionsr_cli.models.one_step import OneStepModel
from passionsr_cli.progress import SILENT
from passionsr_cli.quantization.affine import fake_quantize, grid_between
from passionsr_cli.quantization.schemes import AttentionPlan, LayerFitting, LayerPlan, Scheme

ATTENTION = "unet.mid_block.attentions.0.transformer_blocks.0.attn1"
LAYERS = (
    "vae.encoder.conv_in",
    "unet.time_embedding.linear_1",
    "unet.up_blocks.0.resnets.0.conv1",
    "vae.decoder.conv_out",
)
BITS = (4, 8)


def _images(count: int) -> list[Tensor]:
    generator = torch.Generator().manual_seed(3)
    return [torch.rand(1, 3, 32, 32, generator=generator) for _ in range(count)]


def _candidates() -> dict[str, Candidates]:
    weighted = Candidates(
        [LayerPlan(Scheme(8, True, 0), Scheme(8))],
        {
            **{("weight", bits): Scheme(bits, False, 0) for bits in BITS},
            **{("activation", bits): Scheme(bits) for bits in BITS},
        },
    )
    attention = Candidates(
        [AttentionPlan(Scheme(8))], {("activation", bits): Scheme(bits) for bits in BITS}
    )
    return {**dict.fromkeys(LAYERS, weighted), ATTENTION: attention}


@torch.no_grad()
def _directly(model: OneStepModel, name: str, side: str, bits: int, images: list[Tensor]) -> float:
    """The mean squared error with one tensor rounded between its extremes, in the model itself."""
    layer = model.get_submodule(name)
    plain = [model(x) for x in images]
    kept = layer.weight.data.clone()
    if side == "weight":
        flat = kept.flatten(1)
        grid = grid_between(flat.amin(1), flat.amax(1), Scheme(bits, False, 0))
        layer.weight.data = fake_quantize(kept, grid)
        hook = None
    else:
        hook = layer.register_forward_pre_hook(
            lambda layer, inputs: fake_quantize(
                inputs[0], grid_between(*inputs[0].aminmax(), Scheme(bits))
            )
        )
    errors = [(model(x) - y).square().mean() for x, y in zip(images, plain, strict=True)]
    layer.weight.data = kept
    if hook is not None:
        hook.remove()
    return float(sum(errors) / len(errors))


def test_it_predicts_what_rounding_one_tensor_alone_does(
    tiny_model: OneStepModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    # So many directions that chance is a few percent of the result.
    monkeypatch.setattr(sensitivity, "PROBES", 200)
    images = _images(2)
    found = measure_sensitivity(tiny_model, _candidates(), (StartBounds(),), images, SILENT)
    for name in LAYERS:
        for side in ("weight", "activation"):
            for bits in BITS:
                wanted = _directly(tiny_model, name, side, bits, images)
                assert found[name][(side, bits, 0)] == pytest.approx(wanted, rel=0.25), (name, side)  # type: ignore[index]
    attention = found[ATTENTION]
    # Four bits more are 16 times finer steps.
    assert 100 < attention["activation", 4, 0] / attention["activation", 8, 0] < 600


def test_channel_scales_spare_what_a_wide_channel_costs(tiny_model: OneStepModel) -> None:
    name, images = "unet.mid_block.resnets.0.conv1", _images(2)
    layer = tiny_model.get_submodule(name)
    # One channel a hundred times as wide as the others, and as much less weight on it.
    norm = tiny_model.get_submodule("unet.mid_block.resnets.0.norm1")
    norm.weight.data[3] *= 100
    norm.bias.data[3] *= 100
    layer.weight.data[:, 3] /= 100
    schemes = {("activation", 4): Scheme(4)}
    errors = []
    for starts in ((StartBounds(),), (StartTransform(), StartBounds())):
        plan = LayerPlan(Scheme(8, True, 0), Scheme(8), channel_scale=len(starts) > 1)
        candidates = {name: Candidates([plan], schemes)}  # type: ignore[dict-item]
        found = measure_sensitivity(tiny_model, candidates, starts, images, SILENT)
        errors.append(found[name]["activation", 4, 0])
    assert errors[1] < errors[0] / 10


def test_what_one_grid_merges_into_a_weight_is_not_anothers_error(tiny_model: OneStepModel) -> None:
    name, images = "unet.mid_block.resnets.0.conv1", _images(1)
    fitting = LayerFitting(merged_start="residual")
    plan = LayerPlan(Scheme(8, True, 0), Scheme(8), merged_rank=2, fitting=fitting)
    activation = {("activation", 8): Scheme(8)}
    errors = []
    for schemes in (activation, {("weight", 2): Scheme(2, True, 0), **activation}):
        candidates = {name: Candidates([plan], schemes)}  # type: ignore[dict-item]
        found = measure_sensitivity(tiny_model, candidates, (StartBounds(),), images, SILENT)
        errors.append(found[name]["activation", 8, 0])
    assert errors[1] == pytest.approx(errors[0], rel=0.01)


def test_the_model_is_left_as_it_was(tiny_model: OneStepModel) -> None:
    images = _images(1)
    before = tiny_model(images[0])
    measure_sensitivity(tiny_model, _candidates(), (StartBounds(),), images, SILENT)
    after = tiny_model(images[0])
    assert torch.equal(before, after)
    assert not after.requires_grad
