"""Write a model's components as ONNX files into a folder."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import onnx

from passionsr_cli import __version__
from passionsr_cli.conversion.onnx_graph import program
from passionsr_cli.conversion.onnx_types import in_half_precision
from passionsr_cli.conversion.stored_graphs import (
    component_side,
    list_component,
    missing_components,
)
from passionsr_cli.conversion.tracing import component_of_model
from passionsr_cli.description import ModelDescription
from passionsr_cli.models.one_step import OneStepModel


def write_onnx(
    model: OneStepModel, folder: Path, size_px: int | None = None, precision: str = "fp32"
) -> None:
    """Convert all components, one after the other, into COMPONENT.onnx, each checked by ONNX; those
    that an earlier call wrote there, and did not come to its end, stay.

    They take any batch and size, or with `size_px` one image with sides of that many pixels.
    `precision`, fp32 or fp16, is the type of everything around the integers.
    """
    for component in missing_components(folder):
        side = None if size_px is None else component_side(model.description, component, size_px)
        traced = component_of_model(model, component)
        converted = program(traced, side)
        if precision == "fp16":
            in_half_precision(converted.model.graph)
        _sign(converted.model, model.description)
        path = folder / f"{component}.onnx"
        converted.save(path)
        onnx.checker.check_model(path, full_check=True)
        names = {
            "layers": traced.layers,
            "folded": traced.folded,
            "attentions": traced.attentions,
            "overflowing": (),
        }
        list_component(folder, component, names)


def _sign(written: Any, description: ModelDescription) -> None:
    """Say whose file it is, instead of what torch notes of each node: lines of source and paths."""
    for graph in (written.graph, *written.functions.values()):
        nodes = list(graph.all_nodes())
        values = [value for node in nodes for value in (*node.inputs, *node.outputs) if value]
        for each in (graph, *graph.inputs, *nodes, *values):
            each.metadata_props.clear()
            each.doc_string = None
    written.producer_name, written.producer_version = "passionsr", __version__
    written.metadata_props.clear()
    written.metadata_props.update(model=description.name, licence=description.licence)
