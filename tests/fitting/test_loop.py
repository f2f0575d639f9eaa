from __future__ import annotations

import dataclasses
import itertools
import math
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from accelerate import Accelerator
from reporting import Heard, Kill, KillAt
from torch import Tensor, nn

from passionsr_cli.errors import FitError
from passionsr_cli.fitting.loop import Batch, Fit, Objective, cosine, milestones
from passionsr_cli.progress import SILENT
from passionsr_cli.system.devices import accelerator


@pytest.fixture
def cpu() -> Accelerator:
    return accelerator("cpu", "fp32")


def _batches(start: int) -> Iterator[Batch]:
    for index in range(start, 10_000):
        generator = torch.Generator().manual_seed(index)
        yield {"x": torch.randn(8, 3, generator=generator)}


def _stage(
    cpu: Accelerator, file: Path, steps: int = 20, seconds: float = 1e9
) -> tuple[Fit, nn.Linear]:
    torch.manual_seed(0)
    layer = nn.Linear(3, 3)
    target = torch.tensor([[0.0, 1, 0], [1, 0, 0], [0, 0, 2]])

    def loss(batch: Batch) -> Tensor:
        return (layer(batch["x"]) - batch["x"] @ target).pow(2).mean()

    objective = Objective(
        "fit",
        list(layer.parameters()),
        torch.optim.Adam(layer.parameters(), fused=True),
        loss,
        cosine(0.05, 0.001, steps, 3),
        gradient_clip=1.0,
    )
    return Fit("first", steps, [objective], {"layer": layer}, cpu, file, seconds), layer


def test_the_loss_falls(cpu: Accelerator, tmp_path: Path) -> None:
    stage, _ = _stage(cpu, tmp_path / "run.pt", 300)
    heard = Heard()
    stage.run(_batches(0), heard)
    assert heard.places == [("first", step) for step in range(1, 301)]
    assert heard.steps[-1][2]["fit"] < heard.steps[0][2]["fit"] / 10


def test_gradients_are_those_of_one_step_alone(cpu: Accelerator, tmp_path: Path) -> None:
    """The published calibration code accumulated them over an epoch."""
    stage, layer = _stage(cpu, tmp_path / "run.pt", 3)
    stage.run(_batches(0), SILENT)
    assert layer.weight.grad is not None
    found = layer.weight.grad.clone()
    # The same three updates by hand, each from its own gradient.
    again, plain = _stage(cpu, tmp_path / "other.pt", 3)
    objective = again.objectives[0]
    for step, batch in zip(range(3), _batches(0), strict=False):
        plain.zero_grad()
        objective.loss(batch).backward()
        nn.utils.clip_grad_norm_(plain.parameters(), 1.0)
        objective.optimizer.param_groups[0]["lr"] = objective.learning_rate(step)
        objective.optimizer.step()
    assert plain.weight.grad is not None
    torch.testing.assert_close(found, plain.weight.grad)


def test_a_resumed_run_ends_bit_for_bit_like_an_undisturbed_one(
    cpu: Accelerator, tmp_path: Path
) -> None:
    undisturbed, expected = _stage(cpu, tmp_path / "one.pt")
    undisturbed.run(_batches(0), SILENT)
    first, _ = _stage(cpu, tmp_path / "two.pt", seconds=0)
    with pytest.raises(Kill):
        first.run(_batches(0), KillAt("first", 13))
    saved = torch.load(tmp_path / "two.pt", weights_only=True)
    # What was told is not lost.
    assert saved["step"] == 13
    second, found = _stage(cpu, tmp_path / "two.pt")
    second.resume(saved)
    second.run(_batches(second.step), SILENT)
    assert torch.equal(found.weight, expected.weight)
    assert second.losses == undisturbed.losses


@pytest.mark.parametrize("kept", [True, False])
def test_a_resumed_run_knows_what_it_diverges_from(
    kept: bool, cpu: Accelerator, tmp_path: Path
) -> None:
    """A loss that jumped before the stop is measured against the lowest of all steps."""

    def diverging(steps: int) -> Fit:
        stage, layer = _stage(cpu, tmp_path / "run.pt", steps)
        stage.divergence = 10.0

        def loss(batch: Batch) -> Tensor:
            return (layer.weight * 0).sum() + (0.1 if stage.step < 20 else 20.0)

        stage.objectives = [dataclasses.replace(stage.objectives[0], loss=loss)]
        return stage

    diverging(21).run(_batches(0), SILENT)
    saved = torch.load(tmp_path / "run.pt", weights_only=True)
    resumed = diverging(60 if kept else 30)
    if not kept:
        # As older versions wrote it.
        del saved["lowest"], saved["best"]
        resumed.resume(saved)
        resumed.run(_batches(resumed.step), SILENT)
        return
    resumed.resume(saved)
    with pytest.raises(FitError, match=r"from 0\.1 at best at step 23; .* that of step 1$"):
        resumed.run(_batches(resumed.step), SILENT)
    assert torch.load(tmp_path / "run.pt", weights_only=True)["step"] == 1


