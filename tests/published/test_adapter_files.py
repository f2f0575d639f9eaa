"""Adapters as peft writes them, read and merged, against what peft computes without merging."""

from __future__ import annotations

import copy
import json
from collections import OrderedDict
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from passionsr_cli.errors import ModelError
from passionsr_cli.models import loading
from passionsr_cli.models.one_step import OneStepModel
from passionsr_cli.published.adding import ModelFiles, put_together
from passionsr_cli.published.lora import merge, read_adapters
from passionsr_cli.registry import describe
from passionsr_cli.store import Store

peft = pytest.importorskip("peft")
# Every kind of layer that HYPIR adapts.
TARGETS = (
    *("to_k", "to_q", "to_v", "to_out.0", "conv", "conv1", "conv2", "conv_shortcut"),
    *("conv_out", "proj_in", "proj_out", "ff.net.2", "ff.net.0.proj"),
)


def _adapted(module: nn.Module, **settings: Any) -> Any:
    """A copy with adapters beside its layers, whose numbers are drawn: they begin at zero."""
    config = peft.LoraConfig(target_modules=list(TARGETS), **settings)
    adapted = peft.get_peft_model(copy.deepcopy(module), config)
    for name, parameter in adapted.named_parameters():
        if "lora_" in name:
            nn.init.normal_(parameter, std=0.05)
    return adapted.eval().requires_grad_(False)


def _error(found: Tensor, expected: Tensor) -> float:
    return float((found - expected).norm() / expected.norm())


def _predicted(unet: Callable[..., Any], latent: Tensor, context: Tensor) -> Tensor:
    sample: Tensor = unet(latent, 199, context).sample
    return sample


