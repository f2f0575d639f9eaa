from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from passionsr_cli.training.real_esrgan import RRDBNet, load_real_esrgan


def _write(path: Path, model: nn.Module) -> None:
    with path.open("wb") as file:
        for module in model.modules():
            if isinstance(module, nn.Conv2d):
                assert module.bias is not None
                halves = module.weight.numpy().astype("<f2").tobytes()
                file.write(struct.pack("<I", 0x01306B47))
                file.write(halves + bytes(-len(halves) % 4))
                file.write(struct.pack(f"<{len(module.bias)}f", *module.bias.tolist()))


def test_weights_are_read_in_the_order_of_execution(tmp_path: Path) -> None:
    torch.manual_seed(0)
    path = tmp_path / "realesrgan-x4plus.bin"
    written = RRDBNet().requires_grad_(False)
    _write(path, written)
    # The size of the published file.
    assert path.stat().st_size == 33_424_520
    for name, found in load_real_esrgan(path).state_dict().items():
        wanted = written.state_dict()[name].numpy()
        expected = wanted.astype(np.float16) if name.endswith("weight") else wanted
        assert np.array_equal(found.numpy(), expected), name


def test_other_files_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "realesrgan-x4plus.bin"
    path.write_bytes(struct.pack("<I", 0x01306B47) + bytes(100))
    with pytest.raises(ValueError, match="ends too early: 104 bytes"):
        load_real_esrgan(path)
    path.write_bytes(bytes(8000))
    with pytest.raises(ValueError, match="tag 0x00000000 where 0x01306b47 should be"):
        load_real_esrgan(path)
