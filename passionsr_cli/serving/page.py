"""The page and its HTTP API, as Gradio's components and events."""

from __future__ import annotations

import html
from collections.abc import Iterator
from os.path import abspath
from pathlib import Path
from typing import Any

import gradio as gr
from pydantic import ValidationError

from passionsr_cli.imaging.files import IMAGE_SUFFIXES
from passionsr_cli.serving.choices import choices
from passionsr_cli.serving.handlers import FILE_EXPECTED, MIDDLE, Handlers
from passionsr_cli.serving.sessions import Sessions
from passionsr_cli.serving.workroom import Workroom
from passionsr_cli.system.text import one_line

FORMATS = ("png", "same", "jpg", "webp", "tiff", "avif")
ENTIRE, LOOK = "Whole picture", "At pixels"
# One photograph at a time, for pages and clients together; views do not wait for them.
MODEL = {"concurrency_id": "model", "concurrency_limit": 1}
VIEWS = {"concurrency_id": "views", "concurrency_limit": 1}
RAW = {"preprocess": False, "api_visibility": "private"}
AT_ONCE = {**RAW, "queue": False, "show_progress": "hidden"}


class Page(gr.Blocks):  # type: ignore[misc]
    """Blocks that take files from whoever asks, and no addresses: Gradio would fetch what is there,
    in place of any input, as this machine. What is wrong with a request is told to who sent it:
    Gradio would print it, with all that was sent, on the server's terminal."""

    async def process_api(self, *given: Any, **named: Any) -> Any:
        try:
            return await super().process_api(*given, **named)
        except gr.Error:
            raise
        except Exception as error:
            message = f"the request cannot be answered ({type(error).__name__})"
            raise gr.Error(message, print_exception=False) from None

    async def preprocess_data(self, block_fn: Any, inputs: Any, *more: Any, **named: Any) -> Any:
        for path in _paths_in(inputs):
            if "://" in path.lstrip()[:20]:
                message = f"{path}: an address, not a file; download it, then send the file"
            elif not Path(abspath(path)).is_relative_to(abspath(self.GRADIO_CACHE)):
                message = f"{path}: no file that was uploaded here; {FILE_EXPECTED}"
            else:
                continue
            raise gr.Error(html.escape(one_line(message), quote=False), print_exception=False)
        # Programs may leave out what comes last.
        left_out = [None] * (len(block_fn.inputs) - len(inputs))
        try:
            return await super().preprocess_data(block_fn, [*inputs, *left_out], *more, **named)
        except ValidationError:
            raise gr.Error(f"no file; {FILE_EXPECTED}", print_exception=False) from None


def _paths_in(values: Any) -> Iterator[str]:
    """Whatever stands where a file's path should, however deep."""
    if isinstance(values, dict):
        path = values.get("path")
        if isinstance(path, str):
            yield path
        values = list(values.values())
    if isinstance(values, list | tuple):
        for value in values:
            yield from _paths_in(value)


def page(workroom: Workroom, sessions: Sessions) -> Any:
    """Gradio's `Blocks` of a server, not launched yet."""
    handlers = Handlers(workroom, sessions)
    with Page(title="passionsr", analytics_enabled=False) as blocks:
        gr.Markdown("# passionsr\nDrop photographs, and see them four times as large.")
        with gr.Row():
            with gr.Column(scale=2, min_width=300):
                asked = _asked(workroom)
            with gr.Column(scale=3, min_width=300):
                results = _results()
        _connect(blocks, handlers, asked, results)
        _api(handlers)
    blocks.queue(max_size=workroom.limits.queue, api_open=False)
    return blocks


