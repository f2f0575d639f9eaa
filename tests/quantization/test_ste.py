from __future__ import annotations

import torch

from passionsr_cli.quantization.ste import round_through


def test_results_are_whole_and_the_gradient_is_the_identitys() -> None:
    x = (torch.randn(1000, generator=torch.manual_seed(0)) * 100).requires_grad_()
    rounded = round_through(x)
    assert torch.equal(rounded, x.round())
    (rounded * 3).sum().backward()
    assert torch.equal(x.grad, torch.full_like(x, 3))


def test_halves_go_to_the_even_neighbour() -> None:
    assert round_through(torch.tensor([0.5, 1.5, 2.5, -0.5])).tolist() == [0, 2, 2, 0]
