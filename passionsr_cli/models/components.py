"""The components of a one-step model, encoder, UNet and decoder, and whose a layer is.

Imports no torch.
"""

from __future__ import annotations

ENCODER, UNET, DECODER = "encoder", "unet", "decoder"
COMPONENTS = (ENCODER, UNET, DECODER)
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
