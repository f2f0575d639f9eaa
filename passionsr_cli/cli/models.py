"""passionsr models"""

from __future__ import annotations

from typing import Annotated

import typer

from passionsr_cli.cli.console import command, output, print_json
from passionsr_cli.cli.options import JsonOption

app = typer.Typer(help="The models passionsr knows.", invoke_without_command=True)


@app.callback()
@command
def list_models(context: typer.Context, as_json: JsonOption = False) -> None:
    """List the models and whether their weights are on this machine."""
    if context.invoked_subcommand is not None:
        return
    from rich.table import Table

    from passionsr_cli.models.sources import known_models

    known = known_models()
    if as_json:
        rows = [
            {"name": m.name, "title": m.description.title, "present": m.folder is not None}
            for m in known
        ]
        print_json({"models": rows})
        return
    table = Table("name", "what it is", "factor", "weights")
    for model in known:
        description = model.description
        table.add_row(
            model.name,
            description.title,
            f"×{description.upscale_factor}",
            "on this machine" if model.folder else "not here",
        )
    output.print(table)


@app.command("show")
@command
def show_model(
    name: Annotated[str, typer.Argument(help="A model's name or folder.")],
    as_json: JsonOption = False,
) -> None:
    """Parameters and operations of a model, and what quantizing it would save."""
    from rich.table import Table

    from passionsr_cli.models.costs import compression_rows, measure
    from passionsr_cli.models.sources import find

    known = find(name)
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
                "patch_size": description.patch_size,
                "latent_factor": description.latent_factor,
                "present": known.folder is not None,
                "sources": [source.model_dump() for source in description.sources],
                "parts": [vars(part) for part in costs],
                "compression": [vars(row) for row in rows],
            }
        )
        return
    output.print(f"[bold]{name}[/]  {description.title}")
    output.print(f"licence {description.licence}, timestep {description.timestep}")
    output.print(f"weights: {known.folder or 'not on this machine'}", soft_wrap=True)
    for source in description.sources:
        output.print(f"  {source.note}: {source.location}", soft_wrap=True, markup=False)
    parts = Table("part", "parameters (M)", "operations (G)", "attention products (G)")
    for part in costs:
        parts.add_row(
            part.name,
            f"{part.parameters / 1e6:,.1f}",
            f"{part.operations / 1e9:,.1f}",
            f"{part.attention_operations / 1e9:,.1f}",
        )
    output.print(parts)
    saved = Table(
        "quantized",
        "bits",
        "parameters (M)",
        "operations (G)",
        caption="512×512 result. Parameters as 32-bit equivalents, operations × bits / 32 "
        "in quantized layers with weights (PassionSR, Table 3).",
    )
    for row in rows:
        saved.add_row(
            row.parts, row.bits, f"{row.parameters / 1e6:,.1f}", f"{row.operations / 1e9:,.1f}"
        )
    output.print(saved)
