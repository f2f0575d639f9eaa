"""Stable Diffusion as others store it: a diffusers folder, or one checkpoint of latent diffusion.

Both become tensors under the names a `OneStepModel` has, `unet.…` and `vae.…`.
"""

from __future__ import annotations

import inspect
import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from passionsr_cli.description import ModelDescription
from passionsr_cli.errors import ModelError
from passionsr_cli.models.one_step import OneStepModel
from passionsr_cli.published.tensor_files import (
    Tensors,
    check_floating,
    named_tensors,
    read_file,
)
from passionsr_cli.system import files

LDM_PREFIXES = {"unet": "model.diffusion_model.", "vae": "first_stage_model."}
TEXT_PREFIX = "cond_stage_model."
# What SD-Turbo's checkpoint has in its place.
_TURBO_TEXT_PREFIX = "conditioner.embedders.0."
WEIGHT_FILES = tuple(
    f"{name}{variant}{suffix}"
    for name in ("diffusion_pytorch_model", "model", "pytorch_model")
    for suffix in (".safetensors", ".bin")
    for variant in ("", ".fp16")
)
# How wide a prompt's embedding is tells the families apart.
_FAMILIES = {768: "Stable Diffusion 1", 1024: "Stable Diffusion 2", 2048: "Stable Diffusion XL"}
# What diffusers called the projections of the VAE's attention until 2023.
_OLD_PROJECTIONS = {"query": "to_q", "key": "to_k", "value": "to_v", "proj_attn": "to_out.0"}
# Settings that change no tensor and no result, or only one in half precision.
_IRRELEVANT = {"sample_size", "dropout", "upcast_attention", "force_upcast"}
# Settings of schedulers that make other noise of the same beta_start and beta_end.
_PLAIN_NOISE = {"trained_betas": None, "rescale_betas_zero_snr": False}


@dataclass(frozen=True)
class Base:
    """A base model as it lies on disk.

    `tensors` have the names and shapes of a `OneStepModel`, but no context. The text encoder is
    in `text_folder` (diffusers) or `text_tensors` (latent diffusion); without either there is none.
    """

    tensors: Tensors
    files: tuple[Path, ...]
    text_folder: Path | None = None
    text_tensors: Tensors | None = None


def read_base(path: Path, description: ModelDescription) -> Base:
    """A base model of this architecture from a folder or a file.

    Raises `ModelError` if anything is missing, damaged or of another architecture.
    """
    if not path.exists():
        raise ModelError(f"there is no file or folder {path}")
    base = _read_folder(path, description) if path.is_dir() else _read_ldm(path, description)
    check_fits(base.tensors, description, path)
    return base


def _read_folder(folder: Path, description: ModelDescription) -> Base:
    from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
    from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel

    expected: dict[str, tuple[type, dict[str, Any]]] = {
        "unet": (UNet2DConditionModel, description.unet),
        "vae": (AutoencoderKL, description.vae),
    }
    missing = [part for part in expected if not (folder / part / "config.json").is_file()]
    if missing:
        found = sorted(path.name for path in folder.iterdir())[:8]
        raise ModelError(
            f"{folder} lacks {' and '.join(f'{part}/config.json' for part in missing)}; expected a "
            f"diffusers model with unet and vae, found {', '.join(found) or 'nothing'}"
        )
    tensors: Tensors = {}
    files = []
    for part, (network, given) in expected.items():
        _check_settings(folder / part / "config.json", network, given)
        files.append(weights_in(folder / part))
        for name, tensor in named_tensors(read_file(files[-1])).items():
            tensors[f"{part}.{_present_name(name)}"] = tensor
    _check_scheduler(folder / "scheduler" / "scheduler_config.json", description)
    text = folder / "text_encoder"
    return Base(tensors, tuple(files), text_folder=text if text.is_dir() else None)


def weights_in(folder: Path) -> Path:
    """The file of weights in a part of a diffusers folder."""
    for name in WEIGHT_FILES:
        if (folder / name).is_file():
            return folder / name
    raise ModelError(f"{folder} lacks its weights; expected {WEIGHT_FILES[0]} there")


def _present_name(name: str) -> str:
    owner, _, leaf = name.rpartition(".")
    above, _, projection = owner.rpartition(".")
    if ".attentions." in name and projection in _OLD_PROJECTIONS:
        return f"{above}.{_OLD_PROJECTIONS[projection]}.{leaf}"
    return name


def _settings(network: type, given: Mapping[str, Any]) -> dict[str, Any]:
    """All settings of a network of diffusers by which it computes: those given, else its defaults.

    As JSON has them: tuples are lists there.
    """
    parameters = inspect.signature(network).parameters.values()
    known = {each.name: given.get(each.name, each.default) for each in parameters}
    used = {key: value for key, value in known.items() if key not in _IRRELEVANT}
    return dict(json.loads(json.dumps(used)))


