"""The help texts of all commands as one page.

python tests/help_page.py > docs/cli.md
"""

from __future__ import annotations

from collections.abc import Iterator

import typer
from typer.core import TyperCommand, TyperGroup
from typer.main import get_command

from passionsr_cli.cli.app import app

WIDTH = 100
HEAD = """# Commands

What `--help` says of each, written by `python tests/help_page.py > docs/cli.md`.
"""


def help_page() -> str:
    """The page, in Markdown."""
    top = get_command(app)
    assert isinstance(top, TyperGroup)
    return "\n".join([HEAD, *_sections(top, "passionsr", None)])


def _sections(
    command: TyperCommand | TyperGroup, name: str, above: typer.Context | None
) -> Iterator[str]:
    """A command, then those below it."""
    context = typer.Context(
        command,
        above,
        info_name=name,
        terminal_width=WIDTH,
        max_content_width=WIDTH,
        help_option_names=["-h", "--help"],
    )
    yield f"## {context.command_path}\n\n```text\n{command.get_help(context).rstrip()}\n```\n"
    if isinstance(command, TyperGroup):
        for below, inner in command.commands.items():
            assert isinstance(inner, (TyperCommand, TyperGroup))
            yield from _sections(inner, below, context)


if __name__ == "__main__":
    print(help_page(), end="")
