"""Settings of peft: by what B A is multiplied, and that the adapters are plain LoRA."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, FiniteFloat, PositiveInt
from pydantic import ValidationError as InvalidSettings

from passionsr_cli.errors import ModelError
from passionsr_cli.system.text import first_fault

# What peft takes for lora_alpha if nobody says otherwise, as in OSEDiff.
PEFT_ALPHA = 8.0
_OFF = (False,)
# Settings of what is no W + factor · B A, and those of their values that are one.
_PLAIN: dict[str, tuple[object, ...]] = {
    "peft_type": ("LORA",),
    # All others change the base's weights too.
    "init_lora_weights": (True, "gaussian", "eva", "orthogonal"),
    "use_dora": _OFF,
    "use_qalora": _OFF,
    "lora_bias": _OFF,
    "layer_replication": _OFF,
    "alora_invocation_tokens": _OFF,
}
Factor = Callable[[str, int], float]


def _compiled(pattern: object) -> re.Pattern[str]:
    """A pattern of peft, which is of a layer's whole name or of its last parts."""
    try:
        return re.compile(rf"(.*\.)?({pattern})")
    except (re.error, OverflowError, RecursionError) as error:
        raise ValueError(f"'{str(pattern)[:40]}' is no pattern of names: {error}") from None


_Pattern = Annotated[re.Pattern[str], BeforeValidator(_compiled)]


class _LoraSettings(BaseModel):
    """Ranks and factors in a `LoraConfig` of peft, which says much else."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    r: PositiveInt | None = None
    lora_alpha: FiniteFloat | None = None
    rank_pattern: dict[_Pattern, PositiveInt] | None = None
    alpha_pattern: dict[_Pattern, FiniteFloat] | None = None
    use_rslora: bool | None = None


def factor_of(origin: Path, config: Mapping[str, Any], root: str, alpha: float | None) -> Factor:
    """The factor of B A in a layer of a name whose adapter has a rank, as settings of peft say it.

    `config` is a `LoraConfig` of peft, whose patterns are of names without `root`; `alpha` is
    lora_alpha where it does not say it, by default the rank. Raises `ModelError` for settings that
    cannot be read, or are of other adapters than plain LoRA.
    """
    for key, plain in _PLAIN.items():
        if config.get(key) and config[key] not in plain:
            raise ModelError(
                f"{origin}: {key} is {str(config[key])[:60]}, expected "
                f"{' or '.join(map(str, plain))}: only plain LoRA can be merged"
            )
    try:
        settings = _LoraSettings.model_validate(config)
    except InvalidSettings as error:
        raise ModelError(f"{origin}: settings of LoRA: {first_fault(error)[:200]}") from None

    def factor(layer: str, rank: int) -> float:
        name = layer.removeprefix(root)
        told = _setting(name, settings.rank_pattern, settings.r)
        if told not in (None, rank):
            raise ModelError(
                f"{origin}: the adapter of {layer} is of rank {rank}, its settings say {told}"
            )
        found = _setting(name, settings.alpha_pattern, settings.lora_alpha)
        if found is None:
            found = rank if alpha is None else alpha
        return found / (math.sqrt(rank) if settings.use_rslora else rank)

    return factor


def _setting(
    name: str, patterns: Mapping[re.Pattern[str], float] | None, otherwise: float | None
) -> float | None:
    """Setting of a layer: its own, by a pattern, or that of all."""
    for pattern, value in (patterns or {}).items():
        if pattern.fullmatch(name):
            return value
    return otherwise
