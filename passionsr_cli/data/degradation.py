"""Degrade a sharp photograph to the low-resolution image a camera or a website would give.

Blur of several kinds, resizing by several filters, sensor noise and JPEG, once or twice, after
the idea of Real-ESRGAN (arXiv 2107.10833, section 3), but mild enough for real cameras.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Generator, Tensor

from passionsr_cli.config import DegradationSettings, Range

KERNEL_RADIUS_PX = 7
# Which blurs nothing.
SMALLEST_SIGMA_PX = 1e-3
# Of a motion's line: a narrower one meets no pixel but the middle one.
SMALLEST_LINE_PX = 0.3
RESIZE_FILTERS = ("bicubic", "bilinear", "area")


def degrade(hr: Tensor, factor: int, settings: DegradationSettings, generator: Generator) -> Tensor:
    """An LR version of one HR photograph, reproducible from the generator's state.

    `hr` is (3, H, W) in [0, 1] with sides divisible by `factor`; the result is
    (3, H/factor, W/factor), quantized to 8 bits as any file would be.
    """
    image = hr.unsqueeze(0)
    size = (hr.shape[-2] // factor, hr.shape[-1] // factor)
    if _chance(settings.blur_probability, generator):
        image = blur(image, random_kernel(settings, settings.blur_sigma_px, generator))
    if _chance(settings.second_order_probability, generator):
        scale = _uniform(settings.intermediate_scale, generator)
        between = (
            max(size[0], round(hr.shape[-2] * scale)),
            max(size[1], round(hr.shape[-1] * scale)),
        )
        image = resize(image, between, generator)
        image = _camera(image, settings, generator)
        image = blur(image, random_kernel(settings, settings.second_blur_sigma_px, generator))
    image = resize(image, size, generator)
    image = _camera(image, settings, generator)
    return ((image * 255).round().clamp(0, 255) / 255).squeeze(0)


def _camera(image: Tensor, settings: DegradationSettings, generator: Generator) -> Tensor:
    """Sensor noise, sharpening, then JPEG, each with its probability."""
    if _chance(settings.noise_probability, generator):
        image = add_sensor_noise(
            image,
            shot=_uniform(settings.shot_noise, generator),
            read=_uniform(settings.read_noise, generator),
            grey=_chance(settings.grey_noise_probability, generator),
            generator=generator,
        )
    # What nobody asks for draws no numbers.
    if settings.sharpening_probability and _chance(settings.sharpening_probability, generator):
        sigma = _uniform(settings.sharpening_sigma_px, generator)
        image = sharpen(image, _uniform(settings.sharpening, generator), sigma)
    if _chance(settings.jpeg_probability, generator):
        low, high = sorted(settings.jpeg_quality)
        quality = int(torch.randint(low, high + 1, (), generator=generator))
        image = compress_jpeg(image, quality)
    return image


def blur(image: Tensor, kernel: Tensor) -> Tensor:
    """`image` (B, C, H, W) convolved with one (n, n) kernel, replicated at the border."""
    radius = kernel.shape[-1] // 2
    batch, channels, height, width = image.shape
    planes = image.reshape(batch * channels, 1, height, width)
    padded = F.pad(planes, (radius,) * 4, mode="replicate")
    return F.conv2d(padded, kernel[None, None]).reshape(image.shape)


def resize(image: Tensor, size: tuple[int, int], generator: Generator) -> Tensor:
    """`image` resized to (height, width) by one of the filters that software uses."""
    name = RESIZE_FILTERS[int(torch.randint(len(RESIZE_FILTERS), (), generator=generator))]
    if name == "area":
        return F.interpolate(image, size, mode="area")
    return F.interpolate(image, size, mode=name, antialias=True, align_corners=False)


def add_sensor_noise(
    image: Tensor, shot: float, read: float, grey: bool, generator: Generator
) -> Tensor:
    """Gaussian noise of variance `shot`·x + `read`², the usual model of a sensor."""
    shape = (image.shape[0], 1 if grey else image.shape[1], *image.shape[2:])
    noise = torch.randn(shape, generator=generator)
    deviation = (shot * image.clamp(0, 1) + read**2).sqrt()
    return image + deviation * noise


def sharpen(image: Tensor, amount: float, sigma_px: float) -> Tensor:
    """`image` (B, C, H, W) and `amount` of its difference to itself blurred by a Gaussian, clipped
    to [0, 1]."""
    from torchvision.transforms.functional import gaussian_blur

    blurred: Tensor = gaussian_blur(image, [2 * math.ceil(3 * sigma_px) + 1] * 2, [sigma_px] * 2)
    return (image + amount * (image - blurred)).clamp(0, 1)


def compress_jpeg(image: Tensor, quality: int) -> Tensor:
    """`image` (1, 3, H, W) through an 8-bit JPEG file of the given quality."""
    from torchvision.io import decode_jpeg, encode_jpeg

    pixels = (image[0] * 255).round().clamp(0, 255).to(torch.uint8)
    decoded: Tensor = decode_jpeg(encode_jpeg(pixels, quality))
    return decoded.unsqueeze(0).float() / 255


def random_kernel(settings: DegradationSettings, sigma_px: Range, generator: Generator) -> Tensor:
    """A normalised (15, 15) blur kernel of a random kind, width and direction."""
    names = list(settings.kernel_kinds)
    weights = torch.tensor([settings.kernel_kinds[name] for name in names])
    kind = names[int(torch.multinomial(weights, 1, generator=generator))]
    low, high = (max(sigma, SMALLEST_SIGMA_PX) for sigma in sigma_px)
    across, along = _uniform((low, high), generator), _uniform((low, high), generator)
    angle = _uniform((0.0, math.pi), generator)
    if kind == "isotropic":
        along = across
    if kind == "motion":
        across = min(max(low, SMALLEST_LINE_PX), along)
    axis = torch.arange(-KERNEL_RADIUS_PX, KERNEL_RADIUS_PX + 1, dtype=torch.float32)
    y, x = torch.meshgrid(axis, axis, indexing="ij")
    u = (x * math.cos(angle) + y * math.sin(angle)) / along
    v = (y * math.cos(angle) - x * math.sin(angle)) / across
    distance = u**2 + v**2
    if kind == "generalized":
        kernel = torch.exp(-0.5 * distance ** _uniform((0.6, 2.0), generator))
    elif kind == "plateau":
        kernel = 1 / (1 + distance ** _uniform((1.0, 2.0), generator))
    elif kind == "disk":
        # A lens out of focus: a disk whose edge is one pixel soft.
        radius = 2 * across
        kernel = ((radius + 0.5) - (x**2 + y**2).sqrt()).clamp(0, 1)
    else:
        kernel = torch.exp(-0.5 * distance)
    return kernel / kernel.sum()


def _uniform(bounds: Range, generator: Generator) -> float:
    low, high = bounds
    return low + (high - low) * float(torch.rand((), generator=generator))


def _chance(probability: float, generator: Generator) -> bool:
    return float(torch.rand((), generator=generator)) < probability
