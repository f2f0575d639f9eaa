"""The start of a training from scratch: a model that already is an interpolator.

With diffusers' random start, thousands of steps go into learning to pass an image through at
all. Here every residual branch starts at zero and the trunk carries the low-frequency DCT
coefficients of each patch from the input to the output, so that the untrained model returns
its bicubic input and every step of the training improves on that.
"""

from __future__ import annotations

import math

import torch
from diffusers.models.attention_processor import Attention
from diffusers.models.resnet import ResnetBlock2D
from torch import Tensor, nn

from passionsr_cli.errors import ConfigError
from passionsr_cli.models.one_step import OneStepModel

# Group normalisation would divide an image's contrast away. Two channels of a large constant
# dominate its statistics and keep the scale.
CONSTANT = 32.0
# A patch's mean has the largest coefficient by far; it is carried at this fraction.
MEAN_SCALE = 0.25


def start_as_interpolator(model: OneStepModel) -> None:
    """Initialise a fresh model in place so that it returns its input, lightly low-passed.

    Needs a VAE without downsampling (one level) and a single normalisation group.
    """
    description = model.description
    coefficients = int(description.vae["latent_channels"])
    channels = description.vae["block_out_channels"]
    if len(channels) != 1 or description.vae["norm_num_groups"] != 1:
        raise ConfigError("training starts from a VAE with one level and norm_num_groups 1")
    if channels[0] < 2 * coefficients + 2:
        raise ConfigError(
            f"the VAE's {channels[0]} channels must hold both signs of its {coefficients} latents "
            "and two constants"
        )
    basis = _patch_basis(description.patch_size, coefficients)
    nn.init.normal_(model.context)
    _silence_branches(model)
    vae = model.vae
    scale = torch.ones(coefficients, 1)
    scale[:: coefficients // 3] = MEAN_SCALE
    _carry(vae.encoder.conv_in, basis * scale)
    _read(vae.encoder.conv_norm_out, vae.encoder.conv_out, torch.eye(coefficients))
    _connect(vae.quant_conv, torch.eye(2 * coefficients))
    # x₀ of a zero ε is z_L / α_t.
    assert model.rates is not None
    _connect(vae.post_quant_conv, torch.eye(coefficients) * model.rates[0])
    _carry(vae.decoder.conv_in, torch.eye(coefficients))
    _read(vae.decoder.conv_norm_out, vae.decoder.conv_out, (basis / scale).T)
    rotate_between_linear_layers(vae)


@torch.no_grad()
def rotate_between_linear_layers(vae: nn.Module) -> None:
    """Rotate what passes from `conv_out` to `quant_conv` and from `post_quant_conv` to `conv_in`.

    Nothing non-linear lies between them, so the model computes what it did. But a row with one
    large weight among small ones, such as an identity, rounds badly; rotated by a matrix of
    entries of like size it has none (incoherence, as in QuIP, arXiv 2307.13304).
    """
    latents = int(vae.decoder.conv_in.in_channels)  # type: ignore[union-attr, arg-type]
    rotation = _even_rotation(latents).double()
    for before, after in (
        (vae.encoder.conv_out, vae.quant_conv),  # type: ignore[union-attr]
        (vae.post_quant_conv, vae.decoder.conv_in),  # type: ignore[union-attr]
    ):
        for parameter in before.parameters():  # type: ignore[union-attr]
            turned = torch.einsum("ij,j...->i...", rotation, parameter[:latents].double())
            parameter[:latents] = turned.to(parameter.dtype)
        weight: Tensor = after.weight  # type: ignore[union-attr, assignment]
        turned = torch.einsum("oj...,ij->oi...", weight[:, :latents].double(), rotation)
        weight[:, :latents] = turned.to(weight.dtype)


def _even_rotation(size: int) -> Tensor:
    """An orthogonal matrix of entries of like size: Hadamard's times a reflection."""
    hadamard = torch.ones(1, 1)
    while size % (2 * len(hadamard)) == 0:
        upper = torch.cat([hadamard, hadamard], 1)
        hadamard = torch.cat([upper, torch.cat([hadamard, -hadamard], 1)])
    odd = size // len(hadamard)
    reflection = torch.eye(odd) - 2 / odd
    return torch.kron(hadamard / math.sqrt(len(hadamard)), reflection)


def _silence_branches(model: OneStepModel) -> None:
    """Residual and attention branches of the VAE, and ε, start at zero."""
    last_layers: list[nn.Module] = [model.unet.conv_out]
    last_layers += [m.conv2 for m in model.modules() if isinstance(m, ResnetBlock2D)]
    last_layers += [m.to_out[0] for m in model.vae.modules() if isinstance(m, Attention)]
    for layer in last_layers:
        for parameter in layer.parameters():
            nn.init.zeros_(parameter)
    trunk_norms: list[nn.GroupNorm] = [model.vae.encoder.conv_norm_out]
    trunk_norms += [model.vae.decoder.conv_norm_out]
    trunk_norms += [m.norm1 for m in model.vae.modules() if isinstance(m, ResnetBlock2D)]
    trunk_norms += [m.group_norm for m in model.vae.modules() if isinstance(m, Attention)]
    for norm in trunk_norms:
        nn.init.constant_(norm.weight, CONSTANT * math.sqrt(2 / norm.num_channels))
        with torch.no_grad():
            norm.weight[-2:] = 0


def _carry(conv: nn.Conv2d, matrix: Tensor) -> None:
    """The trunk's first channels become `matrix`·x and −`matrix`·x, its last two ±CONSTANT."""
    rows = matrix.shape[0]
    with torch.no_grad():
        conv.weight[: 2 * rows] = 0
        conv.weight[-2:] = 0
        _bias(conv).zero_()
        centre = conv.weight[:, :, 1, 1]
        centre[:rows] = matrix
        centre[rows : 2 * rows] = -matrix
        _bias(conv)[-2:] = torch.tensor([CONSTANT, -CONSTANT])


def _read(norm: nn.GroupNorm, conv: nn.Conv2d, matrix: Tensor) -> None:
    """`matrix`·x from the trunk's two signs: SiLU(x) − SiLU(−x) = x."""
    columns = matrix.shape[1]
    with torch.no_grad():
        conv.weight.mul_(0.01)
        conv.weight[: matrix.shape[0]] = 0
        _bias(conv).zero_()
        centre = conv.weight[:, :, 1, 1]
        centre[: matrix.shape[0], :columns] = matrix
        centre[: matrix.shape[0], columns : 2 * columns] = -matrix


def _connect(conv: nn.Conv2d, matrix: Tensor) -> None:
    with torch.no_grad():
        conv.weight.copy_(matrix[:, :, None, None])
        _bias(conv).zero_()


def _bias(conv: nn.Conv2d) -> Tensor:
    assert conv.bias is not None
    return conv.bias


def _patch_basis(patch_size: int, coefficients: int) -> Tensor:
    """The lowest DCT-II patterns of a patch, (coefficients, 3·p²), orthonormal rows.

    Columns are ordered as `pixel_unshuffle` orders channels: colour, row, column.
    """
    per_colour = coefficients // 3
    if per_colour * 3 != coefficients or per_colour > patch_size**2:
        raise ConfigError(
            f"latent_channels must be a multiple of 3 up to {3 * patch_size**2}, "
            f"found {coefficients}"
        )
    position = torch.arange(patch_size) + 0.5
    frequency = torch.arange(patch_size)
    waves = torch.cos(math.pi / patch_size * frequency[:, None] * position[None, :])
    waves = waves / waves.norm(dim=1, keepdim=True)
    order = sorted(
        ((u, v) for u in range(patch_size) for v in range(patch_size)),
        key=lambda pair: (pair[0] ** 2 + pair[1] ** 2, pair),
    )
    patterns = [torch.outer(waves[u], waves[v]).flatten() for u, v in order[:per_colour]]
    return torch.kron(torch.eye(3), torch.stack(patterns))
