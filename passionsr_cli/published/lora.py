"""Low-rank adapters (LoRA, arXiv 2106.09685) and merging them into weights.

An adapter of a layer is a pair A (r, …), B (…, r); the layer computes W x + factor · B(A x), so the
merged weight is W + factor · B A.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from math import prod
from pathlib import Path

from torch import Tensor

from passionsr_cli.errors import ModelError
from passionsr_cli.published.adapter_files import (
    HALF,
    PARTS,
    AdapterFile,
    read_adapter_files,
)
from passionsr_cli.published.tensor_files import Tensors, check_floating

# PiSA-SR's adapters, which are of pixels or of semantics, are called so.
_PIXELS, _SEMANTICS = "_pix", "_sem"
# PassionSR's file has adapters of the VAE's decoder, which its code never reads.
_UNUSED = ("vae", "default_decoder")


@dataclass(frozen=True)
class Pair:
    """One adapter of a layer: A (r, …), B (…, r), what B A is multiplied by, and its name."""

    down: Tensor
    up: Tensor
    factor: float
    adapter: str = ""


@dataclass
class Adapters:
    """Adapters by names of a `OneStepModel`.

    `pairs` are those of each layer; `replaced` are whole parameters; `unused` adapters were left
    out; `files` are what they were read from.
    """

    pairs: dict[str, list[Pair]] = field(default_factory=dict)
    replaced: Tensors = field(default_factory=dict)
    unused: int = 0
    files: list[Path] = field(default_factory=list)

    def counts(self) -> dict[str, int]:
        """Count the layers and parameters of each part they change."""
        names = [*self.pairs, *self.replaced]
        return {part: sum(name.startswith(f"{part}.") for name in names) for part in PARTS}

    def of_pixels(self, origin: Path) -> Adapters:
        """PiSA-SR's adapters without those of semantics, for the faithful end of its dial.

        Raises `ModelError` where there are not both kinds.
        """
        kept = {
            layer: [pair for pair in pairs if not pair.adapter.endswith(_SEMANTICS)]
            for layer, pairs in self.pairs.items()
        }
        named = {pair.adapter for pairs in self.pairs.values() for pair in pairs}
        for suffix in (_PIXELS, _SEMANTICS):
            if not any(adapter.endswith(suffix) for adapter in named):
                raise ModelError(
                    f"{origin} has no adapters named …{suffix}; a dial needs those of pixels and "
                    f"those of semantics, found {', '.join(sorted(named)[:4]) or 'none'}"
                )
        return replace(self, pairs=kept)


def read_adapters(path: Path, tensors: Tensors, alpha: float | None = None) -> Adapters:
    """The adapters in a file or folder, for a model of these tensors (see `read_adapter_files`)."""
    adapters = Adapters()
    shapes = {name: tensor.shape for name, tensor in tensors.items()}
    for file in read_adapter_files(path, shapes, alpha):
        _collect(file, adapters)
    return adapters


def _collect(file: AdapterFile, adapters: Adapters) -> None:
    path = file.path
    halves: dict[tuple[str, str], Tensors] = {}
    own_alphas: dict[str, float] = {}
    for name, tensor in file.held.items():
        if name.partition(".")[0] not in PARTS or not isinstance(tensor, Tensor):
            raise ModelError(f"{path}: '{name}' is no adapter of a UNet or VAE")
        half = HALF.fullmatch(name)
        if half is not None:
            side = half["peft"] or {"down": "A", "up": "B"}[half["old"]]
            halves.setdefault((half["layer"], half["adapter"] or ""), {})[side] = tensor
        elif name.endswith(".alpha") and tensor.numel() == 1 and not tensor.is_complex():
            own_alphas[name.removesuffix(".alpha")] = float(tensor)
        else:
            adapters.replaced[name.replace(".base_layer.", ".")] = tensor
    check_floating(path, adapters.replaced)
    if stray := own_alphas.keys() - {layer for layer, _ in halves}:
        raise ModelError(
            f"{path} has {min(stray)}.alpha, but no adapter of that layer: it is not whole"
        )
    for (layer, adapter), pair in halves.items():
        _check_pair(path, layer, pair)
        if (layer.partition(".")[0], adapter) == _UNUSED:
            adapters.unused += 1
            continue
        rank = pair["A"].shape[0]
        own = own_alphas.get(layer)
        factor = file.factor(layer, rank) if own is None else own / rank
        adapters.pairs.setdefault(layer, []).append(Pair(pair["A"], pair["B"], factor, adapter))
    adapters.files += filter(None, (path, file.settings))


def _check_pair(path: Path, layer: str, pair: Mapping[str, Tensor]) -> None:
    if pair.keys() != {"A", "B"}:
        raise ModelError(f"{path}: of the adapter of {layer} only half is there")
    check_floating(path, {f"{layer}.lora_{side}": tensor for side, tensor in pair.items()})
    shapes = {side: tuple(tensor.shape) for side, tensor in sorted(pair.items())}
    whole = min(map(len, shapes.values())) >= 2 and prod(shapes["B"][2:]) == 1
    if not whole or not shapes["A"][0] == shapes["B"][1] > 0:
        raise ModelError(f"{path}: of the adapter of {layer} the halves do not fit: {shapes}")


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
        for pair in pairs:
            # First: a product of adapters of another model may be larger than all memory.
            _check(origin, name, (pair.up.shape[0], *pair.down.shape[1:]), merged)
            merged[name] = merged[name].float() + pair.factor * product(pair.down, pair.up)
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
