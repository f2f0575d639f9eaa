"""passionsr models"""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape

from passionsr_cli.cli.options import JsonOption, YesOption, confirm_removal
from passionsr_cli.terminal.console import command, output, print_json
from passionsr_cli.terminal.grammar import Program

if TYPE_CHECKING:
    from passionsr_cli.description import ModelDescription
    from passionsr_cli.store import Entry

app = Program(name="models", invoke_without_command=True)


@app.callback()
@command
def list_models(context: typer.Context, as_json: JsonOption = False) -> None:
    """List models, and whether their weights are on this machine."""
    if context.invoked_subcommand is not None:
        return
    from passionsr_cli.models.catalogue import listing
    from passionsr_cli.terminal.tables import numbers, print_table, words

    known, damaged = listing()
    if as_json:
        rows = [
            {
                "name": m.name,
                "title": m.description.title,
                "licence": m.description.licence,
                "realism": m.description.realism,
                "present": m.folder is not None,
            }
            for m in known
        ]
        print_json({"models": rows, "damaged": damaged})
        return
    columns = [*words("name"), *numbers("factor", "realism"), *words("weights", "what it is")]
    lines = [
        (
            model.name,
            f"×{model.description.upscale_factor}",
            _default_realism(model.description),
            "here" if model.folder else "not here",
            model.description.title,
        )
        for model in known
    ]
    print_table(columns, lines)
    for name, reason in damaged.items():
        output.print(f"{name}: damaged ({reason})", soft_wrap=True, markup=False)


def _default_realism(description: ModelDescription) -> str:
    """The default setting of a model's dial; nothing without one."""
    return "" if description.realism is None else f"{description.realism:g}"


@app.command("show")
@command
def show_model(
    name: Annotated[str, typer.Argument(metavar="NAME", help="A model's name or folder.")],
    as_json: JsonOption = False,
) -> None:
    """Parameters and operations of a model, and what quantizing it would save."""
    from passionsr_cli.models.catalogue import find

    known = find(name)

    from passionsr_cli.models.costs import compression_rows, counted_px, measure
    from passionsr_cli.terminal.tables import numbers, print_table, words

    description = known.description
    costs = measure(description)
    rows = compression_rows(costs)
    if as_json:
        print_json(
            {
                "name": name,
                "title": description.title,
                "licence": description.licence,
                "timestep": description.timestep,
                "upscale_factor": description.upscale_factor,
                "realism": description.realism,
                "patch_size": description.patch_size,
                "latent_factor": description.latent_factor,
                "present": known.folder is not None,
                "sources": [source.model_dump() for source in description.sources],
                "parts": [vars(part) for part in costs],
                "compression": [vars(row) for row in rows],
            }
        )
        return
    output.print(f"[bold]{escape(name)}[/]  {escape(description.title)}")
    about = f"licence {description.licence}, timestep {description.timestep}"
    output.print(about, markup=False)
    output.print(f"realism: {_default_realism(description) or 'no dial'}")
    weights = known.folder or "not on this machine"
    output.print(f"weights: {weights}", soft_wrap=True, markup=False)
    for source in description.sources:
        output.print(f"  {source.note}: {source.location}", soft_wrap=True, markup=False)
    sizes = numbers("parameters (M)", "operations (G)")
    parts = [
        (
            part.name,
            f"{part.parameters / 1e6:,.1f}",
            f"{part.operations / 1e9:,.1f}",
            f"{part.attention_operations / 1e9:,.1f}",
        )
        for part in costs
    ]
    attention = numbers("attention products (G)", spare=True)
    print_table([*words("part"), *sizes, *attention], parts)
    saved = [
        (row.parts, row.bits, f"{row.parameters / 1e6:,.1f}", f"{row.operations / 1e9:,.1f}")
        for row in rows
    ]
    print_table([*words("quantized", "bits"), *sizes], saved)
    px = counted_px(description)
    output.print(
        f"{px}×{px} result. Parameters as 32-bit equivalents, operations × bits / 32 in quantized "
        "layers with weights (PassionSR, Table 3)."
    )


