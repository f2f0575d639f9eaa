"""Light decoders of others: a VAE's decoder with fewer channels, in place of the base model's.

Read are AdcSR's `halfDecoder.ckpt` (arXiv 2411.13383; `decoder.…` in a state dict of latent
diffusion), VOSR's `sd21_lwdecoder.pth` (`model_state_dict` beside its `config`), and plain state
dicts of diffusers' `Decoder` or VAE, or of a model here.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from passionsr_cli.description import ModelDescription
from passionsr_cli.errors import ModelError
from passionsr_cli.published.legacy import check_fits
from passionsr_cli.published.tensor_files import Tensors, named_tensors, read_file

_STATES = ("model_state_dict", "state_dict")
_WRAPPERS = ("module.", "first_stage_model.", "vae.")
_DECODER, _BEFORE = "decoder.", "post_quant_conv"
# A file without this convolution has a decoder that was trained without it.
_LEFT_OUT = f"vae.{_BEFORE}"


@dataclass(frozen=True)
class LightDecoder:
    """A decoder's tensors by names of a `OneStepModel`, and the channels of its blocks, those at
    the image first. `unused` are parts of the file that no decoder has, such as "encoder"."""

    path: Path
    tensors: Tensors
    channels: tuple[int, ...]
    unused: tuple[str, ...]

    def described(self, description: ModelDescription) -> ModelDescription:
        """The description of a model with this decoder in place of its own."""
        left_out = [name for name in description.left_out if name != _LEFT_OUT]
        if not any(name.startswith(f"vae.{_BEFORE}.") for name in self.tensors):
            left_out.append(_LEFT_OUT)
        changes = {"decoder_channels": self.channels, "left_out": tuple(left_out)}
        return description.model_copy(update=changes)

    def put_into(self, tensors: Tensors, description: ModelDescription) -> Tensors:
        """A model's tensors with this decoder; `description` is that of `described`.

        Raises `ModelError` where it is no decoder for this model.
        """
        old = (f"vae.{_DECODER}", f"vae.{_BEFORE}.")
        kept = {name: tensor for name, tensor in tensors.items() if not name.startswith(old)}
        whole = {**kept, **self.tensors}
        check_fits(whole, description, self.path)
        return whole


def read_decoder(path: Path, levels: int) -> LightDecoder:
    """The decoder in a file, of as many blocks as the VAE has `levels`.

    Raises `ModelError` for a file without one.
    """
    found = read_file(path)
    state = next((found[key] for key in _STATES if isinstance(found.get(key), dict)), found)
    named = {_unwrapped(name): tensor for name, tensor in named_tensors(state).items()}
    if not any(name.startswith(_DECODER) for name in named):
        named = {_placed(name): tensor for name, tensor in named.items()}
    own = {
        f"vae.{name}": tensor
        for name, tensor in named.items()
        if name.startswith((_DECODER, f"{_BEFORE}."))
    }
    unused = sorted({name.partition(".")[0] for name in named if f"vae.{name}" not in own})
    return LightDecoder(path, own, _channels(path, own, levels), tuple(unused))


def _unwrapped(name: str) -> str:
    for wrapper in _WRAPPERS:
        name = name.removeprefix(wrapper)
    return name


def _placed(name: str) -> str:
    return name if name.startswith(f"{_BEFORE}.") else f"{_DECODER}{name}"


def _channels(path: Path, tensors: Mapping[str, Any], levels: int) -> tuple[int, ...]:
    """Output channels of the decoder's blocks, of which diffusers counts from the latent on."""
    names = [f"vae.decoder.up_blocks.{level}.resnets.0.conv1.weight" for level in range(levels)]
    missing = [name for name in names if name not in tensors]
    if missing:
        shown = ", ".join(sorted(tensors)[:2]) or "nothing"
        raise ModelError(
            f"{path} holds no decoder of a VAE with {levels} levels: {missing[0]} is missing, "
            f"found {shown}; expected AdcSR's halfDecoder.ckpt, VOSR's sd21_lwdecoder.pth, or a "
            "state dict of diffusers' Decoder"
        )
    for name in names:
        if tensors[name].dim() != 4:
            raise ModelError(
                f"{path} holds no decoder of a VAE: {name} has shape "
                f"{tuple(tensors[name].shape)}, expected that of a convolution"
            )
    return tuple(tensors[name].shape[0] for name in reversed(names))
