"""What stays float32 when everything around integers is bf16.

A residual stream carries the image from layer to layer, and each of its sums would round all of it
to the eight bits of bf16: in an autoencoder that costs more than all other rounding together.
"""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import openvino

# How OpenVINO's IR files say that a layer must not be computed in 16 bits. From Python it can be
# set there alone.
MARK = {"name": "precise", "version": "0"}

Node = Any


def residual_stream(model: openvino.Model) -> set[str]:
    """Names of the sums of two images (B, C, H, W), and of the convolutions that end in one."""
    sums = [node for node in model.get_ops() if _is_residual_sum(node)]
    terms = [node.input_value(number).get_node() for node in sums for number in range(2)]
    layers = [part for term in terms for part in _convolution_with_bias(term)]
    return {node.get_friendly_name() for node in (*sums, *layers)}


def keep_in_float32(path: Path, names: Collection[str]) -> None:
    """Mark layers of a graph's XML file, so that they compute in float32 at any precision."""
    tree = ElementTree.parse(path)
    for layer in tree.iter("layer"):
        if layer.get("name") in names:
            notes = layer.find("rt_info")
            if notes is None:
                notes = ElementTree.Element("rt_info")
                layer.insert(0 if layer.find("data") is None else 1, notes)
            ElementTree.SubElement(notes, "attribute", MARK)
    tree.write(path, encoding="utf-8", xml_declaration=True)


def _is_residual_sum(node: Node) -> bool:
    if node.get_type_name() != "Add" or node.get_output_partial_shape(0).rank.get_length() != 4:
        return False
    terms = [node.input_value(number) for number in range(2)]
    return all(_spans_an_image(term) for term in terms)


def _convolution_with_bias(node: Node) -> list[Node]:
    """Both nodes, if this is the sum of a convolution and its bias."""
    if node.get_type_name() != "Add":
        return []
    product = node.input_value(0).get_node()
    return [node, product] if product.get_type_name() == "Convolution" else []


def _spans_an_image(value: Node) -> bool:
    """Unlike a bias, or what a timestep adds."""
    return all(
        side.is_dynamic or side.get_length() > 1 for side in list(value.get_partial_shape())[2:]
    )
