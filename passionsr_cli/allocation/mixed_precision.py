"""Bits of every layer within a budget, from measured sensitivity."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from itertools import product, starmap
from math import ceil, prod
from pathlib import Path

import torch
from accelerate import Accelerator
from torch import Tensor, nn

from passionsr_cli.allocation.integer_program import Choice, allocate, least
from passionsr_cli.allocation.layer_plans import most_weight_bits, plan_of, quantize_model
from passionsr_cli.allocation.plan_files import PLAN_FILE, write_plan
from passionsr_cli.allocation.sensitivity import Candidates, Errors, Side, measure_sensitivity
from passionsr_cli.bits import FLOAT_BITS, MOST_BITS, Bits
from passionsr_cli.budget import Budget
from passionsr_cli.checkpoints.catalogue import bits_of
from passionsr_cli.checkpoints.sizes import HEADER_BYTES, layer_bytes
from passionsr_cli.config import CalibrationSettings
from passionsr_cli.data.calibration_images import CalibrationImages
from passionsr_cli.errors import ConfigError
from passionsr_cli.layering import read_yaml
from passionsr_cli.layers.convert import attention_shape, find_layers
from passionsr_cli.methods.stages import LayerDesign, Method
from passionsr_cli.models.chain import concatenations
from passionsr_cli.models.components import is_named
from passionsr_cli.models.costs import layer_costs
from passionsr_cli.models.one_step import OneStepModel
from passionsr_cli.progress import Reporter
from passionsr_cli.quantization.low_rank import largest_rank
from passionsr_cli.quantization.schemes import ATTENTION, LayerPlan, LayerRecord, Plan, Scheme
from passionsr_cli.store import shortest

# Every pair of these has an integer kernel; weights of 8 bits if they are symmetric, as by default.
WIDTHS = (2, 3, 4, 6, 8)
# An operation is wide if one of its operands has more bits than this.
NARROW_BITS = 4
# Sensitivity is measured on so many of the calibration images, on a corner of each.
IMAGES, CORNER_PX = 3, 256
# Ranks that a branch may have, as parts of what the method gives the layer.
RANK_SHARES = (0, 0.25, 0.5, 1, 2)
# What the budget limits, as keys of costs.
BYTES, WEIGHT_BITS, WIDE = "bytes", "weight bits", "wide operations"


def within_budget(
    model: OneStepModel,
    settings: CalibrationSettings,
    method: Method,
    images: CalibrationImages,
    folder: Path,
    accelerator: Accelerator,
    reporter: Reporter,
) -> CalibrationSettings:
    """The settings with the bits of each layer in place of the budget, if there is one.

    `folder` is that of the run, which keeps what was decided. Raises `ConfigError`, before
    anything is measured, for a budget that no bits of the layers keep.
    """
    if settings.budget is None:
        return settings
    path = folder / PLAN_FILE
    if accelerator.is_main_process and not path.exists():
        model.to(accelerator.device)
        write_plan(path, bits_within_budget(model, settings, method, images, reporter))
    accelerator.wait_for_everyone()
    decided = {name: Bits.parse(text) for name, text in read_yaml(path).items()}
    bits = {**settings.layer_bits, **decided}
    return settings.model_copy(update={"budget": None, "layer_bits": bits})


def bits_within_budget(
    model: OneStepModel,
    settings: CalibrationSettings,
    method: Method,
    images: CalibrationImages,
    reporter: Reporter,
) -> dict[str, str]:
    """`layer_bits` for all layers of a full-precision model that `settings.budget` decides about.

    Layers that `layer_bits` or `float_layers` name keep what they have there, those of
    `eight_bit_layers` have 8 bits or stay in floating point, and sides that their component leaves
    at 16 bits stay there; all of them count.
    """
    options = Options(model, settings, method.design)
    options.check()
    unit, numbers = model.description.unit_px, range(min(IMAGES, len(images)))
    # The most units that fit, or one.
    corner = max(unit, min(CORNER_PX, settings.crop_px) // unit * unit)
    crops = [images.upscaled([number])[..., :corner, :corner] for number in numbers]
    errors = measure_sensitivity(
        model,
        {name: options.candidates(name) for name in options.free},
        method.stages[0].starts,
        [crop.to(model.context.device) for crop in crops],
        reporter,
    )
    chosen = allocate(options.choices(errors), options.limits)
    return {name: chosen[name].bits for name in options.free}


class Options:
    """The bits that each layer of a model may have, and what they cost."""

    def __init__(
        self, model: OneStepModel, settings: CalibrationSettings, design: LayerDesign
    ) -> None:
        assert settings.budget is not None
        self.settings, self.design, self.budget = settings, design, settings.budget
        self.layers = {name: (name, kind, layer) for name, kind, layer in find_layers(model)}
        self.boundaries = concatenations(model)
        with torch.device("meta"):
            weightless = OneStepModel(model.description)
        operations = {costs.name: costs.operations for costs in layer_costs(weightless)}
        records = quantize_model(weightless, settings, design)
        self.records = {record.name: record for record in records if record.plan is not None}
        self.operations = {name: operations.get(name, 0) for name in self.records}
        self.free = [
            name
            for name in self.records
            if name not in settings.layer_bits and not is_named(name, settings.float_layers)
        ]
        self.limits = self._limits(model)

    def _limits(self, model: OneStepModel) -> dict[str, float]:
        budget, limits = self.budget, dict[str, float]()
        if budget.bytes is not None:
            limits[BYTES] = budget.bytes - _other_bytes(model, self.records)
        if budget.weight_bits is not None:
            quantized = [record for record in self.records.values() if record.weight is not None]
            numbers = sum(prod(record.weight_shape) for record in quantized)
            limits[WEIGHT_BITS] = budget.weight_bits * numbers
        if budget.wide_share is not None:
            limits[WIDE] = budget.wide_share * sum(self.operations.values())
        return limits

    def check(self) -> None:
        """Refuse a budget that no choice keeps."""
        choices = self.choices({})
        for cost, limit in self.limits.items():
            smallest = least(choices, cost)
            if smallest > limit:
                raise ConfigError(
                    f"budget {self.budget}: at least {self._as_budget(cost, smallest)} is needed, "
                    f"with {len(self.free)} of {len(self.records)} quantized layers at "
                    f"{WIDTHS[0]} bits and the others kept by the settings"
                )

    def _as_budget(self, cost: str, smallest: float) -> Budget:
        """The smallest budget, rounded up, under which a cost fits."""
        if cost == BYTES:
            assert self.budget.bytes is not None
            missing = smallest - self.limits[BYTES]
            return Budget(bytes=ceil((self.budget.bytes + missing) / 1e4) * 10_000)
        if cost == WEIGHT_BITS:
            assert self.budget.weight_bits is not None
            bits = self.budget.weight_bits * smallest / self.limits[WEIGHT_BITS]
            return Budget(weight_bits=ceil(100 * bits) / 100)
        return Budget(wide_share=ceil(1000 * smallest / sum(self.operations.values())) / 1000)

    def choices(self, errors: Mapping[str, Errors]) -> dict[str, list[Choice]]:
        """Choices of bits for each quantized layer; one choice where nothing is left to decide."""
        found = {}
        for name, record in self.records.items():
            records = [record]
            if name in self.free:
                widths = product(*self._widths(name), self._ranks(name))
                records = [self._at(name, bits) for bits in starmap(Bits, widths)]
            if name in self.free and is_named(name, self.settings.eight_bit_layers):
                records.append(replace(record, plan=None))
            found[name] = [self._choice(each, errors.get(name, {})) for each in records]
        return found

    def _widths(self, name: str) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """Widths that a layer's weight and its activation may have."""
        kept = is_named(name, self.settings.eight_bit_layers)
        widths, most = (MOST_BITS,) if kept else WIDTHS, most_weight_bits(self.settings, name)
        record, of_weights = self.records[name], tuple(bits for bits in widths if bits <= most)
        return (
            (FLOAT_BITS,) if record.weight is None else of_weights,
            (FLOAT_BITS,) if record.activation is None else widths,
        )

    def _ranks(self, name: str) -> tuple[int | None, ...]:
        """Ranks that a layer's branch may have; None is what the method says.

        They are chosen where bytes are limited: no other limit counts what a branch costs.
        """
        plan = self.records[name].plan
        if self.budget.bytes is None or not isinstance(plan, LayerPlan) or not plan.rank:
            return (None,)
        largest = largest_rank(self.records[name].weight_shape)
        ranks = (min(round(share * plan.rank), largest) for share in RANK_SHARES)
        return tuple(dict.fromkeys(ranks))

    def _plan(self, name: str, bits: Bits) -> Plan:
        plan = plan_of(self.settings, self.design, self.boundaries, self.layers[name], bits)
        assert plan is not None
        return plan

    def _at(self, name: str, bits: Bits) -> LayerRecord:
        return replace(self.records[name], plan=self._plan(name, bits))

    def _choice(self, record: LayerRecord, errors: Errors) -> Choice:
        _, kind, layer = self.layers[record.name]
        channels = attention_shape(layer)[0] if kind == ATTENTION else 0
        weight, activation, rank = record.weight, record.activation, _rank(record)
        error = 0.0
        if weight is not None:
            error += errors.get(("weight", weight.num_bits, rank), 0.0)
        if activation is not None:
            error += errors.get(("activation", activation.num_bits, rank), 0.0)
        operands = (weight, activation) if isinstance(record.plan, LayerPlan) else (activation,)
        widest = max(FLOAT_BITS if each is None else each.num_bits for each in operands)
        if record.plan is None:
            size = _stored_bytes(layer.state_dict(prefix=f"{record.name}."))
        else:
            size = layer_bytes(record, channels)
        costs = {
            BYTES: float(size),
            WEIGHT_BITS: float(_weight_bits(record) * prod(record.weight_shape)),
            WIDE: self.operations[record.name] if widest > NARROW_BITS else 0.0,
        }
        decided = f"r{rank}" if self._ranks(record.name) != (None,) else ""
        return Choice(bits_of(record) + decided, error, costs)

    def candidates(self, name: str) -> Candidates:
        """A layer's grids whose errors are to be measured."""
        weights, activations = self._widths(name)
        widest = Bits(max(weights), max(activations))
        schemes: dict[tuple[Side, int], Scheme] = {}
        for bits in weights:
            if scheme := self._at(name, Bits(bits, widest.activation)).weight:
                schemes["weight", bits] = scheme
        for bits in activations:
            if scheme := self._at(name, Bits(widest.weight, bits)).activation:
                schemes["activation", bits] = scheme
        plans = [self._plan(name, replace(widest, rank=rank)) for rank in self._ranks(name)]
        return Candidates(plans, schemes)


def _rank(record: LayerRecord) -> int:
    """Rank of a layer's branch; 0 without one."""
    return record.plan.rank if isinstance(record.plan, LayerPlan) else 0


def _weight_bits(record: LayerRecord) -> int:
    """Bits of a weight; none counts where a component's weights all stay in floating point."""
    if record.plan is None:
        return FLOAT_BITS
    return 0 if record.weight is None else record.weight.num_bits


def _other_bytes(model: nn.Module, records: Mapping[str, LayerRecord]) -> int:
    """Bytes that everything but the quantized layers takes in a checkpoint."""
    inside = tuple(f"{name}." for name, record in records.items() if record.weight_shape)
    tensors = model.state_dict()
    return _stored_bytes({name: t for name, t in tensors.items() if not name.startswith(inside)})


def _stored_bytes(tensors: Mapping[str, Tensor]) -> int:
    """Bytes of tensors that are stored as they are, with their places in the file's header."""
    return sum(
        shortest(tensor).nbytes + len(name) + HEADER_BYTES for name, tensor in tensors.items()
    )