def test_names_that_begin_inside_the_unet_are_hypirs(
    tiny_model: OneStepModel, base: Path, tmp_path: Path
) -> None:
    """`….lora_A.default.weight` without `unet.`, whose alpha is the rank."""
    adapted = _adapted(tiny_model.unet, r=6, lora_alpha=6)
    state = {
        name.removeprefix("base_model.model."): tensor
        for name, tensor in adapted.state_dict().items()
        if "lora_" in name
    }
    assert "mid_block.resnets.0.conv1.lora_A.default.weight" in state
    torch.save(state, tmp_path / "HYPIR_sd2.pth")
    parts = ModelFiles(base, tmp_path / "HYPIR_sd2.pth")
    entry = put_together("x", tiny_model.description, parts)
    changed = entry.manifest["made_from"]["adapters"]["changed"]
    assert changed == {"unet": len(state) // 2, "vae": 0}
    latent, context = torch.randn(1, 4, 16, 16), torch.randn(1, 3, 8)
    expected = _predicted(adapted, latent, context)
    assert _error(_predicted(loading.load("x").unet, latent, context), expected) < 1e-5
    assert _error(_predicted(tiny_model.unet, latent, context), expected) > 1e-3


def _write_folders(model: OneStepModel, folder: Path) -> tuple[Any, Any]:
    """Two folders as OMGSR's, of the UNet and of the VAE's encoder alone, and what wrote them."""
    encoder = _adapted(model.vae.encoder, r=4, lora_alpha=16, use_rslora=True)
    unet = _adapted(
        model.unet,
        r=8,
        lora_alpha=4,
        rank_pattern={"mid_block.resnets.0.conv1": 3},
        alpha_pattern={"proj_in": 12},
    )
    encoder.save_pretrained(folder / "vae_encoder_lora_adapter")
    unet.save_pretrained(folder / "unet_lora_adapter")
    return unet, encoder


def _of_the_real_shape(folder: Path, peft_folders: bool) -> tuple[Path, int]:
    """HYPIR's file or OMGSR's folders, of zeros that take no room, and their count of layers."""
    with torch.device("meta"):
        model = OneStepModel(describe("osediff"))
        parts = {"unet": model.unet, "vae": model.vae.encoder} if peft_folders else {"": model.unet}
        config = peft.LoraConfig(r=256, lora_alpha=256, target_modules=list(TARGETS))
        adapted = {part: peft.get_peft_model(module, config) for part, module in parts.items()}
    count = 0
    for part, module in adapted.items():
        state = {
            name.removeprefix("base_model.model."): torch.zeros(1).expand(tensor.shape)
            for name, tensor in module.state_dict().items()
            if "lora_" in name
        }
        count += len(state) // 2
        if not peft_folders:
            torch.save(state, folder / "HYPIR_sd2.pth")
            return folder / "HYPIR_sd2.pth", count
        own = folder / "adapter" / part
        own.mkdir(parents=True)
        settings = {"peft_type": "LORA", "r": 256, "lora_alpha": 256}
        (own / "adapter_config.json").write_text(json.dumps(settings))
        named = {f"base_model.model.{k.replace('.default', '')}": half for k, half in state.items()}
        torch.save(named, own / "adapter_model.bin")
    return folder / "adapter", count


@pytest.mark.parametrize("peft_folders", [False, True], ids=["hypir", "omgsr"])
def test_of_adapters_of_the_real_shape_every_tensor_is_taken(
    peft_folders: bool, tmp_path: Path
) -> None:
    path, count = _of_the_real_shape(tmp_path, peft_folders)
    with torch.device("meta"):
        tensors = OneStepModel(describe("osediff")).state_dict()
    found = read_adapters(path, tensors)
    assert (len(found.pairs), found.replaced, found.unused) == (count, {}, 0)
    assert all(pair.factor == 1 for (pair,) in found.pairs.values())
    for layer, (pair,) in found.pairs.items():
        shape = tensors[f"{layer}.weight"].shape
        assert (pair.up.shape[0], pair.down.shape[1:]) == (shape[0], shape[1:])


@pytest.mark.parametrize("kind", ["linear", "convolution"])
def test_rank_256_is_merged_at_the_real_width(kind: str, tmp_path: Path) -> None:
    layer = nn.Linear(1280, 1280) if kind == "linear" else nn.Conv2d(1280, 1280, 3, padding=1)
    module = nn.Sequential(OrderedDict(proj_in=layer)).requires_grad_(False)
    adapted = _adapted(module, r=256, lora_alpha=256)
    state = {
        name.replace("base_model.model.", "unet."): tensor
        for name, tensor in adapted.state_dict().items()
        if "lora_" in name
    }
    torch.save(state, tmp_path / "wide.pth")
    tensors = {"unet.proj_in.weight": layer.weight, "unet.proj_in.bias": layer.bias}
    adapters = read_adapters(tmp_path / "wide.pth", tensors)
    x = torch.randn(8, 1280) if kind == "linear" else torch.randn(1, 1280, 8, 8)
    merged = merge(tensors, adapters, tmp_path)["unet.proj_in.weight"]
    computes = F.linear if kind == "linear" else partial(F.conv2d, padding=1)
    found = computes(x, merged, layer.bias)
    assert _error(found, adapted(x)) < 1e-5


def test_folders_of_peft_have_their_own_ranks_and_alphas(
    tiny_model: OneStepModel, base: Path, tmp_path: Path
) -> None:
    unet, encoder = _write_folders(tiny_model, tmp_path / "adapter")
    entry = put_together("x", tiny_model.description, ModelFiles(base, tmp_path / "adapter"))
    # Of each folder the weights and their settings.
    assert len(entry.manifest["made_from"]["adapters"]["files"]) == 4
    merged = loading.load("x")
    latent, context = torch.randn(1, 4, 16, 16), torch.randn(1, 3, 8)
    expected = _predicted(unet, latent, context)
    assert _error(_predicted(merged.unet, latent, context), expected) < 1e-5
    pixels = torch.randn(1, 12, 32, 32)
    expected = encoder(pixels)
    assert _error(merged.vae.encoder(pixels), expected) < 1e-5
    assert _error(tiny_model.vae.encoder(pixels), expected) > 1e-3
    found = merged.vae.decoder(latent)
    torch.testing.assert_close(found, tiny_model.vae.decoder(latent))


def test_a_given_alpha_is_for_files_that_do_not_say_it(
    tiny_model: OneStepModel, tmp_path: Path
) -> None:
    layer = "mid_block.attentions.0.proj_in"
    halves = {f"{layer}.lora_A.weight": torch.randn(4, 16)}
    halves[f"{layer}.lora_B.weight"] = torch.randn(16, 4)
    save_file(halves, tmp_path / "bare.safetensors")
    noted = {"lora_adapter_metadata": json.dumps({"r": 4, "lora_alpha": 2})}
    save_file(halves, tmp_path / "noted.safetensors", noted)
    tensors = tiny_model.state_dict()
    for name, given, factor in (
        ("bare", None, 1),
        ("bare", 8, 2),
        ("noted", None, 0.5),
        ("noted", 8, 0.5),
    ):
        found = read_adapters(tmp_path / f"{name}.safetensors", tensors, given).pairs
        assert [pair.factor for pair in found[f"unet.{layer}"]] == [factor]


def test_wrong_files_get_one_line(tiny_model: OneStepModel, base: Path, tmp_path: Path) -> None:
    folder = tmp_path / "adapter"

    def refuse(match: str, path: Path = folder) -> None:
        with pytest.raises(ModelError, match=match) as told:
            put_together("x", tiny_model.description, ModelFiles(base, path))
        assert "\n" not in str(told.value)
        assert not Store("model").exists("x")

    folder.mkdir()
    refuse("holds no adapters: expected adapter_config.json in it or in folders in it")
    _write_folders(tiny_model, folder)
    inner = folder / "unet_lora_adapter"
    weights = inner / "adapter_model.safetensors"
    tensors = {name: tensor.clone() for name, tensor in load_file(weights).items()}
    whole, config = weights.read_bytes(), json.loads((inner / "adapter_config.json").read_text())

    def settings(**changes: object) -> None:
        (inner / "adapter_config.json").write_text(json.dumps({**config, **changes}))

    settings(r=5)
    refuse(r"the adapter of unet\.\S+ is of rank 8, its settings say 5")
    settings(use_dora=True)
    refuse("use_dora is True, expected False")
    settings(peft_type="LOHA")
    refuse("peft_type is LOHA, expected LORA")
    settings()
    save_file(dict(list(tensors.items())[1:]), weights)
    refuse("only half is there")
    wide = {k: v.repeat(1, 2) if "attn2.to_k.lora_A" in k else v for k, v in tensors.items()}
    save_file(wide, weights)
    refuse("is for another base model")
    # A UNet of Stable Diffusion XL has more transformer blocks than any of these.
    other = {
        k.replace("transformer_blocks.0", "transformer_blocks.9"): v for k, v in tensors.items()
    }
    save_file(other, weights)
    refuse(r"that neither the UNet nor the VAE has, such as \S*transformer_blocks\.9.*another base")
    weights.write_bytes(whole[:-100])
    refuse("cannot be read")
    weights.unlink()
    refuse(r"lacks its weights; expected adapter_model\.safetensors")
