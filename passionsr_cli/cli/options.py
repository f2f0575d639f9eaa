"""Options that several commands share."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from passionsr_cli.errors import ConfigError
from passionsr_cli.terminal.console import EXIT_ERROR
from passionsr_cli.terminal.help import GENERAL

if TYPE_CHECKING:
    from pydantic import BaseModel


def grouped(title: str) -> Any:
    """`typer.Option` for a group of a help text."""
    return partial(typer.Option, rich_help_panel=title)


of_files, of_model, of_machine = map(grouped, ("Files", "The model", "The machine"))
BACKEND_CHOICES = "auto|torch|openvino|onnxruntime|triton"
COLOR_FIXES = "wavelet|adain|none"
ModelOption = Annotated[
    str | None,
    of_model(metavar="NAME|DIR", help="See `passionsr models`. Default: mini, built in."),
]
DeviceOption = Annotated[
    str | None,
    of_machine(
        metavar="auto|cpu|cuda[:N]|mps", help="Where to compute. Default: the GPU, if there is one."
    ),
]
UpscalingDeviceOption = Annotated[
    str | None,
    of_machine(
        metavar="auto|cpu|cuda[:N]|mps|gpu[:N]|npu",
        help="Where to compute; gpu and npu are Intel's, by OpenVINO. Default: an NVIDIA or Apple "
        "GPU, if there is one.",
    ),
]
PrecisionOption = Annotated[
    str | None,
    of_machine(
        metavar="auto|fp32|bf16|fp16",
        help="How to compute; 16 bits are faster, 32 exact. Default: bf16 or fp16 where they are "
        "fast.",
    ),
]
BackendOption = Annotated[str | None, of_machine(metavar=BACKEND_CHOICES, help="As for upscale.")]
_general = grouped(GENERAL)
ConfigOption = Annotated[
    str | None,
    _general(metavar="FILE|PRESET", help="YAML file with any of these options, and more."),
]
YesOption = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")]
JsonOption = Annotated[
    bool, _general("--json", help="Print one JSON object and nothing else on stdout.")
]
of_data, of_metrics = grouped("The data set"), grouped("The metrics")
DataRootOption = Annotated[
    Path | None,
    of_data(
        metavar="DIR",
        help="Where the folders of data sets are. Default: PASSIONSR_DATA, then the user's "
        "data directory.",
    ),
]
LimitOption = Annotated[int | None, of_data(metavar="N", help="The first N pairs only.")]
MetricWeightsOption = Annotated[
    Path | None,
    of_metrics(metavar="DIR", help="A folder with weights of metrics, by pyiqa's names."),
]


def given(values: Mapping[str, Any], kind: type[BaseModel]) -> dict[str, Any]:
    """A command's arguments that are fields of its settings, by the names both share, as far as
    they were given."""
    return {
        name: value
        for name, value in values.items()
        if name in kind.model_fields and value is not None and value != []
    }


def confirm_removal(what: str, yes: bool) -> None:
    """Ask before something is deleted; where nobody can answer `--yes` is needed."""
    if yes:
        return
    try:
        agreed = typer.confirm(f"delete the {what}?")
    except typer.Abort:
        if sys.stdin is not None and sys.stdin.isatty():
            raise
        raise ConfigError(f"nobody said whether to delete the {what}; add --yes") from None
    if not agreed:
        raise typer.Exit(EXIT_ERROR)
