from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch

from passionsr_cli import api
from passionsr_cli.checkpoints.catalogue import find_checkpoint
from passionsr_cli.checkpoints.tensors import load_checkpoint
from passionsr_cli.errors import ConfigError, DeviceError
from passionsr_cli.exports import formats
from passionsr_cli.exports.fidelity import psnr
from passionsr_cli.models.one_step import OneStepModel


@pytest.mark.usefixtures("small_photograph")
def test_without_a_size_any_image_goes(
    calibrate: Callable[..., str], tiny_model: OneStepModel, tmp_path: Path
) -> None:
    api.export(calibrate("w8a8"), "onnx", tmp_path / "out")
    form = formats.find_format("onnx", None)
    executor = form.open(tmp_path / "out", tiny_model.description)
    definition = load_checkpoint(find_checkpoint("w8a8"))
    x = torch.rand(2, 3, 32, 48)
    with torch.no_grad():
        wanted = definition(x)
    near = psnr(executor.decode(executor.restore_latent(x.numpy())), wanted.numpy())
    # Flipped integers in so small a model are seen in the whole image.
    assert near is None or near > 30


@pytest.mark.usefixtures("small_photograph")
def test_what_is_packed_loads_as_a_checkpoint(
    calibrate: Callable[..., str], tmp_path: Path
) -> None:
    name = calibrate("w3a5")
    api.export(name, "safetensors", tmp_path / "out")
    one, other = (load_checkpoint(find_checkpoint(n)) for n in (name, str(tmp_path / "out")))
    x = torch.rand(1, 3, 32, 32)
    assert torch.equal(one(x), other(x))


def test_tensorrt_gets_zero_points_of_zero(calibrate: Callable[..., str], tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="--config symmetric"):
        api.export(calibrate("w6a6"), "onnx", tmp_path / "out", 64, "tensorrt")
    assert not (tmp_path / "out").exists()
    name = calibrate("w8a8", activations="symmetric", weights="symmetric")
    assert api.export(name, "onnx", tmp_path / "out", 64, "tensorrt").precision == "fp16"
    for component in ("encoder", "unet", "decoder"):
        graph = onnx.load(tmp_path / "out" / f"{component}.onnx").graph
        values = {t.name: onnx.numpy_helper.to_array(t) for t in graph.initializer}
        nodes = [n for n in graph.node if n.op_type in ("QuantizeLinear", "DequantizeLinear")]
        # Where none is given it is zero, of the integers' type.
        points = [values[node.input[2]] for node in nodes if len(node.input) == 3]
        assert points
        assert all(point.dtype == np.int8 and not point.any() for point in points)
        weights = [values[n.input[0]] for n in nodes if n.input[0] in values]
        assert weights
        assert all(weight.dtype == np.int8 for weight in weights)


def test_mini_in_half_precision_is_typed_so_around_its_integers(tmp_path: Path) -> None:
    out = tmp_path / "out"
    report = api.export("mini-w8a8", "onnx", out, 128, precision="fp16")
    assert report.fidelity.sufficient
    assert report.fidelity.psnr is not None
    assert report.fidelity.psnr > 50
    assert json.loads((out / "model.json").read_text())["precision"] == "fp16"
    for component, pairs in (("encoder", 0), ("unet", 100), ("decoder", 6)):
        path = out / f"{component}.onnx"
        onnx.checker.check_model(path, full_check=True)
        model = onnx.load(path)
        assert [(each.domain, each.version) for each in model.opset_import] == [("", 21)]
        graph = onnx.shape_inference.infer_shapes(model, strict_mode=True).graph
        types = {each.name: each.data_type for each in graph.initializer}
        types |= {each.name: each.type.tensor_type.elem_type for each in graph.value_info}
        made_of = {name: node for node in graph.node for name in node.output}
        quantizing = [node for node in graph.node if node.op_type == "QuantizeLinear"]
        assert len(quantizing) == pairs
        for node in graph.node:
            named = [types.get(name) for name in (*node.input, *node.output)]
            if node.op_type == "QuantizeLinear":
                x, scale, integers = named[0], named[1], named[-1]
                assert x == scale == onnx.TensorProto.FLOAT16
                assert integers in (onnx.TensorProto.INT8, onnx.TensorProto.UINT8)
            elif node.op_type == "DequantizeLinear":
                assert named[1] == named[-1] == onnx.TensorProto.FLOAT16
            elif node.op_type not in ("Cast", "Resize"):
                assert onnx.TensorProto.FLOAT not in named
            if node.op_type in ("Conv", "MatMul"):
                # Nothing is between a pair and its product, of which runtimes make one kernel.
                readers = [made_of[name].op_type for name in node.input[:2] if name in made_of]
                assert set(readers) <= {"DequantizeLinear"} or not types_of_integers(node, made_of)


def types_of_integers(node: Any, made_of: dict[str, Any]) -> bool:
    """True if a product's weight is dequantized."""
    weight = made_of.get(node.input[1])
    return weight is not None and weight.op_type == "DequantizeLinear"


def test_onnx_is_asked_for_by_its_packages(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("passionsr_cli.inference.open.ONNX_PACKAGES", ("no_such_package",))
    with pytest.raises(DeviceError, match="pip install no_such_package"):
        formats.find_format("onnx", None)
