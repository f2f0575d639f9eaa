"""Write a model's components as OpenVINO graphs into a folder."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import openvino

from passionsr_cli.conversion.float32_parts import keep_in_float32, residual_stream
from passionsr_cli.conversion.graph_passes import fit_to_cpu
from passionsr_cli.conversion.openvino_graph import ComponentGraph, component_graph
from passionsr_cli.conversion.stored_graphs import (
    component_side,
    list_component,
    missing_components,
)
from passionsr_cli.models.one_step import OneStepModel
from passionsr_cli.system.memory import is_out_of_memory

# OpenVINO's own name of a node, or of one that it replaced; modules have others.
_COUNTED = re.compile(r"([A-Z]\w*)_\d+")

Convert = Callable[[OneStepModel, str], ComponentGraph]


def write_graphs(
    model: OneStepModel,
    folder: Path,
    size_px: int | None = None,
    convert: Convert = component_graph,
) -> None:
    """Convert all components, one after the other, into COMPONENT.xml and COMPONENT.bin; those
    that an earlier call wrote there, and did not come to its end, stay.

    They take any batch and size, or with `size_px` one image with sides of that many pixels.
    """
    for component in missing_components(folder):
        graph = convert(model, component)
        stream = residual_stream(graph.model) if graph.precise else set()
        if size_px is not None:
            side = component_side(model.description, component, size_px)
            graph.model.reshape([1, graph.model.input().partial_shape[1], side, side])
            fit_to_cpu(graph.model)
        graph.model.set_friendly_name(component)
        renamed = _name_by_place(graph.model)
        path = folder / f"{component}.xml"
        _save(graph.model, path)
        keep_in_float32(path, {renamed.get(name, name) for name in stream})
        names = {
            "layers": graph.layers,
            "folded": graph.folded,
            "attentions": graph.attentions,
            "overflowing": graph.overflowing,
        }
        list_component(folder, component, names)


def _save(graph: openvino.Model, path: Path) -> None:
    """Write a graph. Raises `OSError` where that cannot be: OpenVINO says RuntimeError."""
    try:
        openvino.save_model(graph, path, compress_to_fp16=False)
    except RuntimeError as error:
        if is_out_of_memory(error):
            raise
        said = " ".join(str(error).split())
        raise OSError(f"{said}; is there room on the disk?") from error


def _name_by_place(model: openvino.Model) -> dict[str, str]:
    """Give nodes without a name of their own one by their place in the graph: OpenVINO counts them
    over a process, so that a file would depend on what was converted before.

    Returns new names by old.
    """
    renamed = {}
    for place, node in enumerate(model.get_ordered_ops()):
        name = node.get_friendly_name()
        if counted := _COUNTED.fullmatch(name):
            renamed[name] = f"{counted[1]}_{place}"
            node.set_friendly_name(renamed[name])
    return renamed
