"""Write a model's components as OpenVINO graphs into a folder."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import openvino

from passionsr_cli.conversion.float32_parts import keep_in_float32, residual_stream
from passionsr_cli.conversion.graph_passes import fit_to_cpu
from passionsr_cli.conversion.openvino_graph import ComponentGraph, component_graph
from passionsr_cli.conversion.stored_graphs import component_side, write_listing
from passionsr_cli.models.components import COMPONENTS
from passionsr_cli.models.one_step import OneStepModel

Convert = Callable[[OneStepModel, str], ComponentGraph]


def write_graphs(
    model: OneStepModel,
    folder: Path,
    size_px: int | None = None,
    convert: Convert = component_graph,
) -> None:
    """Convert all components, one after the other, into COMPONENT.xml and COMPONENT.bin.

    They take any batch and size, or with `size_px` one image with sides of that many pixels.
    """
    components = {}
    for component in COMPONENTS:
        graph = convert(model, component)
        stream = residual_stream(graph.model) if graph.precise else set()
        if size_px is not None:
            side = component_side(model.description, component, size_px)
            graph.model.reshape([1, graph.model.input().partial_shape[1], side, side])
            fit_to_cpu(graph.model)
        path = folder / f"{component}.xml"
        openvino.save_model(graph.model, path, compress_to_fp16=False)
        keep_in_float32(path, stream)
        components[component] = {
            "layers": graph.layers,
            "folded": graph.folded,
            "attentions": graph.attentions,
            "overflowing": graph.overflowing,
        }
    write_listing(folder, components)
