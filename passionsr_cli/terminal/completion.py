"""Completion of values in a shell: models, checkpoints, methods, samples and so on.

All parameters complete the words of their metavars, such as auto|cpu, and those of the table what
is found on this machine. No torch.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

# What a shell asks by.
ASKED_BY = "_PASSIONSR_COMPLETE"
WORD, BITS = re.compile(r"[a-z][a-z0-9]*"), re.compile(r"w\d+a\d+")

Values = Callable[[], Iterable[str]]


def models() -> list[str]:
    from passionsr_cli.models.catalogue import names

    return list(names())


def checkpoints() -> list[str]:
    from passionsr_cli.checkpoints.catalogue import checkpoint_names

    return list(checkpoint_names())


def artifacts() -> list[str]:
    return [*checkpoints(), *models()]


def pullable() -> tuple[str, ...]:
    from passionsr_cli.published.recipes import recipe_names

    return recipe_names()


def methods() -> list[str]:
    from passionsr_cli.methods import METHODS

    return list(METHODS)


def bits() -> list[str]:
    return [*filter(BITS.fullmatch, presets_for("calibrate")), "fp"]


def presets_for(command: str) -> list[str]:
    from passionsr_cli.layering import presets

    return [name for name, path in presets().items() if path.parent.name == command]


def samples() -> list[str]:
    from passionsr_cli.imaging.samples import NAMES, PREFIX

    return [f"{PREFIX}{name}" for name in NAMES]


def tables() -> list[str]:
    from passionsr_cli.reproduction.definitions import table_names

    return table_names()


def datasets() -> list[str]:
    from passionsr_cli.data.pairs import KNOWN, SAMPLE

    return [SAMPLE, *KNOWN]


def metrics() -> list[str]:
    from passionsr_cli.metrics.catalogue import PROTOCOLS, known_metrics

    return list(dict.fromkeys(key for protocol in PROTOCOLS for key in known_metrics(protocol)))


def metrics_of_images() -> list[str]:
    from passionsr_cli.metrics.catalogue import PROTOCOLS

    of_sets = {each.key for of in PROTOCOLS.values() for each in of if each.of_sets}
    return [key for key in metrics() if key not in of_sets]


def formats() -> tuple[str, ...]:
    from passionsr_cli.exports.formats import NAMES

    return NAMES


# By the name of the parameter, alone or behind its command's.
VALUES: dict[str, Values] = {
    "inputs": samples,
    "model": models,
    "checkpoint": checkpoints,
    "beside": artifacts,
    "export name": artifacts,
    "bits": bits,
    "unet": bits,
    "vae": bits,
    "method": methods,
    "dataset": datasets,
    "metrics": metrics,
    "table": tables,
    "score metrics": metrics_of_images,
    "export format_name": formats,
    "train source": models,
    "sweep-timestep model": models,
    "models show name": models,
    "models pull model": pullable,
    "checkpoints show name": checkpoints,
    "checkpoints remove name": checkpoints,
    "checkpoints compare names": checkpoints,
    **{f"{name} config": partial(presets_for, name) for name in ("upscale", "calibrate", "train")},
}


def offer_values(command: Any, path: str) -> None:
    """Let the parameters of a command, such as 'models show', complete their values."""
    for parameter in command.params:
        metavar = str(parameter.metavar or "")
        values = values_of(path, parameter.name, metavar)
        # Typer's public way there is a line for each of many options.
        parameter._custom_shell_complete = _completing(values, listed="," in metavar)


def values_of(command: str, parameter: str, metavar: str) -> Values:
    """Values of a parameter of a command, such as 'models show'."""
    words = re.split(r"[|,]", re.sub(r"\[.*?\]", "", metavar))
    named = filter(WORD.fullmatch, words)
    return lambda: dict.fromkeys([*known_values(command, parameter), *named])


def known_values(command: str, parameter: str) -> Iterable[str]:
    """Values of a parameter of a command, by the table alone."""
    return VALUES.get(f"{command} {parameter}", VALUES.get(parameter, list))()


def _completing(values: Values, listed: bool) -> Callable[[Any, Any, str], list[str]]:
    def complete(context: Any, parameter: Any, incomplete: str) -> list[str]:
        done, comma, begun = incomplete.rpartition(",") if listed else ("", "", incomplete)
        return [f"{done}{comma}{value}" for value in values() if value.startswith(begun)]

    return complete
