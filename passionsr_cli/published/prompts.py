"""The embedding of the empty prompt, by a base model's own text encoder."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from passionsr_cli.errors import ModelError
from passionsr_cli.published.legacy import TEXT_PREFIX, Base, read_json, weights_in
from passionsr_cli.published.tensor_files import (
    Tensors,
    check_floating,
    named_tensors,
    read_file,
    read_tensor,
)

# Every head of CLIP's text encoders is that wide.
_HEAD_WIDTH = 64
# Stable Diffusion 2 has OpenCLIP's, 1 has OpenAI's, which has an approximation of GELU.
_OPENCLIP, _OPENAI = f"{TEXT_PREFIX}model.", f"{TEXT_PREFIX}transformer.text_model."
_OPENAI_ACTIVATION = "quick_gelu"


def read_context(path: Path, shape: tuple[int, int]) -> Tensor:
    """A context somebody computed, (1, tokens, width) or (tokens, width), as (1, tokens, width)."""
    given = read_tensor(path)
    check_floating(path, {"its tensor": given})
    found = given.float()
    found = found.unsqueeze(0) if found.dim() == 2 else found
    if found.shape != (1, *shape):
        raise ModelError(
            f"{path} holds a tensor of shape {tuple(found.shape)}, expected (1, {shape[0]}, "
            f"{shape[1]}): the embedding of one prompt"
        )
    return found


@torch.no_grad()
def empty_context(base: Base, shape: tuple[int, int]) -> Tensor:
    """Embed the empty prompt by the base model's text encoder, (1, tokens, width), float32."""
    encoder = _encoder(base)
    settings = encoder.config
    found, (tokens, width) = (settings.max_position_embeddings, settings.hidden_size), shape
    if found != shape:
        raise ModelError(
            f"the text encoder gives {found[0]} tokens of width {found[1]}, expected {tokens} of "
            f"width {width}"
        )
    return encoder(_empty_prompt(settings, tokens))[0].float()  # type: ignore[no-any-return]


def _empty_prompt(settings: Any, tokens: int) -> Tensor:
    """Token numbers (1, tokens): start and end are the last two of CLIP's vocabulary. Stable
    Diffusion 1 fills up with the end, 2 with the first, '!' (their tokenizers' pad_token)."""
    start, end = settings.vocab_size - 2, settings.vocab_size - 1
    padding = end if settings.hidden_act == _OPENAI_ACTIVATION else 0
    return torch.tensor([[start, end] + [padding] * (tokens - 2)])


def _encoder(base: Base) -> Any:
    if base.text_folder is not None:
        return _from_folder(base.text_folder)
    if base.text_tensors is not None:
        openai = any(name.startswith(_OPENAI) for name in base.text_tensors)
        return (_from_openai if openai else _from_openclip)(base.text_tensors)
    raise ModelError(
        "the base model has no text encoder (text_encoder/ in a folder, cond_stage_model.* in a "
        "file) to embed the empty prompt with; give the embedding with --context FILE"
    )


def _from_folder(folder: Path) -> Any:
    settings = read_json(folder / "config.json")
    tensors = named_tensors(read_file(weights_in(folder)))
    return _filled(_outline(settings, tensors), tensors)


def _from_openai(tensors: Tensors) -> Any:
    """OpenAI's encoder, named as by transformers."""
    own = {
        name.removeprefix(_OPENAI): tensor
        for name, tensor in tensors.items()
        if name.startswith(_OPENAI) and not name.endswith("position_ids")
    }
    model = _clip(
        own,
        ("embeddings.token_embedding", "embeddings.position_embedding"),
        ("encoder.layers.", "mlp.fc1"),
        0,
        _OPENAI_ACTIVATION,
    )
    return _filled(model, {f"text_model.{name}": tensor for name, tensor in own.items()})


