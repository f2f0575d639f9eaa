"""Products of codes beside cuDNN's and cuBLAS' in bf16, on an NVIDIA GPU, by sizes of blocks.

    python tests/quality/gpu_products.py

One line for each kind of layer of Stable Diffusion 2.1 at 512×512: microseconds and 10¹² operations
a second in bf16, of the three fastest of all blocks that `tuning` may choose among, and
microseconds of the quantizer alone and with a norm in it. A launch by launch measurement: below 25
microseconds it is the host's time.
"""

from __future__ import annotations

from functools import partial

import torch
import torch.nn.functional as F
import triton
from torch import Tensor
from triton.runtime.errors import OutOfResources

from passionsr_cli.triton_kernels import launching, tuning
from passionsr_cli.triton_kernels.launching import InputGrid, Normalization, Weight
from passionsr_cli.triton_kernels.tuning import Blocks, Launch

# Height, width, channels, outputs, taps a side.
SHAPES = (
    (512, 512, 128, 128, 3),
    (256, 256, 256, 256, 3),
    (128, 128, 512, 512, 3),
    (64, 64, 512, 512, 3),
    (64, 64, 320, 320, 3),
    (64, 64, 960, 320, 3),
    (32, 32, 640, 640, 3),
    (32, 32, 1920, 640, 3),
    (16, 16, 1280, 1280, 3),
    (16, 16, 2560, 1280, 3),
    (8, 8, 1280, 1280, 3),
    (1, 4096, 320, 2560, 1),
    (1, 1024, 640, 5120, 1),
    (1, 256, 1280, 10240, 1),
)
WARM_UP_MS, TIMED_MS = 3, 12


def microseconds(run: object) -> float:
    """The median of a function, its inputs not in the cache."""
    timed = triton.testing.do_bench(run, WARM_UP_MS, TIMED_MS, return_mode="median")
    return 1000 * float(timed)


def operands(shape: tuple[int, ...]) -> tuple[Tensor, Weight]:
    """Random codes with their border, and a weight."""
    height, width, channels, outputs, taps = shape
    border, device = taps // 2, "cuda"
    size = (1, height + 2 * border, width + 2 * border, channels)
    codes = torch.randint(-128, 128, size, dtype=torch.int8, device=device)
    weight = torch.randint(
        -127, 128, (outputs, taps**2 * channels), dtype=torch.int8, device=device
    )
    zero = torch.zeros(outputs, dtype=torch.int8, device=device)
    ones = torch.ones(outputs, device=device)
    return codes, Weight(weight, zero, zero.int(), ones / 1e4, 0 * ones, (taps, taps))


def product(codes: Tensor, weight: Weight, blocks: Blocks) -> Tensor:
    """The product with blocks that are given."""

    def launch_so(
        kernel: str, case: object, choices: object, device: torch.device, launch: Launch
    ) -> None:
        launch(blocks)

    launching.launch_fastest = launch_so
    return launching.multiply(codes, weight, (1, 1), torch.bfloat16)


def line(shape: tuple[int, ...]) -> str:
    """What one kind of layer takes."""
    height, width, channels, outputs, taps = shape
    tera = 2 * height * width * channels * outputs * taps**2 / 1e6
    image = torch.randn(1, height, width, channels, device="cuda", dtype=torch.bfloat16)
    kernel = torch.randn(outputs, taps, taps, channels, device="cuda", dtype=torch.bfloat16)
    if taps == 1:
        floating = microseconds(lambda: F.linear(image, kernel[:, 0, 0]))
    else:
        x, weights = image.permute(0, 3, 1, 2), kernel.permute(0, 3, 1, 2)
        floating = microseconds(lambda: F.conv2d(x, weights, padding=taps // 2))
    codes, weight = operands(shape)
    found = []
    for blocks in tuning.PRODUCTS_OF_MANY_ROWS + tuning.PRODUCTS_OF_FEW_ROWS:
        try:
            found.append((microseconds(partial(product, codes, weight, blocks)), blocks))
        except OutOfResources:
            continue
    ones, zeros = torch.ones(channels, device="cuda"), torch.zeros(channels, device="cuda")
    grid, border = InputGrid(ones, zeros, 0, -128, 127), (taps // 2, taps // 2)
    norm = Normalization(ones[None], zeros[None])
    quantizers = [
        microseconds(partial(launching.quantize, image, grid, border, within))
        for within in (None, norm)
    ]
    fastest = ", ".join(
        f"{time:.1f} ({tera / time:.0f}) {tuple(blocks)}" for time, blocks in sorted(found)[:3]
    )
    return (
        f"{shape}: bf16 {floating:.1f} ({tera / floating:.0f}); codes {fastest}; "
        f"quantizer {quantizers[0]:.1f}, with a norm {quantizers[1]:.1f}"
    )


if __name__ == "__main__":
    torch.backends.cudnn.benchmark = True
    print(torch.cuda.get_device_name(), torch.__version__, flush=True)
    for each in SHAPES:
        print(line(each), flush=True)
