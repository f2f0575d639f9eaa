"""Models written as others publish them: latent diffusion's names, OSEDiff's pickle, text encoders.

The names come from a table of their own, so that reading them is tested against something else.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from passionsr_cli.description import ModelDescription
from passionsr_cli.models.one_step import OneStepModel

Tensors = dict[str, Tensor]
_RESNET = {
    "norm1": "in_layers.0",
    "conv1": "in_layers.2",
    "time_emb_proj": "emb_layers.1",
    "norm2": "out_layers.0",
    "conv2": "out_layers.3",
    "conv_shortcut": "skip_connection",
}
_UNET = {
    "conv_in": "input_blocks.0.0",
    "time_embedding.linear_1": "time_embed.0",
    "time_embedding.linear_2": "time_embed.2",
    "conv_norm_out": "out.0",
    "conv_out": "out.2",
}
_VAE_ATTENTION = {
    "group_norm": "norm",
    "to_q": "q",
    "to_k": "k",
    "to_v": "v",
    "to_out.0": "proj_out",
}


def ldm_unet_name(name: str, description: ModelDescription) -> str:
    """Latent diffusion's name of a module of diffusers' UNet."""
    if name in _UNET:
        return _UNET[name]
    per_block = int(description.unet["layers_per_block"]) + 1
    if found := re.fullmatch(r"mid_block\.(resnets|attentions)\.(\d)\.(.+)", name):
        place = 1 if found[1] == "attentions" else 2 * int(found[2])
        return f"middle_block.{place}.{_inner(found[1], found[3])}"
    found = re.fullmatch(r"(down|up)_blocks\.(\d)\.(\w+)\.(\d)\.(.+)", name)
    assert found, name
    side, block, kind, index = found[1], int(found[2]), found[3], int(found[4])
    if kind == "downsamplers":
        return f"input_blocks.{(block + 1) * per_block}.0.op"
    if kind == "upsamplers":
        attends = description.unet["up_block_types"][block].startswith("CrossAttn")
        return f"output_blocks.{(block + 1) * per_block - 1}.{2 if attends else 1}.conv"
    place = block * per_block + index + (1 if side == "down" else 0)
    blocks = {"down": "input_blocks", "up": "output_blocks"}[side]
    return f"{blocks}.{place}.{1 if kind == 'attentions' else 0}.{_inner(kind, found[5])}"


def _inner(kind: str, name: str) -> str:
    return name if kind == "attentions" else _RESNET[name]


def ldm_vae_name(name: str, description: ModelDescription) -> str:
    """Latent diffusion's name of a module of diffusers' VAE."""
    levels = len(description.vae["block_out_channels"])
    name = name.replace("conv_norm_out", "norm_out").replace("conv_shortcut", "nin_shortcut")
    if found := re.fullmatch(r"(\w+)\.mid_block\.attentions\.0\.(.+)", name):
        return f"{found[1]}.mid.attn_1.{_VAE_ATTENTION[found[2]]}"
    if found := re.fullmatch(r"(\w+)\.mid_block\.resnets\.(\d)\.(.+)", name):
        return f"{found[1]}.mid.block_{int(found[2]) + 1}.{found[3]}"
    if found := re.fullmatch(r"encoder\.down_blocks\.(\d)\.(\w+)\.(\d)\.(.+)", name):
        inner = f"block.{found[3]}.{found[4]}" if found[2] == "resnets" else "downsample.conv"
        return f"encoder.down.{found[1]}.{inner}"
    if found := re.fullmatch(r"decoder\.up_blocks\.(\d)\.(\w+)\.(\d)\.(.+)", name):
        inner = f"block.{found[3]}.{found[4]}" if found[2] == "resnets" else "upsample.conv"
        return f"decoder.up.{levels - 1 - int(found[1])}.{inner}"
    return name


def ldm_name(name: str, description: ModelDescription) -> str:
    """Latent diffusion's name of a module `unet.…` or `vae.…`, without the part's prefix."""
    part, _, inner = name.partition(".")
    return {"unet": ldm_unet_name, "vae": ldm_vae_name}[part](inner, description)


def ldm_state(tensors: Mapping[str, Tensor], description: ModelDescription) -> Tensors:
    """Tensors of a `OneStepModel` as latent diffusion names and shapes them."""
    prefixes = {"unet": "model.diffusion_model.", "vae": "first_stage_model."}
    state = {}
    for name, tensor in tensors.items():
        if name == "context":
            continue
        owner, _, leaf = name.rpartition(".")
        inner = ldm_name(owner, description)
        if "mid.attn_1" in inner and tensor.dim() == 2:
            tensor = tensor[:, :, None, None]
        state[f"{prefixes[name.partition('.')[0]]}{inner}.{leaf}"] = tensor.contiguous()
    return state


def write_folder(
    folder: Path, tensors: Mapping[str, Tensor], description: ModelDescription, old_names: bool
) -> None:
    """A diffusers folder without text encoder; with `old_names` as before 2023."""
    settings = {"unet": description.unet, "vae": description.vae}
    old = {"to_q": "query", "to_k": "key", "to_v": "value", "to_out.0": "proj_attn"}
    for part in settings:
        (folder / part).mkdir(parents=True)
        (folder / part / "config.json").write_text(json.dumps(settings[part]))
        own = {}
        for name, tensor in tensors.items():
            if not name.startswith(f"{part}."):
                continue
            name = name.removeprefix(f"{part}.")
            if old_names and part == "vae" and ".attentions." in name:
                for new, before in old.items():
                    name = name.replace(f".{new}.", f".{before}.")
            own[name] = tensor.contiguous()
        save_file(own, folder / part / "diffusion_pytorch_model.safetensors")
    (folder / "scheduler").mkdir()
    schedule = {**description.schedule.model_dump(), "prediction_type": "epsilon"}
    (folder / "scheduler" / "scheduler_config.json").write_text(json.dumps(schedule))


def openclip_state(width: int, tokens: int, vocabulary: int, blocks: int, seed: int) -> Tensors:
    """A random text encoder as OpenCLIP names it."""
    generator = torch.Generator().manual_seed(seed)

    def draw(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator) * 0.1

    state = {
        "token_embedding.weight": draw(vocabulary, width),
        "positional_embedding": draw(tokens, width),
        "ln_final.weight": 1 + draw(width),
        "ln_final.bias": draw(width),
        "text_projection": draw(width, width),
        "logit_scale": draw(1)[0],
    }
    for number in range(blocks):
        inner = {
            "attn.in_proj_weight": draw(3 * width, width),
            "attn.in_proj_bias": draw(3 * width),
            "attn.out_proj.weight": draw(width, width),
            "attn.out_proj.bias": draw(width),
            "mlp.c_fc.weight": draw(4 * width, width),
            "mlp.c_fc.bias": draw(4 * width),
            "mlp.c_proj.weight": draw(width, 4 * width),
            "mlp.c_proj.bias": draw(width),
        }
        for norm in ("ln_1", "ln_2"):
            inner |= {f"{norm}.weight": 1 + draw(width), f"{norm}.bias": draw(width)}
        state |= {f"transformer.resblocks.{number}.{key}": value for key, value in inner.items()}
    return {f"cond_stage_model.model.{key}": value for key, value in state.items()}


def write_text_folder(folder: Path, state: Tensors) -> None:
    """The encoder of `openclip_state` as transformers writes it, without its last block."""
    state = {key.removeprefix("cond_stage_model.model."): value for key, value in state.items()}
    blocks = 1 + max(int(k.split(".")[2]) for k in state if k.startswith("transformer."))
    vocabulary, width = state["token_embedding.weight"].shape
    named = {
        "text_model.embeddings.token_embedding.weight": state["token_embedding.weight"],
        "text_model.embeddings.position_embedding.weight": state["positional_embedding"],
        "text_model.final_layer_norm.weight": state["ln_final.weight"],
        "text_model.final_layer_norm.bias": state["ln_final.bias"],
    }
    leaves = {
        "attn.out_proj": "self_attn.out_proj",
        "mlp.c_fc": "mlp.fc1",
        "mlp.c_proj": "mlp.fc2",
        "ln_1": "layer_norm1",
        "ln_2": "layer_norm2",
    }
    for number in range(blocks - 1):
        before = f"transformer.resblocks.{number}"
        after = f"text_model.encoder.layers.{number}"
        for kind in ("weight", "bias"):
            thirds = state[f"{before}.attn.in_proj_{kind}"].chunk(3)
            for letter, third in zip("qkv", thirds, strict=True):
                named[f"{after}.self_attn.{letter}_proj.{kind}"] = third.contiguous()
            for old, new in leaves.items():
                named[f"{after}.{new}.{kind}"] = state[f"{before}.{old}.{kind}"]
    settings = {
        "model_type": "clip_text_model",
        "vocab_size": vocabulary,
        "hidden_size": width,
        "intermediate_size": 4 * width,
        "num_hidden_layers": blocks - 1,
        "num_attention_heads": max(1, width // 64),
        "max_position_embeddings": state["positional_embedding"].shape[0],
        "hidden_act": "gelu",
    }
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps(settings))
    save_file(named, folder / "model.safetensors")


def osediff_pickle(model: OneStepModel, rank: int, seed: int) -> dict[str, Any]:
    """Random adapters as OSEDiff's file holds them, in every kind of layer it adapts."""
    generator = torch.Generator().manual_seed(seed)
    endings = (
        *("to_k", "to_q", "to_v", "to_out.0", "conv", "conv1", "conv2", "conv_shortcut"),
        *("conv_out", "proj_in", "proj_out", "ff.net.2", "ff.net.0.proj", "conv_in"),
    )
    states: dict[str, Tensors] = {"unet": {}, "vae": {}}
    for name, layer in model.named_modules():
        part, _, inner = name.partition(".")
        adapted = isinstance(layer, (nn.Conv2d, nn.Linear)) and inner.endswith(
            (*(f".{ending}" for ending in endings), "conv_in", "conv_out")
        )
        if not adapted or (part == "vae" and not inner.startswith("encoder")):
            continue
        place = "decoder" if "up_blocks" in inner or inner == "conv_out" else "others"
        if part == "vae" or "down_blocks" in inner or inner == "conv_in":
            place = "encoder"
        outputs, *inputs = layer.weight.shape
        ones = [1] * (len(inputs) - 1)
        down = torch.randn(rank, *inputs, generator=generator) * 0.05
        up = torch.randn(outputs, rank, *ones, generator=generator) * 0.05
        states[part][f"{inner}.lora_A.default_{place}.weight"] = down
        states[part][f"{inner}.lora_B.default_{place}.weight"] = up
    states["unet"]["conv_in.base_layer.weight"] = model.unet.conv_in.weight.detach().clone()
    states["unet"]["conv_in.base_layer.bias"] = model.unet.conv_in.bias.detach().clone()
    modules = {place: [] for place in ("encoder", "decoder", "others")}
    for key in states["unet"]:
        if found := re.fullmatch(r"(.+)\.lora_A\.default_(\w+)\.weight", key):
            modules[found[2]].append(found[1])
    vae = [key.partition(".lora_A")[0] for key in states["vae"] if ".lora_A" in key]
    return {
        "vae_lora_encoder_modules": vae,
        **{f"unet_lora_{place}_modules": names for place, names in modules.items()},
        "rank_unet": rank,
        "rank_vae": rank,
        "state_dict_unet": states["unet"],
        "state_dict_vae": states["vae"],
    }
