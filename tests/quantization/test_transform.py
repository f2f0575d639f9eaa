from __future__ import annotations

import pytest
import torch

from passionsr_cli.quantization.transform import ChannelTransform, Split, extent


def _codes(x: torch.Tensor, lower: float, upper: float, levels: int) -> tuple[torch.Tensor, float]:
    step = (upper - lower) / levels
    zero = -torch.round(torch.tensor(lower / step, dtype=torch.float64))
    return (torch.round(x / step) + zero).clamp(0, levels), step


@pytest.mark.parametrize("shifts", [False, True])
def test_two_grids_fold_into_one(shifts: bool) -> None:
    """Part 1 on its own grid has the integers that (X̃₁ − d)/r has on part 0's grid."""
    levels = 63
    second = torch.randn(5000, generator=torch.manual_seed(0), dtype=torch.float64).clamp(-0.9, 2.6)
    bounds0 = (-1.0, 5.3)
    # Without a shift both zero points must be the same.
    bounds1 = (-0.9, 2.6) if shifts else (-0.5, 2.65)
    split = Split(3, shifts)
    tensors = [
        tuple(torch.tensor(v, dtype=torch.float64) for v in pair) for pair in (bounds0, bounds1)
    ]
    ratio, offset, (lower, upper) = split.fold(*tensors)  # type: ignore[arg-type]
    assert (float(lower), float(upper)) == pytest.approx(bounds0)
    own, step1 = _codes(second, *bounds1, levels)
    folded, step0 = _codes((second - (0 if offset is None else offset)) / ratio, *bounds0, levels)
    assert float(ratio) == pytest.approx(step1 / step0)
    # The shift is exact in real numbers; zero points are whole, so codes may differ by one.
    assert (own - folded).abs().max() <= (1 if shifts else 0)
    if shifts:
        zero0, zero1 = -bounds0[0] / step0, -bounds1[0] / step1
        assert offset is not None
        assert float(offset) == pytest.approx(step1 * (zero0 - zero1))


def test_without_a_shift_one_grid_covers_both_parts() -> None:
    split = Split(1, False)
    tensors = [tuple(map(torch.tensor, pair)) for pair in ((-1.0, 3.0), (-30.0, 10.0))]
    ratio, offset, (lower, upper) = split.fold(*tensors)  # type: ignore[arg-type]
    assert offset is None
    assert float(lower * ratio) <= -30
    assert float(upper * ratio) >= 10
    assert float(lower) <= -1
    assert float(upper) >= 3


@pytest.mark.parametrize("second", [(0.0, 1.0), (-3.0, 0.5), (-0.2, 0.1)])
def test_a_symmetric_grid_suits_both_parts(second: tuple[float, float]) -> None:
    """Its steps are those of a grid of each part's own."""
    first = (-1.0, 0.6)
    ratio, _, bounds = Split(1, False, symmetric=True).fold(
        *((torch.tensor(low), torch.tensor(high)) for low, high in (first, second))
    )
    common = float(extent(bounds))
    assert common == pytest.approx(1.0)
    assert common * float(ratio) == pytest.approx(max(-second[0], second[1]))


def test_a_split_changes_its_second_part_only() -> None:
    split = Split(2, True)
    split.start((torch.tensor(-1.0), torch.tensor(1.0)), (torch.tensor(-2.0), torch.tensor(6.0)))
    scale, shift = torch.tensor([1.0, 2.0, 3.0]), torch.tensor([0.1, 0.2, 0.3])
    folded_scale, folded_shift = split.folded(scale, shift)
    assert folded_shift is not None
    torch.testing.assert_close(folded_scale, torch.tensor([1.0, 2.0, 12.0]))
    # d = l₁ − r l₀ = −2 + 4
    torch.testing.assert_close(folded_shift, torch.tensor([0.1, 0.2, 0.3 + 3 * 2.0]))


def test_scales_start_from_both_sides() -> None:
    transform = ChannelTransform(3, True)
    activation, weight = torch.tensor([1.0, 8.0, 0.0]), torch.tensor([1.0, 0.5, 2.0])
    transform.start(activation, weight, 0.5)
    assert transform.scale()[:2].tolist() == pytest.approx([1.0, 4.0])
    assert bool(transform.scale().isfinite().all())
    shift = transform.shift()
    assert shift is not None
    assert shift.tolist() == [0, 0, 0]
