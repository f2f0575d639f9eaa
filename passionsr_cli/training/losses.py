"""Losses of training: distances to the photograph, and what critics tell apart."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from accelerate import Accelerator
from torch import Tensor, nn

from passionsr_cli.data.resampling import bicubic
from passionsr_cli.fitting.loop import Batch
from passionsr_cli.metrics.losses import ssim_loss
from passionsr_cli.training.discriminator import PatchDiscriminator, ProjectedDiscriminator
from passionsr_cli.training.features import Lite0Features, feature_distance, same_offset
from passionsr_cli.training.settings import NaturalLosses, TrainingStage

ARTIFACT_WINDOW_PX = 7
# Of the global variance, the power by which all of an image's artifacts weigh (LDL, equation 4).
ARTIFACT_POWER = 0.2
# A tenth of a level.
RMS_FLOOR = 0.1 / 255


class Critics(nn.Module):
    """Both discriminators, and the frozen features that one of them looks at."""

    def __init__(self, patch_channels: int, projected_channels: int) -> None:
        super().__init__()
        self.features = Lite0Features()
        self.patch = PatchDiscriminator(patch_channels)
        self.projected = ProjectedDiscriminator(projected_channels)

    def learned(self) -> list[nn.Parameter]:
        return [*self.patch.parameters(), *self.projected.learned()]

    def forward(
        self, images: Tensor, upscaled: Tensor, features: list[Tensor]
    ) -> tuple[Tensor, list[Tensor]]:
        """Logits of the patch critic, and of the projected one at each scale."""
        return self.patch(images, upscaled), self.projected(features)


@dataclass(frozen=True)
class Losses:
    """The generator's and the critics' loss of one training stage.

    `model` (an `Ends`) and `critics` are as accelerate prepared them, `bare_critics` are the same
    without their wrapper; both are None where no stage is natural.
    """

    stage: TrainingStage
    model: nn.Module
    critics: nn.Module | None
    bare_critics: Critics | None
    accelerator: Accelerator

    def generator(self, batch: Batch) -> Tensor:
        """The distance to the photograph at the faithful end, and `NaturalLosses` at the other.

        Leaves the natural image, `natural`, in the batch for the critics.
        """
        device, natural = self.accelerator.device, self.stage.natural
        hr, lr = batch["hr"].to(device), batch["lr"].to(device)
        upscaled = as_model_input(lr, hr)
        faithful, realistic = self.model(upscaled, natural is not None)
        distance = FAITHFUL_LOSSES[self.stage.faithful_loss]
        loss = self.stage.faithful_weight * distance(faithful.float(), hr)
        if self.stage.faithful_structure:
            loss = loss + self.stage.faithful_structure * ssim_loss(faithful, hr)
        if natural is None:
            return loss
        crisp = batch["crisp"].to(device)
        batch.update(crisp=crisp, upscaled=upscaled, natural=realistic.detach())
        # Past the wrapper that shares gradients among processes: the critics have none here.
        with self.accelerator.autocast():
            return loss + self._natural(natural, realistic.float(), faithful, batch)

    def _natural(
        self, weights: NaturalLosses, image: Tensor, faithful: Tensor, batch: Batch
    ) -> Tensor:
        """Losses of the natural end; those that weigh nothing are not computed."""
        hr = batch["crisp"]
        loss = weights.pixels * F.l1_loss(image, hr)
        if weights.teacher:
            loss = loss + weights.teacher * F.l1_loss(image, batch["taught"].to(hr.device))
        if weights.low_pass:
            loss = loss + weights.low_pass * low_pass_l1(image, hr)
        if weights.fold:
            loss = loss + weights.fold * fold_l1(image, hr)
        if weights.artifacts:
            loss = loss + weights.artifacts * artifact_l1(image, faithful.detach().float(), hr)
        if weights.needs_critics:
            loss = loss + self._criticized(weights, image, batch)
        return loss

    def _criticized(self, weights: NaturalLosses, image: Tensor, batch: Batch) -> Tensor:
        critics = self.bare_critics
        assert critics is not None
        seen, wanted = same_offset([image, batch["crisp"]], batch["offset_px"])
        features = critics.features(seen)
        with torch.no_grad():
            photograph = critics.features(wanted)
        patch, projected = critics(image, batch["upscaled"], features)
        loss: Tensor = (
            weights.features * feature_distance(features, photograph)
            - weights.patch_critic * patch.mean()
            - weights.projected_critic * torch.stack([logits.mean() for logits in projected]).mean()
        )
        return loss

    def discriminator(self, batch: Batch) -> Tensor:
        """The hinge loss (arXiv 1705.02894) on photographs and on what `generator` left."""
        assert self.critics is not None
        assert self.bare_critics is not None
        images = torch.cat([batch["crisp"], batch["natural"]])
        (seen,) = same_offset([images], batch["offset_px"])
        with torch.no_grad(), self.accelerator.autocast():
            features = self.bare_critics.features(seen)
        patch, projected = self.critics(images, batch["upscaled"].repeat(2, 1, 1, 1), features)
        return _hinge(patch) + torch.stack([_hinge(logits) for logits in projected]).mean()


def _hinge(logits: Tensor) -> Tensor:
    real, fake = logits.chunk(2)
    return F.relu(1 - real).mean() + F.relu(1 + fake).mean()


def rms(image: Tensor, reference: Tensor) -> Tensor:
    """The root mean square of each image's error, averaged over the images (B, 3, H, W)."""
    # A plain colour that is met exactly has no gradient otherwise.
    return ((image - reference).square().mean((1, 2, 3)) + RMS_FLOOR**2).sqrt().mean()


