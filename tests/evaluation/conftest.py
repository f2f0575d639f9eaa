"""Parameters for NIQE that anybody can make: the published ones may not be here."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import scipy.io


@pytest.fixture
def niqe_folder(tmp_path: Path) -> Path:
    folder = tmp_path / "weights"
    folder.mkdir()
    draw = np.random.default_rng(0)
    some = draw.normal(size=(200, 36)) + 1
    values = {"mu_prisparam": some.mean(0, keepdims=True), "cov_prisparam": np.cov(some.T)}
    scipy.io.savemat(folder / "niqe_modelparameters.mat", values)
    return folder
