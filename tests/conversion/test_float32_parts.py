from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import openvino
import pytest
from openvino import opset13 as ops

from passionsr_cli.benchmark.subjects import quantize_min_max
from passionsr_cli.calibration.bits import settings_for
from passionsr_cli.conversion.float32_parts import keep_in_float32, residual_stream
from passionsr_cli.conversion.graph_files import write_graphs
from passionsr_cli.conversion.openvino_graph import component_graph
from passionsr_cli.data.calibration_images import default_crops
from passionsr_cli.graphs.core import core
from passionsr_cli.layers.convert import frozen_layers
from passionsr_cli.layers.frozen import FrozenLayer
from passionsr_cli.methods.stages import Branches, LayerDesign
from passionsr_cli.models.components import DECODER, ENCODER, UNET
from passionsr_cli.models.one_step import OneStepModel


def _convolution(x: Any, channels: int) -> Any:
    weight = np.full((channels, int(x.get_output_partial_shape(0)[1].get_length()), 1, 1), 0.25)
    kernel = ops.constant(weight.astype(np.float32))
    product = ops.convolution(x, kernel, [1, 1], [0, 0], [0, 0], [1, 1])
    return ops.add(product, ops.constant(np.full((1, channels, 1, 1), 0.1, np.float32)))


def _stream() -> openvino.Model:
    """A sum between two products: none of a convolution's own, which its kernel would take in,
    and not the tail of a graph, which is float32 anyway."""
    source = ops.parameter([1, 4, -1, -1], np.float32)
    halves = ops.split(_convolution(source, 8), 1, 2)
    total = ops.add(ops.tanh(halves.output(0)), ops.softmax(halves.output(1), 1))
    total.set_friendly_name("sum")
    return openvino.Model([_convolution(ops.softmax(total, 1), 4)], [source])


@pytest.mark.parametrize("kept", [False, True])
def test_a_marked_sum_stays_float32_among_bf16(kept: bool, tmp_path: Path) -> None:
    if "BF16" not in core().get_property("CPU", "OPTIMIZATION_CAPABILITIES"):
        pytest.skip("this CPU does not compute in bf16")
    model, path = _stream(), tmp_path / "stream.xml"
    assert residual_stream(model) == {"sum"}
    openvino.save_model(model, path, compress_to_fp16=False)
    if kept:
        keep_in_float32(path, residual_stream(model))
    read = core().read_model(path)
    read.reshape([1, 4, 8, 8])
    compiled = core().compile_model(read, "CPU", {"INFERENCE_PRECISION_HINT": "bf16"})
    found = {}
    for node in compiled.get_runtime_model().get_ops():
        notes = {key: str(value.astype(str)) for key, value in node.get_rt_info().items()}
        found.update(
            dict.fromkeys(notes["originalLayersNames"].split(","), notes["runtimePrecision"])
        )
    assert found["sum"] == ("f32" if kept else "bf16")


def test_residual_streams_of_a_model_are_found(tiny_model: OneStepModel) -> None:
    """One sum in each residual block and each attention, and no bias or timestep."""
    for component, part in ((ENCODER, tiny_model.vae.encoder), (DECODER, tiny_model.vae.decoder)):
        kinds = [type(module).__name__ for module in part.modules()]
        wanted = kinds.count("ResnetBlock2D") + kinds.count("Attention")
        found = residual_stream(component_graph(tiny_model, component).model)
        assert len([name for name in found if name.endswith("aten::add/Add")]) == wanted
        # The second convolution of each block ends in its sum, the first does not.
        assert any("conv2" in name for name in found)
        assert not any("conv1" in name for name in found)


def test_a_branch_is_a_part_of_its_convolution(tiny_model: OneStepModel) -> None:
    """So convolutions that end in no residual sum compute in bf16, which is faster."""
    image = default_crops(tiny_model.description, 32, 1)[0]
    design = LayerDesign(branches=Branches({"convolution": 2}))
    quantize_min_max(tiny_model, settings_for("w8a8", None, {}), design, image)
    for component in (ENCODER, DECODER):
        model = component_graph(tiny_model, component).model
        found = residual_stream(model)
        kept = [node for node in model.get_ops() if node.get_friendly_name() in found]
        products = [node for node in kept if node.get_type_name() == "Convolution"]
        assert not any("conv1" in node.get_friendly_name() for node in products)
        branched = [node for node in products if "conv2" in node.get_friendly_name()]
        assert branched
        for node in branched:
            for _ in ("bias", "branch", "stream"):
                (node,) = [target.get_node() for target in node.output(0).get_target_inputs()]
                assert node.get_type_name() == "Add"
                assert node.get_friendly_name() in found


def test_only_a_calibrated_autoencoder_has_marks(tiny_model: OneStepModel, tmp_path: Path) -> None:
    image = default_crops(tiny_model.description, 32, 1)[0]
    marked = {}
    for name in ("full", "calibrated"):
        folder = tmp_path / name
        folder.mkdir()
        write_graphs(tiny_model, folder)
        for component in (ENCODER, UNET, DECODER):
            marked[name, component] = 'name="precise"' in (folder / f"{component}.xml").read_text()
        if name == "full":
            quantize_min_max(tiny_model, settings_for("w8a8", None, {}), LayerDesign(), image)
    assert [key for key, value in marked.items() if value] == [
        ("calibrated", ENCODER),
        ("calibrated", DECODER),
    ]
    # The graphs have the weights now.
    layers = frozen_layers(tiny_model).values()
    assert {layer.weight.numel() for layer in layers if isinstance(layer, FrozenLayer)} == {0}
