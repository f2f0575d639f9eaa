"""Parts of a graph that stay float32 when everything around integers is bf16.

A residual stream carries the image from layer to layer, and each of its sums would round all of it
to the eight bits of bf16: in an autoencoder that costs more than all other rounding together.
"""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import openvino

from passionsr_cli.conversion.stored_graphs import BRANCH_SUFFIX

# How OpenVINO's IR files say that a layer must not be computed in 16 bits. From Python it can be
# set there alone.
MARK = {"name": "precise", "version": "0"}

Node = Any


def residual_stream(model: openvino.Model) -> set[str]:
    """Names of the sums of two images (B, C, H, W), and of the convolutions that end in one.

    A convolution's sum with the branch beside it is a part of the convolution.
    """
    sums = [node for node in model.get_ops() if _is_residual_sum(node)]
    layers = [part for node in sums for term in _terms(node) for part in _convolution(term)]
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
    if _is_branch(_terms(node)[1]):
        return False
    return all(_spans_an_image(node.input_value(number)) for number in range(2))


def _convolution(node: Node) -> list[Node]:
    """The nodes of a convolution, its sums with a bias and a branch among them; else none."""
    if node.get_type_name() == "Convolution":
        return [node]
    inner = _convolution(_terms(node)[0]) if node.get_type_name() == "Add" else []
    return [node, *inner] if inner else []


def _is_branch(node: Node) -> bool:
    """The last node of a branch, back from bfloat16."""
    if node.get_type_name() != "Convert":
        return False
    return BRANCH_SUFFIX in node.input_value(0).get_node().get_friendly_name()


def _terms(node: Node) -> tuple[Node, Node]:
    return node.input_value(0).get_node(), node.input_value(1).get_node()


def _spans_an_image(value: Node) -> bool:
    """Unlike a bias, or what a timestep adds."""
    return all(
        side.is_dynamic or side.get_length() > 1 for side in list(value.get_partial_shape())[2:]
    )
