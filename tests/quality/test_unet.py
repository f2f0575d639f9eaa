"""Whether the embedded model's UNet restores, whether its bits count, and all its layer kinds.

Needs what `test_mini.py` needs, but no weights of others:

    PASSIONSR_REALSR=DIR PASSIONSR_NIQE=niqe_modelparameters.mat \\
        pytest -s tests/quality/test_unet.py
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from passionsr_cli import api
from passionsr_cli.config import CalibrationSettings
from passionsr_cli.models.loading import load

from .measuring import (
    HALF_A_LEVEL_DB,
    MODEL,
    Scores,
    decoded,
    dial,
    latents,
    needs_data,
    photographs,
    psnr,
    read,
    row_at,
    upscaled,
    upscaler,
)

pytestmark = needs_data


def test_without_the_unet_the_image_is_another(without_unet: dict[Path, float]) -> None:
    for folder, change in without_unet.items():
        print(f"\n{folder.name} the UNet: {change:.2f} dB to the image with it", end="")
    assert max(without_unet.values()) <= 38


def test_without_the_unet_the_gain_is_gone(scores: Scores) -> None:
    positions = dial()
    faithful, natural = positions[0], positions[-1]
    gain, rest = (
        scores[row_at(faithful, name)]["psnr"] - scores["bicubic"]["psnr"]
        for name in (MODEL, "without")
    )
    rise = scores[row_at(natural, "without")]["niqe"] - scores[row_at(natural)]["niqe"]
    print(f"\ngain {gain:.3f} dB, without {rest:.3f}: {1 - rest / gain:.0%} gone; NIQE {rise:+.2f}")
    assert gain > 0
    assert 1 - rest / gain >= 0.7
    assert rise >= 1.5


def test_bits_of_the_unet_count() -> None:
    """PSNR to full precision of maxmin on the UNet alone."""
    files = photographs(10)
    full = upscaler(backend="torch")
    wanted = [upscaled(full, read(file)) for file in files]
    found = {}
    for bits in ("w8a8", "w4a4"):
        settings = {"model": MODEL, "unet": bits, "vae": "fp", "method": "maxmin", "crops": 8}
        api.calibrate(CalibrationSettings.model_validate({**settings, "precision": "fp32"}), bits)
        quantized = upscaler(checkpoint=bits, model=None, backend="torch")
        found[bits] = psnr([upscaled(quantized, read(file)) for file in files], wanted)
    print(f"\nthe UNet alone, to full precision: {found}")
    assert found["w8a8"] - found["w4a4"] >= 1


Hook = Callable[..., Any]


def _nothing(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> Tensor:
    return torch.zeros_like(output)


def _halved(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> Tensor:
    return F.avg_pool2d(inputs[0], 2)


def _doubled(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> Tensor:
    return F.interpolate(inputs[0], scale_factor=2.0)


# Which modules of the UNet are a branch of this kind, by the end of their name or class, and what
# is left of them.
BRANCHES: dict[str, tuple[str, Hook]] = {
    "self-attention": (".attn1", _nothing),
    "cross-attention": (".attn2", _nothing),
    "feed-forward": (".ff", _nothing),
    "linear projections": (".proj_out", _nothing),
    "strided convolutions": ("Downsample2D", _halved),
    "upsampling convolutions": ("Upsample2D", _doubled),
}


def _no_shortcuts(
    block: nn.Module, inputs: tuple[Any, ...], options: dict[str, Any]
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    shortcuts = tuple(torch.zeros_like(x) for x in options["res_hidden_states_tuple"])
    return inputs, {**options, "res_hidden_states_tuple": shortcuts}


@contextlib.contextmanager
def _left_out(unet: nn.Module, kind: str) -> Iterator[None]:
    if kind == "concatenated shortcuts":
        handles = [
            block.register_forward_pre_hook(_no_shortcuts, with_kwargs=True)
            for block in unet.get_submodule("up_blocks").children()
        ]
    else:
        end, hook = BRANCHES[kind]
        handles = [
            module.register_forward_hook(hook)
            for name, module in unet.named_modules()
            if name.endswith(end) or type(module).__name__ == end
        ]
    assert handles, f"the UNet has no {kind}"
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


@pytest.mark.parametrize("kind", ["concatenated shortcuts", *BRANCHES])
def test_every_kind_of_layer_works(kind: str) -> None:
    """Leaving it out changes the image by half a level or more."""
    model = load(MODEL).eval()

    def images() -> list[Tensor]:
        with torch.inference_mode():
            return [
                decoded(model, latents(model, read(file), realism)[1])
                for file in photographs(10)
                for realism in (dial()[0], dial()[-1])
            ]

    wanted = images()
    with _left_out(model.unet, kind):
        change = psnr(images(), wanted)
    print(f"\nwithout {kind}: {change:.2f} dB")
    assert change <= HALF_A_LEVEL_DB
