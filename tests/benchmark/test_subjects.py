from __future__ import annotations

from pathlib import Path

import torch

from passionsr_cli.benchmark.subjects import make_checkpoint, make_random_model, quantize_min_max
from passionsr_cli.calibration.bits import settings_for
from passionsr_cli.checkpoints.catalogue import find_checkpoint
from passionsr_cli.checkpoints.tensors import load_checkpoint
from passionsr_cli.data.calibration_images import default_crops
from passionsr_cli.description import ModelDescription
from passionsr_cli.layers.convert import frozen_layers
from passionsr_cli.layers.frozen import FrozenLayer
from passionsr_cli.methods.stages import (
    PLAIN,
    Branches,
    LayerDesign,
    MergedBranches,
    Transformation,
)
from passionsr_cli.models import catalogue, loading
from passionsr_cli.models.one_step import OneStepModel


def test_random_weights_are_the_same_each_time(tiny_folder: Path, tmp_path: Path) -> None:
    for name in ("one", "two"):
        torch.rand(3)
        make_random_model(str(tiny_folder), str(tmp_path / name))
    one, two = (catalogue.find(str(tmp_path / name)) for name in ("one", "two"))
    assert one.sha256 == two.sha256
    model = loading.load(str(tmp_path / "one"))
    assert model.context.abs().min() > 0
    assert bool(model(torch.rand(1, 3, 32, 32)).isfinite().all())


def test_bounds_are_the_extremes_of_one_image(tiny_model: OneStepModel) -> None:
    image = default_crops(tiny_model.description, 32, 1)[0]
    seen: dict[str, tuple[float, float]] = {}
    layers = {n: x for n, x in tiny_model.named_modules() if isinstance(x, torch.nn.Conv2d)}

    def watch(name: str):  # type: ignore[no-untyped-def]
        def look(layer, inputs):  # type: ignore[no-untyped-def]
            seen[name] = (min(0.0, float(inputs[0].min())), max(0.0, float(inputs[0].max())))

        return look

    hooks = [layer.register_forward_pre_hook(watch(name)) for name, layer in layers.items()]
    tiny_model(image)
    for hook in hooks:
        hook.remove()
    settings = settings_for("w8a8", None, {})
    quantize_min_max(tiny_model, settings, PLAIN, image)
    found = frozen_layers(tiny_model)
    assert seen.keys() - found.keys() == set(settings.float_layers)
    for name in seen.keys() & found.keys():
        (lower, upper), layer = seen[name], found[name]
        assert isinstance(layer, FrozenLayer)
        bounds, step = layer.nudged_bounds()["input"], (upper - lower) / 255
        assert abs(bounds[0] - lower) <= step
        assert abs(bounds[1] - upper) <= step


def test_the_checkpoint_runs_like_any_other(tiny_folder: Path, tmp_path: Path) -> None:
    make_checkpoint(str(tiny_folder), "w4a8", "maxmin", 32, str(tmp_path / "w4a8"))
    entry = find_checkpoint(str(tmp_path / "w4a8"))
    rows = entry.manifest.layers
    widths = {row.weight.num_bits for row in rows if row.weight is not None}
    assert widths == {4, 8}
    assert bool(load_checkpoint(entry)(torch.rand(1, 3, 32, 32)).isfinite().all())


def test_a_method_gives_its_layers(tiny_model: OneStepModel) -> None:
    """Branches and transformations alike, which have learned nothing."""
    image = default_crops(tiny_model.description, 32, 1)[0]
    ranks = {"linear": 2}
    transformation = Transformation(channel_scale=True)
    design = LayerDesign(transformation, Branches(ranks), MergedBranches(ranks))
    quantize_min_max(tiny_model, settings_for("w8a8", None, {}), design, image)
    linear = frozen_layers(tiny_model)["unet.time_embedding.linear_2"]
    assert isinstance(linear, FrozenLayer)
    assert linear.branch is not None
    assert linear.channel_scale is not None
    assert bool(tiny_model(image).isfinite().all())


def test_crops_fit_sizes_larger_than_a_photograph(tiny_description: ModelDescription) -> None:
    one, two = default_crops(tiny_description, 1600, 2)
    assert one.shape == two.shape == (1, 3, 1600, 1600)
    assert not torch.equal(one, two)
    assert 0 <= float(one.min()) < float(one.max()) <= 1
