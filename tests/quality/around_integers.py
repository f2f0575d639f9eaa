"""What bf16 around integers costs and brings, a component at a time.

    PASSIONSR_REALSR=DIR python tests/quality/around_integers.py [CHECKPOINT [EVERY]]

Ten RealSR photographs by OpenVINO's integers with these components in bf16 and the others in
float32: PSNR to torch's definition and to full precision, means of the photographs, and seconds a
photograph, medians of turns.
"""

from __future__ import annotations

import math
import statistics
import sys
import time

import numpy as np
from measuring import photographs

from passionsr_cli.checkpoints.artifacts import Artifact, resolve
from passionsr_cli.config import UpscaleSettings
from passionsr_cli.graphs.graph_cache import GraphCache
from passionsr_cli.imaging.files import read_picture
from passionsr_cli.inference.openvino_executor import OpenVINOExecutor
from passionsr_cli.models.components import DECODER, ENCODER, UNET
from passionsr_cli.pixels.arrays import Array
from passionsr_cli.progress import SILENT
from passionsr_cli.registry import EMBEDDED_CHECKPOINT
from passionsr_cli.system.paths import cache_folder
from passionsr_cli.tiling.upscaler import TiledUpscaler
from passionsr_cli.upscaling.images import open_upscaler

TURNS = 3
FORMS = ((), (UNET,), (UNET, DECODER), (ENCODER, UNET, DECODER))


class _Mixed(OpenVINOExecutor):
    """Components in bf16, and the others in float32."""

    in_bf16: tuple[str, ...] = ()

    def _precision_of(self, component: str) -> str:
        return "bf16" if component in self.in_bf16 else "fp32"


def _mixed(artifact: Artifact, in_bf16: tuple[str, ...]) -> TiledUpscaler:
    graphs = GraphCache(cache_folder() / "around-integers", artifact.load, SILENT)
    executor = _Mixed(artifact.description, graphs, "fp32", quantized=True)
    executor.in_bf16 = in_bf16
    return TiledUpscaler(executor)


def _psnr(images: list[Array], others: list[Array]) -> float:
    pairs = zip(images, others, strict=True)
    errors = [float(np.square(one - other).mean()) for one, other in pairs]
    return statistics.mean(-10 * math.log10(error) for error in errors)


def main(checkpoint: str = EMBEDDED_CHECKPOINT, every: str = "10") -> None:
    images = [read_picture(str(path)).rgb for path in photographs(int(every))]
    wanted = []
    for name in (checkpoint, "none"):
        exact = UpscaleSettings(backend="torch", checkpoint=name, precision="fp32")
        upscaler = open_upscaler(exact)
        wanted.append([upscaler.upscale(image).rgb for image in images])
    definition, full = wanted
    print(f"the definition: {_psnr(definition, full):.2f} dB to full precision")
    forms = {form: _mixed(resolve(checkpoint), form) for form in FORMS}
    seconds: dict[tuple[str, ...], list[float]] = {form: [] for form in FORMS}
    for turn in range(TURNS + 1):
        for form, upscaler in forms.items():
            started = time.perf_counter()
            found = [upscaler.upscale(image).rgb for image in images]
            seconds[form].append((time.perf_counter() - started) / len(images))
            if turn == TURNS:
                print(
                    f"bf16 in {', '.join(form) or 'nothing'}: {_psnr(found, definition):.2f} dB to "
                    f"the definition, {_psnr(found, full):.2f} to full precision, "
                    f"{statistics.median(seconds[form][1:]):.3f} s"
                )


if __name__ == "__main__":
    main(*sys.argv[1:])
