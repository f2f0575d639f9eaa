from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from passionsr_cli.metrics.catalogue import Metric, metrics_of


@pytest.fixture
def random_lpips() -> Callable[[Path], Metric]:
    """Writes weights of LPIPS that nobody trained into a folder, and gives the metric of them."""

    def write(folder: Path) -> Metric:
        from torchvision.models import alexnet

        torch.manual_seed(0)
        backbone = alexnet(weights=None)
        (metric,) = metrics_of("osediff", ["lpips"])
        own, alex = metric.weights
        for file in (own, alex):
            (folder / file.folder).mkdir(parents=True, exist_ok=True)
        torch.save(backbone.state_dict(), folder / alex.folder / alex.name)
        lines = {
            f"lin{number}.model.1.weight": torch.rand(1, width, 1, 1)
            for number, width in enumerate((64, 192, 384, 256, 256))
        }
        torch.save(lines, folder / own.folder / own.name)
        # Whoever made these files did not make their names.
        return replace(metric, weights=(replace(own, sha256=""), replace(alex, sha256="")))

    return write
