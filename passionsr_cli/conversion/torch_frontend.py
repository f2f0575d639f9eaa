"""OpenVINO's PyTorch frontend without the command-line tool around it.

`openvino.convert_model` reports every conversion to Google Analytics and traces each module twice
more to compare it with itself; neither happens here.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import openvino
import torch
from openvino._offline_transformations import apply_moc_transformations
from openvino.frontend import FrontEndManager
from openvino.frontend.pytorch.ts_decoder import TorchScriptPythonDecoder


def traced_graph(
    module: torch.nn.Module,
    example: torch.Tensor,
    shape: openvino.PartialShape,
    extensions: Sequence[Any] = (),
) -> openvino.Model:
    """Trace a module of one float32 input and convert it; the graph takes inputs of `shape`."""
    decoder = TorchScriptPythonDecoder(
        module, example_input=example, trace_kwargs={"check_trace": False}
    )
    frontend = FrontEndManager().load_by_framework("pytorch")
    for extension in extensions:
        frontend.add_extension(extension)
    source = frontend.load(decoder)
    (place,) = source.get_inputs()
    source.set_partial_shape(place, shape)
    source.set_element_type(place, openvino.Type.f32)
    graph = frontend.convert(source)
    apply_moc_transformations(graph, cf=False, smart_reshape=True)
    return graph
