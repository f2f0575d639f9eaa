"""OpenVINO's PyTorch frontend without the command-line tool around it.

`openvino.convert_model` reports every conversion to Google Analytics and traces each module twice
more to compare it with itself; neither happens here.

torch calls `torch.jit.trace` deprecated. With `torch.export` OpenVINO 2026.4 computes the same to
the last bit, but from graphs of other operations, which take eight times as long to make (35
instead of 4 s for `mini`), and its decoder stumbles over torch's table of decompositions.
"""

from __future__ import annotations

import warnings
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
    # Tracing warns of itself, and of every shape it turns into a number; none of ours depends on
    # the image.
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
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