def _asked(workroom: Workroom) -> dict[str, Any]:
    """Inputs: photographs, a model, settings."""
    photographs = gr.File(
        label=f"Photographs, of at most {workroom.limits.max_megapixels:g} megapixels",
        file_count="multiple",
        file_types=["image", *IMAGE_SUFFIXES],
        height=180,
    )
    known, first = choices(), workroom.default_name()
    small = "checkpoints, such as w8a8, are small and fast models"
    model = gr.Dropdown(list(known), value=first, label="Model or checkpoint", info=small)
    about = "0 is faithful, 1 invents believable detail"
    realism = gr.Slider(0, 1, known[first].realism, step=0.01, label="Realism", info=about)
    with gr.Row():
        scale = gr.Dropdown([("×2", 2), ("×3", 3), ("×4", 4)], value=4, label="Size", min_width=100)
        form = gr.Dropdown(list(FORMATS), value="png", label="Format", min_width=100)
    with gr.Row():
        start = gr.Button("Upscale", variant="primary", min_width=100)
        stop = gr.Button("Stop", min_width=80)
    return {
        "settings": [photographs, model, realism, scale, form],
        "start": start,
        "stop": stop,
    }


def _results() -> dict[str, Any]:
    """Outputs: files to take away, before and after."""
    files = gr.File(label="Results", file_count="multiple", interactive=False, height=130)
    shown = gr.Dropdown(label="Shown", visible=False)
    with gr.Tab(ENTIRE):
        entire = gr.ImageSlider(label="Before and after", interactive=False, buttons=["fullscreen"])
    with gr.Tab(LOOK):
        place = gr.ImageSlider(label="Before and after", interactive=False, buttons=["fullscreen"])
        with gr.Row():
            across = gr.Slider(0, 100, MIDDLE, step=1, label="From the left, %", min_width=120)
            down = gr.Slider(0, 100, MIDDLE, step=1, label="From the top, %", min_width=120)
    return {
        "files": files,
        "shown": shown,
        "entire": entire,
        "place": place,
        "across": across,
        "down": down,
    }


def _connect(
    blocks: Any, handlers: Handlers, asked: dict[str, Any], results: dict[str, Any]
) -> None:
    """Events: something is pressed, chosen, moved or closed."""
    _, model, realism, *_ = asked["settings"]
    views = [results[name] for name in ("entire", "place", "across", "down")]
    clock = gr.Number(visible=False)
    # What was calibrated since the server began is in the list of a page that is loaded anew.
    blocks.load(handlers.opened, None, model, **AT_ONCE)
    model.change(handlers.dial, model, realism, **AT_ONCE)
    asked["start"].click(
        handlers.upscale_all,
        [*asked["settings"], clock],
        [results["files"], results["shown"], *views],
        show_progress_on=results["files"],
        scroll_to_output=True,
        js="(...values) => [...values.slice(0, -1), performance.now()]",
        **MODEL,
        **RAW,
    )
    asked["stop"].click(handlers.stop, clock, None, js="() => performance.now()", **AT_ONCE)
    results["shown"].input(handlers.show, results["shown"], views, **VIEWS, **RAW)
    for slider in (results["across"], results["down"]):
        where = [results["shown"], results["across"], results["down"]]
        # Typed numbers, too, which release nothing; of a drag the last place alone.
        slider.input(
            handlers.look, where, results["place"], trigger_mode="always_last", **VIEWS, **RAW
        )
    blocks.unload(handlers.leave)


def _api(handlers: Handlers) -> None:
    """The endpoint /upscale; its components say what it takes and gives, and are not seen."""
    with gr.Column(visible=False):
        photo, result = gr.File(label="photo"), gr.File(label="result")
        model = gr.Textbox(label="model or checkpoint", value=None)
        realism, scale = gr.Number(label="realism, 0 to 1"), gr.Number(label="scale, 1 to 8")
        form = gr.Textbox(label=f"format: {', '.join(FORMATS)}", value=None)
        gr.Button().click(
            handlers.upscale_one,
            [photo, model, realism, scale, form],
            result,
            preprocess=False,
            api_name="upscale",
            **MODEL,
        )
