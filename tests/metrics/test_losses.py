from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from passionsr_cli.errors import MetricError
from passionsr_cli.metrics import losses
from passionsr_cli.metrics.catalogue import Metric, metrics_of
from passionsr_cli.metrics.scoring import Scorer
from passionsr_cli.metrics.weights import WeightsFinder


def test_lpips_as_a_loss_is_the_metric_and_has_gradients(
    random_lpips: Callable[[Path], Metric], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    metric = random_lpips(tmp_path / "hub")
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path / "hub"))
    monkeypatch.setattr(losses, "metrics_of", lambda *wanted: (metric,))
    image, reference = torch.rand(3, 64, 64, requires_grad=True), torch.rand(3, 64, 64)
    loss = losses.lpips("cpu")(image[None], reference[None])
    loss.backward()
    scorer = Scorer(metric, WeightsFinder().find(metric))
    assert float(loss) == pytest.approx(scorer.score(image.detach(), reference), rel=1e-5)
    assert image.grad is not None
    assert float(image.grad.abs().sum()) > 0


def test_ssim_as_a_loss_is_the_metric(tmp_path: Path) -> None:
    (metric,) = metrics_of("passionsr", ["ssim"])
    scorer = Scorer(metric, {})
    # Of little contrast, where the metric's constants weigh.
    image, reference = (
        torch.rand(2, 3, 64, 64, generator=torch.manual_seed(n)) / 8 for n in (1, 2)
    )
    wanted = [scorer.score(*pair) for pair in zip(image, reference, strict=True)]
    found = losses.ssim_loss(image, reference)
    assert float(1 - found) == pytest.approx(sum(wanted) / 2, abs=2e-3)


def test_nothing_is_downloaded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path / "hub"))
    with pytest.raises(MetricError, match=r"LPIPS_v0\.1_alex-df73285e\.pth is not on this machine"):
        losses.lpips("cpu")
