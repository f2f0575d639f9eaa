"""passionsr sweep-timestep"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from passionsr_cli.cli.options import ConfigOption, DeviceOption, JsonOption, PrecisionOption, given
from passionsr_cli.errors import ConfigError
from passionsr_cli.system.paths import name_of
from passionsr_cli.terminal.console import command, output, print_json

if TYPE_CHECKING:
    from passionsr_cli.retiming.sweep import Sweep

TIMESTEPS = "1,49,99,149,199,249,299,399,499,599,749,999"
METHOD = "maxmin"
# Below what a configuration says.
DEFAULTS = {"method": METHOD, "crops": 8, "crop_px": 256}
PICTURES = (".png", ".svg", ".pdf")


@command
def sweep_timestep(
    model: Annotated[str, typer.Argument(metavar="MODEL", help="A model's name or folder.")],
    bits: Annotated[
        str, typer.Option(metavar="w4a4|PRESET", help="Bits of weights and activations.")
    ] = "w4a4",
    timesteps: Annotated[
        str | None,
        typer.Option(metavar="T,T", help="Timesteps to measure at. Default: twelve, 1 to 999."),
    ] = None,
    retrained: Annotated[
        list[str] | None,
        typer.Option(metavar="MODEL", help="A model to measure at its own timestep beside it."),
    ] = None,
    images: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="As of calibrate. Default: the sample: photographs."),
    ] = None,
    crops: Annotated[
        int | None, typer.Option(metavar="N", help="How many images. Default: 8.")
    ] = None,
    crop_px: Annotated[
        int | None, typer.Option(metavar="PX", help="Their sides, upscaled. Default: 256.")
    ] = None,
    picture: Annotated[
        Path | None,
        typer.Option(
            "--output", metavar="FILE", help="PNG, SVG or PDF. Default: MODEL-BITS-timesteps.png."
        ),
    ] = None,
    config: ConfigOption = None,
    device: DeviceOption = None,
    precision: PrecisionOption = None,
    as_json: JsonOption = False,
) -> None:
    """Measure a model's quantization error over the timestep.

    It is drawn, too. The model is quantized by min-max at each timestep and compared with itself in
    full precision there. Below the bars stand theory's two curves: an absolute
    error of the predicted noise reaches the result times sigma/alpha, a relative
    one times the distance that is left to predict.
    """
    from passionsr_cli.calibration.bits import settings_for
    from passionsr_cli.config import CalibrationSettings

    configs: list[str | dict[str, Any]] = [DEFAULTS, *([config] if config else [])]
    settings = settings_for(bits, configs, given(locals(), CalibrationSettings))
    if settings.method != METHOD:
        raise ConfigError(f"--config: a sweep is of min-max, not of method: {settings.method}")
    steps = _numbers(timesteps or TIMESTEPS)
    path = picture or Path(f"{name_of(model)}-{settings.bits_name}-timesteps.png")
    if path.suffix.lower() not in PICTURES:
        raise ConfigError(f"--output: {path} is no picture; use {', '.join(PICTURES)}")

    from passionsr_cli.calibration.request import check_request

    check_request(settings)

    from passionsr_cli import api
    from passionsr_cli.terminal.progress import Lines

    sweep = api.sweep_timesteps(settings, steps, retrained or (), path, Lines())
    if as_json:
        print_json({**sweep.as_dict(), "picture": str(path)})
    else:
        show_sweep(sweep)
        output.print(f"{path}", soft_wrap=True, markup=False)


def _numbers(text: str) -> list[int]:
    parts = [part.strip() for part in text.split(",")]
    if not all(part.isdecimal() for part in parts):
        raise ConfigError(f"--timesteps: '{text}' is no list of numbers such as 1,249,999")
    return sorted({int(part) for part in parts})


def show_sweep(sweep: Sweep) -> None:
    """The rows, and the constants theory was fitted with."""
    from passionsr_cli.terminal.tables import numbers, print_table, words

    title = f"{sweep.model} (made for t = {sweep.timestep}), {sweep.bits}, min–max"
    columns = [*words("model"), *numbers("t", "σ/α", "‖z_L − α z_H‖/α")]
    columns += numbers("z_H: UNet", "and encoder", "image, dB")
    rows = [
        (
            row.model,
            str(row.timestep),
            f"{row.gain:.3f}",
            f"{row.distance:.4f}",
            f"{row.unet_error:.4f}",
            f"{row.latent_error:.4f}",
            f"{row.image_psnr:.2f}",
        )
        for row in (*sweep.rows, *sweep.retrained)
    ]
    print_table(columns, rows, title)
    output.print(
        f"fitted to the UNet's: {sweep.absolute:.3g}·σ/α, and {sweep.relative:.3g}·‖z_L − α z_H‖/α",
        markup=False,
    )
