from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from passionsr_cli.errors import ConfigError
from passionsr_cli.quantization.low_rank import LowRank, check_rank

SHAPES = [(6, 9), (9, 6), (5, 4, 3, 3)]


def _nearest(matrix: np.ndarray, rank: int) -> np.ndarray:
    """By numpy's singular value decomposition, in float64."""
    up, values, down = np.linalg.svd(matrix, full_matrices=False)
    result: np.ndarray = (up[:, :rank] * values[:rank]) @ down[:rank]
    return result


def _matrix(shape: tuple[int, ...]) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("rank", [1, 3])
def test_the_nearest_matrix_of_a_rank_has_the_largest_singular_values(
    shape: tuple[int, ...], rank: int
) -> None:
    matrix, branch = _matrix(shape), LowRank(shape, rank)
    assert not branch.product().any()
    branch.start_nearest(matrix)
    flat = matrix.double().flatten(1).numpy()
    found = branch.product().detach().flatten(1).numpy()
    np.testing.assert_allclose(found, _nearest(flat, rank), atol=1e-5)


@pytest.mark.parametrize("shape", SHAPES)
def test_with_channel_scales_it_is_nearest_in_the_scaled_matrix(shape: tuple[int, ...]) -> None:
    matrix, branch = _matrix(shape), LowRank(shape, 2)
    scale = torch.logspace(-2, 1, shape[1])
    branch.start_nearest(matrix, scale)
    # Each input channel has as many columns as its kernel has places.
    columns = np.repeat(scale.double().numpy(), matrix[0, 0].numel())
    scaled = matrix.double().flatten(1).numpy() * columns
    found = branch.product().detach().flatten(1).numpy() * columns
    np.testing.assert_allclose(found, _nearest(scaled, 2), atol=1e-5 * np.abs(scaled).max())


def test_both_factors_are_learned_in_units_of_their_size() -> None:
    branch = LowRank((6, 9), 2)
    branch.start_nearest(1e-3 * _matrix((6, 9)))
    for factor in (branch.up, branch.down):
        assert float(factor.detach().square().mean()) == pytest.approx(1)


def test_at_zero_both_factors_can_learn() -> None:
    matrix, branch = _matrix((6, 9)), LowRank((6, 9), 2)
    branch.start_at_zero(matrix)
    assert not branch.product().any()
    (branch.product() - matrix).square().sum().backward()
    assert branch.up.grad is not None
    assert bool(branch.up.grad.any())
    # A step of `up` brings the product nearer to the matrix.
    with torch.no_grad():
        branch.up -= 1e-3 * branch.up.grad
    assert (branch.product() - matrix).norm() < matrix.norm()


@pytest.mark.parametrize("shape", [(8, 3, 3, 3), (3, 8), (27, 8, 1, 1)])
def test_a_rank_above_the_size_is_refused(shape: tuple[int, ...]) -> None:
    largest = int(np.linalg.matrix_rank(_matrix(shape).flatten(1).numpy()))
    check_rank(largest, shape, "unet.conv_in")
    with pytest.raises(ConfigError, match=f"rank {largest + 1} is too large for unet.conv_in"):
        check_rank(largest + 1, shape, "unet.conv_in")
