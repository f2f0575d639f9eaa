from __future__ import annotations

import pytest
import torch

from passionsr_cli.errors import ConfigError
from passionsr_cli.metrics.catalogue import PROTOCOLS, WeightsFile, metrics_of


def test_protocols_differ_in_maniqa_and_fid() -> None:
    osediff, passionsr = (
        {metric.key: metric.pyiqa_name for metric in PROTOCOLS[name]}
        for name in ("osediff", "passionsr")
    )
    assert (osediff["maniqa"], passionsr["maniqa"]) == ("maniqa-pipal", "maniqa")
    assert osediff["fid"] == "fid"
    assert "fid" not in passionsr


def test_weights_are_those_pyiqa_would_download() -> None:
    from pyiqa.archs import clip_model, inception
    from pyiqa.archs.dists_arch import default_model_urls as dists
    from pyiqa.archs.lpips_arch import default_model_urls as lpips
    from pyiqa.archs.maniqa_arch import default_model_urls as maniqa
    from pyiqa.archs.musiq_arch import default_model_urls as musiq
    from pyiqa.archs.niqe_arch import default_model_urls as niqe
    from torchvision.models import AlexNet_Weights, VGG16_Weights

    def urls(protocol: str, key: str) -> list[str]:
        (metric,) = metrics_of(protocol, [key])  # type: ignore[arg-type]
        return [file.url for file in metric.weights]

    alexnet, vgg16 = AlexNet_Weights.IMAGENET1K_V1.url, VGG16_Weights.IMAGENET1K_V1.url
    assert urls("osediff", "lpips") == [lpips["0.1_alex"], alexnet]
    assert urls("osediff", "dists") == [dists["url"], vgg16]
    assert urls("osediff", "niqe") == [niqe["niqe"]]
    assert urls("osediff", "musiq") == [musiq["koniq10k"]]
    assert urls("osediff", "maniqa") == [maniqa["pipal"]]
    assert urls("passionsr", "maniqa") == [maniqa["koniq"]]
    assert urls("osediff", "clipiqa") == [clip_model._MODELS["RN50"]]
    assert urls("osediff", "fid") == [inception.FID_WEIGHTS_URL]


def test_the_least_sizes_are_those_that_can_be_computed() -> None:
    from pyiqa.archs.ssim_arch import ssim
    from torchvision.models import alexnet

    def of_ssim(side: int) -> None:
        ssim(torch.ones(1, 1, side, side), torch.ones(1, 1, side, side))

    def of_lpips(side: int) -> None:
        alexnet().features[:12](torch.ones(1, 3, side, side))

    for key, compute in (("ssim", of_ssim), ("lpips", of_lpips)):
        (metric,) = metrics_of("osediff", [key])
        compute(metric.least_px)
        with pytest.raises(RuntimeError):
            compute(metric.least_px - 1)


def test_a_metric_the_protocol_does_not_have_is_refused() -> None:
    with pytest.raises(ConfigError, match="has no metric 'fid'; known are psnr"):
        metrics_of("passionsr", ["psnr", "fid"])


def test_a_file_is_called_as_its_url_ends() -> None:
    assert WeightsFile("pyiqa", "https://x.org/a/b-12345678.pth").name == "b-12345678.pth"
