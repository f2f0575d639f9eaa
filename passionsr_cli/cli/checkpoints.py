"""passionsr checkpoints"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from passionsr_cli.cli.options import JsonOption, YesOption, confirm_removal
from passionsr_cli.terminal.console import command, decibels, output, print_json
from passionsr_cli.terminal.grammar import Program

app = Program(name="checkpoints", invoke_without_command=True)

NameArgument = Annotated[str, typer.Argument(metavar="NAME", help="A checkpoint's name or folder.")]


@app.callback()
@command
def list_checkpoints(context: typer.Context, as_json: JsonOption = False) -> None:
    """List checkpoints, and calibrations that can be resumed."""
    if context.invoked_subcommand is not None:
        return
    from passionsr_cli.checkpoints import catalogue
    from passionsr_cli.checkpoints.unfinished import run_folder
    from passionsr_cli.system.claims import holder
    from passionsr_cli.terminal.tables import numbers, print_table, words

    found, damaged, unfinished = catalogue.listing()
    if as_json:
        print_json({"checkpoints": found, "damaged": damaged, "unfinished": unfinished})
        return
    columns = words("name", "model", "bits", "method")
    columns += [*numbers("dB to fp", "MB"), *numbers("of 32 bits", spare=True)]
    rows = [
        (
            item["name"],
            item["model"],
            item["bits"],
            item["method"],
            "" if item["image_psnr"] is None else decibels(item["image_psnr"]),
            f"{item['bytes'] / 1e6:.1f}",
            f"{item['share_of_32_bits']:.3f}",
        )
        for item in found
    ]
    print_table(columns, rows)
    for name, reason in damaged.items():
        output.print(f"{name}: damaged ({reason})", soft_wrap=True, markup=False)
    for name in unfinished:
        running = holder(run_folder(name))
        state = running or f"unfinished; go on with `calibrate --resume --name {name}`"
        output.print(f"{name}: {state}", markup=False)


@app.command("show")
@command
def show_checkpoint(
    name: NameArgument,
    layers: Annotated[
        bool, typer.Option("--layers", help="A row for each layer: bits, grids, reasons.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Show how a checkpoint was made and what it holds."""
    from passionsr_cli.checkpoints import catalogue
    from passionsr_cli.checkpoints.catalogue import find_checkpoint
    from passionsr_cli.cli.calibrate import show_result

    shown = catalogue.describe(find_checkpoint(name))
    if as_json:
        print_json(shown)
        return
    show_result(shown)
    if layers:
        _show_layers(shown["layers"])


def _show_layers(rows: list[dict[str, str]]) -> None:
    from passionsr_cli.terminal.tables import print_table, words

    keys = ("name", "kind", "weights", "activations", "transformation", "reason")
    columns = words("layer", "kind", "weights", "activations", "transformation", "remark")
    print_table(columns, [[row[key] for key in keys] for row in rows])


@app.command("import")
@command
def import_checkpoint(
    files: Annotated[
        list[Path],
        typer.Argument(metavar="FILE...", help="PassionSR's .pth of a UNet, a VAE or both."),
    ],
    config: Annotated[
        Path, typer.Option("--config", metavar="YAML", help="Its YAML: bits and split.")
    ],
    model: Annotated[str, typer.Option(metavar="NAME|DIR", help="The model it is of.")],
    name: Annotated[
        str | None, typer.Option(metavar="NAME", help="Default: MODEL-BITS-imported.")
    ] = None,
    numerics: Annotated[
        str,
        typer.Option(
            metavar="standard|released",
            help="This package's arithmetic, or exactly that of the released code.",
        ),
    ] = "standard",
    as_json: JsonOption = False,
) -> None:
    """Make a checkpoint of files that PassionSR's authors calibrated."""
    from passionsr_cli.models.catalogue import find
    from passionsr_cli.system.files import must_exist

    for path in (*files, config):
        must_exist(path)
    find(model)

    from passionsr_cli import api
    from passionsr_cli.checkpoints import catalogue
    from passionsr_cli.cli.calibrate import show_result
    from passionsr_cli.terminal.progress import Lines

    entry = api.import_checkpoint(files, config, model, name, numerics, Lines())
    shown = catalogue.describe(entry)
    if as_json:
        print_json(shown)
        return
    show_result(shown)


@app.command("compare")
@command
def compare_checkpoints(
    names: Annotated[list[str], typer.Argument(metavar="NAME...", help="Checkpoints.")],
    picture: Annotated[
        Path, typer.Option("--output", "-o", metavar="PNG", help="Where the picture goes.")
    ] = Path("calibrations.png"),
    as_json: JsonOption = False,
) -> None:
    """Draw the loss curves of several calibrations over each other."""
    from passionsr_cli.checkpoints.catalogue import find_checkpoint

    for name in names:
        find_checkpoint(name)

    from passionsr_cli.calibration import curves

    curves.compare(names, picture)
    if as_json:
        print_json({"checkpoints": names, "picture": str(picture)})
        return
    output.print(f"{picture}", soft_wrap=True, markup=False)


@app.command("remove")
@command
def remove_checkpoint(
    name: Annotated[
        str, typer.Argument(metavar="NAME", help="A checkpoint's or unfinished calibration's name.")
    ],
    yes: YesOption = False,
    as_json: JsonOption = False,
) -> None:
    """Delete a checkpoint, or a calibration that was not finished."""
    from passionsr_cli.checkpoints import catalogue

    what = f"{catalogue.what_is_named(name)} '{name}'"
    confirm_removal(what, yes)
    catalogue.remove(name)
    if as_json:
        print_json({"removed": name})
        return
    output.print(f"deleted the {what}", markup=False)
