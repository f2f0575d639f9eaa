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
from passionsr_cli.terminal.ending import run_to_end
from passionsr_cli.terminal.grammar import Program

DEBUG_FLAG = "--debug"

app = Program(
    name="passionsr",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
COMMANDS = {
    "Upscale": (upscale, serve),
    "Make models smaller": (calibrate, checkpoints.app, export),
    "Measure": (evaluate, score, bench, reproduce),
    "Other models": (models.app, train, sweep_timestep),
}
for group, members in COMMANDS.items():
    for member in members:
        if isinstance(member, Program):
            app.add_typer(member, rich_help_panel=group)
        else:
            app.command(rich_help_panel=group)(member)


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
        bool,
        typer.Option(
            "--version", callback=_print_version, is_eager=True, help="Print the version and exit."
        ),
    ] = False,
) -> None:
    """Upscale photographs four times by one-step diffusion, with small and fast models.

    `passionsr COMMAND --help` says all of a command.

    \b
    passionsr upscale photo.jpg --compare
    passionsr calibrate --bits w6a6
    passionsr evaluate --checkpoint mini-w6a6-passionsr
    """
    console.set_debug(debug)


def main() -> None:
    """Run the command line; `--debug` may stand anywhere in it."""
    console.survive_surroundings()
    arguments = sys.argv[1:]
    if DEBUG_FLAG in arguments:
        arguments = [DEBUG_FLAG, *(item for item in arguments if item != DEBUG_FLAG)]
    run_to_end(app, arguments)
