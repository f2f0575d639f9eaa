"""Kernels run in Triton's interpreter, or with TRITON_INTERPRET=0 on a GPU: the same tests."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import pytest
import torch


class _First:
    """Takes the first blocks: to compile and time all of them for every odd shape takes minutes."""

    def choose(self, kernel: str, case: Sequence[int], choices: Sequence[Any], launch: Any) -> Any:
        return choices[0]


@pytest.fixture(autouse=True)
def device(monkeypatch: pytest.MonkeyPatch) -> Iterator[torch.device]:
    """Tensors of a test are where its kernels run."""
    triton = pytest.importorskip("triton", reason="Triton comes with torch for CUDA, on Linux")
    tuning = "passionsr_cli.triton_kernels.tuning._tuning_of"
    monkeypatch.setattr(tuning, lambda device: _First())
    device = torch.device("cpu" if triton.knobs.runtime.interpret else "cuda")
    with device:
        yield device
