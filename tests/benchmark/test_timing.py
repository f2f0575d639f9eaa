from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from passionsr_cli.benchmark.timing import repeat, run_tile
from passionsr_cli.errors import ModelError
from passionsr_cli.inference.torch_executor import TorchExecutor
from passionsr_cli.models import loading
from passionsr_cli.system.devices import open_device


def _runs(*seconds: float) -> Callable[[], float]:
    remaining = [*seconds, *[seconds[-1]] * 100]
    return lambda: remaining.pop(0)


@pytest.mark.parametrize(
    ("seconds", "repeats", "count"),
    [
        ((1.0,), None, 5),
        ((0.125,), None, 16),
        ((30.0,), None, 3),
        ((9.0,), None, 5),
        ((0.001,), 2, 2),
        ((30.0,), 4, 4),
        ((30.0,), 1, 1),
    ],
)
def test_slow_rows_are_repeated_less(
    seconds: tuple[float, ...], repeats: int | None, count: int
) -> None:
    assert len(repeat(_runs(*seconds), repeats)) == count


def test_the_warm_up_does_not_count() -> None:
    assert repeat(_runs(9.0, 1.0), 3) == [1.0] * 3


def test_both_layouts_are_what_they_say_and_agree(tiny_folder: Path) -> None:
    image, results = torch.rand(1, 3, 32, 32).numpy(), []
    for layout in (torch.contiguous_format, torch.channels_last):
        model = loading.load(str(tiny_folder))
        strides: set[bool] = set()

        def look(layer, inputs, output, strides=strides, layout=layout):  # type: ignore[no-untyped-def]
            for tensor in (layer.weight, output):
                strides.add(tensor.is_contiguous(memory_format=layout))

        for layer in model.modules():
            if isinstance(layer, nn.Conv2d) and layer.kernel_size == (3, 3):
                layer.register_forward_hook(look)
        executor = TorchExecutor(model, open_device("cpu", "fp32"), layout)
        results.append(executor.decode(executor.restore_latent(image)))
        assert strides == {True}
    assert np.allclose(*results, atol=1e-4)


def test_an_image_that_is_not_finite_is_no_result(tiny_folder: Path) -> None:
    model = loading.load(str(tiny_folder))
    nn.init.constant_(model.context, torch.nan)
    executor = TorchExecutor(model, open_device("cpu", "fp32"))
    with pytest.raises(ModelError, match="not finite"):
        run_tile(executor, np.ones((1, 3, 32, 32), np.float32))
