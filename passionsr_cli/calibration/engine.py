"""One calibration: from a model and a method to a quantized model, resumable at every point."""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from accelerate import Accelerator
from torch import Tensor

from passionsr_cli.allocation.layer_plans import quantize_model
from passionsr_cli.calibration import fit
from passionsr_cli.calibration.component_io import Inputs
from passionsr_cli.calibration.curve import Curve
from passionsr_cli.calibration.curves import LayerStudy, study_layers
from passionsr_cli.calibration.losses import StageLoss
from passionsr_cli.calibration.module_schedule import schedule_modules
from passionsr_cli.calibration.passes import load_observers, observe, observer_states
from passionsr_cli.calibration.perceptual import Distance, perceptual_distance
from passionsr_cli.calibration.starts import Head, start
from passionsr_cli.calibration.whole import Whole
from passionsr_cli.checkpoints.manifest import StageResult
from passionsr_cli.config import CalibrationSettings
from passionsr_cli.data.calibration_images import CalibrationImages
from passionsr_cli.fitting.loop import Batch, read_state, write_state
from passionsr_cli.forecast.minutes import COMPARED_IMAGES, Forecast, forecast, measure_pace
from passionsr_cli.layers.convert import Frozen, freeze, learning_layers, set_state
from passionsr_cli.layers.frozen import FrozenLayer
from passionsr_cli.methods.stages import Method, Stage
from passionsr_cli.metrics.psnr import psnr
from passionsr_cli.models.chain import Chain
from passionsr_cli.models.components import COMPONENTS, component_of
from passionsr_cli.models.one_step import OneStepModel
from passionsr_cli.progress import Reporter
from passionsr_cli.quantization.schemes import LayerRecord, State

STATE_FILE, FIT_FILE = "calibration.pt", "fit.pt"


@dataclass(frozen=True)
class _Fitted:
    steps: int = 0
    seconds: float = 0.0
    start_error: float | None = None
    end_error: float | None = None


_NOTHING_FITTED = _Fitted()


