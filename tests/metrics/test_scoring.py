from __future__ import annotations

import sys
import threading
from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyiqa
import pytest
import scipy.io
import timm
import torch
from pyiqa.utils import download_util

from passionsr_cli.errors import ConfigError, MetricError
from passionsr_cli.metrics.catalogue import PROTOCOLS, Metric
from passionsr_cli.metrics.scoring import Scorer
from passionsr_cli.metrics.weights import WeightsFinder

METRICS = {metric.key: metric for metric in PROTOCOLS["osediff"]}
Array = npt.NDArray[np.float64]


def _pair(side: int = 64) -> tuple[torch.Tensor, torch.Tensor]:
    draw = torch.Generator().manual_seed(0)
    reference = torch.randint(0, 256, (3, side, side), generator=draw)
    noise = torch.randint(-20, 21, (3, side, side), generator=draw)
    return (reference + noise).clamp(0, 255) / 255, reference / 255


def _luma(image: torch.Tensor) -> Array:
    """Y of YCbCr in [16, 235], ITU-R BT.601, in float64."""
    r, g, b = image.double().numpy()
    return np.asarray(65.481 * r + 128.553 * g + 24.966 * b + 16)


def test_psnr_is_that_of_the_luma() -> None:
    image, reference = _pair()
    error = np.mean(((_luma(image) - _luma(reference)) / 255) ** 2)
    # pyiqa adds 1e-8 to the error.
    expected = 10 * np.log10(1 / (error + 1e-8))
    found = Scorer(METRICS["psnr"], {}).score(image, reference)
    assert found == pytest.approx(expected, abs=1e-4)


def test_ssim_is_that_of_the_rounded_luma() -> None:
    """Wang et al., 2004, equation 13, with its 11×11 Gaussian window."""
    image, reference = _pair()
    x, y = np.round(_luma(image)), np.round(_luma(reference))
    line = np.exp(-((np.arange(11) - 5) ** 2) / (2 * 1.5**2))
    window = np.outer(line, line) / np.outer(line, line).sum()

    def mean(values: Array) -> Array:
        blocks = np.lib.stride_tricks.sliding_window_view(values, (11, 11))
        return np.asarray((blocks * window).sum((-1, -2)))

    mx, my = mean(x), mean(y)
    vx, vy, vxy = mean(x * x) - mx**2, mean(y * y) - my**2, mean(x * y) - mx * my
    c1, c2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2
    contrast = np.maximum((2 * vxy + c2) / (vx + vy + c2), 0)
    expected = np.mean((2 * mx * my + c1) / (mx**2 + my**2 + c1) * contrast)
    found = Scorer(METRICS["ssim"], {}).score(image, reference)
    assert found == pytest.approx(expected, abs=1e-6)


def test_niqe_is_pyiqas_own_to_the_last_bit(niqe_folder: Path) -> None:
    image, _ = _pair(192)
    files = WeightsFinder(niqe_folder).find(METRICS["niqe"])
    own = pyiqa.create_metric(
        "niqe", pretrained_model_path=str(niqe_folder / "niqe_modelparameters.mat"), device="cpu"
    )
    assert Scorer(METRICS["niqe"], files).score(image) == float(own(image.unsqueeze(0)))


def test_the_fingerprint_follows_the_weights(niqe_folder: Path) -> None:
    files = WeightsFinder(niqe_folder).find(METRICS["niqe"])
    one, again = Scorer(METRICS["niqe"], files), Scorer(METRICS["niqe"], files)
    assert one.fingerprint == again.fingerprint
    path = niqe_folder / "niqe_modelparameters.mat"
    values = scipy.io.loadmat(path)
    values["mu_prisparam"] += 1
    scipy.io.savemat(path, {key: values[key] for key in ("mu_prisparam", "cov_prisparam")})
    assert Scorer(METRICS["niqe"], files).fingerprint != one.fingerprint


def test_no_number_is_an_error(niqe_folder: Path) -> None:
    files = WeightsFinder(niqe_folder).find(METRICS["niqe"])
    with pytest.raises(MetricError, match=r"NIQE (failed|gave)"):
        Scorer(METRICS["niqe"], files).score(torch.full((3, 192, 192), 0.5))
    with pytest.raises(MetricError, match=r"NIQE (failed|gave)"):
        Scorer(METRICS["niqe"], files).score(_pair(64)[0])


def test_weights_that_do_not_fit_are_an_error(niqe_folder: Path) -> None:
    (niqe_folder / "niqe_modelparameters.mat").write_bytes(b"no matrix")
    files = WeightsFinder(niqe_folder).find(METRICS["niqe"])
    with pytest.raises(MetricError, match="NIQE cannot be set up"):
        Scorer(METRICS["niqe"], files)


@pytest.mark.parametrize(
    ("metric", "message"),
    [
        (Metric("psnr", "PSNR", "pnsr"), "pyiqa has no metric 'pnsr'; did you mean 'psnr'"),
        (Metric("lite2", "Lite2", None), "no metric of our own is 'lite2'; did you mean 'lite1'"),
    ],
)
def test_a_metric_that_does_not_exist_is_no_lack_of_weights(metric: Metric, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Scorer(metric, {})


def test_local_weights_reach_networks_and_their_backbones(
    random_lpips: Callable[[Path], Metric], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """LPIPS needs two files; both are taken from the folder, and nothing is downloaded. Results are
    printed where pyiqa would say what it loads."""
    unchecked = random_lpips(tmp_path)
    scorer = Scorer(unchecked, WeightsFinder(tmp_path).find(unchecked))
    image, reference = _pair()
    assert scorer.score(image, reference) > 0
    assert scorer.score(image, image) == 0
    assert capsys.readouterr().out == ""


def test_metrics_built_in_two_threads_leave_the_process_as_it_was(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Each looks for weights in a folder of its own, which is the whole process's."""
    first, second, out = threading.Event(), threading.Event(), sys.stdout
    seen: list[object] = []

    def create(name: str, **options: object) -> None:
        seen.append(sys.stdout)
        if not first.is_set():
            first.set()
            seen.append(second.wait(0.2))
        else:
            second.set()

    def hub() -> tuple[object, ...]:
        return torch.hub.get_dir(), download_util.DEFAULT_CACHE_DIR, timm.create_model

    before = hub()
    monkeypatch.setattr(pyiqa, "create_metric", create)
    threads = [threading.Thread(target=Scorer, args=(METRICS["psnr"], {})) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert hub() == before
    # What others print meanwhile is theirs, and the second waited for the first.
    assert seen == [out, False, out]
