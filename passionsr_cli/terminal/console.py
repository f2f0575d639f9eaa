"""Consoles, error lines, exit codes, and silence of others: shared by the commands."""

from __future__ import annotations

import functools
import io
import json
import logging
import os
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import IO, Any, ParamSpec, TypeVar

import typer
from rich.console import Console
from rich.text import Text

from passionsr_cli.errors import ConfigError, PassionSRError
from passionsr_cli.system import interruptions
from passionsr_cli.system.paths import survive_without_home
from passionsr_cli.system.text import as_known, one_line, printable

P = ParamSpec("P")
R = TypeVar("R")

EXIT_ERROR = 1
EXIT_USAGE = 2
# What requirements/small.txt does without.
LEFT_OUT = (
    *("accelerate", "diffusers", "huggingface_hub", "matplotlib", "pyiqa"),
    *("torch", "torchvision", "tqdm", "transformers"),
)
# What pip is to install for a module that not everybody needs. An extra of this package's own would
# bring what the small installation leaves out.
PACKAGES = {
    **dict.fromkeys(("onnx", "onnxruntime", "onnxscript"), "onnx onnxruntime onnxscript"),
    "gradio": "gradio",
    "nncf": "nncf",
    "ray": "'ray[data]'",
    "timm": "timm",
}


class _Console(Console):
    """A console that shows control characters in names, and that a closed pipe does not stop."""

    def render_str(self, text: str, **options: Any) -> Text:
        return super().render_str(printable(text), **options)

    def print(self, *objects: Any, **options: Any) -> None:
        try:
            super().print(*objects, **options)
        except OSError as error:
            self.on_broken_pipe()
            tell_unwritten(error)

    def on_broken_pipe(self) -> None:
        self.quiet = True
        _write_nowhere(self.file)


def _write_nowhere(stream: IO[str]) -> None:
    """Let all further writing to a stream whose reader has gone succeed, the last flush too."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, stream.fileno())
    os.close(nowhere)


def tell_unwritten(error: OSError) -> None:
    """The run goes on, but does not end as if all had been told: a full disk is no closed pipe."""
    global unwritten
    unwritten = True
    show_error(f"what it tells cannot be written ({error.strerror or error})")


output = _Console(highlight=False, emoji=False)
messages = _Console(stderr=True, highlight=False, emoji=False)
# Of several processes only the first tells of its progress; errors come from all.
is_first_process = os.environ.get("RANK", "0") == "0"
progress_console = _Console(stderr=True, highlight=False, emoji=False, quiet=not is_first_process)
output.quiet = not is_first_process
debugging = False
unwritten = False


def console_for(console: Console) -> Console:
    """The console to write to: of results and of bars one, where both go to the same terminal.

    Two would not know of each other's lines, and every result would leave a dead bar behind.
    """
    if not is_first_process:
        return console
    try:
        streams = (sys.stdout.fileno(), sys.stderr.fileno())
        together = all(map(os.isatty, streams)) and os.path.sameopenfile(*streams)
    except (OSError, ValueError):
        return console
    return output if together else console


def set_debug(wanted: bool) -> None:
    """With `--debug` tracebacks and third-party messages show; without it neither does."""
    global debugging
    debugging = wanted
    if not wanted:
        _silence_third_parties()


def _silence_third_parties() -> None:
    warnings.simplefilter("ignore")
    # Without this, Python prints the warnings of loggers nobody configured.
    logging.getLogger().addHandler(logging.NullHandler())
    for variable in ("DIFFUSERS_VERBOSITY", "TRANSFORMERS_VERBOSITY", "HF_HUB_VERBOSITY"):
        os.environ.setdefault(variable, "error")
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")


def survive_surroundings() -> None:
    """Neither printing nor a missing home ends a run: closed streams take everything, unknown
    characters are escaped."""
    homeless = survive_without_home()
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: SIM115
        elif isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    if homeless:
        show_note(
            "this user has no home directory, so that nothing is cached or kept; set HOME, or "
            "PASSIONSR_HOME and PASSIONSR_CACHE, to folders that can be written"
        )


def command(function: Callable[P, R]) -> Callable[P, R]:
    """A command whose errors become one line and an exit code.

    2 for settings that cannot be, 130 for Ctrl-C, 143 for SIGTERM, 1 for all else. With `--json`
    they are an object, too; with `--debug` they keep their tracebacks.
    """

    @functools.wraps(function)
    def run(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            result = function(*args, **kwargs)
            if unwritten:
                raise typer.Exit(EXIT_ERROR)
            return result
        except (typer.Exit, typer.Abort):
            raise
        except (Exception, KeyboardInterrupt) as error:
            if debugging:
                raise
            told = _told(error)
            if kwargs.get("as_json"):
                print_json({"error": told})
            show_error(told)
            raise typer.Exit(_exit_code(error)) from None

    return run


@contextmanager
def resumable(how: str = "go on with the same command") -> Iterator[None]:
    """Say at Ctrl-C that the work inside is not lost."""
    try:
        yield
    except KeyboardInterrupt:
        raise KeyboardInterrupt(how) from None


def _exit_code(error: Exception | KeyboardInterrupt) -> int:
    if isinstance(error, KeyboardInterrupt):
        return interruptions.exit_code()
    return EXIT_USAGE if isinstance(error, ConfigError) else EXIT_ERROR


def _told(error: Exception | KeyboardInterrupt) -> str:
    """Message of an error for a person; an interruption's says how to go on."""
    if isinstance(error, KeyboardInterrupt):
        return "; ".join(["interrupted", *map(str, error.args)])
    if isinstance(error, PassionSRError):
        return str(error)
    if isinstance(error, ModuleNotFoundError) and error.name in LEFT_OUT:
        return (
            f"this needs {error.name}, which the small installation leaves out; "
            "`pip install .` in passionsr's folder adds it"
        )
    if isinstance(error, MemoryError):
        return f"not enough memory ({error})"
    missing = (isinstance(error, ModuleNotFoundError) and error.name) or ""
    if packages := PACKAGES.get(missing.partition(".")[0]):
        return f"this needs {missing}: pip install {packages}"
    return f"unexpected {type(error).__name__} (see --debug): {error}"


def show_error(text: str) -> None:
    """One line on stderr, however narrow the terminal is."""
    from rich.markup import escape

    console_for(messages).print(f"[bold red]error:[/] {escape(one_line(text))}", soft_wrap=True)


def show_note(text: str) -> None:
    """Something to know, on stderr, that stops nothing."""
    console_for(progress_console).print(one_line(text), soft_wrap=True, markup=False)


def show_result(text: str) -> None:
    """The line of a result on stdout, where scripts read it: a path, or what became of an image."""
    output.print(one_line(text), soft_wrap=True, markup=False)


def print_json(value: object) -> None:
    """One JSON object on stdout, and nothing else, however many processes there are."""
    if not is_first_process:
        return
    try:
        sys.stdout.write(as_known(json.dumps(value, indent=2)) + "\n")
        sys.stdout.flush()
    except BrokenPipeError:
        _write_nowhere(sys.stdout)
    except OSError as error:
        _write_nowhere(sys.stdout)
        tell_unwritten(error)


def decibels(psnr: float | None) -> str:
    """PSNR for people; None, of equal images, is ∞."""
    return "∞" if psnr is None else f"{psnr:.2f}"
