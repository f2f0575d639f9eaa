from __future__ import annotations

from dataclasses import asdict, replace

import pytest

from passionsr_cli.benchmark.measurements import (
    higher,
    integer_flop_share,
    measurement_of,
    roofline_share,
)
from passionsr_cli.benchmark.variants import Case, Kind, Variant
from passionsr_cli.conversion.kernels import KernelReport
from passionsr_cli.models.costs import LayerCosts

LAYERS = [
    LayerCosts("a", "convolution", 600),
    LayerCosts("b", "linear", 300),
    LayerCosts("c", "linear", 5000),
    LayerCosts("d", "attention", 100),
    LayerCosts("e", "attention", 1000),
]
RAN = KernelReport(
    integer=("a",),
    folded=("c",),
    floating=(("b", "runs as f32"),),
    attentions=(("d", "brgemm_avx512_i8 and brgemm_avx512_f32"), ("e", "jit_i8")),
)


def test_integers_count_by_what_they_cost() -> None:
    # a, half of d and all of e, of everything but c, which was folded.
    assert integer_flop_share(LAYERS, RAN) == pytest.approx((600 + 50 + 1000) / 2000)
    assert integer_flop_share(LAYERS, KernelReport()) == 0


def test_a_row_follows_from_its_runs() -> None:
    case = Case(Variant("w8a8", Kind.BITS, "fp32"), "openvino", "cpu")
    measured = {
        "first_tile_seconds": 5.0,
        "seconds": [2.0, 9.0, 3.0],
        "peak_memory_bytes": 7,
        "ran": asdict(RAN),
        "device": "cpu",
        "notes": [],
    }
    row = measurement_of(case, "tiny", 64, 13.0, measured, LAYERS)
    assert (row.seconds, row.seconds_min, row.seconds_max, row.runs) == (3, 2, 9, 3)
    assert (row.startup_cold_seconds, row.startup_cached_seconds) == (10, 2)
    assert row.gflop == pytest.approx(7000 / 1e9)
    assert row.tops == pytest.approx(7000 / 3 / 1e12)
    assert row.integer_flop_share == pytest.approx(0.825)
    assert not row.simulated
    alone = measurement_of(replace(case, backend="torch"), "tiny", 64, None, measured, LAYERS)
    assert (alone.startup_cold_seconds, alone.startup_cached_seconds) == (2, None)
    assert alone.simulated


def test_the_roof_is_that_of_the_main_arithmetic() -> None:
    case = Case(Variant("w8a8", Kind.BITS, "bf16"), "openvino", "cpu")
    measured = {
        "first_tile_seconds": 1.0,
        "seconds": [1.0],
        "peak_memory_bytes": 7,
        "ran": asdict(RAN),
        "device": "cpu",
        "notes": [],
    }
    row = replace(measurement_of(case, "tiny", 64, 1.0, measured, LAYERS), tops=1.0)
    roofline = {
        "int8": {"matmul_tops": 4.0, "convolution_tops": None},
        "bf16": {"matmul_tops": 1.0, "convolution_tops": 2.0},
        "fp32": {"matmul_tops": None, "convolution_tops": None},
    }
    assert roofline_share(row, roofline) == 0.25
    assert roofline_share(replace(row, integer_flop_share=0.4), roofline) == 0.5
    floating = replace(row, integer_flop_share=0.0, precision="fp32")
    assert roofline_share(floating, roofline) is None
    assert roofline_share(replace(row, device="cuda"), roofline) is None
    better = higher(roofline, {**roofline, "bf16": {"matmul_tops": 3.0, "convolution_tops": None}})
    assert better["bf16"] == {"matmul_tops": 3.0, "convolution_tops": 2.0}
    assert better["fp32"] == {"matmul_tops": None, "convolution_tops": None}
