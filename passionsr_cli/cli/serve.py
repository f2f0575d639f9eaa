"""passionsr serve"""

from __future__ import annotations

from typing import Annotated

import typer

from passionsr_cli.cli.options import BackendOption, DeviceOption, PrecisionOption, given
from passionsr_cli.terminal.console import command


@command
def serve(
    host: Annotated[
        str | None,
        typer.Option(
            metavar="ADDRESS",
            help="0.0.0.0 lets others in the network in. Default: this machine alone.",
        ),
    ] = None,
    name: Annotated[
        list[str] | None, typer.Option(metavar="NAME", help="Answer to it alone; may be repeated.")
    ] = None,
    port: Annotated[
        int | None, typer.Option(metavar="N", help="Default: the first free one from 7860.")
    ] = None,
    max_megapixels: Annotated[
        float | None, typer.Option(metavar="MP", help="Of a photograph. Default: 16.")
    ] = None,
    queue: Annotated[
        int | None, typer.Option(metavar="N", help="Requests that may wait. Default: 20.")
    ] = None,
    device: DeviceOption = None,
    precision: PrecisionOption = None,
    backend: BackendOption = None,
) -> None:
    """Upscale in a browser and over HTTP.

    It works without a network, and removes what was uploaded and made when it ends.

    \b
    passionsr serve
    passionsr serve --port 8000 --max-megapixels 4
    passionsr serve --host 0.0.0.0 --queue 5
    """
    from passionsr_cli.layering import settings_from
    from passionsr_cli.serving.settings import ServeSettings

    settings = settings_from(None, ServeSettings, given(locals(), ServeSettings))

    from passionsr_cli.serving.server import serve as run
    from passionsr_cli.terminal.progress import Lines

    run(settings, Lines())