FAITHFUL_LOSSES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {"l1": F.l1_loss, "rms": rms}


def low_pass_l1(image: Tensor, reference: Tensor, factor: int = 4) -> Tensor:
    """L1 of what averages of `factor`×`factor` pixels show: colours and shapes, no texture."""
    return F.l1_loss(F.avg_pool2d(image, factor), F.avg_pool2d(reference, factor))


def fold_l1(image: Tensor, reference: Tensor, period_px: int = 8, periods: int = 4) -> Tensor:
    """L1 of patterns that repeat: each of `period_px`² phases averaged over `periods`² periods.

    A network whose images are folded into channels can draw a grid of the fold at no cost, and
    critics do not mind it; texture that does not repeat averages out and costs little. Periods
    that divide `period_px` are seen too.
    """
    phases = [F.pixel_unshuffle(x, period_px) for x in (image, reference)]
    seen, wanted = (F.avg_pool2d(x, periods, stride=periods // 2) for x in phases)
    return F.l1_loss(seen, wanted)


def artifact_l1(image: Tensor, faithful: Tensor, reference: Tensor) -> Tensor:
    """L1 where the image varies from the photograph in a way that the faithful one does not.

    Locally discriminative learning (LDL, arXiv 2203.09195, equations 3 to 6): the residual's
    variance in small windows marks artifacts. The paper leaves out where an average of the
    weights does worse; here the faithful end is what is compared with, at no cost.
    """
    residual = (reference - image).abs().sum(1, keepdim=True)
    with torch.no_grad():
        spread = residual.var((-1, -2), keepdim=True).pow(ARTIFACT_POWER)
        weight = spread * _local_variance(residual)
        weight[residual < (reference - faithful).abs().sum(1, keepdim=True)] = 0
    return (weight * (reference - image).abs()).mean()


def _local_variance(x: Tensor) -> Tensor:
    pad = (ARTIFACT_WINDOW_PX // 2,) * 4
    windows = F.pad(x, pad, mode="reflect")
    mean = F.avg_pool2d(windows, ARTIFACT_WINDOW_PX, stride=1)
    return F.avg_pool2d(windows**2, ARTIFACT_WINDOW_PX, stride=1) - mean**2


def as_model_input(lr: Tensor, hr: Tensor) -> Tensor:
    """LR images enlarged to the size of their partners, as `tiling.upscaler` enlarges them."""
    return bicubic(lr, (hr.shape[-2], hr.shape[-1])).clamp(0, 1)
