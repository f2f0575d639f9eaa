"""The options of `passionsr bench`. Imports no torch."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, PositiveFloat, PositiveInt

from passionsr_cli.config import Listed, Settings
from passionsr_cli.registry import EMBEDDED_MODEL


class BenchmarkSettings(Settings):
    """Options of a benchmark. `size` is the side of the result in pixels.

    Without `variants` there are those of `variants.DEFAULT_VARIANTS` and, where it is installed,
    NNCF. `precision` is that around integers: auto is, as when upscaling, bf16 where OpenVINO runs
    them on a CPU that has it, and else float32. Without `repeats` a row is run at least 5 times and
    for 2 s, 3 times if a run takes over 10 s. `against` is a file with an earlier benchmark's JSON,
    `tolerance` the share by which a row may be slower.
    """

    model: str = EMBEDDED_MODEL
    random_weights: bool = False
    variants: Annotated[tuple[str, ...] | None, Listed] = Field(default=None, min_length=1)
    backend: Annotated[tuple[Literal["torch", "openvino", "triton"], ...], Listed] = Field(
        default=("torch", "openvino", "triton"), min_length=1
    )
    size: PositiveInt = 512
    device: str = "auto"
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    repeats: PositiveInt | None = None
    against: Path | None = None
    tolerance: PositiveFloat = 0.1
