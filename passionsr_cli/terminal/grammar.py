"""Forgiving command lines: other names of commands, and usage errors of one line."""

from __future__ import annotations

import os
import re
import shlex
import sys
from collections.abc import Callable, Collection, Sequence
from functools import partial
from os.path import exists
from pathlib import Path
from typing import Any, TypeVar

import typer
from typer.core import TyperGroup

from passionsr_cli.system import interruptions
from passionsr_cli.system.text import nearest, suggestion
from passionsr_cli.terminal import console
from passionsr_cli.terminal.completion import ASKED_BY, offer_values
from passionsr_cli.terminal.console import EXIT_ERROR, print_json, show_error, tell_unwritten
from passionsr_cli.terminal.help import PROGRAM, Command, command_path, help_text

JSON_FLAG = "--json"
# Other names of commands, as other tools call theirs.
ALIASES = {
    **dict.fromkeys(("rm", "delete", "del"), "remove"),
    **dict.fromkeys(("get", "download", "fetch"), "pull"),
    **dict.fromkeys(("info", "describe"), "show"),
    **dict.fromkeys(("gui", "web", "ui"), "serve"),
    "benchmark": "bench",
    "sweep": "sweep-timestep",
    "quantize": "calibrate",
    "eval": "evaluate",
    "diff": "compare",
    "model": "models",
    "checkpoint": "checkpoints",
}
F = TypeVar("F", bound=Callable[..., Any])

# What a group does that is given no command.
LISTING = ("list", "ls")
# Which option a word was meant for that stands where there is no argument, if it is there or not.
MEANT_FILES = ("--photos", "--images", "--config")
MEANT = ("--model", "--name", "--config")
# Words before a command, or instead of one, and the options that say the same.
WORDS = {"help": "--help", "version": "--version", "-V": "--version"}


