"""AdcSR as it is published (arXiv 2411.13383): a UNet with a decoder's middle, and the decoder.

`net_params_200.pkl` has what lies between the folded pixels and the decoder's blocks: `body.1.…` is
the UNet, `body.2.…` the decoder's middle. The UNet's blocks are in it twice, once as
`body.1.body.…`, numbered as they run. The blocks behind are those of `halfDecoder.ckpt`, whose own
beginning and middle are not used.
"""

from __future__ import annotations

import re
from pathlib import Path

from passionsr_cli.description import ModelDescription
from passionsr_cli.errors import ModelError
from passionsr_cli.progress import Reporter
from passionsr_cli.published.decoders import read_decoder
from passionsr_cli.published.legacy import Base, check_fits
from passionsr_cli.published.tensor_files import Tensors, named_tensors, read_file

# What DataParallel puts before every name.
_WRAPPER = "module."
_UNET, _MIDDLE = "body.1.", "body.2."
_NUMBERED = re.compile(r"body\.(\d+)\.(.+)")
_REPLACED = ("vae.post_quant_conv.", "vae.decoder.conv_in.", "vae.decoder.mid_block.")


def read_adcsr(
    network: Path, decoder: Path | None, description: ModelDescription, reporter: Reporter
) -> Base:
    """The whole model, by names of a `OneStepModel`, of its two files.

    Raises `ModelError` where one of them is missing, damaged or another.
    """
    tensors = _read_network(network, description)
    if decoder is None:
        raise ModelError(
            f"{network} ends in the decoder's middle; give the decoder, halfDecoder.ckpt, with "
            "--decoder FILE"
        )
    light = read_decoder(decoder, len(description.vae["block_out_channels"]))
    replaced = {name for name in light.tensors if name.startswith(_REPLACED)}
    used = {name: tensor for name, tensor in light.tensors.items() if name not in replaced}
    parts = {name.rpartition(prefix)[1].strip(".") for name in replaced for prefix in _REPLACED}
    left = sorted({*light.unused, *(part.removeprefix("vae.") for part in parts if part)})
    if left:
        reporter.note(f"{decoder}: not used are {', '.join(left)}")
    check_fits({**tensors, **used}, description, f"{network} with {decoder}")
    return Base({**tensors, **used}, (network, decoder))


def _read_network(path: Path, description: ModelDescription) -> Tensors:
    """The UNet and the decoder's middle."""
    if path.is_dir():
        raise ModelError(f"{path} is a folder; '{description.name}' is made of net_params_200.pkl")
    held = {
        name.removeprefix(_WRAPPER): tensor
        for name, tensor in named_tensors(read_file(path)).items()
    }
    if not any(name.startswith(_UNET) for name in held):
        shown = ", ".join(sorted(held)[:2]) or "no tensors"
        raise ModelError(
            f"{path} holds no network of AdcSR: found {shown}; expected net_params_200.pkl, whose "
            f"names begin with {_WRAPPER}{_UNET} and {_WRAPPER}{_MIDDLE}"
        )
    blocks = _blocks(description)
    return {_placed(name, blocks): tensor for name, tensor in held.items()}


def _blocks(description: ModelDescription) -> list[str]:
    """Names of a UNet's blocks in the order in which they run."""
    levels = range(len(description.unet["block_out_channels"]))
    down, up = ([f"{side}_blocks.{level}" for level in levels] for side in ("down", "up"))
    return [*down, "mid_block", *up, "conv_norm_out", "conv_act", "conv_out"]


def _placed(name: str, blocks: list[str]) -> str:
    if name.startswith(_MIDDLE):
        return f"vae.decoder.mid_block.{name.removeprefix(_MIDDLE)}"
    inner = name.removeprefix(_UNET)
    numbered = _NUMBERED.fullmatch(inner)
    if numbered is not None and int(numbered[1]) < len(blocks):
        inner = f"{blocks[int(numbered[1])]}.{numbered[2]}"
    return f"unet.{inner}"
