"""Losses against formulations of their own, in float64."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from accelerate import Accelerator
from skimage.metrics import structural_similarity
from torch import Tensor, nn

from passionsr_cli.imaging import samples
from passionsr_cli.training.discriminator import PatchDiscriminator, ProjectedDiscriminator
from passionsr_cli.training.features import CHANNELS, feature_distance, same_offset
from passionsr_cli.training.losses import Losses, artifact_l1, fold_l1, low_pass_l1, rms
from passionsr_cli.training.settings import TrainingStage


def _images(seed: int, side: int = 24) -> Tensor:
    return torch.rand(2, 3, side, side, generator=torch.Generator().manual_seed(seed))


def test_feature_distance_is_that_of_unit_vectors() -> None:
    found = [torch.randn(2, c, 3, 4) for c in (5, 7)]
    wanted = [torch.randn(2, c, 3, 4) for c in (5, 7)]
    expected = 0.0
    for one, other in zip(found, wanted, strict=True):
        # |a/|a| − b/|b||² = 2 − 2 cos(a, b)
        a, b = one.double().numpy(), other.double().numpy()
        cosine = (a * b).sum(1) / np.linalg.norm(a, axis=1) / np.linalg.norm(b, axis=1)
        expected += float((2 - 2 * cosine).mean())
    assert float(feature_distance(found, wanted)) == pytest.approx(expected, rel=1e-5)
    assert float(feature_distance(found, [3 * x for x in found])) < 1e-6


def test_rms_is_of_each_image_and_has_a_gradient_where_nothing_is_wrong() -> None:
    image, reference = _images(0), _images(1)
    errors = (image - reference).double().numpy()
    expected = np.mean([np.sqrt(np.mean(one**2)) for one in errors])
    assert float(rms(image, reference)) == pytest.approx(expected, rel=1e-5)
    met = image.clone().requires_grad_(True)
    rms(met, image).backward()
    assert met.grad is not None
    assert met.grad.isfinite().all()


def test_low_pass_sees_colours_and_no_texture() -> None:
    image = _images(0)
    texture = torch.zeros_like(image)
    texture[..., ::2] += 0.1
    texture[..., 1::2] -= 0.1
    assert float(low_pass_l1(image + texture, image)) < 1e-6
    assert float(low_pass_l1(image + 0.1, image)) == pytest.approx(0.1, rel=1e-4)


@pytest.mark.parametrize("period_px", [4, 8])
def test_a_grid_of_the_fold_costs_what_it_adds(period_px: int) -> None:
    image = _images(0, 64)
    grid = torch.zeros_like(image)
    grid[..., 1::period_px, 2::period_px] = 0.25
    expected = 0.25 / period_px**2
    assert float(fold_l1(image + grid, image)) == pytest.approx(expected, rel=1e-4)


def test_texture_that_does_not_repeat_costs_a_fraction_of_a_grid() -> None:
    image, noise = _images(0, 64), torch.randn(2, 3, 64, 64, generator=torch.Generator())
    # The mean of sixteen of a normal distribution has a quarter of its deviation.
    expected = 0.1 / 4 * (2 / np.pi) ** 0.5
    assert float(fold_l1(image + 0.1 * noise, image)) == pytest.approx(expected, rel=0.1)


def test_artifacts_weigh_as_ldl_defines_it() -> None:
    image, faithful, reference = (_images(seed) for seed in range(3))
    residual = np.abs((reference - image).double().numpy()).sum(1)
    compared = np.abs((reference - faithful).double().numpy()).sum(1)
    total = 0.0
    for number, one in enumerate(residual):
        padded = np.pad(one, 3, mode="reflect")
        local = np.zeros_like(one)
        for y, x in np.ndindex(*one.shape):
            local[y, x] = padded[y : y + 7, x : x + 7].var()
        weight = one.var(ddof=1) ** 0.2 * local
        weight[one < compared[number]] = 0
        difference = np.abs((reference - image)[number].double().numpy())
        total += float((weight[None] * difference).sum())
    expected = total / image.numel()
    assert float(artifact_l1(image, faithful, reference)) == pytest.approx(expected, rel=1e-4)


def test_where_the_faithful_end_is_worse_nothing_is_an_artifact() -> None:
    image, reference = _images(0), _images(1)
    assert float(artifact_l1(image, reference, reference)) > 0
    assert float(artifact_l1(image, 2 * image - reference, reference)) == 0


def test_every_scale_of_the_projected_critic_hears_the_coarser_ones() -> None:
    torch.manual_seed(0)
    critic = ProjectedDiscriminator(8).eval()
    sides = (16, 8, 4, 2)
    features = [torch.randn(1, c, s, s) for c, s in zip(CHANNELS, sides, strict=True)]
    logits = critic(features)
    assert [tuple(x.shape) for x in logits] == [(1, 1, s, s) for s in sides]
    changed = critic([*features[:-1], torch.randn_like(features[-1])])
    assert all(not torch.equal(a, b) for a, b in zip(logits, changed, strict=True))
    # From coarse to fine only, as in the paper.
    changed = critic([torch.randn_like(features[0]), *features[1:]])
    assert [torch.equal(a, b) for a, b in zip(logits, changed, strict=True)] == [False] + [True] * 3


def test_the_projection_does_not_learn() -> None:
    critic = ProjectedDiscriminator(8)
    learned = {id(p) for p in critic.learned()}
    mixing = [*critic.channels_mixed.parameters(), *critic.scales_mixed.parameters()]
    assert mixing
    assert not any(p.requires_grad or id(p) in learned for p in mixing)
    assert all(p.requires_grad for p in critic.learned())


def test_the_patch_critic_sees_the_low_resolution_image() -> None:
    torch.manual_seed(0)
    critic = PatchDiscriminator(8).eval()
    image = _images(0, 32)
    assert not torch.equal(critic(image, _images(1, 32)), critic(image, _images(2, 32)))


def test_images_are_shifted_alike() -> None:
    images = [_images(0), _images(1)]
    shifted = same_offset(images, torch.tensor([3, 5]))
    for image, found in zip(images, shifted, strict=True):
        assert torch.equal(found, image[:, :, 3:, 5:])


class _Pictures(nn.Module):
    """A model that answers with two given pictures."""

    def __init__(self, faithful: Tensor, natural: Tensor) -> None:
        super().__init__()
        self.pictures = faithful, natural

    def forward(self, upscaled: Tensor, natural: bool) -> tuple[Tensor, Tensor]:
        return self.pictures


@pytest.mark.parametrize("weight", [0.0, 0.5, 2.0])
def test_the_natural_end_is_held_against_its_teacher(weight: float) -> None:
    hr, faithful, natural, taught = (_images(seed) for seed in range(4))
    weights = {"pixels": 0.25, "teacher": weight}
    stage = TrainingStage.model_validate(
        {"name": "x", "steps": 1, "learning_rate": 1, "final_learning_rate": 1, "natural": weights}
    )
    losses = Losses(stage, _Pictures(faithful, natural), None, None, Accelerator(cpu=True))
    batch = {"hr": hr, "lr": hr[..., ::4, ::4].contiguous(), "crisp": hr, "taught": taught}

    def l1(one: Tensor, other: Tensor) -> float:
        return float(np.abs((one - other).double().numpy()).mean())

    expected = l1(faithful, hr) + 0.25 * l1(natural, hr) + weight * l1(natural, taught)
    assert float(losses.generator(batch)) == pytest.approx(expected, rel=1e-5)


def test_the_natural_end_is_held_against_the_crisp_photograph() -> None:
    hr, crisp, faithful, natural = (_images(seed) for seed in range(4))
    wanted = {"pixels": 0.5}
    stage = TrainingStage.model_validate(
        {
            "name": "x",
            "steps": 1,
            "learning_rate": 1,
            "final_learning_rate": 1,
            "natural": wanted,
        }
    )
    losses = Losses(stage, _Pictures(faithful, natural), None, None, Accelerator(cpu=True))
    batch = {"hr": hr, "lr": hr[..., ::4, ::4].contiguous(), "crisp": crisp}
    expected = (faithful - hr).abs().mean() + 0.5 * (natural - crisp).abs().mean()
    assert float(losses.generator(batch)) == pytest.approx(float(expected), rel=1e-5)


@pytest.mark.parametrize(
    ("name", "weight", "structure"),
    [("l1", 1.0, 0.0), ("rms", 1.0, 0.0), ("rms", 0.5, 0.0), ("rms", 1.0, 0.3)],
)
def test_the_faithful_end_is_held_by_the_loss_of_its_stage(
    name: str, weight: float, structure: float
) -> None:
    hr = torch.from_numpy(samples.high_resolution("sample:astronaut")[None, :, :64, :64])
    faithful = (hr + 0.1 * (_images(1, 64)[:1] - 0.5)).clamp(0, 1)
    own = {"faithful_loss": name, "faithful_weight": weight, "faithful_structure": structure}
    stage = TrainingStage.model_validate(
        {"name": "x", "steps": 1, "learning_rate": 1, "final_learning_rate": 1, **own}
    )
    losses = Losses(stage, _Pictures(faithful, faithful), None, None, Accelerator(cpu=True))
    errors = (faithful - hr).double().numpy()
    distance = {
        "l1": np.abs(errors).mean(),
        "rms": np.mean([np.sqrt(np.mean(one**2)) for one in errors]),
    }
    batch = {"hr": hr, "lr": hr[..., ::4, ::4].contiguous()}
    # SSIM as its authors define it, on the luma of the metric: BT.601's, from 16 to 235.
    weights = np.array((65.481, 128.553, 24.966)) / 255
    luma = (16 / 255 + np.tensordot(weights, x[0].numpy(), 1) for x in (faithful, hr))
    ssim = structural_similarity(
        *luma, data_range=1, gaussian_weights=True, sigma=1.5, use_sample_covariance=False
    )
    # scikit-image has windows of 3.5 σ, the authors have 11 pixels: the same.
    expected = weight * distance[name] + structure * (1 - ssim)
    assert float(losses.generator(batch)) == pytest.approx(expected, rel=1e-4)


def test_a_grid_of_the_fold_costs_where_a_stage_says_so() -> None:
    hr = _images(0, 64)
    gridded = hr.clone()
    gridded[..., ::4, ::4] += 0.25
    stage = TrainingStage.model_validate(
        {
            "name": "x",
            "steps": 1,
            "learning_rate": 1,
            "final_learning_rate": 1,
            "natural": {"fold": 2.0},
        }
    )
    losses = Losses(stage, _Pictures(hr, gridded), None, None, Accelerator(cpu=True))
    batch = {"hr": hr, "lr": hr[..., ::4, ::4].contiguous(), "crisp": hr}
    assert float(losses.generator(batch)) == pytest.approx(2 * 0.25 / 16, rel=1e-4)
