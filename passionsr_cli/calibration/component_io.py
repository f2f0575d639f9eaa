"""Inputs and outputs of each component: of the teacher, and of the model as it is by now."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from accelerate import Accelerator
from torch import Tensor

from passionsr_cli.calibration.passes import TensorFolder, fill
from passionsr_cli.data.calibration_images import CalibrationImages
from passionsr_cli.layers.convert import Learning
from passionsr_cli.models.chain import Chain
from passionsr_cli.models.components import COMPONENTS, ENCODER, UNET, component_of
from passionsr_cli.models.one_step import OneStepModel
from passionsr_cli.progress import Reporter
from passionsr_cli.quantization.schemes import State

Read = Callable[[Sequence[int]], Tensor]


class Inputs:
    """Tensors of the calibration images at the borders of components, kept in a run's folder.

    All are read by the images' numbers, as batches on the accelerator's device.
    """

    def __init__(
        self,
        model: OneStepModel,
        images: CalibrationImages,
        folder: Path,
        accelerator: Accelerator,
        reporter: Reporter,
    ) -> None:
        self.model, self.images, self.folder = model, images, folder
        self.accelerator, self.reporter = accelerator, reporter
        self.layers: Mapping[str, Learning] = {}
        self._filled: set[str] = set()

    def teach(self) -> None:
        """Keep what the full-precision model makes of each image; it is not needed after that."""
        parts = [(Chain(self.model, (part,)), self._targets(part)) for part in COMPONENTS]
        self._fill(parts, self.upscaled, "full precision")

    def upscaled(self, numbers: Sequence[int]) -> Tensor:
        """The images themselves, upscaled."""
        return self.images.upscaled(numbers).to(self.accelerator.device)

    def photographs(self, numbers: Sequence[int]) -> Tensor:
        """The photographs the images were made from."""
        return self.images.photographs(numbers).to(self.accelerator.device)

    def target(self, component: str) -> Read:
        """Outputs of a component in full precision."""
        return self._reader(self._targets(component))

    def noise(self, numbers: Sequence[int]) -> Tensor:
        """The noise that the UNet sees in full precision."""
        return self.model.to_noise(self.teacher(UNET)(numbers), self.target(UNET)(numbers))

    def teacher(self, component: str) -> Read:
        """Inputs of a component in full precision."""
        if component == ENCODER:
            return self.upscaled
        return self.target(COMPONENTS[COMPONENTS.index(component) - 1])

    def now(self, component: str) -> Read:
        """Inputs of a component: what those before it make, as far as they are quantized."""
        earlier = COMPONENTS[: COMPONENTS.index(component)]
        if not any(self._is_quantized(part) for part in earlier):
            return self.teacher(component)
        before, folder = earlier[-1], self._kept(component)
        # Every process decides this alike, whatever the main one has written meanwhile.
        if component not in self._filled:
            self._filled.add(component)
            chain = Chain(self.model, (before,))
            self._fill([(chain, folder)], self.now(before), f"quantized {before}")
        return self._reader(folder)

    def forget_after(self, component: str) -> None:
        """A component changes: what others got from it is not true any more."""
        for later in COMPONENTS[COMPONENTS.index(component) + 1 :]:
            self._filled.discard(later)
            if self.accelerator.is_main_process:
                self._kept(later).remove()
        self.accelerator.wait_for_everyone()

    def _is_quantized(self, component: str) -> bool:
        return any(
            layer.state is not State.FLOAT
            for name, layer in self.layers.items()
            if component_of(name) == component
        )

    def _targets(self, component: str) -> TensorFolder:
        return TensorFolder(self.folder / "targets", component)

    def _kept(self, component: str) -> TensorFolder:
        return TensorFolder(self.folder / "inputs", component)

    def _reader(self, folder: TensorFolder) -> Read:
        return lambda numbers: folder.read(numbers).to(self.accelerator.device)

    def _fill(self, results: Sequence[tuple[Chain, TensorFolder]], inputs: Read, task: str) -> None:
        if self.accelerator.is_main_process:
            fill(results, inputs, len(self.images), task, self.reporter)
        self.accelerator.wait_for_everyone()
