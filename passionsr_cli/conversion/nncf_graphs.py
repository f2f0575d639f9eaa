"""NNCF's own post-training int8 of the full-precision graphs: what ours is compared with.

NNCF (https://github.com/openvinotoolkit/nncf) is OpenVINO's quantization toolkit. With its settings
for transformers activations get asymmetric per-tensor grids, weights symmetric per-channel ones;
convolutions and linear layers are quantized, the fused attention products are not. Without them it
also quantizes what enters group normalizations and residual sums: `mini` then comes to 24 instead
of 41 dB of full precision.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Sequence
from contextlib import redirect_stdout
from io import StringIO
from typing import Any

import torch
from torch import Tensor

from passionsr_cli.conversion.openvino_graph import ComponentGraph, component_graph
from passionsr_cli.errors import DeviceError
from passionsr_cli.layers.convert import find_layers
from passionsr_cli.models.chain import Chain
from passionsr_cli.models.components import COMPONENTS, component_of
from passionsr_cli.models.one_step import OneStepModel
from passionsr_cli.quantization.schemes import ATTENTION

_PREFIX = "__module.model."
_PRODUCTS = ("Convolution", "MatMul")
# Stdout is the whole process's.
_redirecting = threading.Lock()


def nncf_graph(model: OneStepModel, component: str, images: Sequence[Tensor]) -> ComponentGraph:
    """One component of a full-precision model, quantized by `nncf.quantize`.

    It is calibrated on what reaches the component of upscaled images (1, 3, H, W). `layers` are
    the convolutions and linear layers NNCF met, quantized or not; `attentions` is empty. All
    around integers computes in one precision, as wherever else NNCF's graphs run.
    """
    try:
        import nncf
    except ImportError as error:
        raise DeviceError(f"this needs NNCF ({error}): pip install nncf") from error
    logging.getLogger("nncf").setLevel(logging.ERROR)
    before = Chain(model, COMPONENTS[: COMPONENTS.index(component)])
    with torch.no_grad():
        inputs = [before(image).numpy() for image in images]
    graph = component_graph(model, component)
    # NNCF draws its progress on stdout, where results are printed.
    with _redirecting, redirect_stdout(StringIO()):
        quantized = nncf.quantize(
            graph.model, nncf.Dataset(inputs), model_type=nncf.ModelType.TRANSFORMER
        )
    return ComponentGraph(quantized, _named(quantized, _weighted(model, component)), (), ())


def _weighted(model: OneStepModel, component: str) -> set[str]:
    return {
        name
        for name, kind, _ in find_layers(model)
        if kind != ATTENTION and component_of(name) == component
    }


def _named(graph: Any, names: set[str]) -> tuple[str, ...]:
    """Give the products of these layers the layers' names; the names that were found."""
    found = []
    for node in graph.get_ops():
        name = node.get_friendly_name().removeprefix(_PREFIX).partition("/")[0]
        if node.get_type_name() in _PRODUCTS and name in names:
            node.set_friendly_name(name)
            found.append(name)
    return tuple(found)
