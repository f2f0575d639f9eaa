from __future__ import annotations

import sys
import threading
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from passionsr_cli.conversion import nncf_graphs
from passionsr_cli.conversion.nncf_graphs import nncf_graph
from passionsr_cli.conversion.stored_graphs import StoredGraph
from passionsr_cli.errors import DeviceError
from passionsr_cli.graphs.core import core
from passionsr_cli.inference.openvino_executor import what_ran
from passionsr_cli.models.chain import Chain
from passionsr_cli.models.components import DECODER
from passionsr_cli.models.one_step import OneStepModel


def test_nncf_runs_the_layers_on_integers(
    tiny_model: OneStepModel, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("nncf")
    image = torch.rand(1, 3, 32, 32)
    graph = nncf_graph(tiny_model, DECODER, [image])
    assert capsys.readouterr().out == ""
    assert not graph.precise
    weighted = {
        name
        for name, layer in tiny_model.named_modules()
        if isinstance(layer, (torch.nn.Conv2d, torch.nn.Linear))
        and name.startswith(("vae.decoder", "vae.post_quant_conv"))
    }
    assert set(graph.layers) == weighted
    compiled = core().compile_model(graph.model, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    stored = StoredGraph(Path(), graph.layers, graph.folded, graph.attentions)
    ran = what_ran(compiled.get_runtime_model(), stored)
    assert set(ran.integer) | {name for name, _ in ran.floating} == weighted
    assert len(ran.integer) > 0.8 * len(weighted)
    latent = Chain(tiny_model, ("encoder", "unet"))(image)
    wanted = tiny_model.decode(latent)
    found = torch.from_numpy(compiled(latent.numpy())[0])
    assert (found - wanted).square().mean() < 0.01 * wanted.var()


def test_without_nncf_a_line_says_how_to_get_it(
    tiny_model: OneStepModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "nncf", None)
    with pytest.raises(DeviceError, match=r"needs NNCF.*: pip install nncf"):
        nncf_graph(tiny_model, DECODER, [])


def test_two_threads_leave_stdout_as_it_was(
    tiny_model: OneStepModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second, out = threading.Event(), threading.Event(), sys.stdout
    waited: list[bool] = []

    def quantize(*_: object, **options: object) -> SimpleNamespace:
        if not first.is_set():
            first.set()
            waited.append(not second.wait(0.2))
        second.set()
        return SimpleNamespace(get_ops=list)

    nncf = SimpleNamespace(
        quantize=quantize, Dataset=list, ModelType=SimpleNamespace(TRANSFORMER=None)
    )
    monkeypatch.setitem(sys.modules, "nncf", nncf)
    monkeypatch.setattr(nncf_graphs, "component_graph", lambda *_: SimpleNamespace(model=None))
    asked = (tiny_model, DECODER, [])
    threads = [threading.Thread(target=nncf_graph, args=asked) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert waited == [True]
    assert sys.stdout is out
