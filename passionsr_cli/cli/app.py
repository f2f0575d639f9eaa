"""The command line: `passionsr`."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from passionsr_cli import __version__
from passionsr_cli.cli import checkpoints, models
from passionsr_cli.cli.bench import bench
from passionsr_cli.cli.calibrate import calibrate
from passionsr_cli.cli.evaluate import evaluate
from passionsr_cli.cli.export import export
from passionsr_cli.cli.reproduce import reproduce
from passionsr_cli.cli.score import score
from passionsr_cli.cli.serve import serve
from passionsr_cli.cli.sweep import sweep_timestep
from passionsr_cli.cli.train import train
from passionsr_cli.cli.upscale import upscale
from passionsr_cli.terminal import console
from passionsr_cli.terminal.grammar import Commands

DEBUG_FLAG = "--debug"

app = typer.Typer(
    cls=Commands,
    name="passionsr",
    help="One-step diffusion super-resolution, small and fast.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command()(upscale)
app.command()(calibrate)
app.command()(evaluate)
app.command()(score)
app.command()(export)
app.command()(train)
app.command("sweep-timestep")(sweep_timestep)
app.command()(bench)
app.command()(reproduce)
app.command()(serve)
app.add_typer(models.app, name="models")
app.add_typer(checkpoints.app, name="checkpoints")


def _print_version(wanted: bool) -> None:
    if wanted:
        console.output.print(f"passionsr {__version__}")
        raise typer.Exit()


@app.callback()
def start(
    debug: Annotated[
        bool,
        typer.Option(DEBUG_FLAG, help="Show tracebacks and third-party messages (any position)."),
    ] = False,
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True)
    ] = False,
) -> None:
    """One-step diffusion super-resolution, small and fast."""
    console.set_debug(debug)


def main() -> None:
    """Run the command line; `--debug` may stand anywhere in it."""
    console.survive_surroundings()
    arguments = sys.argv[1:]
    if DEBUG_FLAG in arguments:
        arguments = [DEBUG_FLAG, *(item for item in arguments if item != DEBUG_FLAG)]
    app(arguments)
