"""Help texts: plain, in groups, as wide as the terminal; no word of them is ever broken."""

from __future__ import annotations

import inspect
import textwrap
from collections.abc import Iterable, Iterator
from typing import Any

from typer.core import TyperCommand

from passionsr_cli.terminal.completion import known_values

PROGRAM = "passionsr"
INDENT = "  "
ARGUMENTS, OPTIONS, GENERAL = "Arguments", "Options", "General"
# In a help text: the names that a shell would complete, from their catalogue.
VALUES = "{values}"

# Labels and texts, by the title of their group.
Groups = dict[str, list[tuple[str, str]]]


class Command(TyperCommand):
    """A command whose help is ours."""

    def format_help(self, ctx: Any, formatter: Any) -> None:
        """Write the help text of this command."""
        formatter.write(help_text(ctx, formatter.width))


def command_path(context: Any) -> str:
    """'passionsr models show', however it was started."""
    names: list[str] = []
    while context.parent is not None:
        names.append(context.command.name)
        context = context.parent
    return " ".join([PROGRAM, *reversed(names)])


def help_text(context: Any, width: int) -> str:
    """Usage, description, examples, and the groups of commands and options of a command."""
    parts = [_filled(f"Usage: {_usage(context)}", width, "", INDENT * 2)]
    parts += _description(context.command.help or "", width)
    for groups in filter(None, (_commands(context), _parameters(context))):
        # What is longer stands on a line of its own, above its text.
        labels = [len(label) for rows in groups.values() for label, _ in rows]
        column = max(length for length in labels if length <= width // 3)
        for title, rows in groups.items():
            parts.append("\n".join([f"{title}:", *_lines(rows, column, width)]))
    return "\n\n".join(parts)


def _usage(context: Any) -> str:
    parameters = context.command.get_params(context)
    words = [command_path(context), "[OPTIONS]"]
    words += [_label(each) for each in parameters if each.param_type_name == "argument"]
    if hasattr(context.command, "commands"):
        words.append("[COMMAND]" if context.command.invoke_without_command else "COMMAND")
    return " ".join(words)


def _description(text: str, width: int) -> Iterator[str]:
    r"""Paragraphs; those after a \b are command lines, which are cut as a shell takes them."""
    for paragraph in inspect.cleandoc(text).split("\n\n"):
        first, *examples = paragraph.splitlines()
        if first != "\b":
            yield _filled(paragraph, width, INDENT, INDENT)
            continue
        cut = [_filled(line, width - 2, INDENT, INDENT * 3) for line in examples]
        yield "\n".join(["Examples:", *(lines.replace("\n", " \\\n") for lines in cut)])


def _commands(context: Any) -> Groups:
    groups: Groups = {}
    for name, command in getattr(context.command, "commands", {}).items():
        summary = inspect.cleandoc(command.help or "").partition("\n\n")[0]
        groups.setdefault(command.rich_help_panel or "Commands", []).append((name, summary))
    return groups


def _parameters(context: Any) -> Groups:
    """In the order of their first members, but what all commands have last."""
    groups: Groups = {}
    *own, asking_for_help = context.command.get_params(context)
    for each in own:
        kind = ARGUMENTS if each.param_type_name == "argument" else OPTIONS
        title = each.rich_help_panel or kind
        groups.setdefault(title, []).append((_label(each), _text(each, context)))
    general = [*groups.pop(GENERAL, []), (_label(asking_for_help), asking_for_help.help)]
    apart = OPTIONS in groups and not groups.keys() <= {ARGUMENTS, OPTIONS}
    title = GENERAL if apart else OPTIONS
    return groups | {title: [*groups.get(title, []), *general]}


def _label(parameter: Any) -> str:
    """'-o, --output PATH'."""
    metavar = parameter.metavar or parameter.name.upper()
    if parameter.param_type_name == "argument":
        return str(metavar)
    names = ", ".join(sorted(parameter.opts, key=len))
    names = " / ".join([names, *parameter.secondary_opts])
    return names if parameter.is_flag else f"{names} {metavar}"


def _text(parameter: Any, context: Any) -> str:
    """A parameter's help, with the names it knows, its default, and whether it must be given."""
    text = parameter.help or ""
    if VALUES in text:
        path = command_path(context).removeprefix(f"{PROGRAM} ")
        text = text.replace(VALUES, ", ".join(known_values(path, parameter.name)))
    if parameter.param_type_name == "argument":
        return str(text)
    if parameter.default not in (None, False):
        text += f" Default: {parameter.default}."
    return f"{text} Required." if parameter.required else text


def _lines(rows: Iterable[tuple[str, str]], column: int, width: int) -> Iterator[str]:
    indent = INDENT + " " * column + INDENT
    for label, text in rows:
        begun = f"{INDENT}{label.ljust(column)}{INDENT}"
        if len(label) > column:
            yield begun.rstrip()
            begun = indent
        yield _filled(text, width, begun, indent)


def _filled(text: str, width: int, begun: str, indent: str) -> str:
    words = " ".join(text.split())
    return textwrap.fill(
        words,
        width,
        initial_indent=begun,
        subsequent_indent=indent,
        break_long_words=False,
        break_on_hyphens=False,
    )
