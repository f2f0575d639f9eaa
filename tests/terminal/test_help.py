"""Help texts of all commands, at several widths: nothing cut, nothing broken."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Literal, get_args, get_origin

import pytest
import typer
from pydantic import BaseModel
from typer.core import TyperGroup
from typer.main import get_command

from passionsr_cli.cli.app import app
from passionsr_cli.config import CalibrationSettings, UpscaleSettings
from passionsr_cli.evaluation.settings import EvaluationSettings
from passionsr_cli.terminal.help import help_text


def _contexts(command: Any, above: typer.Context | None = None) -> Iterator[typer.Context]:
    context = typer.Context(
        command, above, info_name=command.name, help_option_names=["-h", "--help"]
    )
    yield context
    if isinstance(command, TyperGroup):
        for inner in command.commands.values():
            yield from _contexts(inner, context)


CONTEXTS = {each.command_path: each for each in _contexts(get_command(app))}


def _parameters(path: str) -> dict[str, Any]:
    return {each.name: each for each in CONTEXTS[path].command.params}


@pytest.mark.parametrize("width", [50, 60, 78, 100])
@pytest.mark.parametrize("path", CONTEXTS)
def test_every_word_is_whole(path: str, width: int) -> None:
    context = CONTEXTS[path]
    text = help_text(context, width)
    assert max(map(len, text.splitlines())) <= width
    assert "{values}" not in text
    wide = help_text(context, 10_000)
    assert text.replace("\\\n", "").split() == wide.split()
    for each in context.command.get_params(context):
        assert all(name in text for name in (*each.opts, *each.secondary_opts) if name[0] == "-")
        if each.param_type_name == "argument" or not each.is_flag:
            assert (each.metavar or each.name.upper()) in text
        assert each.help or each.name == "version", f"{path} {each.name} has no help"


@pytest.mark.parametrize(
    ("path", "first", "last"),
    [
        ("passionsr", "Upscale:", "Options:"),
        ("passionsr upscale", "Arguments:", "Options:"),
        ("passionsr train", "Options:", "General:"),
        ("passionsr models", "Commands:", "Options:"),
    ],
)
def test_groups(path: str, first: str, last: str) -> None:
    lines = help_text(CONTEXTS[path], 78).splitlines()
    titles = [line for line in lines if line.endswith(":") and line[0] != " "]
    titles = [title for title in titles if title != "Examples:"]
    assert (titles[0], titles[-1]) == (first, last)
    assert lines[-1].startswith("  -h, --help")


def test_commands_have_one_line_each() -> None:
    lines = help_text(CONTEXTS["passionsr"], 78).splitlines()
    commands = [path.split()[1] for path in CONTEXTS if path.count(" ") == 1]
    found = [line for line in lines if line.split()[:1] in [[name] for name in commands]]
    assert len(found) == len(commands) == len(app.registered_commands) + len(app.registered_groups)
    assert lines.index("Options:") < 34


@pytest.mark.parametrize(
    ("path", "parameter", "text"),
    [
        ("passionsr calibrate", "method", "maxmin, passionsr, qartsr, lsq"),
        ("passionsr export", "format_name", "openvino, onnx, safetensors. Default: openvino."),
        ("passionsr evaluate", "metrics", "psnr, ssim, lpips, lite1, dists, niqe"),
        ("passionsr evaluate", "dataset", "sample, RealSR, DRealSR"),
        ("passionsr reproduce", "table", "methods, methods-full-size, passionsr-table2"),
    ],
)
def test_names_come_from_the_catalogues(path: str, parameter: str, text: str) -> None:
    assert _parameters(path)[parameter].help.startswith("{values}")
    assert text in " ".join(help_text(CONTEXTS[path], 100).split())


@pytest.mark.parametrize(
    ("path", "settings"),
    [
        ("passionsr upscale", UpscaleSettings),
        ("passionsr calibrate", CalibrationSettings),
        ("passionsr evaluate", EvaluationSettings),
    ],
)
def test_choices_are_those_of_the_settings(path: str, settings: type[BaseModel]) -> None:
    """`contain|cover|fill`, for a person who reads the help, is what the settings take."""
    compared = 0
    for name, parameter in _parameters(path).items():
        field = settings.model_fields.get(name)
        if field is None or "|" not in (metavar := str(parameter.metavar)):
            continue
        kinds = [field.annotation, *get_args(field.annotation)]
        values = [get_args(kind) for kind in kinds if get_origin(kind) is Literal]
        if values:
            assert {*metavar.split("|")} - {"PX"} == {str(value) for value in values[0]}, name
            compared += 1
    assert compared
