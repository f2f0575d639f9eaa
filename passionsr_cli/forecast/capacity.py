"""Check before a calibration that there is room for it."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from passionsr_cli.config import CalibrationSettings
from passionsr_cli.description import ModelDescription
from passionsr_cli.errors import DeviceError, StoreError
from passionsr_cli.layers.convert import find_layers
from passionsr_cli.methods.stages import Method
from passionsr_cli.models.components import COMPONENTS, component_of
from passionsr_cli.models.one_step import OneStepModel
from passionsr_cli.quantization.schemes import ATTENTION
from passionsr_cli.system.memory import free_bytes
from passionsr_cli.system.text import in_bytes

ADVICE = "lower crop_px, use --config full-size-cpu or full-size-gpu, or close other programs"
# Measured on `mini` and on Stable Diffusion's architecture, float32: what the interpreter and
# its libraries take, and what backpropagation keeps of each weight, input and attention score.
BASE_BYTES = 1_200_000_000
BYTES_PER_WEIGHT, BYTES_PER_LEARNED_WEIGHT = 4, 12
BYTES_PER_INPUT, BYTES_PER_SCORE = 24, 20
# Block-wise recomputation keeps the largest block's share.
CHECKPOINTING_SHARE = 0.25


@dataclass
class Sizes:
    """Numbers one component handles for one image: weights, layer inputs, attention scores."""

    weights: int = 0
    inputs: int = 0
    scores: int = 0


def component_sizes(description: ModelDescription, crop_px: int) -> dict[str, Sizes]:
    """Sizes of each component at one crop size, found on the meta device."""
    sizes = {component: Sizes() for component in COMPONENTS}
    with torch.device("meta"):
        model = OneStepModel(description)
        upscaled = torch.empty(1, 3, crop_px, crop_px)
    hooks = []
    for name, kind, layer in find_layers(model):
        owner = sizes[component_of(name)]
        owner.weights += sum(p.numel() for p in layer.parameters(recurse=False))

        def count(
            layer: nn.Module,
            inputs: tuple[Tensor, ...],
            output: Tensor,
            owner: Sizes = owner,
            is_attention: bool = kind == ATTENTION,
        ) -> None:
            if is_attention:
                tokens = output.shape[1] if output.dim() == 3 else output[0, 0].numel()
                owner.scores += int(layer.heads) * tokens**2  # type: ignore[arg-type]
            else:
                owner.inputs += inputs[0].numel()

        hooks.append(layer.register_forward_hook(count))
    with torch.no_grad():
        model(upscaled)
    for hook in hooks:
        hook.remove()
    return sizes


def needed_bytes(
    sizes: dict[str, Sizes], chains: Sequence[Sequence[str]], settings: CalibrationSettings
) -> int:
    """Memory that fitting takes, an estimate: the largest of the chains that are fitted."""
    share = CHECKPOINTING_SHARE if settings.gradient_checkpointing else 1.0
    largest = 0.0
    for chain in chains:
        parts = [sizes[component] for component in chain]
        values = settings.batch_size * sum(
            BYTES_PER_INPUT * part.inputs + BYTES_PER_SCORE * part.scores for part in parts
        )
        learned = BYTES_PER_LEARNED_WEIGHT * sum(part.weights for part in parts)
        largest = max(largest, share * (values + learned))
    weights = BYTES_PER_WEIGHT * sum(part.weights for part in sizes.values())
    return int(BASE_BYTES + weights + largest)


def check_memory(
    description: ModelDescription, settings: CalibrationSettings, method: Method, device: str
) -> int:
    """Bytes of memory that a calibration needs; one that would be killed for them is refused."""
    chains = [stage.chain for stage in method.stages if stage.fit]
    needed = needed_bytes(component_sizes(description, settings.crop_px), chains, settings)
    free = free_bytes(device)
    if needed > free:
        raise DeviceError(
            f"calibrating needs about {needed / 1e9:.1f} GB of memory, {free / 1e9:.1f} GB are "
            f"free; {ADVICE}"
        )
    return needed


def check_disk(folder: Path, description: ModelDescription, settings: CalibrationSettings) -> int:
    """Bytes of disk that teacher targets need; a calibration for which they are not there is
    refused."""
    latent = settings.crop_px // description.latent_factor
    channels = description.unet["in_channels"] + description.vae["latent_channels"]
    # The image, and both latents as targets and as inputs.
    each = 4 * (3 * settings.crop_px**2 + 2 * channels * latent**2)
    needed = int(settings.crops * each)
    existing = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    free = shutil.disk_usage(existing).free
    if needed > free:
        raise StoreError(
            f"calibrating needs about {in_bytes(needed)} under {folder}, {in_bytes(free)} are "
            "free; make room, lower crops, or set PASSIONSR_HOME to another disk"
        )
    return needed
