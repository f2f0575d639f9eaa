"""Options that several commands share."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from pydantic import BaseModel
# Groups of options in help texts.
FILES, RESULT, MODEL = "Files", "The result", "Model and machine"
COMPARING = "To look at"
ModelOption = Annotated[
    str | None,
    typer.Option(
        metavar="NAME|DIR", help="Default: mini, which is built in.", rich_help_panel=MODEL
    ),
]
DeviceOption = Annotated[
    str | None,
    typer.Option(metavar="auto|cpu|cuda[:N]|mps", help="Where to compute.", rich_help_panel=MODEL),
]
UpscalingDeviceOption = Annotated[
    str | None,
    typer.Option(
        metavar="auto|cpu|cuda[:N]|mps|gpu[:N]|npu",
        help="Where to compute; gpu and npu are Intel's, by OpenVINO.",
        rich_help_panel=MODEL,
    ),
]
PrecisionOption = Annotated[
    str | None,
    typer.Option(metavar="auto|fp32|bf16|fp16", help="How to compute.", rich_help_panel=MODEL),
]
ConfigOption = Annotated[
    str | None,
    typer.Option(metavar="FILE|PRESET", help="YAML file with any of these options, and more."),
]
JsonOption = Annotated[
    bool, typer.Option("--json", help="Print one JSON object and nothing else on stdout.")
]
DataRootOption = Annotated[
    Path | None,
    typer.Option(
        metavar="DIR",
        help="Where the folders of data sets are. Default: PASSIONSR_DATA, then the user's "
        "data directory.",
    ),
]
MetricWeightsOption = Annotated[
    Path | None,
    typer.Option(metavar="DIR", help="A folder with weights of metrics, by pyiqa's names."),
]
BackendOption = Annotated[
    str | None,
    typer.Option(metavar="auto|torch|openvino|onnxruntime|triton", help="As for upscale."),
]
LimitOption = Annotated[int | None, typer.Option(metavar="N", help="The first N pairs only.")]


def given(values: Mapping[str, Any], kind: type[BaseModel]) -> dict[str, Any]:
    """A command's arguments that are fields of its settings, by the names both share, as far as
    they were given."""
    return {
        name: value
        for name, value in values.items()
        if name in kind.model_fields and value is not None and value != []
    }