@pytest.mark.parametrize("kept", [True, False])
def test_the_scale_of_gradients_in_fp16_goes_on(
    kept: bool, cpu: Accelerator, tmp_path: Path
) -> None:
    def scaled(seconds: float) -> Fit:
        """What multiplies gradients doubles after every five steps that went well."""
        cpu.scaler = torch.amp.GradScaler("cpu", init_scale=4.0, growth_interval=5)
        stage, layer = _stage(cpu, tmp_path / "run.pt", seconds=seconds)
        optimizer = cpu.prepare(torch.optim.Adam(layer.parameters(), fused=True))
        (objective,) = stage.objectives
        stage.objectives = [
            dataclasses.replace(objective, optimizer=optimizer, gradient_clip=math.inf)
        ]
        return stage

    with pytest.raises(Kill):
        scaled(0).run(_batches(0), KillAt("first", 13))
    saved = torch.load(tmp_path / "run.pt", weights_only=True)
    if not kept:
        # As older versions wrote it.
        del saved["scaler"]
    resumed = scaled(1e9)
    resumed.resume(saved)
    resumed.run(_batches(resumed.step), SILENT)
    # Four times in 20 steps; once in the 8 behind the twelfth, had it begun anew.
    assert cpu.scaler.get_scale() == 4.0 * 2 ** (4 if kept else 1)


@pytest.fixture
def fp16(cpu: Accelerator, monkeypatch: pytest.MonkeyPatch) -> Accelerator:
    """Gradients scaled on the CPU, as accelerate scales them for fp16 on a GPU."""
    monkeypatch.setattr(cpu, "native_amp", True)
    monkeypatch.setattr(cpu.state, "_mixed_precision", "fp16")
    cpu.scaler = torch.amp.GradScaler("cpu", init_scale=65536.0)
    return cpu


def _sum_of(weight: nn.Parameter, name: str, fp16: Accelerator, clip: float) -> Objective:
    """Gradients are the inputs' own, and the optimizer one that an accelerator made."""
    optimizer = fp16.prepare(torch.optim.SGD([weight], fused=True))

    def loss(batch: Batch) -> Tensor:
        return (weight * batch[name]).sum()

    return Objective(name, [weight], optimizer, loss, lambda step: 1.0, clip)


def test_every_stage_scales_gradients_back_once(fp16: Accelerator, tmp_path: Path) -> None:
    weight, batch = nn.Parameter(torch.zeros(3)), {"sum": torch.tensor([3.0, 0.0, 4.0])}
    for number in range(1, 4):
        objective = _sum_of(weight, "sum", fp16, clip=1.0)
        Fit(f"stage {number}", 1, [objective], {}, fp16, tmp_path / "run.pt", 1e9).run(
            [batch], SILENT
        )
        torch.testing.assert_close(weight.grad, torch.tensor([0.6, 0.0, 0.8]))
        torch.testing.assert_close(weight.detach(), number * -torch.tensor([0.6, 0.0, 0.8]))


def test_gradients_too_large_for_fp16_skip_a_step_of_their_own_objective_alone(
    fp16: Accelerator, tmp_path: Path
) -> None:
    weights = {name: nn.Parameter(torch.zeros(2)) for name in ("generator", "critics")}
    objectives = [
        _sum_of(weights["generator"], "generator", fp16, clip=1.0),
        _sum_of(weights["critics"], "critics", fp16, clip=math.inf),
    ]
    fine, huge = torch.tensor([0.0, 0.5]), torch.tensor([0.0, 1e37])
    batches = [
        {"generator": fine, "critics": fine},
        {"generator": fine, "critics": huge},
        {"generator": fine, "critics": fine},
        {"generator": huge, "critics": fine},
    ]
    scales = []
    Fit(
        "both",
        len(batches),
        objectives,
        {},
        fp16,
        tmp_path / "run.pt",
        1e9,
        after_step=lambda step: scales.append(fp16.scaler.get_scale()),
    ).run(batches, SILENT)
    for weight in weights.values():
        torch.testing.assert_close(weight.detach(), -3 * fine)
    # Halved by each that was too large, once.
    assert scales == [65536.0, 32768.0, 32768.0, 16384.0]