NewNameArgument = Annotated[str, typer.Argument(metavar="NAME", help="Its name from now on.")]
RecipeOption = Annotated[
    str | None,
    typer.Option(metavar="NAME|YAML", help="A registered model, or a file, to make it by."),
]
ContextOption = Annotated[
    Path | None,
    typer.Option(metavar="FILE", help="Embedding of the prompt; default: that of the empty one."),
]
OverwriteOption = Annotated[bool, typer.Option("--overwrite", help="Replace a model of that name.")]


@app.command("add")
@command
def add_model(
    name: NewNameArgument,
    base: Annotated[
        Path,
        typer.Option(
            metavar="DIR|FILE",
            help="Stable Diffusion 2.1-base: diffusers or .ckpt; of adcsr net_params_200.pkl.",
        ),
    ],
    lora: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE|DIR", help="Adapters to merge: osediff.pkl, HYPIR_sd2.pth, peft's folder."
        ),
    ] = None,
    decoder: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="A light decoder in place of its own: halfDecoder.ckpt."),
    ] = None,
    context: ContextOption = None,
    recipe: RecipeOption = None,
    overwrite: OverwriteOption = False,
    as_json: JsonOption = False,
) -> None:
    """Make a model of files that are on this machine."""
    from passionsr_cli.system.files import must_exist

    for path in filter(None, (base, lora, decoder, context)):
        must_exist(path)

    from passionsr_cli import api
    from passionsr_cli.terminal.progress import Lines

    entry = api.add_model(name, base, lora, context, recipe, overwrite, Lines(), decoder)
    _show_added(entry, as_json)


@app.command("pull")
@command
def pull_model(
    model: Annotated[str, typer.Argument(metavar="MODEL", help="A registered model.")],
    name: Annotated[
        str | None, typer.Option("--as", metavar="NAME", help="Its name here. Default: MODEL.")
    ] = None,
    source: Annotated[
        str | None,
        typer.Option(metavar="URL|REPO|DIR|FILE", help="The base weights, from there alone."),
    ] = None,
    lora: Annotated[
        str | None, typer.Option(metavar="URL|FILE", help="The adapters, from there alone.")
    ] = None,
    context: ContextOption = None,
    overwrite: OverwriteOption = False,
    as_json: JsonOption = False,
) -> None:
    """Fetch what a model is made of, verify it and put it together."""
    from passionsr_cli.published.recipes import check_pullable

    check_pullable(model)

    from passionsr_cli import api
    from passionsr_cli.terminal.progress import DownloadBars

    with DownloadBars() as bars:
        entry = api.pull_model(model, name, source, lora, context, overwrite, bars)
    _show_added(entry, as_json)


@app.command("remove")
@command
def remove_model(
    name: Annotated[str, typer.Argument(metavar="NAME", help="Of one that was made or added.")],
    yes: YesOption = False,
    as_json: JsonOption = False,
) -> None:
    """Delete a model's weights from this machine; its checkpoints go on without them."""
    from passionsr_cli.models import catalogue

    catalogue.check_removable(name)
    confirm_removal(f"model '{name}'", yes)
    catalogue.remove(name)
    if as_json:
        print_json({"removed": name})
        return
    output.print(f"deleted the model '{name}'", markup=False)


def _show_added(entry: Entry, as_json: bool) -> None:
    description = entry.manifest["description"]
    if as_json:
        tensors = asdict(entry.tensors_file)
        shown = {"name": entry.name, "folder": str(entry.folder), **entry.manifest}
        print_json({**shown, "tensors": tensors})
        return
    output.print(
        f"{entry.name}: {entry.tensors_file.bytes / 1e6:,.0f} MB in {entry.folder}",
        soft_wrap=True,
        markup=False,
    )
    output.print(f"licence: {description['licence']}", soft_wrap=True, markup=False)
    output.print(f"use it with `passionsr upscale photo.jpg --model {entry.name}`", markup=False)