def _from_openclip(tensors: Tensors) -> Any:
    """OpenCLIP's encoder without its last block, which Stable Diffusion 2 leaves out."""
    from diffusers.loaders import single_file_utils

    own = {name.removeprefix(_OPENCLIP): tensor for name, tensor in tensors.items()}
    blocks = "transformer.resblocks."
    model = _clip(own, ("token_embedding", "positional_embedding"), (blocks, "mlp.c_fc"), 1, "gelu")
    last = f"{_OPENCLIP}{blocks}{model.config.num_hidden_layers}."
    kept = {name: tensor for name, tensor in tensors.items() if not name.startswith(last)}
    convert: Callable[..., Tensors] = single_file_utils.convert_open_clip_checkpoint
    try:
        converted = convert(model, kept)
    except (LookupError, ValueError) as error:
        raise _not_whole(error) from error
    return _filled(model, converted)


def _clip(
    tensors: Tensors,
    embeddings: tuple[str, str],
    block: tuple[str, str],
    left_out: int,
    activation: str,
) -> Any:
    """The outline of an encoder of the shapes of these tensors, by their names of the embeddings of
    tokens and of positions, and of the blocks and the first linear layer in one."""
    blocks, inner = block
    try:
        count = 1 + max(
            int(n.removeprefix(blocks).partition(".")[0]) for n in tensors if n.startswith(blocks)
        )
        vocabulary, width = tensors[f"{embeddings[0]}.weight"].shape
        positions = tensors.get(f"{embeddings[1]}.weight", tensors.get(embeddings[1]))
        if positions is None:
            raise ValueError(f"{embeddings[1]} is missing")
        settings = {
            "vocab_size": vocabulary,
            "hidden_size": width,
            "intermediate_size": tensors[f"{blocks}0.{inner}.weight"].shape[0],
            "num_hidden_layers": count - left_out,
            "num_attention_heads": max(1, width // _HEAD_WIDTH),
            "max_position_embeddings": positions.shape[0],
            "hidden_act": activation,
        }
    except (LookupError, ValueError) as error:
        raise _not_whole(error) from error
    return _outline(settings, tensors)


def _not_whole(error: Exception) -> ModelError:
    return ModelError(f"the text encoder in the file is not whole: {error}")


def _outline(settings: dict[str, Any], tensors: Tensors) -> Any:
    """An encoder of these settings that takes no memory, for these tensors."""
    from transformers import CLIPTextConfig, CLIPTextModel

    try:
        config = CLIPTextConfig.from_dict(settings)
        if config.num_hidden_layers > len(tensors) or config.vocab_size < 2:
            raise ValueError(
                f"{config.num_hidden_layers} layers and {config.vocab_size} tokens of "
                f"{len(tensors)} tensors"
            )
        with torch.device("meta"):
            return CLIPTextModel(config)
    except Exception as error:
        # What is damaged cannot be built in more ways than the libraries name.
        reason = " ".join(str(error).split()) or type(error).__name__
        raise ModelError(f"the text encoder's settings are of none: {reason}") from error


def _filled(outline: Any, tensors: Tensors) -> nn.Module:
    """The text encoder of an outline with its weights in float32; none may be missing."""
    if not hasattr(outline, "text_model"):
        tensors = {name.removeprefix("text_model."): tensor for name, tensor in tensors.items()}
    expected = {name: tuple(tensor.shape) for name, tensor in outline.state_dict().items()}
    missing = [name for name in expected if name not in tensors]
    if missing:
        raise ModelError(
            f"the text encoder is not whole: {len(missing)} tensors are missing ({missing[0]})"
        )
    used = {name: tensors[name] for name in expected}
    for name, shape in expected.items():
        if tuple(used[name].shape) != shape:
            raise ModelError(
                f"the text encoder does not fit its description: {name} has shape "
                f"{tuple(used[name].shape)}, expected {shape}"
            )
    check_floating("the text encoder", used)
    model: nn.Module = type(outline)(outline.config).float()
    model.load_state_dict(used)
    return model.eval()
