from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from passionsr_cli.allocation.layer_plans import quantize_model
from passionsr_cli.calibration.losses import FREE_SHARE, StageLoss
from passionsr_cli.config import CalibrationSettings
from passionsr_cli.layers.convert import Learning, learning_layers, set_state
from passionsr_cli.layers.learning import LearningLayer
from passionsr_cli.methods.stages import LayerDesign, Losses
from passionsr_cli.models.chain import Chain
from passionsr_cli.models.one_step import OneStepModel
from passionsr_cli.quantization.schemes import State

MODULE = "unet.down_blocks.1.resnets.0"
ATTENTION = "unet.down_blocks.1.attentions.0"


def _output(model: OneStepModel, name: str, x: Tensor) -> Tensor:
    """What a module of the UNet makes of a latent."""
    found: list[Any] = []
    hook = model.get_submodule(name).register_forward_hook(
        lambda block, inputs, output: found.append(output)
    )
    Chain(model, ("unet",))(x)
    hook.remove()
    tensor: Tensor = found[0] if isinstance(found[0], Tensor) else found[0][0]
    return tensor


@pytest.fixture
def latent() -> Tensor:
    return torch.randn(2, 4, 8, 8, generator=torch.Generator().manual_seed(3))


@pytest.fixture
def full(tiny_model: OneStepModel, latent: Tensor) -> dict[str, Tensor]:
    """What two modules make in full precision, of another latent than the quantized model's."""
    with torch.no_grad():
        return {name: _output(tiny_model, name, latent + 0.1) for name in (MODULE, ATTENTION)}


@pytest.fixture
def layers(tiny_model: OneStepModel, full: object, latent: Tensor) -> dict[str, Learning]:
    settings = CalibrationSettings(unet="w3a3", vae="fp")
    quantize_model(tiny_model, settings, LayerDesign(rounding="adaptive"))
    found = learning_layers(tiny_model)
    set_state(list(found.values()), State.OBSERVING)
    Chain(tiny_model, ("unet",))(latent)
    for layer in found.values():
        layer.start_bounds()
    set_state(list(found.values()), State.QUANTIZING)
    tiny_model.requires_grad_(False)
    return found


def _relative(one: Tensor, other: Tensor) -> float:
    return float((one - other).square().sum() / other.square().sum())


@pytest.mark.parametrize("name", [MODULE, ATTENTION])
def test_the_module_loss_is_towards_full_precision(
    tiny_model: OneStepModel,
    full: dict[str, Tensor],
    layers: dict[str, Learning],
    latent: Tensor,
    name: str,
) -> None:
    chain, module = Chain(tiny_model, ("unet",)), tiny_model.get_submodule(name)
    batch = {"x": latent, "teacher_x": latent + 0.1, "target": chain(latent) + 1}
    wanted = _relative(_output(tiny_model, name, latent), full[name])
    assert wanted > 1e-3
    losses = Losses(output=0, module=2)
    found = StageLoss(losses, chain, layers, None)(chain, batch, module, 0)
    assert float(found) == pytest.approx(2 * wanted, rel=1e-4)
    assert {layer.state for layer in layers.values()} == {State.QUANTIZING}
    # Nothing after the module runs where only its own loss is wanted, and the value is the same.
    both = StageLoss(Losses(output=1, module=2), chain, layers, None)(chain, batch, module, 0)
    output = _relative(chain(latent), batch["target"])
    assert float(both) == pytest.approx(float(found) + output, rel=1e-4)


@pytest.mark.parametrize(
    ("output", "perceptual", "expected"),
    [(1, 0, 0.04), (0.5, 3, 0.5 * 0.04 + 3 * 0.1), (0, 3, 3 * 0.1), (0, 0, 0.04)],
)
def test_the_losses_of_an_output(
    tiny_model: OneStepModel, output: float, perceptual: float, expected: float
) -> None:
    def distance(found: Tensor, wanted: Tensor) -> Tensor:
        return (found - wanted).abs().mean()

    target = torch.full((1, 3, 4, 4), 0.5)
    losses = Losses(output=output, perceptual=perceptual, module=1)
    loss = StageLoss(losses, Chain(tiny_model, ("decoder",)), {}, distance)
    # A module alone leaves the relative error.
    assert float(loss.of_output(target + 0.1, target)) == pytest.approx(expected)


def test_nothing_after_the_module_runs(
    tiny_model: OneStepModel, layers: dict[str, Learning], latent: Tensor
) -> None:
    ran: list[str] = []
    for name in ("conv_in", "conv_out"):
        tiny_model.get_submodule(f"unet.{name}").register_forward_hook(
            lambda layer, inputs, output, name=name: ran.append(name)
        )
    chain, module = Chain(tiny_model, ("unet",)), tiny_model.get_submodule(MODULE)
    batch = {"x": latent, "teacher_x": latent}
    StageLoss(Losses(output=0, module=1), chain, layers, None)(chain, batch, module, 0)
    assert ran == ["conv_in", "conv_in"]


def test_undecided_roundings_weigh_as_a_share_of_the_loss(
    tiny_model: OneStepModel, layers: dict[str, Learning], latent: Tensor
) -> None:
    chain, module = Chain(tiny_model, ("unet",)), tiny_model.get_submodule(MODULE)
    batch = {"x": latent, "teacher_x": latent}
    layer = layers[f"{MODULE}.conv1"]
    assert isinstance(layer, LearningLayer)
    assert layer.rounding is not None
    layer.rounding.requires_grad_(True)

    def loss(weight: float, share: float) -> float:
        losses = Losses(output=0, module=1, rounding=weight)
        return float(StageLoss(losses, chain, layers, None)(chain, batch, module, share))

    plain = loss(0, 1)
    # At the end of its steps β is 2.
    h = layer.rounding.upwards().double()
    undecided = float((1 - (2 * h - 1) ** 2).mean())
    assert 0 < undecided < 1
    assert loss(0.5, 1) == pytest.approx(plain * (1 + 0.5 * undecided), rel=1e-4)
    # In the first steps nothing is to be decided yet.
    assert loss(0.5, FREE_SHARE) == pytest.approx(plain, rel=1e-6)
