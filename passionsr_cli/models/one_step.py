"""The one-step diffusion super-resolution model.

    upscaled LR ─ encode ─► z_L ─ predict ─► ε ─ to_x0 ─► z_H ─ decode ─► SR image

A model with a dial predicts two ε at once, which `predict` mixes: two heads of one UNet, or the
heads of two UNets.

Built from diffusers' `AutoencoderKL` and `UNet2DConditionModel` as they are, or without what an
unconditional UNet lacks: a model is its `ModelDescription` and its numbers.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from passionsr_cli.description import ModelDescription
from passionsr_cli.errors import ModelError
from passionsr_cli.models.components import ENDS
from passionsr_cli.models.schedule import mix_heads, noise_between, predict_x0, rates
from passionsr_cli.models.unconditional import unconditional_unet


class OneStepModel(nn.Module):
    """A Stable-Diffusion-shaped UNet run once between a VAE's encoder and decoder.

    Images are RGB in [0, 1], (B, 3, H, W), already at the output size, with sides that are
    multiples of `description.size_multiple_px`. Latents are (B, C, H/f, W/f) with
    f = `description.latent_factor`.

    `memory_format` is that of the activations, and what the weights should have too; channels
    last is the faster one.
    """

    context: Tensor
    memory_format: torch.memory_format = torch.channels_last

    def __init__(self, description: ModelDescription) -> None:
        super().__init__()
        self.description = description
        try:
            self._build(description)
        except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:
            # What diffusers says of shapes that it cannot build.
            raise ModelError(
                f"the description of '{description.name}' is of no model that diffusers can build: "
                f"{error}"
            ) from error
        for name in description.left_out:
            self._leave_out(name)
        self.register_buffer("context", torch.zeros(1, *description.context_shape))
        self.rates = rates(description)

    def _build(self, description: ModelDescription) -> None:
        from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
        from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel

        self.vae = AutoencoderKL(**description.vae)
        if description.decoder_channels:
            light = {**description.vae, "block_out_channels": description.decoder_channels}
            self.vae.decoder = AutoencoderKL(**light).decoder
        if description.encoder == "unshuffle":
            self.vae.encoder = self.vae.quant_conv = None
        kinds = {"conditional": UNet2DConditionModel, "unconditional": unconditional_unet}
        make_unet: Callable[..., Any] = kinds[description.unet_kind]
        self.unet: Any = make_unet(**description.unet)
        if description.unets == len(ENDS):
            unets = (self.unet, make_unet(**description.unet))
            self.unet = nn.ModuleDict(dict(zip(ENDS, unets, strict=True)))

    def _leave_out(self, name: str) -> None:
        try:
            self.get_submodule(name)
        except AttributeError as error:
            raise ModelError(
                f"'{self.description.name}' leaves out '{name}', but it has no such module; "
                "correct left_out in its description"
            ) from error
        self.set_submodule(name, nn.Identity())

    @property
    def unets(self) -> dict[str, Any]:
        """The UNets by their names: one, or in the order of their heads the two of a dial."""
        if isinstance(self.unet, nn.ModuleDict):
            return {f"unet.{end}": unet for end, unet in self.unet.items()}
        return {"unet": self.unet}

    def encode(self, upscaled: Tensor) -> Tensor:
        """The scaled latent z_L of an upscaled LR image: the mode, not a sample."""
        if self.description.encoder == "unshuffle":
            return self._unshuffle(upscaled)
        patches = F.pixel_unshuffle(upscaled, self.description.patch_size) * 2 - 1
        patches = patches.contiguous(memory_format=self.memory_format)
        posterior = self.vae.encode(patches).latent_dist
        latent: Tensor = posterior.mode() * float(self.vae.config.scaling_factor)
        return latent

    def _unshuffle(self, upscaled: Tensor) -> Tensor:
        """The LR image in [-1, 1] with its pixels folded into channels (AdcSR)."""
        factor = self.description.upscale_factor
        lr = upscaled[..., ::factor, ::factor]
        latent = F.pixel_unshuffle(lr, self.description.latent_factor // factor) * 2 - 1
        return latent.contiguous(memory_format=self.memory_format)

    def predict_heads(self, latent: Tensor) -> Tensor:
        """The UNet's output for z_L at the model's one timestep, (B, heads·C, H/f, W/f): ε, or with
        a dial the faithful ε and then the natural ε."""
        return torch.cat([self._run(unet, latent) for unet in self.unets.values()], dim=1)

    def _run(self, unet: nn.Module, latent: Tensor) -> Tensor:
        context = self.context.expand(latent.shape[0], -1, -1)
        # Made where it is used: a number would be copied to a GPU, which waits for that.
        timestep = torch.full((1,), self.description.timestep, device=latent.device)
        sample: Tensor = unet(latent, timestep, context).sample
        return sample

    def predict(self, latent: Tensor, realism: float | None = None) -> Tensor:
        """The noise ε the UNet sees in z_L, mixed by `mix_heads` if the model has a dial.

        Of two UNets only one runs where the mix is of one alone.
        """
        strength = self.description.pixel_strength
        if self.description.unets == 2 and realism in (0, strength):
            faithful, natural = self.unets.values()
            alone = self._run(faithful if realism == 0 else natural, latent)
            return strength * alone.float()
        heads = self.predict_heads(latent)
        if self.description.realism is not None:
            heads = heads.float()
        return mix_heads(heads, self.description, realism)

    def to_x0(self, latent: Tensor, noise: Tensor) -> Tensor:
        """The restored latent z_H, float32."""
        return predict_x0(latent.float(), noise.float(), self.rates)

    def to_noise(self, latent: Tensor, restored: Tensor) -> Tensor:
        """The noise ε that `to_x0` took from z_L to get z_H, float32."""
        return noise_between(latent.float(), restored.float(), self.rates)

    def decode(self, latent: Tensor) -> Tensor:
        """The image of a restored latent, float32, close to [0, 1] but not clamped."""
        patches = self.vae.decode(latent / float(self.vae.config.scaling_factor)).sample
        return F.pixel_shuffle(patches.float(), self.description.patch_size) / 2 + 0.5

    def forward(self, upscaled: Tensor) -> Tensor:
        """The restored image of an upscaled LR image, not clamped: gradients pass everywhere."""
        latent = self.encode(upscaled)
        return self.decode(self.to_x0(latent, self.predict(latent)))