def test_an_interruption_saves_first(cpu: Accelerator, tmp_path: Path) -> None:
    stage, _ = _stage(cpu, tmp_path / "run.pt")

    real_loss = stage.objectives[0].loss

    def interrupted(batch: Batch) -> Tensor:
        if stage.step == 4:
            signal.raise_signal(signal.SIGINT)
        return real_loss(batch)

    stage.objectives = [dataclasses.replace(stage.objectives[0], loss=interrupted)]
    with pytest.raises(KeyboardInterrupt):
        stage.run(_batches(0), SILENT)
    # The step it came in was finished.
    assert torch.load(tmp_path / "run.pt", weights_only=True)["step"] == 5
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_workers_that_were_interrupted_too_do_not_keep_it_from_saving(
    cpu: Accelerator, tmp_path: Path
) -> None:
    stage, _ = _stage(cpu, tmp_path / "run.pt")

    def ended(interrupt: bool) -> Iterator[Batch]:
        yield from itertools.islice(_batches(0), 3)
        if interrupt:
            signal.raise_signal(signal.SIGINT)
        raise RuntimeError("a worker exited unexpectedly")

    with pytest.raises(KeyboardInterrupt):
        stage.run(ended(interrupt=True), SILENT)
    assert torch.load(tmp_path / "run.pt", weights_only=True)["step"] == 3
    with pytest.raises(RuntimeError, match="a worker"):
        stage.run(ended(interrupt=False), SILENT)


def test_a_second_interruption_does_not_wait(cpu: Accelerator, tmp_path: Path) -> None:
    stage, _ = _stage(cpu, tmp_path / "run.pt")

    def impatient(batch: Batch) -> Tensor:
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGINT)
        raise AssertionError("went on")

    stage.objectives = [dataclasses.replace(stage.objectives[0], loss=impatient)]
    with pytest.raises(KeyboardInterrupt):
        stage.run(_batches(0), SILENT)
    assert not (tmp_path / "run.pt").exists()


def test_a_loss_that_is_not_a_number_names_stage_and_step(cpu: Accelerator, tmp_path: Path) -> None:
    stage, layer = _stage(cpu, tmp_path / "run.pt", seconds=0)

    def poison(step: int) -> None:
        if step == 4:
            layer.weight.data.fill_(math.nan)

    stage.after_step = poison
    with pytest.raises(FitError, match="first: the fit loss became nan at step 5"):
        stage.run(_batches(0), SILENT)


def test_each_objective_moves_its_own_parameters_alone(cpu: Accelerator, tmp_path: Path) -> None:
    one, two = nn.Linear(3, 3), nn.Linear(3, 3)

    def both(batch: Batch) -> Tensor:
        return two(one(batch["x"])).pow(2).mean()

    frozen_during: list[tuple[bool, bool]] = []

    def watched(batch: Batch) -> Tensor:
        frozen_during.append((one.weight.requires_grad, two.weight.requires_grad))
        return both(batch)

    objectives = [
        Objective(
            name,
            list(layer.parameters()),
            torch.optim.SGD(layer.parameters()),
            watched,
            lambda step: 0.1,
        )
        for name, layer in (("one", one), ("two", two))
    ]
    Fit("both", 1, objectives, {}, cpu, tmp_path / "run.pt", 1e9).run(_batches(0), SILENT)
    assert frozen_during == [(True, False), (False, True)]


def test_cosine_rises_then_falls() -> None:
    rate = cosine(1.0, 0.1, 100, 10)
    assert rate(0) == pytest.approx(0.1)
    assert rate(9) == pytest.approx(1.0)
    assert rate(55) == pytest.approx(0.55)
    assert rate(100) == pytest.approx(0.1)


def test_milestones_lower_the_rate_in_steps() -> None:
    rate = milestones(1.0, 100, (0.5, 0.8), 0.2)
    assert [rate(step) for step in (0, 49, 50, 79, 80, 99)] == pytest.approx(
        [1.0, 1.0, 0.2, 0.2, 0.04, 0.04]
    )
