"""What training lowers: distance to the photograph, and what a critic tells apart."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from accelerate import Accelerator
from torch import Tensor, nn

from passionsr_cli.fitting.loop import Batch
from passionsr_cli.imaging.resampling import bicubic
from passionsr_cli.training.discriminator import PatchDiscriminator
from passionsr_cli.training.settings import TrainingStage


@dataclass(frozen=True)
class Losses:
    """The generator's and the discriminator's loss of one training stage.

    `model` and `critic` are as accelerate prepared them, `bare_critic` is the same critic
    without its wrapper.
    """

    stage: TrainingStage
    model: nn.Module
    critic: nn.Module
    bare_critic: PatchDiscriminator
    accelerator: Accelerator

    def generator(self, batch: Batch) -> Tensor:
        """L1 to the photograph, less what the critic finds real. Leaves `restored` in the batch."""
        device = self.accelerator.device
        hr, lr = batch["hr"].to(device), batch["lr"].to(device)
        upscaled = as_model_input(lr, hr)
        restored = self.model(upscaled)
        batch.update(hr=hr, upscaled=upscaled, restored=restored.detach())
        loss = self.stage.pixel_weight * F.l1_loss(restored, hr)
        if self.stage.adversarial_weight:
            # Past the wrapper that shares gradients among processes: the critic has none here.
            with self.accelerator.autocast():
                logits = self.bare_critic(restored, upscaled)
            loss = loss - self.stage.adversarial_weight * logits.mean()
        return loss

    def discriminator(self, batch: Batch) -> Tensor:
        """The hinge loss (arXiv 1705.02894) on photographs and on what `generator` left."""
        images = torch.cat([batch["hr"], batch["restored"]])
        logits: Tensor = self.critic(images, batch["upscaled"].repeat(2, 1, 1, 1))
        real, fake = logits.chunk(2)
        return F.relu(1 - real).mean() + F.relu(1 + fake).mean()


def as_model_input(lr: Tensor, hr: Tensor) -> Tensor:
    """LR images enlarged to the size of their partners, as `inference.tiled` enlarges them."""
    return bicubic(lr, (hr.shape[-2], hr.shape[-1])).clamp(0, 1)