class Calibration:
    """One run in one folder; `run` starts it or takes it up where it stopped."""

    def __init__(
        self,
        model: OneStepModel,
        settings: CalibrationSettings,
        method: Method,
        images: CalibrationImages,
        folder: Path,
        accelerator: Accelerator,
        reporter: Reporter,
    ) -> None:
        self.model, self.settings, self.method = model, settings, method
        self.images, self.folder = images, folder
        self.accelerator = accelerator
        self.reporter = reporter = Whole(reporter)
        self.curve, self.results = Curve(), list[StageResult]()
        self.records: list[LayerRecord] = []
        self.frozen: dict[str, Frozen] = {}
        self.inputs = Inputs(model, images, folder, accelerator, reporter)
        self.perceptual_name = ""
        model.to(accelerator.device).requires_grad_(False)
        self.parameters = sum(p.numel() for p in model.parameters())
        self.perceptual = self._perceptual()

    def run(self) -> None:
        """Calibrate the model in place and freeze it."""
        foreseen = self._forecast()
        self.inputs.teach()
        self.records = quantize_model(self.model, self.settings, self.method.design)
        # Nothing learns but in a fit.
        self.model.requires_grad_(False)
        if self.settings.gradient_checkpointing:
            self.model.vae.enable_gradient_checkpointing()
            for unet in self.model.unets.values():
                unet.enable_gradient_checkpointing()
        self.layers = self.inputs.layers = learning_layers(self.model)
        # Components that stay in floating point have nothing to learn.
        self.stages = [s for s in self.method.stages if self._layers_of(s.components)]
        works = [foreseen.stages[stage.name] for stage in self.stages]
        self.reporter.plan(foreseen.full_precision, works)
        first = self._take_up()
        for number, stage in enumerate(self.stages[first:], first):
            self.reporter.enter(number)
            self._run_stage(number, stage)
        self.accelerator.free_memory()
        self.layers.clear()
        self.frozen = freeze(self.model)

    def _forecast(self) -> Forecast:
        """Tell how long all of it will take, unless a part of it is done."""
        pace = measure_pace(self.model, self.inputs.upscaled([0]))
        found = forecast(self.model, self.settings, self.method, len(self.images), pace)
        if not (self.folder / STATE_FILE).exists():
            self.reporter.note(str(found))
        return found

    def _perceptual(self) -> Distance | None:
        """Distance of the method's perceptual losses, if it has any."""
        if not any(stage.losses.perceptual for stage in self.method.stages):
            return None
        device, strict = self.accelerator.device, self.settings.strict
        self.perceptual_name, distance = perceptual_distance(self.model, device, strict)
        return distance

    def _take_up(self) -> int:
        """Load the state an earlier run left; the number of the stage to go on with."""
        self.started = -1
        path = self.folder / STATE_FILE
        if not path.exists():
            return 0
        saved = torch.load(path, map_location=self.accelerator.device, weights_only=True)
        fit.LearnedState(self.layers).load_state_dict(saved["learned"])
        load_observers(self.layers, saved["observers"])
        self.curve.load_state_dict(saved["curve"])
        self.results = [StageResult(**result) for result in saved["results"]]
        self.started = saved["started"]
        for stage in self.stages[: len(self.results)]:
            set_state(list(self._layers_of(stage.components).values()), State.QUANTIZING)
        return len(self.results)

    def _save(self) -> None:
        if not self.accelerator.is_main_process:
            return
        state = {
            "learned": fit.LearnedState(self.layers).state_dict(),
            "observers": observer_states(self.layers),
            "curve": self.curve.state_dict(),
            "results": [vars(result) for result in self.results],
            "started": self.started,
        }
        write_state(self.folder / STATE_FILE, state)

    def _run_stage(self, number: int, stage: Stage) -> None:
        layers = self._layers_of(stage.components)
        self.curve.since(stage.name)
        if self.started < number:
            self._start(stage, layers)
            self.inputs.forget_after(stage.components[0])
            self.started = number
            self._save()
        set_state(list(layers.values()), stage.state)
        fitted = self._fit(stage, layers) if stage.fit else _NOTHING_FITTED
        self.results.append(
            StageResult(
                name=stage.name,
                steps=fitted.steps,
                start_error=fitted.start_error,
                end_error=fitted.end_error,
                fit_seconds=fitted.seconds,
                image_psnr=self._image_psnr(stage),
                seconds=self.curve.since(stage.name),  # the look at its images, too
            )
        )
        set_state(list(layers.values()), State.QUANTIZING)
        self._save()
        (self.folder / FIT_FILE).unlink(missing_ok=True)
        self.reporter.done(self.results[-1])

    def _layers_of(self, components: Sequence[str]) -> fit.Learned:
        return {
            name: layer for name, layer in self.layers.items() if component_of(name) in components
        }

    def _start(self, stage: Stage, layers: fit.Learned) -> None:
        """Take the steps of the stage's start, each on what those before it made."""
        head = Head(
            name=stage.name,
            chain=Chain(self.model, stage.components),
            read=self.inputs.now(stage.components[0]),
            layers=layers,
            count=len(self.images),
            observe=lambda what: self._observe(stage, layers, what),
            reporter=self.reporter,
        )
        for what in stage.starts:
            start(what, head)

    def _observe(self, stage: Stage, layers: fit.Learned, what: str) -> None:
        for layer in layers.values():
            for observer in layer.observers().values():
                observer.forget()
        set_state(list(layers.values()), State.OBSERVING)
        size, count = self.settings.observing_batch_size, len(self.images)
        batches = [range(start, min(start + size, count)) for start in range(0, count, size)]
        observe(
            Chain(self.model, stage.components),
            layers,
            self.inputs.now(stage.components[0]),
            batches,
            self.folder / f"observing for {what}.pt",
            self.settings.save_every_seconds,
            f"{stage.name}: observing",
            self.reporter,
        )

    def _fit(self, stage: Stage, layers: fit.Learned) -> _Fitted:
        """Learn, and go back to the start if that was better."""
        assert stage.fit is not None
        layers = layers | self._layers_of(stage.through)
        learned = fit.LearnedState(layers)
        chain, schedule = Chain(self.model, stage.chain, to_noise=stage.target == "noise"), None
        loss = StageLoss(stage.losses, chain, self._layers_of(stage.chain), self.perceptual)
        before, start_error = copy.deepcopy(learned.state_dict()), self._error(stage, loss)
        if stage.modules is not None:
            schedule = schedule_modules(self.model, self.layers, stage)
        running = fit.build(
            stage,
            chain,
            layers,
            loss,
            schedule,
            self.curve,
            self.accelerator,
            self.folder / FIT_FILE,
            self.settings.save_every_seconds,
        )
        saved = read_state(self.folder / FIT_FILE, self.accelerator.device)
        # A kill may have left that of the stage before.
        if saved and saved["stage"] == running.name:
            running.resume(saved)
        task = f"{stage.name}: fit"
        self.curve.since(task)
        running.run(self._batches(stage, running.step), self.reporter)
        seconds = self.curve.since(task)
        self.model.requires_grad_(False)
        set_state(list(layers.values()), stage.state)
        end_error = self._error(stage, loss)
        if not end_error < start_error:
            learned.load_state_dict(before)
        return _Fitted(running.steps, seconds, start_error, end_error)

    def _batches(self, stage: Stage, step: int) -> Iterator[Batch]:
        size, processes = self.settings.batch_size, self.accelerator.num_processes
        first_component = stage.components[0]
        read, read_teacher = self.inputs.now(first_component), self.inputs.teacher(first_component)
        first = step * processes
        numbers = fit.batch_numbers(len(self.images), size, self.settings.seed, first)
        for place, batch in enumerate(numbers, first):
            if place % processes != self.accelerator.process_index:
                continue
            tensors = {"x": read(batch), "target": self._wanted(stage, batch)}
            if stage.losses.module:
                tensors["teacher_x"] = read_teacher(batch)
            yield tensors

    @torch.no_grad()
    def _error(self, stage: Stage, loss: StageLoss) -> float:
        """Losses of the output that the stage's fit lowers, on images that no order of batches
        moves; the relative error where all it lowers are those of modules."""
        read = self.inputs.now(stage.components[0])
        errors = [
            loss.of_output(loss.chain(read([number])), self._wanted(stage, [number]))
            for number in range(min(COMPARED_IMAGES, len(self.images)))
        ]
        return float(sum(errors) / len(errors))

    def _wanted(self, stage: Stage, numbers: Sequence[int]) -> Tensor:
        """The targets of these images."""
        if stage.target == "hr":
            return self.inputs.photographs(numbers)
        if stage.target == "noise":
            return self.inputs.noise(numbers)
        return self.inputs.target(stage.chain[-1])(numbers)

    @torch.no_grad()
    def _image_psnr(self, stage: Stage) -> float | None:
        """Mean PSNR (dB, RGB) of the model as far as it is calibrated to the teacher's images;
        None if one is equal."""
        first = stage.components[0]
        rest = Chain(self.model, COMPONENTS[COMPONENTS.index(first) :])
        read, targets = self.inputs.now(first), self.inputs.target(COMPONENTS[-1])
        values = []
        for number in range(min(COMPARED_IMAGES, len(self.images))):
            wanted = targets([number]).clamp(0, 1)
            values.append(psnr(rest(read([number])).clamp(0, 1), wanted))
        mean = sum(values) / len(values)
        return mean if math.isfinite(mean) else None

    def study(self) -> list[LayerStudy]:
        """Study what LET did to the layers whose inputs are rounded worst, on the first image."""
        weighted = {n: x for n, x in self.frozen.items() if isinstance(x, FrozenLayer)}
        return study_layers(weighted, lambda: self.model(self.inputs.upscaled([0])))
