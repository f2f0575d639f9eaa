"""Models and checkpoints of this machine that a request may name. Imports no torch."""

from __future__ import annotations

from dataclasses import dataclass

from passionsr_cli.checkpoints.catalogue import checkpoint_names, find_checkpoint
from passionsr_cli.config import UpscaleSettings
from passionsr_cli.errors import ModelError, PassionSRError
from passionsr_cli.models.catalogue import known_models
from passionsr_cli.registry import EMBEDDED_MODEL
from passionsr_cli.system.text import suggestion
from passionsr_cli.upscaling.images import NO_CHECKPOINT, checkpoint_for


@dataclass(frozen=True)
class Choice:
    """A model or a checkpoint; `realism` is the default of its dial, None without one."""

    name: str
    is_checkpoint: bool
    realism: float | None

    @property
    def options(self) -> dict[str, str]:
        """The options of `passionsr upscale` that name it."""
        if self.is_checkpoint:
            return {"checkpoint": self.name}
        return {"model": self.name, "checkpoint": NO_CHECKPOINT}


def choices() -> dict[str, Choice]:
    """All that can be run here, by name: models, then checkpoints but damaged ones."""
    present = [known for known in known_models() if known.folder is not None]
    found = {known.name: Choice(known.name, False, known.description.realism) for known in present}
    for name in checkpoint_names():
        try:
            description = find_checkpoint(name).manifest.model.description
        except PassionSRError:
            continue
        found[name] = Choice(name, True, description.realism)
    return found


def choose(name: str) -> Choice:
    """The choice of this name. Raises `ModelError` for any other: a request names no folders."""
    known = choices()
    if name not in known:
        raise ModelError(f"there is no model or checkpoint '{name}' here{suggestion(name, known)}")
    return known[name]


def default_name(settings: UpscaleSettings) -> str:
    """The model or checkpoint that `passionsr upscale` takes where nothing is named."""
    return checkpoint_for(settings) or EMBEDDED_MODEL
