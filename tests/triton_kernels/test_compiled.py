"""Kernels compiled for GPUs that are not here: they multiply bytes on matrix units."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("triton", reason="Triton comes with torch for CUDA, on Linux")

# Compute capabilities: A100; RTX 30; RTX 40; H100; RTX 50.
CAPABILITIES = (80, 86, 89, 90, 120)
# In a process of its own, without the interpreter, which this one has.
_PROGRAM = """
import json, re, sys
import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource
from passionsr_cli.triton_kernels import attention_kernels, kernels, norm_kernels, tuning

POINTERS = {
    "x": "*bf16", "norm_scale": "*fp32", "norm_shift": "*fp32", "factor": "*fp32",
    "offset": "*fp32", "codes": "*i8", "means": "*fp32", "deviations": "*fp32",
    "weight_zero": "*i8",
    "correction": "*i32", "scale": "*fp32", "bias": "*fp32", "added": "*bf16",
    "moved": "*bf16", "shift": "*fp32",
    "query": "*i8", "key": "*i8", "value": "*i8", "sums": "*fp32", "factor_out": "*fp32",
    "offset_out": "*fp32",
}
FLOATS = ("lowest", "highest", "zero_point", "logit_factor", "steps", "lowest_out", "highest_out",
    "zero_out", "result_scale", "eps")
MULTIPLES = ("channels", "filled_channels", "weight_bytes", "row_stride", "query_stride",
    "key_stride", "value_stride", "result_stride", "width", "keys", "tokens", *POINTERS, "weight",
    "result")


def compiled(kernel, capability, constants, **options):
    types = {**POINTERS, **dict.fromkeys(FLOATS, "fp32")}
    types["weight"] = "*u8" if constants.get("packed") else "*i8"
    types["result"] = "*i8" if constants.get("rounds") else "*bf16"
    types.update(dict.fromkeys(constants, "constexpr"))
    signature = {name: types.get(name, "i32") for name in kernel.arg_names}
    multiples = {
        (place,): [["tt.divisibility", 16]]
        for place, name in enumerate(kernel.arg_names)
        if name in MULTIPLES
    }
    source = ASTSource(kernel, signature, constants, multiples)
    options = {**kernels.FUSED, **options}
    return triton.compile(source, target=GPUTarget("cuda", capability, 32), options=options)


def products(kernel, capability, blocks, constants):
    options = dict(num_warps=blocks.warps, num_stages=blocks.stages)
    found = compiled(kernel, capability, constants, **options)
    instructions = re.findall(r"(?:wgmma.mma_async|mma.sync)[.\\w]*", found.asm["ptx"])
    return len(found.asm["cubin"]), found.metadata.shared, instructions


def multiply(capability, blocks, packed, rounds, gates=False):
    sizes = dict(block_rows=blocks.rows, block_outputs=blocks.columns, block_channels=blocks.depth)
    sides = 1 if gates else 3
    taps = dict(taps_y=sides, taps_x=sides, stride_y=1, stride_x=1, output_stride=1)
    kinds = dict(adds=not gates, packed=packed, gates=gates, rounds=rounds)
    constants = {**sizes, **taps, **kinds}
    return products(kernels.multiply_kernel, capability, blocks, constants)


def attention(capability, blocks, width, rounds):
    sizes = dict(block_rows=blocks.rows, block_keys=blocks.depth, block_depth=width)
    sums = products(attention_kernels.softmax_sums_kernel, capability, blocks, sizes)
    constants = {**sizes, "block_values": min(width, blocks.columns), "rounds": rounds}
    return sums, products(attention_kernels.attention_kernel, capability, blocks, constants)


def all_products(capability, all_sizes):
    blocks = dict(block_pixels=32, block_channels=128)
    assert compiled(norm_kernels.moments_kernel, capability, blocks).asm["cubin"]
    assert compiled(norm_kernels.scale_kernel, capability, blocks).asm["cubin"]
    parts = dict(moves=True, block_parts=512, block_channels=4)
    assert compiled(norm_kernels.scales_kernel, capability, parts).asm["cubin"]
    blocks.update(border_y=1, border_x=1, normalizes=True)
    assert compiled(kernels.quantize_kernel, capability, blocks).asm["cubin"]
    first, *others = tuning.PRODUCTS_OF_MANY_ROWS + tuning.PRODUCTS_OF_FEW_ROWS
    yield multiply(capability, first, packed=False, rounds=True)
    yield multiply(capability, first, packed=True, rounds=False)
    yield multiply(capability, first, packed=True, rounds=True, gates=True)
    # Bytes that are not packed take most of the shared memory, and the least time to compile.
    for blocks in others if all_sizes else []:
        yield multiply(capability, blocks, packed=False, rounds=True)
    for blocks in tuning.ATTENTIONS if all_sizes else tuning.ATTENTIONS[:1]:
        # Heads of Stable Diffusion's UNet and of its VAE.
        yield from attention(capability, blocks, 64, 1)
        if blocks.depth < 64:
            yield from attention(capability, blocks, 512, 0)


# GPUs choose among the same sizes: for one of them all are compiled.
found = [list(all_products(int(each), place == 0)) for place, each in enumerate(sys.argv[1:])]
print(json.dumps(found))
"""


def test_products_are_of_bytes(tmp_path: Path) -> None:
    environment = {**os.environ, "TRITON_CACHE_DIR": str(tmp_path), "TRITON_INTERPRET": "0"}
    command = [sys.executable, "-c", _PROGRAM, *map(str, CAPABILITIES)]
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr
    for capability, found in zip(CAPABILITIES, json.loads(done.stdout), strict=True):
        assert found
        for size, shared_bytes, instructions in found:
            assert size > 0
            # GPUs of the house and of the desk have 99 KB of shared memory for a block.
            assert shared_bytes <= 99 * 1024
            assert instructions
            assert all(".s8.s8" in instruction for instruction in instructions)
            assert any("wgmma" in each for each in instructions) == (capability == 90)
