"""passionsr calibrate"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from passionsr_cli.cli.options import (
    ConfigOption,
    DeviceOption,
    JsonOption,
    ModelOption,
    PrecisionOption,
    given,
    grouped,
)
from passionsr_cli.errors import ConfigError
from passionsr_cli.terminal.console import (
    command,
    decibels,
    output,
    print_json,
    resumable,
)

if TYPE_CHECKING:
    from passionsr_cli.config import CalibrationSettings

of_bits, of_learning = grouped("Bits"), grouped("The calibration")


@command
def calibrate(
    bits: Annotated[
        str | None,
        of_bits(metavar="w6a6|PRESET", help="Of weights and activations: {values}. Default: w8a8."),
    ] = None,
    unet: Annotated[str | None, of_bits(metavar="w6a6|fp", help="Other bits for the UNet.")] = None,
    vae: Annotated[str | None, of_bits(metavar="w6a6|fp", help="Other bits for the VAE.")] = None,
    budget: Annotated[
        str | None,
        of_bits(
            metavar="7MB|6bit|40%",
            help="Bits of each layer by what they cost in quality, within a size of the "
            "checkpoint, mean bits of a weight, a share of operations with an operand of more "
            "than 4 bits, or several with commas.",
        ),
    ] = None,
    plan: Annotated[
        Path | None,
        of_bits(metavar="YAML", help="Bits of single layers, as plan.yaml of a budget's."),
    ] = None,
    method: Annotated[
        str | None, of_learning(metavar="NAME", help="{values}. Default: passionsr.")
    ] = None,
    images: Annotated[
        Path | None,
        of_learning(
            metavar="DIR",
            help="Photographs (degraded on the way) or low-resolution images. "
            "Default: the sample: photographs.",
        ),
    ] = None,
    name: Annotated[
        str | None,
        of_learning(
            metavar="NAME",
            help="Of the checkpoint. Default: MODEL-BITS-METHOD, or MODEL-PLAN-METHOD.",
        ),
    ] = None,
    resume: Annotated[
        bool, of_learning("--resume", help="Go on with the settings NAME was begun with.")
    ] = False,
    strict: Annotated[
        bool | None,
        of_learning("--strict", help="Refuse what stands in for LPIPS without its weights."),
    ] = None,
    model: ModelOption = None,
    device: DeviceOption = None,
    precision: PrecisionOption = None,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Quantize a model and write it as a checkpoint.

    \b
    passionsr calibrate --bits w6a6
    passionsr calibrate --bits w4a4 --method qartsr --images photographs
    passionsr calibrate --budget 7MB
    """
    from passionsr_cli.calibration.request import check_request
    from passionsr_cli.checkpoints.unfinished import run_folder
    from passionsr_cli.config import CalibrationSettings
    from passionsr_cli.layering import read_yaml

    if resume and name is None:
        raise ConfigError("--resume needs --name NAME; `passionsr checkpoints` lists what there is")
    options = given(locals(), CalibrationSettings)
    if plan is not None:
        options["layer_bits"] = read_yaml(plan)
    settings = _settings(bits, config, options, name if resume else None)
    check_request(settings)
    name = settings.default_name(plan.stem if plan else "") if name is None else name
    # Refuses what is no name.
    run_folder(name)

    from passionsr_cli import api
    from passionsr_cli.checkpoints.catalogue import describe
    from passionsr_cli.terminal.progress import StepBars

    how = f"go on with: passionsr calibrate --resume --name {name}"
    with resumable(how), StepBars() as bars:
        entry = api.calibrate(settings, name, bars)
    shown = describe(entry)
    if as_json:
        print_json(shown)
    else:
        show_result(shown)
        output.print(f"use it: passionsr upscale photo.jpg --checkpoint {entry.name}", markup=False)


def _settings(
    bits: str | None, config: str | None, options: dict[str, Any], resumed: str | None
) -> CalibrationSettings:
    """Settings from the preset that `--bits` names, then `--config`, then the options.

    `--resume --name NAME` alone takes the settings that run was begun with.
    """
    from passionsr_cli.calibration.bits import settings_for

    if resumed is None:
        return settings_for(bits, config, options)
    from passionsr_cli.checkpoints.unfinished import saved_settings

    begun = saved_settings(resumed)
    same = bits is None and config is None and not options
    return begun if same else settings_for(bits, config, options)


def show_result(shown: dict[str, Any]) -> None:
    """The summary of a checkpoint, from what `catalogue.describe` says of it."""
    from passionsr_cli.terminal.tables import numbers, print_table, words

    title = f"{shown['name']}: {shown['model']}, {shown['bits']}, {shown['method']}"
    rows = list[tuple[str, ...]]()
    for stage in shown["stages"]:
        errors = ""
        if stage["start_error"] is not None:
            errors = f"{stage['start_error']:.2e} → {stage['end_error']:.2e}"
            if not stage["end_error"] < stage["start_error"]:
                errors += " (its start stays)"
        steps, seconds = str(stage["steps"] or ""), f"{stage['seconds']:.0f}"
        rows.append((stage["name"], steps, seconds, decibels(stage["image_psnr"]), errors))
    columns = [*words("stage"), *numbers("steps", "seconds", "dB to fp"), *words("error")]
    print_table(columns, rows, title)
    mean = shown["mean_weight_bits"]
    average = "" if mean is None else f"; a weight has {mean:.2f} bits on average"
    bits = describe_bits(shown["layer_bits"])
    output.print(f"{shown['quantized_layers']} layers: {bits}{average}")
    if shown["left_alone"]:
        output.print(f"{shown['left_alone']} layers stay in floating point")
    output.print(
        f"{shown['bytes'] / 1e6:.1f} MB, {shown['share_of_32_bits']:.3f} of 32 bits; "
        f"{shown['seconds']:.0f} s, at most {shown['peak_memory_bytes'] / 1e9:.1f} GB of memory"
    )
    output.print(shown["folder"], soft_wrap=True, markup=False)


def describe_bits(counts: dict[str, int]) -> str:
    """'103 at w6a6, 6 at w8a8'."""
    return ", ".join(f"{count} at {bits}" for bits, count in counts.items())
