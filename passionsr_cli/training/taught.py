"""Crops that a teacher has upscaled, kept in the run's folder: what the natural end learns from.

A teacher takes longer than a training step, so its images are made once and looked at many times,
in other parts and turned otherwise.
"""

from __future__ import annotations

from pathlib import Path

import torch
import torch.nn.functional as F
from accelerate import Accelerator
from torch import Generator, Tensor

from passionsr_cli.data.crops import Crop
from passionsr_cli.data.photographs import Batches
from passionsr_cli.fitting.loop import Batch
from passionsr_cli.progress import Reporter
from passionsr_cli.system.files import replace_atomically
from passionsr_cli.training.batches import TrainingBatches, random_offset
from passionsr_cli.training.real_esrgan import load_real_esrgan, weights_file
from passionsr_cli.training.settings import COLOUR_PX, TeacherSettings

TASK = "teacher's crops"


def teach(
    batches: TrainingBatches,
    settings: TeacherSettings,
    folder: Path,
    accelerator: Accelerator,
    reporter: Reporter,
) -> None:
    """Write what Real-ESRGAN x4plus makes of the first batches, of one crop each, into a folder.

    What lies there already is kept. Each process makes its share; all return when all are done.
    """
    from safetensors.torch import save_file

    folder.mkdir(parents=True, exist_ok=True)
    teacher = load_real_esrgan(Path(settings.weights or weights_file())).to(accelerator.device)
    reporter.started(TASK, settings.crops)
    for number in range(accelerator.process_index, settings.crops, accelerator.num_processes):
        file = _file(folder, number)
        if not file.exists():
            batch = batches[number]
            sides = {name: _levels(batch[name]) for name in Crop._fields}
            with torch.inference_mode():
                taught = teacher(sides["lr"].to(accelerator.device) / 255).float().cpu()
            images = sides | {"taught": _levels(taught)}
            with replace_atomically(file) as temporary:
                save_file(
                    {name: image[0].contiguous() for name, image in images.items()}, temporary
                )
        reporter.step(TASK, number + 1)
    accelerator.wait_for_everyone()


class TaughtBatches(Batches):
    """Parts of taught crops: `taught` (B, 3, c, c) in [0, 1] beside what `TrainingBatches` have."""

    def __init__(
        self, folder: Path, count: int, batch_size: int, crop_px: int, factor: int, seed: int
    ) -> None:
        super().__init__(seed)
        self.folder, self.count, self.batch_size = folder, count, batch_size
        self.crop_px, self.factor = crop_px, factor

    def _batch(self, generator: Generator) -> Batch:
        parts = [self._part(generator) for _ in range(self.batch_size)]
        images = {name: torch.stack([part[name] for part in parts]) for name in parts[0]}
        return images | {"offset_px": random_offset(generator)}

    def _part(self, generator: Generator) -> dict[str, Tensor]:
        from safetensors.torch import load_file

        choice = int(torch.randint(self.count, (), generator=generator))
        crop = load_file(_file(self.folder, choice))
        side = self.crop_px // self.factor
        room = crop["lr"].shape[-1] - side + 1
        top, left = (int(at) for at in torch.randint(room, (2,), generator=generator))
        turns = int(torch.randint(4, (), generator=generator))
        mirrored = bool(torch.rand((), generator=generator) < 0.5)
        images = {name: image.float() / 255 for name, image in crop.items()}
        images["taught"] = with_colours_of(images["hr"], images["taught"])

        def part(image: Tensor, scale: int) -> Tensor:
            length = side * scale
            y, x = top * scale, left * scale
            turned = torch.rot90(image[:, y : y + length, x : x + length], turns, (1, 2))
            return (turned.flip(2) if mirrored else turned).contiguous()

        return {
            name: part(image, 1 if name == "lr" else self.factor) for name, image in images.items()
        }


def with_colours_of(photograph: Tensor, taught: Tensor) -> Tensor:
    """The taught image (3, H, W) with the photograph's averages over `COLOUR_PX` pixels."""
    drift = F.avg_pool2d(photograph - taught, COLOUR_PX)[None]
    size = (photograph.shape[-2], photograph.shape[-1])
    return (taught + F.interpolate(drift, size, mode="bilinear")[0]).clamp(0, 1)


def _levels(image: Tensor) -> Tensor:
    return (image.clamp(0, 1) * 255).round().byte()


def _file(folder: Path, number: int) -> Path:
    return folder / f"{number:06d}.safetensors"
