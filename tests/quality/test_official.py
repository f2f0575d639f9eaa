"""The VAE quantizers that PassionSR's authors published, where they are at hand.

    PASSIONSR_OFFICIAL=DIR pytest -s tests/quality/test_official.py

DIR holds vae_W8A8.pth, vae_W6A6.pth and empty_context_embedding.pt. The model has Stable Diffusion
2.1's VAE with random weights, and a small UNet.
"""

from __future__ import annotations

import os
from pathlib import Path

import foreign
import pytest
import released_code
import torch
import yaml
from torch import nn

from passionsr_cli.checkpoints.released.importing import import_checkpoint
from passionsr_cli.checkpoints.tensors import load_checkpoint
from passionsr_cli.description import ModelDescription
from passionsr_cli.layers.products import QuantizedLayer
from passionsr_cli.models.loading import save
from passionsr_cli.models.one_step import OneStepModel
from passionsr_cli.published.prompts import read_context
from passionsr_cli.quantization.schemes import Scheme
from passionsr_cli.registry import describe

FOLDER = os.environ.get("PASSIONSR_OFFICIAL")
LAYERS, KEYS = 72, 680

pytestmark = pytest.mark.skipif(not FOLDER, reason="set PASSIONSR_OFFICIAL=DIR to run this")


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> tuple[OneStepModel, Path]:
    values = describe("passionsr-fp").model_dump()
    small = {"block_out_channels": (32, 64, 64, 64), "attention_head_dim": (1, 2, 2, 2)}
    values["unet"] = {**values["unet"], **small}
    torch.manual_seed(0)
    made = OneStepModel(ModelDescription.model_validate(values)).eval()
    folder = tmp_path_factory.mktemp("models") / "random"
    save(folder, made, {})
    return made.half().float(), folder


@pytest.mark.parametrize("bits", [8, 6])
@torch.no_grad()
def test_every_key_is_taken_and_every_layer_computes_the_published_formulas(
    model: tuple[OneStepModel, Path], tmp_path: Path, bits: int
) -> None:
    plain, folder = model
    file = Path(str(FOLDER)) / f"vae_W{bits}A{bits}.pth"
    settings = {"weight_quant_bits": bits, "act_quant_bits": bits, "split": False}
    (tmp_path / "x.yaml").write_text(yaml.safe_dump({"quantize_config": {"Vae": settings}}))
    state = torch.load(file, map_location="cpu", weights_only=True)
    assert len(state) == KEYS
    errors = {}
    for numerics in ("released", "standard"):
        # Raises unless every key has been taken and every layer found.
        entry = import_checkpoint([file], tmp_path / "x.yaml", str(folder), numerics, numerics)
        loaded = load_checkpoint(entry)
        layers = {n: x for n, x in loaded.named_modules() if isinstance(x, QuantizedLayer)}
        assert len(layers) == LAYERS
        widths = {record.name: record.weight for record in entry.manifest.layers}
        errors[numerics] = [
            _error(plain, name, layer, widths[name], state) for name, layer in layers.items()
        ]
        largest, mean = max(errors[numerics]), sum(errors[numerics]) / LAYERS
        print(f"\nW{bits}A{bits} {numerics}: relative difference to the published formulas at")
        print(f"most {largest:.2e}, on average {mean:.2e}, {entry.entry.tensors_file.bytes} B")
        image = loaded(torch.rand(1, 3, 64, 64))
        assert torch.isfinite(image).all()
    assert max(errors["released"]) < 1e-5


def _error(
    plain: OneStepModel,
    name: str,
    layer: QuantizedLayer,
    scheme: Scheme | None,
    state: dict[str, torch.Tensor],
) -> float:
    assert scheme is not None
    module = plain.get_submodule(name)
    prefix = f"model.{foreign.ldm_name(name, plain.description)}."
    own = {k.removeprefix(prefix): v for k, v in state.items() if k.startswith(prefix)}
    bits = 8 if "quant_conv" in name or name.endswith("conv_out") else scheme.num_bits
    generator = torch.Generator().manual_seed(1)
    channels = module.weight.shape[1]
    shape = (1, channels, 12, 12) if isinstance(module, nn.Conv2d) else (1, 144, channels)
    x = torch.randn(shape, generator=generator) * float(own["act_quantizer_0.x_max"]) / 2
    expected = released_code.layer(module, own, x, bits)
    return float((layer(x) - expected).norm() / expected.norm())


def test_the_published_context_is_read() -> None:
    path = Path(str(FOLDER)) / "empty_context_embedding.pt"
    assert read_context(path, (77, 1024)).shape == (1, 77, 1024)
