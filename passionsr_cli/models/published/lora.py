"""Low-rank adapters (LoRA, arXiv 2106.09685) and merging them into weights.

An adapter of a layer is a pair A (r, …), B (…, r); the layer computes W x + factor · B(A x), so the
merged weight is W + factor · B A. Read are diffusers' files and the pickles of OSEDiff, PassionSR
and PiSA-SR, which hold what peft names `….lora_A.ADAPTER.weight`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from passionsr_cli.errors import ModelError
from passionsr_cli.models.published.tensor_files import Tensors, read_file, read_metadata

# What peft takes for lora_alpha if nobody says otherwise, as in OSEDiff.
PEFT_ALPHA = 8.0
PARTS = ("unet", "vae")
# PassionSR's file has adapters of the VAE's decoder, which its code never reads.
_UNUSED = ("vae", "default_decoder")
_HALF = re.compile(
    r"(?P<layer>.+)\.(?:lora_(?P<peft>[AB])(?:\.(?P<adapter>[^.]+))?|lora\.(?P<old>down|up))\.weight"
)


Pair = tuple[Tensor, Tensor, float]


@dataclass(frozen=True)
class Adapters:
    """Adapters of a file, by names of a `OneStepModel`.

    `pairs` are (A, B, factor) of each layer; `replaced` are whole parameters; `unused` adapters
    were left out.
    """

    pairs: dict[str, list[Pair]]
    replaced: Tensors
    unused: int

    def counts(self) -> dict[str, int]:
        """Count the layers and parameters of each part they change."""
        names = [*self.pairs, *self.replaced]
        return {part: sum(name.startswith(f"{part}.") for name in names) for part in PARTS}


def read_adapters(path: Path) -> Adapters:
    """The adapters in a file. Raises `ModelError` for what is no adapter of a UNet or VAE."""
    found = read_file(path)
    states = {
        part: state
        for part in PARTS
        for state in (found.get(f"state_dict_{part}"), found.get(f"{part}_state_dict"))
        if isinstance(state, dict)
    }
    if states:
        return _collect(path, _in_pickle(states), dict.fromkeys(PARTS, PEFT_ALPHA))
    if not any(_HALF.fullmatch(str(name)) for name in found):
        shown = ", ".join(sorted(str(name) for name in found)[:3]) or "nothing"
        raise ModelError(
            f"{path} holds no adapters: found {shown}; expected a diffusers LoRA or "
            "OSEDiff's pickle (state_dict_unet, state_dict_vae)"
        )
    return _collect(path, iter(found.items()), _alphas(path))


def _in_pickle(states: Mapping[str, Mapping[str, Any]]) -> Iterator[tuple[str, Any]]:
    for part, state in states.items():
        for name, tensor in state.items():
            yield f"{part}.{str(name).removeprefix(f'{part}.')}", tensor


def _alphas(path: Path) -> dict[str, float]:
    """lora_alpha of the parts, as far as diffusers noted it; without it the factor is 1."""
    try:
        noted = json.loads(read_metadata(path).get("lora_adapter_metadata", "{}"))
        given = {part: noted.get(f"{part}.lora_alpha") for part in PARTS}
        return {part: float(alpha) for part, alpha in given.items() if alpha is not None}
    except (ValueError, TypeError, AttributeError) as error:
        raise ModelError(f"{path}: its lora_adapter_metadata cannot be read: {error}") from error


def _collect(path: Path, named: Iterator[tuple[str, Any]], alphas: Mapping[str, float]) -> Adapters:
    halves: dict[tuple[str, str], Tensors] = {}
    own_alphas: dict[str, float] = {}
    replaced: Tensors = {}
    for name, tensor in named:
        if name.partition(".")[0] not in PARTS or not isinstance(tensor, Tensor):
            raise ModelError(f"{path}: '{name}' is no adapter of a UNet or VAE")
        half = _HALF.fullmatch(name)
        if half is not None:
            side = half["peft"] or {"down": "A", "up": "B"}[half["old"]]
            halves.setdefault((half["layer"], half["adapter"] or ""), {})[side] = tensor
        elif name.endswith(".alpha") and tensor.numel() == 1:
            own_alphas[name.removesuffix(".alpha")] = float(tensor)
        else:
            replaced[name.replace(".base_layer.", ".")] = tensor
    pairs: dict[str, list[Pair]] = {}
    unused = 0
    for (layer, adapter), pair in halves.items():
        part = layer.partition(".")[0]
        if pair.keys() != {"A", "B"}:
            raise ModelError(f"{path}: of the adapter of {layer} only half is there")
        shapes = {side: tuple(tensor.shape) for side, tensor in sorted(pair.items())}
        if min(map(len, shapes.values())) < 2 or not shapes["A"][0] == shapes["B"][1] > 0:
            raise ModelError(f"{path}: of the adapter of {layer} the halves do not fit: {shapes}")
        if (part, adapter) == _UNUSED:
            unused += 1
            continue
        rank = pair["A"].shape[0]
        alpha = own_alphas.get(layer, alphas.get(part, rank))
        pairs.setdefault(layer, []).append((pair["A"], pair["B"], alpha / rank))
    return Adapters(pairs, replaced, unused)


def merge(tensors: Tensors, adapters: Adapters, origin: Path) -> Tensors:
    """The tensors with the adapters in them; what they change is float32, the rest as it was.

    Raises `ModelError` for an adapter of a layer that is not there or has another shape.
    """
    merged = dict(tensors)
    for name, tensor in adapters.replaced.items():
        _check(origin, name, tuple(tensor.shape), merged)
        merged[name] = tensor.float()
    for layer, pairs in adapters.pairs.items():
        name = f"{layer}.weight"
        for down, up, factor in pairs:
            change = product(down, up)
            _check(origin, name, tuple(change.shape), merged)
            merged[name] = merged[name].float() + factor * change
    return merged


def product(down: Tensor, up: Tensor) -> Tensor:
    """B A in the shape of the layer's weight, float32: (O, C) or (O, C, h, w)."""
    both = up.float().flatten(1) @ down.float().flatten(1)
    return both.reshape(up.shape[0], *down.shape[1:])


def _check(origin: Path, name: str, shape: tuple[int, ...], tensors: Tensors) -> None:
    if name not in tensors:
        raise ModelError(f"{origin} changes {name}, which this architecture does not have")
    if tuple(tensors[name].shape) != shape:
        raise ModelError(
            f"{origin} changes {name} in shape {shape}, expected {tuple(tensors[name].shape)}: it "
            "is for another base model"
        )
