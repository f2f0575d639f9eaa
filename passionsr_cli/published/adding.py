"""Making a one-step model of the store from what others published."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from passionsr_cli.description import ModelDescription
from passionsr_cli.errors import ModelError
from passionsr_cli.models.components import ENDS
from passionsr_cli.progress import SILENT, Reporter
from passionsr_cli.published.adcsr import read_adcsr
from passionsr_cli.published.decoders import LightDecoder, read_decoder
from passionsr_cli.published.keeping import claimed, finished, keep
from passionsr_cli.published.legacy import Base, read_base, weights_in
from passionsr_cli.published.lora import Adapters, merge, read_adapters
from passionsr_cli.published.prompts import empty_context, read_context
from passionsr_cli.published.recipes import find_recipe
from passionsr_cli.published.tensor_files import Tensors
from passionsr_cli.store import Entry, shortest
from passionsr_cli.system.files import sha256_of
from passionsr_cli.system.paths import StrPath, optional_path


@dataclass(frozen=True)
class ModelFiles:
    """The files a model is made from: the base model's folder or checkpoint, adapters to merge
    into it, the embedding of the prompt, by default the empty one by the base's own encoder, and a
    light decoder in place of the base's.

    `lora_alpha` is that of adapters whose files do not say it, None their rank; `adapts` are the
    parts that adapters must change, unet and vae, or empty for any."""

    base: Path
    adapters: Path | None = None
    context: Path | None = None
    decoder: Path | None = None
    lora_alpha: float | None = None
    adapts: tuple[str, ...] = ()

    def asked_for(self, description: ModelDescription) -> dict[str, Any]:
        """The files and what they are to become, by which the same is known again."""
        given = {"base": self.base, "adapters": self.adapters, "context": self.context}
        paths = {**given, "decoder": self.decoder}
        return {
            **{part: path and str(path.absolute()) for part, path in paths.items()},
            "lora_alpha": self.lora_alpha,
            "description": hashlib.sha256(description.model_dump_json().encode()).hexdigest(),
        }


def add_model(
    name: str,
    base: StrPath,
    lora: StrPath | None = None,
    context: StrPath | None = None,
    recipe: str | None = None,
    overwrite: bool = False,
    reporter: Reporter = SILENT,
    decoder: StrPath | None = None,
) -> Entry:
    """Make a model of a base model's folder or file, with adapters merged into it.

    `context` is the embedding of the prompt, by default of the empty one; `recipe` a registered
    name or a YAML file; `decoder` a file with a light decoder (see `published.decoders`).
    """
    found = find_recipe(recipe, name)
    adapters, context, decoder = map(optional_path, (lora, context, decoder))
    parts = ModelFiles(Path(base), adapters, context, decoder, found.lora_alpha, found.adapts)
    return put_together(name, found.description, parts, overwrite, reporter)


def put_together(
    name: str,
    description: ModelDescription,
    parts: ModelFiles,
    overwrite: bool = False,
    reporter: Reporter = SILENT,
    origin: dict[str, Any] | None = None,
) -> Entry:
    """Put a model together, in float32, and keep it in the store under this name.

    A model of this name that was made of the same is left as it is, unless `overwrite`; another is
    refused, and one that another process makes now. Nothing is left behind if anything is wrong
    with its files. `origin` is noted with it; its `asked_for` goes before that of the files.
    """
    noted = {"asked_for": parts.asked_for(description), **(origin or {})}
    known = finished(name, overwrite, noted["asked_for"], reporter)
    if known is not None:
        return known
    with claimed(name):
        # Another process may have made it meanwhile.
        known = finished(name, overwrite, noted["asked_for"], reporter)
        if known is not None:
            return known
        made = _put_together(parts, description, reporter)
        own = made.description.model_copy(update={"name": name})
        manifest = {"description": own.model_dump(mode="json"), "made_from": made.made_from}
        return keep(name, {**manifest, **noted}, made.tensors, reporter)


@dataclass(frozen=True)
class _Made:
    """A model put together: its tensors, its description, and what it was made from."""

    tensors: Tensors
    description: ModelDescription
    made_from: dict[str, Any]


def _put_together(parts: ModelFiles, description: ModelDescription, reporter: Reporter) -> _Made:
    """The model of these files, which are no longer open."""
    reporter.started(f"reading {parts.base}")
    if description.unet_kind == "unconditional":
        base = read_adcsr(parts.base, parts.decoder, description, reporter)
        parts = replace(parts, decoder=None)
    else:
        base = read_base(parts.base, description.base)
    reporter.started("embedding the prompt")
    context = _context(base, parts, description)
    tensors, adapters, decoder = dict(base.tensors), None, None
    if parts.adapters is not None:
        reporter.started(f"merging {parts.adapters}")
        adapters = read_adapters(parts.adapters, tensors, parts.lora_alpha)
        _check_parts(adapters, parts, description)
        tensors = _with_adapters(tensors, adapters, parts.adapters, description)
    elif description.unets == 2:
        raise ModelError(
            f"the two UNets of '{description.name}' differ by their adapters; give --lora FILE"
        )
    if parts.decoder is None and description.decoder_channels:
        raise ModelError(
            f"'{description.name}' has a light decoder of {list(description.decoder_channels)} "
            "channels; give it with models add --decoder FILE"
        )
    if parts.decoder is not None:
        reporter.started(f"reading {parts.decoder}")
        decoder = read_decoder(parts.decoder, len(description.vae["block_out_channels"]))
        _refuse_adapted_decoder(adapters, parts)
        description = decoder.described(description)
        tensors = decoder.put_into(tensors, description)
        if decoder.unused:
            reporter.note(f"{parts.decoder}: not used are {', '.join(decoder.unused)}")
    reporter.started("checksums of what it is made from")
    made_from = _provenance(base, parts, adapters, decoder)
    # Copies: what was read points into files, all of which would stay in memory.
    made = {name: shortest(tensors.pop(name)).clone() for name in list(tensors)}
    made["context"] = context.clone()
    _check_finite(made, parts)
    return _Made(made, description, made_from)


def _check_parts(adapters: Adapters, parts: ModelFiles, description: ModelDescription) -> None:
    """Refuse adapters of other parts than the recipe says: half of them is missing, or they are
    another model's."""
    changed = [part for part, count in adapters.counts().items() if count]
    if parts.adapts and {*changed} != {*parts.adapts}:
        found, expected = " and ".join(changed) or "nothing", " and ".join(parts.adapts)
        raise ModelError(
            f"{parts.adapters} changes {found} of the base, '{description.name}' needs adapters of "
            f"{expected}"
        )


