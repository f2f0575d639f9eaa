"""Files of low-rank adapters: which layers of a model theirs are, and lora_alpha where it stands.

Read are the pickles of OSEDiff, PassionSR and PiSA-SR, files of diffusers, plain state dicts such
as HYPIR's, whose names begin anywhere in a model, and the folders that peft writes.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Size, Tensor

from passionsr_cli.errors import ModelError
from passionsr_cli.published.legacy import read_json
from passionsr_cli.published.lora_settings import PEFT_ALPHA, Factor, factor_of
from passionsr_cli.published.tensor_files import read_file, read_metadata

PARTS = ("unet", "vae")
# Where the names in a file may begin, and what wrappers of modules put before them.
_ROOTS = ("unet.", "vae.", "vae.encoder.", "vae.decoder.")
_WRAPPERS = ("base_model.model.", "module.")
_CONFIG = "adapter_config.json"
_PEFT_WEIGHTS = ("adapter_model.safetensors", "adapter_model.bin")
HALF = re.compile(
    r"(?P<layer>.+)\.(?:lora_(?P<peft>[AB])(?:\.(?P<adapter>[^.]+))?|lora\.(?P<old>down|up))\.weight"
)

Shapes = Mapping[str, Size]


@dataclass(frozen=True)
class AdapterFile:
    """Contents of one file, by names of a `OneStepModel`.

    `factor` gives what B A is multiplied by in a layer of this name whose adapter has this rank;
    `settings` is the file that says it, where that is another.
    """

    path: Path
    held: dict[str, Any]
    factor: Factor
    settings: Path | None = None


def read_adapter_files(path: Path, shapes: Shapes, alpha: float | None) -> list[AdapterFile]:
    """The adapters in a file, or in a folder of peft or of several of them.

    `shapes` are those of the model's tensors, by which names are told that begin in the middle of
    it; `alpha` is lora_alpha where files do not say it, by default the rank.
    Raises `ModelError` for what is no adapter of a UNet or VAE.
    """
    if path.is_dir():
        folders = [folder for folder in (path, *sorted(path.iterdir())) if _is_peft(folder)]
        if not folders:
            raise ModelError(
                f"{path} holds no adapters: expected {_CONFIG} in it or in folders in it, as peft "
                "writes them"
            )
        return [_read_peft(folder, shapes) for folder in folders]
    found = read_file(path)
    states = {
        part: state
        for part in PARTS
        for state in (found.get(f"state_dict_{part}"), found.get(f"{part}_state_dict"))
        if isinstance(state, dict)
    }
    if states:
        held = {
            f"{part}.{str(name).removeprefix(f'{part}.')}": tensor
            for part, state in states.items()
            for name, tensor in state.items()
        }
        return [AdapterFile(path, held, lambda layer, rank: PEFT_ALPHA / rank)]
    if not any(HALF.fullmatch(str(name)) for name in found):
        shown = ", ".join(sorted(str(name) for name in found)[:3]) or "nothing"
        raise ModelError(
            f"{path} holds no adapters: found {shown}; expected a diffusers LoRA, names that end "
            "in lora_A and lora_B, or OSEDiff's pickle (state_dict_unet, state_dict_vae)"
        )
    root, placed = _placed(path, found, shapes)
    return [AdapterFile(path, placed, _noted_factor(path, root, alpha))]


def _is_peft(folder: Path) -> bool:
    return (folder / _CONFIG).is_file()


def _read_peft(folder: Path, shapes: Shapes) -> AdapterFile:
    settings = folder / _CONFIG
    config = read_json(settings)
    path = next((folder / name for name in _PEFT_WEIGHTS if (folder / name).is_file()), None)
    if path is None:
        raise ModelError(f"{folder} lacks its weights; expected {_PEFT_WEIGHTS[0]} there")
    root, placed = _placed(path, read_file(path), shapes)
    return AdapterFile(path, placed, factor_of(settings, config, root, PEFT_ALPHA), settings)


def _noted_factor(path: Path, root: str, alpha: float | None) -> Factor:
    """The factor by the settings that diffusers notes in a file, of each part or of all; those of a
    part are of names in it, those of all of names without `root`."""
    try:
        noted = json.loads(read_metadata(path).get("lora_adapter_metadata", "{}"))
        of_all = {key: noted[key] for key in noted if key.partition(".")[0] not in PARTS}
        own = {
            part: {
                key.removeprefix(f"{part}."): value
                for key, value in noted.items()
                if key.startswith(f"{part}.")
            }
            for part in PARTS
        }
    except (ValueError, TypeError, AttributeError, RecursionError) as error:
        raise ModelError(f"{path}: its lora_adapter_metadata cannot be read: {error}") from error
    factors = {
        part: factor_of(path, {**of_all, **own[part]}, f"{part}." if own[part] else root, alpha)
        for part in PARTS
    }
    return lambda layer, rank: factors[layer.partition(".")[0]](layer, rank)


def _placed(path: Path, held: Mapping[str, Any], shapes: Shapes) -> tuple[str, dict[str, Any]]:
    """The same by names of the model, without wrappers, and what was put before them for it: the
    part they are of, where they do not say it."""
    named = {_unwrapped(str(name)): tensor for name, tensor in held.items()}
    if any(name.partition(".")[0] in PARTS for name in named):
        return "", named
    halves = {name: half for name in named if (half := HALF.fullmatch(name))}
    layers = {half["layer"] for half in halves.values()}
    missing = {root: _missing(root, layers, shapes) for root in _ROOTS}
    fitting = [root for root in _ROOTS if not missing[root]]
    if not fitting:
        fewest = min(missing.values(), key=len)
        raise ModelError(
            f"{path} has adapters of layers that neither the UNet nor the VAE has, such as "
            f"{min(fewest)}: it is for another base model"
        )

    def misfits(root: str) -> int:
        return sum(
            not _fits(half, named[name], shapes[f"{root}{half['layer']}.weight"])
            for name, half in halves.items()
        )

    root = min(fitting, key=misfits)
    return root, {f"{root}{name}": tensor for name, tensor in named.items()}


def _unwrapped(name: str) -> str:
    for wrapper in _WRAPPERS:
        name = name.removeprefix(wrapper)
    return name


def _missing(root: str, layers: Iterable[str], shapes: Shapes) -> list[str]:
    return [layer for layer in layers if f"{root}{layer}.weight" not in shapes]


def _fits(half: re.Match[str], tensor: Any, shape: Size) -> bool:
    """True if a half of an adapter has the inputs, or the outputs, of a weight."""
    if not isinstance(tensor, Tensor) or tensor.dim() < 2:
        return False
    above = (half["peft"] or half["old"]) in ("B", "up")
    return bool(tensor.shape[0] == shape[0] if above else tensor.shape[1:] == shape[1:])
