"""Subjects of a benchmark, made once and put on disk: each then starts as `upscale` does.

A random model is a model's folder, a variant in bits a checkpoint, NNCF's a folder of graphs.
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from passionsr_cli import __version__, methods
from passionsr_cli.allocation.layer_plans import check_names, quantize_model
from passionsr_cli.calibration.bits import settings_for
from passionsr_cli.checkpoints.manifest import (
    CheckpointManifest,
    ImagesRecord,
    MethodRecord,
    Origin,
    created_now,
    dump_manifest,
)
from passionsr_cli.checkpoints.tensors import pack_model
from passionsr_cli.config import CalibrationSettings
from passionsr_cli.data.calibration_images import default_crops
from passionsr_cli.errors import StoreError
from passionsr_cli.layers.convert import freeze, learning_layers, set_state
from passionsr_cli.methods.stages import LayerDesign
from passionsr_cli.models import catalogue, loading
from passionsr_cli.models.one_step import OneStepModel
from passionsr_cli.quantization.schemes import LayerRecord, State
from passionsr_cli.store import CHECKPOINT, write_entry

SEED = 0


def make_random_model(model: str, folder: str) -> None:
    """A known model with the weights its layers are born with, always the same, as a folder."""
    torch.manual_seed(SEED)
    made = OneStepModel(catalogue.find(model).description)
    # Zeros, which it is born with, would leave nothing to round in cross-attention.
    torch.nn.init.normal_(made.context)
    loading.save(Path(folder), made, {})


def make_checkpoint(model: str, bits: str, method: str, size: int, folder: str) -> None:
    """A checkpoint at these bits, with the layers that a method makes, which has learned nothing:
    its bounds are the smallest and largest values in one crop of this size."""
    settings = settings_for(bits, None, {"model": model, "method": method})
    made = loading.load(model)
    parameters = sum(p.numel() for p in made.parameters())
    check_names(made.description, settings)
    image = default_crops(made.description, size, 1)[0]
    records = quantize_min_max(made, settings, methods.build(settings).design, image)
    known = catalogue.find_present(model)
    manifest = CheckpointManifest(
        created=created_now(),
        model=Origin(
            name=model,
            sha256=known.sha256,
            parameters=parameters,
            description=made.description,
        ),
        bits=settings.bits_name,
        settings=settings.model_dump(mode="json"),
        method=MethodRecord(name=method, settings={}),
        images=ImagesRecord(source="one crop", count=1),
        stages=(),
        image_psnr=None,
        seconds=0,
        peak_memory_bytes=0,
        layers=tuple(records),
        versions={"passionsr": __version__},
    )
    write_entry(Path(folder), CHECKPOINT, dump_manifest(manifest), pack_model(made))


@torch.no_grad()
def quantize_min_max(
    model: OneStepModel, settings: CalibrationSettings, design: LayerDesign, image: Tensor
) -> list[LayerRecord]:
    """Quantize and freeze a model in place, its bounds the extremes in one image (B, 3, H, W).

    Speed does not depend on where bounds are, or on what a branch merged into a weight adds.
    """
    grids = replace(design.grids, bounds_start="extremes")
    merged = replace(design.merged, ranks={})
    alike = replace(design, grids=grids, merged=merged, rounding="nearest")
    records = quantize_model(model, settings, alike)
    layers = list(learning_layers(model).values())
    for layer in layers:
        layer.start_branch()
    set_state(layers, State.OBSERVING)
    model(image)
    for layer in layers:
        layer.start_transform(exponent=0.5)
        layer.start_bounds()
    # Each goes once it is frozen.
    layers.clear()
    freeze(model)
    return records


def make_nncf_graphs(model: str, size: int, images: int, folder: str) -> None:
    """The graphs of a model, quantized by NNCF on so many crops, as a folder of graphs."""
    from passionsr_cli.conversion.graph_files import write_graphs
    from passionsr_cli.conversion.nncf_graphs import nncf_graph

    inputs = default_crops(catalogue.find(model).description, size, images)
    try:
        Path(folder).mkdir(parents=True)
        write_graphs(loading.load(model), Path(folder), convert=partial(nncf_graph, images=inputs))
    except OSError as error:
        raise StoreError(f"cannot write {folder}: {error.strerror or error}") from error
