from __future__ import annotations

import torch

from passionsr_cli.models.one_step import OneStepModel
from passionsr_cli.retiming import adapters


def _attached(model: OneStepModel, rank: int) -> torch.nn.ParameterList:
    return adapters.attach(model, rank, lambda name: name.startswith("unet."))


@torch.no_grad()
def test_adapters_start_as_nothing_and_merge_into_what_they_were(tiny_model: OneStepModel) -> None:
    upscaled = torch.rand(1, 3, 32, 32)
    expected = tiny_model(upscaled)
    names = set(tiny_model.state_dict())
    learned = _attached(tiny_model, 2)
    torch.testing.assert_close(tiny_model(upscaled), expected)
    for parameter in learned:
        parameter.add_(0.1 * torch.randn_like(parameter))
    adapted = tiny_model(upscaled)
    assert not torch.allclose(adapted, expected, atol=1e-2)
    adapters.merge(tiny_model)
    torch.testing.assert_close(tiny_model(upscaled), adapted)
    assert set(tiny_model.state_dict()) == names


@torch.no_grad()
def test_updates_have_the_rank_and_stay_where_they_are_wanted(tiny_model: OneStepModel) -> None:
    before = {name: tensor.clone() for name, tensor in tiny_model.state_dict().items()}
    for parameter in _attached(tiny_model, 2):
        parameter.add_(torch.randn_like(parameter))
    adapters.merge(tiny_model)
    ranks = {}
    for name, tensor in tiny_model.state_dict().items():
        change = tensor - before[name]
        if bool(change.any()):
            ranks[name] = int(torch.linalg.matrix_rank(change.flatten(1), rtol=1e-4))
    assert "unet.conv_in.weight" in ranks
    assert "unet.time_embedding.linear_1.weight" in ranks
    assert all(name.startswith("unet.") for name in ranks)
    assert set(ranks.values()) == {2}
