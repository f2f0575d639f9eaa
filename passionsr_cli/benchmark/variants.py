"""The forms a model can have in a benchmark, and which backend runs which."""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass, replace
from enum import Enum

from passionsr_cli import methods
from passionsr_cli.benchmark.settings import BenchmarkSettings
from passionsr_cli.bits import Bits
from passionsr_cli.calibration.bits import settings_for
from passionsr_cli.checkpoints.catalogue import check_origin, find_checkpoint
from passionsr_cli.errors import ConfigError, DeviceError, StoreError
from passionsr_cli.layering import preset_names
from passionsr_cli.system.devices import choose_device, choose_precision

EAGER, COMPILED, NNCF = "fp32-nchw", "bf16-compiled", "nncf"
TIMED_BACKENDS = ("torch", "openvino", "triton")
DEFAULT_VARIANTS = (EAGER, "fp32", "bf16", "w8a8", "w6a6", "w4a4")


class Kind(Enum):
    """Ways to make a variant from the model."""

    FLOATING = "floating"
    BITS = "bits"
    NNCF = "nncf"
    CHECKPOINT = "checkpoint"


@dataclass(frozen=True)
class Variant:
    """One form of the model; `precision` is that of everything that is not an integer.

    `bits` is of bits alone, and `method` the one whose layers they have.
    """

    name: str
    kind: Kind
    precision: str
    bits: str = ""
    method: str = ""

    @property
    def quantized(self) -> bool:
        return self.kind is not Kind.FLOATING


@dataclass(frozen=True)
class Case:
    """One row that is to be measured; `device` is cpu, cuda, cuda:N or mps."""

    variant: Variant
    backend: str
    device: str


def plan(settings: BenchmarkSettings) -> list[Case]:
    """The rows of a benchmark: every variant on every backend that can run it.

    Raises `PassionSRError` for what is unknown or not here, and where nothing is left.
    """
    names = settings.variants
    if names is None:
        names = (*DEFAULT_VARIANTS, NNCF) if has_nncf() else DEFAULT_VARIANTS
    wanted = [_on_backends(name, settings) for name in dict.fromkeys(names)]
    device = choose_device(settings.device)
    cases = [
        Case(
            _as_on(backend, variant, settings), backend, "cpu" if backend == "openvino" else device
        )
        for variant, backends in wanted
        for backend in dict.fromkeys(backends)
        if _exists(variant, backend, device, settings.device)
    ]
    if not cases:
        raise ConfigError(
            f"no row is left: {', '.join(names)} cannot run on {', '.join(settings.backend)} "
            f"with --device {settings.device}; {EAGER}, {COMPILED} and fp16 need torch, "
            f"{NNCF} needs openvino"
        )
    return cases


def has_nncf() -> bool:
    """Tell whether NNCF is installed."""
    return importlib.util.find_spec("nncf") is not None


def _on_backends(name: str, settings: BenchmarkSettings) -> tuple[Variant, tuple[str, ...]]:
    """A variant and where it runs: everywhere, or as `torch:fp32` says."""
    backend, _, rest = name.partition(":")
    if backend in TIMED_BACKENDS:
        return _variant(rest, settings), (backend,)
    return _variant(name, settings), settings.backend


def _variant(name: str, settings: BenchmarkSettings) -> Variant:
    around = "fp32" if settings.precision == "auto" else settings.precision
    if name in (EAGER, COMPILED, "fp32", "bf16", "fp16"):
        return Variant(name, Kind.FLOATING, name.partition("-")[0])
    if name == NNCF:
        if not has_nncf():
            raise DeviceError("this needs NNCF: pip install nncf")
        return Variant(name, Kind.NNCF, around)
    bits, method = _bits_and_method(name)
    if _is_bits(bits):
        # Refuses a preset that is none of a calibration, and bits that the method does not have.
        methods.build(settings_for(bits, None, {"method": method}))
        return Variant(name, Kind.BITS, around, bits, method)
    try:
        find_checkpoint(name)
    except StoreError:
        raise ConfigError(
            f"unknown variant '{name}'; use {', '.join(DEFAULT_VARIANTS)}, other bits such as "
            f"w4a8, with a method's layers such as w4a4-qartsr, fp16, {COMPILED}, {NNCF}, or the "
            "name of a checkpoint"
        ) from None
    if settings.random_weights:
        raise ConfigError(
            f"checkpoint '{name}' has weights of its own; leave out --random-weights, or use bits"
        )
    check_origin(name, settings.model)
    return Variant(name, Kind.CHECKPOINT, around)


def _bits_and_method(name: str) -> tuple[str, str]:
    """w4a4 and qartsr of w4a4-qartsr; bits alone have the layers of `maxmin`."""
    bits, _, method = name.rpartition("-")
    return (bits, method) if method in methods.METHODS else (name, "maxmin")


def _is_bits(name: str) -> bool:
    if name.lower() in preset_names():
        return True
    try:
        Bits.parse(name)
    except ValueError:
        return False
    return True


def _as_on(backend: str, variant: Variant, settings: BenchmarkSettings) -> Variant:
    """The variant with what surrounds integers on this backend, as when upscaling."""
    if settings.precision != "auto" or backend != "openvino" or not variant.quantized:
        return variant
    return replace(variant, precision=_cpu_precision())


def _exists(variant: Variant, backend: str, device: str, wanted_device: str) -> bool:
    """Tell whether a backend has this form at all."""
    if backend == "torch":
        return variant.kind is not Kind.NNCF and (variant.precision != "fp16" or device != "cpu")
    if backend == "triton":
        return device.startswith("cuda") and variant.kind in (Kind.BITS, Kind.CHECKPOINT)
    if variant.name in (EAGER, COMPILED, "fp16") or wanted_device not in ("auto", "cpu"):
        return False
    # Without such instructions OpenVINO would compute in float32 and not say so.
    return variant.precision != "bf16" or _cpu_precision() == "bf16"


def _cpu_precision() -> str:
    return choose_precision("auto", choose_device("cpu"))
