"""Configuration: presets, YAML files and options laid on top of each other. Imports no torch."""

from __future__ import annotations

from collections.abc import Collection, Sequence

# Unlike that of `Path`, this one takes names that are too long.
from os.path import isfile
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, get_args

import yaml
from pydantic import BaseModel, ValidationError

from passionsr_cli.errors import ConfigError
from passionsr_cli.system.paths import configs_folder
from passionsr_cli.system.text import suggestion

if TYPE_CHECKING:
    from pydantic_core import ErrorDetails

S = TypeVar("S", bound=BaseModel)
# Of presets that were not meant.
MOST_NAMED = 8
PRESETS_FOR = ("upscale", "calibrate", "train")


def presets() -> dict[str, Path]:
    """The presets' files by their names, which are theirs alone whatever they are for."""
    files = (path for of in PRESETS_FOR for path in (configs_folder() / of).glob("*.yaml"))
    return {path.stem: path for path in sorted(files, key=lambda path: path.stem)}


def preset_names() -> list[str]:
    """The presets' names, sorted."""
    return list(presets())


def settings_from(
    configs: str | Sequence[str | dict[str, Any]] | None,
    kind: type[S],
    options: dict[str, Any] | None = None,
) -> S:
    """Settings from presets' names, YAML files or values, later ones on top, and options on top
    of all.

    Options that are None were not given.
    """
    layers = [configs] if isinstance(configs, str) else list(configs or ())
    values: dict[str, Any] = {}
    for layer in layers:
        own = layer if isinstance(layer, dict) else read_yaml(_config_path(layer))
        values = _merged(_without_excluded(values, own, kind), own)
    names = [layer for layer in layers if isinstance(layer, str)]
    given = {key: value for key, value in (options or {}).items() if value is not None}
    values = _without_excluded(values, given, kind)
    return validate({**values, **given}, kind, names[-1] if names else "options", given)


def _without_excluded(
    below: dict[str, Any], above: dict[str, Any], kind: type[BaseModel]
) -> dict[str, Any]:
    """The values `below` that go with those `above`; settings may say which do not."""
    excluding: dict[str, set[str]] = getattr(kind, "excluding", {})
    said = [key for key, value in above.items() if value]
    out = {other for key in said for other in excluding.get(key, ())}
    return {key: value for key, value in below.items() if key not in out}


def _merged(below: dict[str, Any], above: dict[str, Any]) -> dict[str, Any]:
    """Both, where `above` wins; mappings in both are merged in turn."""
    both = {**below, **above}
    for key in below.keys() & above.keys():
        if isinstance(below[key], dict) and isinstance(above[key], dict):
            both[key] = _merged(below[key], above[key])
    return both


def _config_path(config: str) -> Path:
    path = presets().get(config, Path(config))
    if not isfile(path):
        raise ConfigError(
            f"no configuration '{config}': neither a file nor a preset"
            f"{suggestion(config, preset_names(), MOST_NAMED)}"
        )
    return path


class _Loader(yaml.SafeLoader):
    """Refuses escapes such as "\\ud800": halves of characters, which nothing could write."""

    def construct_scalar(self, node: yaml.ScalarNode | yaml.MappingNode) -> Any:
        value = super().construct_scalar(node)
        value.encode()
        return value


def read_yaml(path: Path) -> dict[str, Any]:
    """Read a YAML file of `key: value` lines. Raises `ConfigError`."""
    try:
        values = yaml.load(path.read_text(encoding="utf-8"), Loader=_Loader) or {}
    except OSError as error:
        raise ConfigError(f"cannot read configuration {path}: {error.strerror}") from error
    except yaml.MarkedYAMLError as error:
        line = f" in line {error.problem_mark.line + 1}" if error.problem_mark else ""
        raise ConfigError(f"{path} is not YAML: {error.problem}{line}") from error
    except RecursionError:
        raise ConfigError(f"{path} is not YAML of settings: it is nested too deeply") from None
    except (yaml.YAMLError, ValueError) as error:
        # Dates that are none, and numbers without end, are ValueErrors.
        raise ConfigError(f"{path} is not YAML: {' '.join(str(error).split())}") from error
    if not isinstance(values, dict):
        raise ConfigError(f"{path} must hold 'key: value' lines, found a {type(values).__name__}")
    return values


def validate(
    values: dict[str, Any], kind: type[S], origin: str, options: Collection[str] = ()
) -> S:
    """`values` as settings of one kind; names the wrong key or value and the nearest known key.

    A key among `options` is called as it was typed: --tile.
    """
    try:
        return kind.model_validate(values)
    except ValidationError as error:
        first = error.errors()[0]
        # "[key]" says that the key itself is meant, which stands before it.
        where = ".".join(str(part) for part in first["loc"] if part != "[key]")
        if first["type"] == "extra_forbidden":
            nearest = _nearest(first["loc"], kind)
            raise ConfigError(f"{origin}: unknown key '{where}'{nearest}") from None
        if options and not first["loc"]:
            origin = ""
        elif options and first["loc"][0] in options and not _is_nested(first["loc"]):
            origin, where = f"--{str(first['loc'][0]).replace('_', '-')}", ""
        raise ConfigError(
            ": ".join(part for part in (origin, where, _told(first)) if part)
        ) from None


def _is_nested(location: tuple[int | str, ...]) -> bool:
    """Tell whether a key of a mapping is meant, which no option names."""
    return any(isinstance(part, str) for part in location[1:])


def _told(error: ErrorDetails) -> str:
    """Pydantic's message, and what was found where it says only what should be there."""
    what, found = error["msg"].removeprefix("Value error, "), error["input"]
    if isinstance(found, str | int | float) and what.startswith("Input should be"):
        expected = what.removeprefix("Input should be ").partition(", unable")[0]
        return f"found '{found}', expected {expected}"
    return what


def _nearest(location: tuple[int | str, ...], kind: type[BaseModel]) -> str:
    """'; did you mean …?' for a mistyped key, looked up in the settings that hold it."""
    owner: type[BaseModel] = kind
    for part in location[:-1]:
        if isinstance(part, str) and part in owner.model_fields:
            owner = _settings_in(owner.model_fields[part].annotation) or owner
    return suggestion(str(location[-1]), owner.model_fields)


def _settings_in(annotation: Any) -> type[BaseModel] | None:
    """The settings class of a field: itself, or the items of a tuple."""
    for candidate in (annotation, *get_args(annotation)):
        if isinstance(candidate, type) and issubclass(candidate, BaseModel):
            return candidate
    return None
