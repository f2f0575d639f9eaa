"""passionsr score"""

from __future__ import annotations

import statistics
from pathlib import Path
from typing import Annotated

import typer

from passionsr_cli.cli.options import DeviceOption, JsonOption, MetricWeightsOption, of_metrics
from passionsr_cli.terminal.console import command, print_json, show_result


@command
def score(
    images: Annotated[
        Path, typer.Argument(metavar="SR", help="An upscaled image, or a folder of them.")
    ],
    photographs: Annotated[
        Path, typer.Argument(metavar="HR", help="The photograph, or the folder of photographs.")
    ],
    metrics: Annotated[
        str | None,
        of_metrics(
            metavar="NAME,NAME",
            help="{values}. Default: psnr, ssim, and lpips or lite1 where their weights are here.",
        ),
    ] = None,
    metric_weights: MetricWeightsOption = None,
    device: DeviceOption = None,
    as_json: JsonOption = False,
) -> None:
    """Compare finished images with their photographs.

    A line of numbers for each, then their means. In folders an image is called
    like its photograph, with or without _x4.

    \b
    passionsr score photo_x4.png original.png
    passionsr score results originals
    passionsr score results originals --metrics psnr,niqe --json
    """
    from passionsr_cli.config import listed
    from passionsr_cli.metrics.catalogue import metrics_of

    names = listed(metrics)
    if isinstance(names, list):
        metrics_of("osediff", names)

    from passionsr_cli.evaluation import scores
    from passionsr_cli.terminal.progress import CurrentBar

    with CurrentBar() as bar:
        found = scores.score(
            images,
            photographs,
            names if isinstance(names, list) else None,
            metric_weights,
            device or "auto",
            bar,
        )
    means = {key: statistics.fmean(each.scores[key] for each in found) for key in found[0].scores}
    if as_json:
        images_found = [{"image": each.image, **each.scores} for each in found]
        print_json({"images": images_found, "means": means})
        return
    for each in found:
        show_result(str(each))
    if len(found) > 1:
        show_result(str(scores.ImageScores(f"mean of {len(found)}", means)))
