"""A reader of checkpoints and models that knows of them what docs/checkpoint-format.md says."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel
from diffusers.schedulers.scheduling_ddpm import DDPMScheduler
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn.functional import conv2d, linear, pad, pixel_shuffle, pixel_unshuffle

Tensors = Mapping[str, Tensor]


def upscaled(folder: Path, image: Tensor) -> Tensor:
    """What the model in a folder makes of an enlarged image (1, 3, H, W) in [0, 1]."""
    manifest = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
    tensors = load_file(folder / manifest["tensors"]["file"])
    about = (manifest if manifest["kind"] == "model" else manifest["model"])["description"]
    vae, unet = AutoencoderKL(**about["vae"]), UNet2DConditionModel(**about["unet"])
    model = nn.ModuleDict({"vae": vae, "unet": unet})
    for name in about["left_out"]:
        model.set_submodule(name, nn.Identity())
    for record in manifest.get("layers", ()):
        if record["plan"] is None:
            continue
        prefix = f"{record['name']}."
        own = {k.removeprefix(prefix): tensors.pop(k) for k in _direct(tensors, prefix)}
        layer: Any = model.get_submodule(record["name"])
        if record["kind"] == "attention":
            layer.set_processor(_Attention(record["plan"], own))
        else:
            model.set_submodule(record["name"], _Layer(layer, record, own))
    context = tensors.pop("context").float()
    model.load_state_dict({name: tensor.float() for name, tensor in tensors.items()})
    with torch.no_grad():
        # As the definition lies in memory: sums are then in the same order.
        model.to(memory_format=torch.channels_last)
        return _run(about, vae, unet, context, image)


def _direct(tensors: Tensors, prefix: str) -> list[str]:
    """Of an attention not those of its projections."""
    names = [name for name in tensors if name.startswith(prefix)]
    return [name for name in names if "." not in name.removeprefix(prefix)]


def _run(about: Any, vae: Any, unet: Any, context: Tensor, image: Tensor) -> Tensor:
    patches = pixel_unshuffle(image, about["patch_size"]) * 2 - 1
    patches = patches.contiguous(memory_format=torch.channels_last)
    scaling = vae.config.scaling_factor
    latent = vae.encode(patches).latent_dist.mode() * scaling
    noise = unet(latent, torch.tensor([about["timestep"]]), context).sample
    if (realism := about["realism"]) is not None:
        faithful, natural = noise.chunk(2, dim=1)
        noise = (about.get("pixel_strength", 1) - realism) * faithful + realism * natural
    signal = float(DDPMScheduler(**about["schedule"]).alphas_cumprod[about["timestep"]])
    restored = (latent - math.sqrt(1 - signal) * noise) / math.sqrt(signal)
    return pixel_shuffle(vae.decode(restored / scaling).sample, about["patch_size"]) / 2 + 0.5


class _Layer(nn.Module):
    """A convolution or a linear layer on grids."""

    weight: Tensor

    def __init__(self, layer: Any, record: Any, tensors: Tensors) -> None:
        super().__init__()
        self.plan, self.tensors = record["plan"], tensors
        self.is_convolution = record["kind"] == "convolution"
        self.stride, self.padding, self.dilation = (
            getattr(layer, name, None) for name in ("stride", "padding", "dilation")
        )
        weight = self._read_weight(tuple(record["weight_shape"]))
        self.register_buffer("weight", weight, persistent=False)

    def _read_weight(self, shape: tuple[int, ...]) -> Tensor:
        grid = self.plan["weight"]
        if grid is None:
            return self.tensors["float_weight"].float()
        bits, along = grid["num_bits"], (-1, *[1] * (len(shape) - 1))
        stream = np.unpackbits(self.tensors["weight"].numpy(), bitorder="little")
        codes = stream[: math.prod(shape) * bits].reshape(-1, bits) @ (1 << np.arange(bits))
        integers = torch.from_numpy(codes).reshape(shape) + _limits(grid)[0]
        zero_point = self.tensors.get("weight_zero_point", torch.zeros(1)).reshape(along)
        return (integers - zero_point).float() * self.tensors["weight_scale"].reshape(along)

    def forward(self, x: Tensor) -> Tensor:
        values, shift, scale = (
            x.float(),
            *map(self._of_channels, ("channel_shift", "channel_scale")),
        )
        padded = self.is_convolution and shift is not None
        if padded:
            (vertical, horizontal) = self.padding
            values = pad(values, (horizontal, horizontal, vertical, vertical))
        values = values if shift is None else values - shift
        values = values if scale is None else values / scale
        if self.plan["activation"] is not None:
            values = _on_grid(values, self.plan["activation"], self.tensors, "input")
        bias = self.tensors.get("bias")
        bias = None if bias is None else bias.float()
        result = self._product(values, self.weight, bias, padded)
        if self.plan["rank"]:
            down, up = (self.tensors[f"branch_{n}"].view(torch.bfloat16) for n in ("down", "up"))
            inner = self._product(x.bfloat16(), down, None)
            outer = conv2d(inner, up) if self.is_convolution else linear(inner, up)
            result = result + outer.float()
        return result

    def _of_channels(self, name: str) -> Tensor | None:
        values = self.tensors.get(name)
        along = (-1, 1, 1) if self.is_convolution else (-1,)
        return None if values is None else values.reshape(along)

    def _product(
        self, x: Tensor, weight: Tensor, bias: Tensor | None, padded: bool = False
    ) -> Tensor:
        if not self.is_convolution:
            return linear(x, weight, bias)
        padding = (0, 0) if padded else self.padding
        return conv2d(x, weight, bias, self.stride, padding, self.dilation)


class _Attention(nn.Module):
    """The products of an attention on grids."""

    def __init__(self, plan: Any, tensors: Tensors) -> None:
        super().__init__()
        self.tensors, free = tensors, plan["activation"]
        symmetric = {**free, "symmetric": True}
        self.grids = {"query": symmetric, "key": symmetric, "probability": free, "value": free}

    def __call__(  # diffusers reads this signature
        self,
        attn: Any,
        x: Tensor,
        encoder_hidden_states: Tensor | None = None,
        attention_mask: Tensor | None = None,
        temb: Tensor | None = None,
    ) -> Tensor:
        tokens = x if x.dim() == 3 else x.flatten(2).transpose(1, 2)
        if attn.group_norm is not None:
            tokens = attn.group_norm(tokens.transpose(1, 2)).transpose(1, 2)
        source = tokens if encoder_hidden_states is None else encoder_hidden_states
        s = self.tensors.get("channel_scale", torch.ones(()))
        q, k, v = attn.to_q(tokens) / s, attn.to_k(source) * s, attn.to_v(source)
        q, k, v = (y.unflatten(-1, (attn.heads, -1)).transpose(1, 2) for y in (q, k, v))
        products = self._on_grid(q, "query") @ self._on_grid(k, "key").transpose(-1, -2)
        probability = torch.softmax(products * attn.scale, -1)
        mixed = self._on_grid(probability, "probability") @ self._on_grid(v, "value")
        out = attn.to_out[0](mixed.transpose(1, 2).flatten(2))
        out = out if x.dim() == 3 else out.transpose(1, 2).reshape(x.shape)
        return (out + x if attn.residual_connection else out) / attn.rescale_output_factor

    def _on_grid(self, x: Tensor, operand: str) -> Tensor:
        return _on_grid(x, self.grids[operand], self.tensors, operand)


def _limits(grid: Any) -> tuple[int, int]:
    most = 2 ** (grid["num_bits"] - grid["symmetric"]) - 1
    return (-most if grid["symmetric"] else 0), most


def _on_grid(x: Tensor, grid: Any, tensors: Tensors, operand: str) -> Tensor:
    scale = tensors[f"{operand}_scale"]
    zero_point = tensors.get(f"{operand}_zero_point", torch.zeros(()))
    integers = (torch.round(x * (1 / scale)) + zero_point).clamp(*_limits(grid))
    return (integers - zero_point) * scale