def _refuse_adapted_decoder(adapters: Adapters | None, parts: ModelFiles) -> None:
    changed = [] if adapters is None else [*adapters.pairs, *adapters.replaced]
    if any(name.startswith(("vae.decoder.", "vae.post_quant_conv")) for name in changed):
        raise ModelError(
            f"{parts.adapters} changes the decoder, in whose place comes that of {parts.decoder}; "
            "give one of them"
        )


def _with_adapters(
    tensors: Tensors, adapters: Adapters, origin: Path, description: ModelDescription
) -> Tensors:
    """The tensors with adapters in them, of two UNets in the faithful one those of pixels alone."""
    merged = merge(tensors, adapters, origin)
    if description.unets == 1:
        return merged
    faithful = merge(tensors, adapters.of_pixels(origin), origin)
    made = {name: tensor for name, tensor in merged.items() if not name.startswith("unet.")}
    for end, whole in zip(ENDS, (faithful, merged), strict=True):
        for name, tensor in whole.items():
            if name.startswith("unet."):
                made[f"unet.{end}.{name.removeprefix('unet.')}"] = tensor
    return made


def _check_finite(tensors: Tensors, parts: ModelFiles) -> None:
    for name, tensor in tensors.items():
        if not torch.isfinite(tensor).all():
            given = (parts.base, parts.adapters, parts.context, parts.decoder)
            files = [str(path) for path in given if path]
            raise ModelError(f"{name} holds NaN or infinity; {' or '.join(files)} is damaged")


def _context(base: Base, parts: ModelFiles, description: ModelDescription) -> Tensor:
    if description.unet_kind == "unconditional":
        if parts.context is not None:
            raise ModelError(f"'{description.name}' has no prompt; leave --context out")
        return torch.zeros(1, *description.context_shape)
    if parts.context is not None:
        return read_context(parts.context, description.context_shape)
    return empty_context(base, description.context_shape)


def _provenance(
    base: Base, parts: ModelFiles, adapters: Adapters | None, decoder: LightDecoder | None
) -> dict[str, Any]:
    text = base.text_folder if parts.context is None else None
    text_files = [] if text is None else [text / "config.json", weights_in(text)]
    made: dict[str, Any] = {"base": _files([*base.files, *text_files])}
    if adapters is not None:
        made["adapters"] = {
            "files": _files(adapters.files),
            "changed": adapters.counts(),
            "unused": adapters.unused,
        }
    if parts.context is not None:
        made["context"] = _files([parts.context])
    if decoder is not None:
        made["decoder"] = {"files": _files([decoder.path]), "unused": decoder.unused}
    return made


def _files(paths: Sequence[Path]) -> list[dict[str, Any]]:
    return [
        {"file": str(path), "bytes": path.stat().st_size, "sha256": sha256_of(path)}
        for path in paths
    ]