def _check_settings(path: Path, network: type, given: Mapping[str, Any]) -> None:
    found = read_json(path)
    said, wanted = _settings(network, found), _settings(network, given)
    for key, value in wanted.items():
        # Null is written for no, and for 0.
        if said[key] != value and (said[key] or value):
            raise ModelError(f"{path}: {key} is {said[key]}, expected {value}{_family(found)}")


def _check_scheduler(path: Path, description: ModelDescription) -> None:
    if not path.is_file():
        return
    found = read_json(path)
    schedule = description.schedule.model_dump()
    expected = {"prediction_type": "epsilon", **schedule, **_PLAIN_NOISE}
    for key, value in expected.items():
        said = found.get(key, value)
        if said != value and (said or value):
            raise ModelError(
                f"{path}: {key} is {said}, expected {value}: the base model must be the one for "
                "512×512 that predicts noise (stable-diffusion-2-1-base)"
            )


def _family(settings: Mapping[str, Any]) -> str:
    width = settings.get("cross_attention_dim")
    family = _FAMILIES.get(width) if isinstance(width, int) else None
    return f" (it looks like {family})" if family else ""


def read_json(path: Path) -> dict[str, Any]:
    """The settings in a file. Raises `ModelError` if they cannot be read."""
    try:
        found = files.read_json(path)
    except (OSError, ValueError) as error:
        raise ModelError(f"cannot read {path}: {error}") from error
    if not isinstance(found, dict):
        raise ModelError(f"{path} holds a {type(found).__name__}, expected settings by name")
    return found


def _read_ldm(path: Path, description: ModelDescription) -> Base:
    found = read_file(path)
    held = found.get("state_dict")
    state = named_tensors(held if isinstance(held, dict) else found)
    missing = [p for p in LDM_PREFIXES.values() if not any(name.startswith(p) for name in state)]
    if missing:
        raise ModelError(
            f"{path} holds no {' and '.join(f'{prefix}*' for prefix in missing)}, expected a "
            f"checkpoint of latent diffusion; found {_examples(state)}"
        )
    _check_width(path, state, description)
    try:
        tensors = {
            f"{part}.{name}": tensor
            for part in LDM_PREFIXES
            for name, tensor in from_ldm(part, state, description).items()
        }
    except (AttributeError, LookupError, RuntimeError, TypeError, ValueError) as error:
        # Renaming runs into names and shapes that it does not expect.
        reason = str(error).partition("\n")[0]
        raise ModelError(f"{path} is another architecture or not whole: {reason}") from error
    text = {
        f"{TEXT_PREFIX}{name.removeprefix(prefix)}": tensor
        for prefix in (TEXT_PREFIX, _TURBO_TEXT_PREFIX)
        for name, tensor in state.items()
        if name.startswith(prefix)
    }
    return Base(tensors, (path,), text_tensors=text or None)


def _check_width(path: Path, state: Tensors, description: ModelDescription) -> None:
    expected = int(description.unet["cross_attention_dim"])
    for name, tensor in state.items():
        if name.startswith(LDM_PREFIXES["unet"]) and name.endswith("attn2.to_k.weight"):
            width = tensor.shape[-1] if tensor.dim() else 0
            if width != expected:
                family = _FAMILIES.get(width, "another model")
                raise ModelError(
                    f"{path} is {family}: its UNet reads embeddings of width {width}, "
                    f"expected {expected} ({_FAMILIES.get(expected, description.title)})"
                )
            return


def from_ldm(part: str, state: Tensors, description: ModelDescription) -> Tensors:
    """The tensors of `unet` or `vae` in a state dict of latent diffusion, named as by diffusers."""
    from diffusers.loaders import single_file_utils

    own = {name: tensor for name, tensor in state.items() if name.startswith(LDM_PREFIXES[part])}
    settings = description.unet if part == "unet" else description.vae
    convert: dict[str, Callable[..., Tensors]] = {
        "unet": single_file_utils.convert_ldm_unet_checkpoint,
        "vae": single_file_utils.convert_ldm_vae_checkpoint,
    }
    return convert[part](own, settings)


def check_fits(tensors: Tensors, description: ModelDescription, origin: Path | str) -> None:
    """Refuse tensors that are not exactly those of the architecture, its context aside."""
    with torch.device("meta"):
        model = OneStepModel(description)
    expected = {
        name: tensor.shape for name, tensor in model.state_dict().items() if name != "context"
    }
    missing, unknown = expected.keys() - tensors.keys(), tensors.keys() - expected.keys()
    if missing or unknown:
        raise ModelError(
            f"{origin} is another architecture or not whole: of {len(expected)} expected tensors "
            f"{len(missing)} are missing ({_examples(missing)}), and {len(unknown)} are unknown "
            f"({_examples(unknown)})"
        )
    for name, shape in expected.items():
        if tensors[name].shape != shape:
            raise ModelError(
                f"{origin} is another architecture: {name} has shape "
                f"{tuple(tensors[name].shape)}, expected {tuple(shape)}"
            )
    check_floating(origin, tensors)


def _examples(names: Iterable[str]) -> str:
    shown = sorted(names)[:2]
    return ", ".join(shown) or "none"
