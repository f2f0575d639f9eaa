"""Check of a method as it is written: mistakes that would go unnoticed, or end in a wrong layer."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict

from pydantic import BaseModel, ConfigDict

from passionsr_cli.errors import ConfigError
from passionsr_cli.layering import validate
from passionsr_cli.methods.stages import LayerDesign, Method, Stage, Stages, StartBounds
from passionsr_cli.models.components import COMPONENTS, UNET
from passionsr_cli.quantization.schemes import State
from passionsr_cli.system.text import suggestion


class _Written(BaseModel):
    """Types of a method's fields, dataclasses as dictionaries."""

    model_config = ConfigDict(extra="forbid")

    design: LayerDesign
    stages: Stages


def check_method(method: Method) -> None:
    """Refuse wrong values and types, unknown components and stages that do not fit together.

    Raises `ConfigError`.
    """
    origin = f"method '{method.name}'"
    written = asdict(method)
    validate({key: written[key] for key in _Written.model_fields}, _Written, origin)
    started: set[str] = set()
    for stage in method.stages:
        fault = _fault(stage, method.design, started)
        if fault:
            raise ConfigError(f"{origin}: the stage '{stage.name}' {fault}")
    missing = [component for component in COMPONENTS if component not in started]
    if missing:
        raise ConfigError(f"{origin}: no stage has StartBounds() for the {missing[0]}")
    (name, times), *_ = Counter(stage.name for stage in method.stages).most_common(1)
    if times > 1:
        raise ConfigError(f"{origin}: {times} stages are named '{name}'; each needs a name")


def _fault(stage: Stage, design: LayerDesign, started: set[str]) -> str:
    """The end of a message about a stage, or ''; notes which components have bounds behind it."""
    for component in stage.chain:
        if component not in COMPONENTS:
            return f"names '{component}'{suggestion(component, COMPONENTS)}"
    places = [COMPONENTS.index(component) for component in stage.chain]
    if not stage.components or places != list(range(places[0], places[-1] + 1)):
        order = ", ".join(COMPONENTS)
        return f"has ({', '.join(stage.chain)}); expected neighbours in the order of {order}"
    if stage.target == "noise" and stage.chain != (UNET,):
        return f"has the target 'noise', which only ({UNET},) has"
    if any(isinstance(start, StartBounds) for start in stage.starts):
        started.update(stage.components)
    if stage.fit is None:
        return ""
    absent = sorted(part.value for part in stage.learns - design.learnable)
    if absent:
        return f"learns {', '.join(absent)}, which the design's layers have not"
    if not stage.learns:
        return "has a fit and learns nothing"
    following = stage.components if stage.state is State.FOLLOWING else ()
    early = [part for part in stage.chain if part not in (*started, *following)]
    if early:
        return f"learns before the {early[0]} has bounds; give it, or one before, StartBounds()"
    return ""
