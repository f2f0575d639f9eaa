from __future__ import annotations

from collections.abc import Callable
from typing import Any

from passionsr_cli import methods
from passionsr_cli.checkpoints.catalogue import Checkpoint, find_checkpoint
from passionsr_cli.config import CalibrationSettings
from passionsr_cli.methods.stages import Stage
from passionsr_cli.quantization.schemes import Learnable, State

FITS = {
    "weights": {"steps": 3, "learning_rate": 0.5},
    "activations": {"steps": 1, "learning_rate": 0.3},
}


def _stages(**settings: Any) -> tuple[Stage, ...]:
    values = CalibrationSettings(method="qdiffusion", method_settings={"qdiffusion": settings})
    return methods.build(values).stages


def test_blocks_learn_roundings_and_then_activations() -> None:
    stages = _stages()
    for first, second in zip(stages[::2], stages[1::2], strict=True):
        assert first.components == second.components
        assert (first.learns, second.learns) == ({Learnable.ROUNDING}, {Learnable.BOUNDS})
        assert (first.state, second.state) == (State.QUANTIZING, State.QUANTIZING)
        for stage in (first, second):
            assert stage.modules is not None
            assert stage.modules.order == "forwards"
            # Blocks are reconstructed for themselves: nothing after them is looked at.
            assert (stage.losses.output, stage.losses.module) == (0, 1)
        # What was started is not started again.
        assert not second.starts
    assert _stages(weights_only=True)[0].state is State.WEIGHTS_ONLY


def test_it_comes_nearer_than_maxmin_and_goes_on_where_it_stopped(
    calibrated: Callable[..., Checkpoint], goes_on: Callable[..., bool]
) -> None:
    plain = calibrated("plain", "maxmin").manifest.image_psnr
    # In mid-turn, where the blocks before are decided and the one in turn is not.
    assert goes_on("qdiffusion", "unet roundings", 7, **FITS)
    assert find_checkpoint("undisturbed").manifest.image_psnr > plain


def test_where_attentions_alone_are_quantized_no_roundings_are_learned(
    calibrate: Callable[..., str],
) -> None:
    attention = "unet.mid_block.attentions.0.transformer_blocks.0.attn1"
    name = calibrate(
        "w8a8",
        unet="fp",
        layer_bits={attention: "a8"},
        method="qdiffusion",
        method_settings={"qdiffusion": FITS},
    )
    stages = {stage.name: stage for stage in find_checkpoint(name).manifest.stages}
    assert (stages["unet roundings"].steps, stages["unet activations"].steps) == (0, 1)
