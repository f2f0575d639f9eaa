"""The components of a one-step model, encoder, UNet and decoder, and whose a layer is.

Imports no torch.
"""

from __future__ import annotations

from collections.abc import Container

from passionsr_cli.description import ModelDescription

ENCODER, UNET, DECODER = "encoder", "unet", "decoder"
COMPONENTS = (ENCODER, UNET, DECODER)
# The UNets of a model that has two, in the order of their heads.
ENDS = ("faithful", "natural")
_PREFIXES = {
    ENCODER: ("vae.encoder.", "vae.quant_conv"),
    UNET: ("unet.",),
    DECODER: ("vae.post_quant_conv", "vae.decoder."),
}


def component_of(layer_name: str) -> str:
    """The component a layer of a `OneStepModel` belongs to."""
    for component, prefixes in _PREFIXES.items():
        if layer_name.startswith(prefixes):
            return component
    raise KeyError(layer_name)


def absent(description: ModelDescription) -> tuple[str, ...]:
    """Modules of Stable Diffusion that a model goes without."""
    encoder = ("vae.encoder", "vae.quant_conv") if description.encoder == "unshuffle" else ()
    embedding = ("unet.time_embedding",) if description.unet_kind == "unconditional" else ()
    return (*description.left_out, *encoder, *embedding)


def is_named(layer_name: str, names: Container[str]) -> bool:
    """True if settings name this layer: of two UNets both are meant by `unet.…`."""
    part, _, inner = layer_name.partition(".")
    end, _, rest = inner.partition(".")
    return layer_name in names or (end in ENDS and f"{part}.{rest}" in names)


def is_upsampler(layer_name: str) -> bool:
    """True of a convolution behind a nearest-neighbour upsampling, as diffusers names them."""
    return ".upsamplers." in layer_name
