"""The files of PassionSR's released code: quantizers of a UNet or VAE, and the YAML beside them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from torch import Tensor

from passionsr_cli.bits import FEWEST_BITS, MOST_BITS, Bits
from passionsr_cli.description import ModelDescription
from passionsr_cli.errors import ConfigError, ModelError
from passionsr_cli.layering import read_yaml
from passionsr_cli.published.legacy import LDM_PREFIXES, from_ldm
from passionsr_cli.published.tensor_files import Tensors, read_file
from passionsr_cli.system.text import first_fault

PARTS = {"unet": "Unet", "vae": "Vae"}
_FIRST_NAMES = {"unet": ("input_blocks", "time_embed", "out."), "vae": ("encoder", "decoder")}
_LEAF = re.compile(
    r"(?P<module>.+?)\.(?P<leaf>scale_factor(?:_qk|_vw)?|offset|weight|bias"
    r"|(?:weight_quantizer_[01]|act_quantizer_[01qkvw]|bias_quantizer)\.x_(?:min|max))"
)


class PartSettings(BaseModel):
    """Settings of a part in the YAML; keys that matter to calibration alone are passed over."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    weight_quant_bits: int = Field(ge=FEWEST_BITS, le=MOST_BITS)
    act_quant_bits: int = Field(ge=FEWEST_BITS, le=MOST_BITS)
    split: bool
    weight_sym: bool = False
    act_sym: bool = False
    weight_sign: bool = False
    act_sign: bool = False
    only_weight: bool = False
    layer_type: str = "2Dquant"


@dataclass(frozen=True)
class ReleasedPart:
    """The quantizers of a UNet or VAE: their tensors by module (as a `OneStepModel` names it) and
    by the released code's name, and whether latent diffusion has the module as a convolution."""

    name: str
    file: Path
    settings: PartSettings
    modules: dict[str, Tensors]

    @property
    def bits(self) -> Bits:
        return Bits(self.settings.weight_quant_bits, self.settings.act_quant_bits)


def read_part(file: Path, config: Path, description: ModelDescription) -> ReleasedPart:
    """A part from its file and the YAML it was calibrated with.

    Raises `ModelError` for a key nobody knows, `ConfigError` for settings no released file has.
    """
    state = read_file(file)
    strange = [str(name) for name, value in state.items() if not isinstance(value, Tensor)]
    if strange or not state:
        raise ModelError(f"{file} is no state dict of quantizers: found {strange[:3] or 'nothing'}")
    modules: dict[str, Tensors] = {}
    for key, tensor in state.items():
        found = _LEAF.fullmatch(re.sub(r"^(model\.)+", "", key))
        if found is None:
            raise ModelError(f"{file}: unknown key '{key}'; expected PassionSR's quantizers")
        if not tensor.isfinite().all():
            raise ModelError(f"{file}: {key} holds NaN or infinity; fetch the file again")
        modules.setdefault(found["module"], {})[found["leaf"]] = tensor.detach().float()
    part = _part_of(file, modules)
    return ReleasedPart(
        part, file, read_settings(config, part), _renamed(file, part, modules, description)
    )


def _part_of(file: Path, modules: Mapping[str, Tensors]) -> str:
    for part, beginnings in _FIRST_NAMES.items():
        if any(module.startswith(beginnings) for module in modules):
            return part
    raise ModelError(f"{file} is of neither a UNet nor a VAE: found {', '.join(list(modules)[:3])}")


def _renamed(
    file: Path, part: str, modules: Mapping[str, Tensors], description: ModelDescription
) -> dict[str, Tensors]:
    """Modules under our names: a state dict with a number for each goes through the renaming of
    weights."""
    names = list(modules)
    numbers = {
        f"{LDM_PREFIXES[part]}{name}.{leaf}": torch.tensor([number])
        for number, name in enumerate(names)
        for leaf in ("weight", "bias")
    }
    try:
        converted = from_ldm(part, numbers, description)
    except (KeyError, AttributeError) as error:
        raise ModelError(f"{file} is of another architecture: {error}") from error
    ours = {
        names[int(number)]: f"{part}.{name.removesuffix('.weight')}"
        for name, number in converted.items()
        if name.endswith(".weight")
    }
    lost = [name for name in names if name not in ours]
    if lost:
        raise ModelError(f"{file}: {len(lost)} modules are unknown ({', '.join(lost[:3])})")
    return {ours[name]: tensors for name, tensors in modules.items()}


def read_settings(path: Path, part: str) -> PartSettings:
    """The settings of a part in the released code's YAML."""
    found: Any = read_yaml(path)
    key = f"quantize_config.{PARTS[part]}"
    for name in key.split("."):
        found = found.get(name) if isinstance(found, dict) else None
    if found is None:
        raise ConfigError(f"{path} has no {key}; give the YAML the file was calibrated with")
    try:
        settings = PartSettings.model_validate(found)
    except ValidationError as error:
        raise ConfigError(f"{path}: {key}.{first_fault(error)}") from error
    unusual = [
        name
        for name in ("weight_sym", "act_sym", "weight_sign", "act_sign", "only_weight")
        if getattr(settings, name)
    ]
    if unusual or settings.layer_type != "2Dquant":
        what = f"{unusual[0]}: true" if unusual else f"layer_type: {settings.layer_type}"
        raise ConfigError(
            f"{path}: {key} has {what}; released checkpoints have unsigned asymmetric grids of "
            "layer_type 2Dquant, and no others can be imported"
        )
    return settings