class Commands(TyperGroup):
    """A group whose commands have other names, too, and whose usage errors are one line."""

    def main(
        self,
        args: Sequence[str] | None = None,
        prog_name: str | None = None,
        complete_var: str | None = None,
        standalone_mode: bool = True,
        windows_expand_args: bool = True,
        **extra: Any,
    ) -> Any:
        """Run, and end with an exit code; errors of usage are one line, with `--json` an object."""
        typed = list(sys.argv[1:] if args is None else args)
        if typed and typed[0] in WORDS:
            typed = [*typed[1:], WORDS[typed[0]]]
        run = partial(super().main, typed, prog_name, complete_var, False, **extra)
        if not standalone_mode:
            return run()
        try:
            code = self._run(run, typed)
        except OSError as error:
            # Commands tell of their own: this is of what help says.
            if console.debugging:
                raise
            tell_unwritten(error)
            code = EXIT_ERROR
        sys.exit(EXIT_ERROR if console.unwritten and not code else code)

    def _run(self, run: Callable[[], Any], typed: list[str]) -> Any:
        """The exit code of a command line, whose errors of usage are told."""
        try:
            return run()
        except typer.Abort:
            show_error("interrupted")
            return interruptions.exit_code()
        except typer.TyperException as error:
            if not typed:
                # Help, which is what such a command line gets.
                typer.echo(error.format_message())
                return error.exit_code
            message = self._told(error, typed)
            if JSON_FLAG in typed:
                print_json({"error": message})
            show_error(message)
            return error.exit_code

    def format_help(self, ctx: Any, formatter: Any) -> None:
        """Write the help text of this group."""
        formatter.write(help_text(ctx, formatter.width))

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Arguments without the word `list` where listing is what the group does."""
        first = next((word for word in args if word[:1] != "-"), None)
        if self.invoke_without_command and first in LISTING:
            args = [word for word in args if word != first]
        return super().parse_args(ctx, args)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """The command of this name; for a shell that asks, it completes values."""
        command = super().get_command(ctx, cmd_name)
        if command is not None and ASKED_BY in os.environ:
            offer_values(command, f"{command_path(ctx)} {cmd_name}".removeprefix(f"{PROGRAM} "))
        return command

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """The command of this name, or of another name for it."""
        typed = args[0].lower()
        name = typed if typed in self.commands else ALIASES.get(typed, typed)
        if name not in self.commands:
            ctx.fail(self._unknown(args))
        return super().resolve_command(ctx, [name, *args[1:]])

    def _unknown(self, args: list[str]) -> str:
        typed = args[0]
        if "upscale" in self.commands and _is_an_input(typed):
            return f"'{typed}' is no command; type: {PROGRAM} upscale {shlex.join(args)}"
        return f"no command '{typed}'{suggestion(typed, self.commands)}"

    def _told(self, error: Any, typed: list[str]) -> str:
        """Mistake of a command line, and the text to type instead."""
        context, option = getattr(error, "ctx", None), getattr(error, "option_name", None)
        if context is None:
            return _sentence(error)
        if option is not None and getattr(error, "possibilities", None) is not None:
            return self._unknown_option(option, context, typed)
        extra = re.fullmatch(r"Got unexpected extra argument\(s\) \((.*)\)", error.message)
        if extra:
            return _unexpected(extra[1], context)
        if short := re.fullmatch(r"No such option: (-\w)", error.message):
            word = next((word for word in typed if word.startswith(short[1])), short[1])
            return self._unknown_option(word, context, typed)
        value = _value_typed(getattr(error, "param", None), typed)
        if value is not None and error.message.startswith("Input should be"):
            expected = error.message.removeprefix("Input should be ").partition(",")[0]
            return f"{error.param.opts[0]}: found '{value}', expected {expected}"
        hint = (
            f"; see `{command_path(context)} --help`"
            if error.format_message()[:4] == "Miss"
            else ""
        )
        return f"{_sentence(error)}{hint}"

    def _unknown_option(self, option: str, context: Any, typed: list[str]) -> str:
        path = command_path(context)
        if exists(option):
            return f"{path} has no option {option}; the file of that name is ./{option}"
        place = next((i for i, word in enumerate(typed) if word in self.commands), None)
        if context.parent is None and place is not None:
            moved = [typed[place], *typed[:place], *typed[place + 1 :]]
            return f"{option} stands after the command; type: {PROGRAM} {shlex.join(moved)}"
        if context.parent is None and option in _options(
            self.commands.get("upscale", context.command)
        ):
            return f"{option} stands after a command; type: {PROGRAM} upscale {shlex.join(typed)}"
        setting = option.lstrip("-").replace("-", "_")
        if setting in _settings(context.command.name):
            meant = f"; write `{setting}: …` into a YAML file and give that as --config"
        elif elsewhere := [
            name for name, each in self.commands.items() if option in _options(each)
        ]:
            meant = f"; it is an option of {' and '.join(elsewhere[:2])}"
        else:
            near = _near(option, _options(context.command))
            meant = f"; did you mean '{near}'?" if near else f"; see `{path} --help`"
        return f"{path} has no option {option}{meant}"


class Program(typer.Typer):
    """Commands with our help and our usage errors."""

    def __init__(self, **options: Any) -> None:
        super().__init__(cls=Commands, **options)

    def command(self, name: str | None = None, **options: Any) -> Callable[[F], F]:
        """A decorator that adds a function as a command."""
        return super().command(name, cls=Command, **options)


def format_name(typed: str | None) -> str | None:
    """The format that JPEG, .png or tif means."""
    name = typed and typed.lower().removeprefix(".")
    return {"jpeg": "jpg", "tif": "tiff"}.get(name or "", name)


def _settings(command: str) -> Collection[str]:
    """Settings of a command that its `--config` may hold, those that are no option among them."""
    from passionsr_cli.config import CalibrationSettings

    return CalibrationSettings.model_fields if command == "calibrate" else ()


def _options(command: Any) -> list[str]:
    return [name for each in command.params for name in each.opts if name[0] == "-"]


def _near(typed: str, options: Sequence[str]) -> str | None:
    """The option that was meant: of one letter, the only one that begins with it."""
    if len(typed) == 2:
        near = [name for name in options if name.startswith(f"-{typed}")]
    else:
        near = nearest(f"--{typed.lstrip('-')}", options)
    return near[0] if len(near) == 1 else None


def _sentence(error: typer.TyperException) -> str:
    """Typer's message, as our own are written."""
    message = error.format_message().rstrip(".")
    return message[:1].lower() + message[1:]


def _is_an_input(typed: str) -> bool:
    """Tell whether a word in place of a command looks like something to upscale."""
    return typed == "-" or typed.startswith("sample:") or Path(typed).suffix != "" or exists(typed)


def _unexpected(words: str, context: Any) -> str:
    known = _options(context.command)
    order = (*MEANT_FILES, *MEANT) if exists(words) else MEANT
    meant = next((option for option in order if option in known), None)
    hint = f"was it meant for {meant}?" if meant else f"see `{command_path(context)} --help`"
    return f"{command_path(context)} takes no '{words}' by itself; {hint}"


def _value_typed(parameter: Any, typed: list[str]) -> str | None:
    """The last value that an option was given."""
    for place, word in reversed([*enumerate(typed)]):
        name, equals, value = word.partition("=")
        if parameter is not None and name in parameter.opts:
            return value if equals else typed[place + 1]
    return None
