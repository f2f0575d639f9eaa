"""Compiled graphs, each made once."""

from __future__ import annotations

import gc
import threading
import weakref
from queue import SimpleQueue

import pytest

from passionsr_cli.conversion.kernels import KernelReport
from passionsr_cli.graphs.compiled_graphs import KEPT_SIZES, CompiledGraph, CompiledGraphs
from passionsr_cli.system.environment import environment_changed


def test_a_graph_is_made_once_and_what_failed_again() -> None:
    graphs, made = CompiledGraphs(), []
    begun, goes_on = threading.Event(), threading.Event()

    def fail() -> CompiledGraph:
        raise MemoryError("no room")

    def make() -> CompiledGraph:
        begun.set()
        assert goes_on.wait(30)
        made.append(CompiledGraph(SimpleQueue(), KernelReport(integer=("a",))))
        return made[-1]

    with pytest.raises(MemoryError, match="no room"):
        graphs.begin("unet", fail).result()
    assert graphs.kernels() == []
    first = graphs.begin("unet", make)
    # Nobody waits for it here.
    assert begun.wait(30)
    assert graphs.kernels() == []
    second = graphs.begin("unet", fail)
    goes_on.set()
    assert first.result() is second.result() is made[0]
    assert graphs.kernels() == [KernelReport(integer=("a",))]


def test_the_environment_stays_while_a_graph_is_made() -> None:
    begun, goes_on, changed = threading.Event(), threading.Event(), threading.Event()

    def make() -> CompiledGraph:
        begun.set()
        assert goes_on.wait(30)
        return CompiledGraph(SimpleQueue(), KernelReport())

    def change() -> None:
        with environment_changed():
            changed.set()

    making = CompiledGraphs().begin("unet", make)
    assert begun.wait(30)
    changing = threading.Thread(target=change)
    changing.start()
    assert not changed.wait(0.2)
    goes_on.set()
    making.result()
    assert changed.wait(30)
    changing.join()


def test_of_each_component_the_last_sizes_stay() -> None:
    graphs, goes_on = CompiledGraphs(), threading.Event()

    def make() -> CompiledGraph:
        return CompiledGraph(SimpleQueue(), KernelReport(integer=("a",)))

    def slowly() -> CompiledGraph:
        assert goes_on.wait(30)
        return make()

    decoder = graphs.begin("decoder-0-fp32", make).result()
    unfinished = graphs.begin("unet-slow-fp32", slowly)
    made = [graphs.begin(f"unet-{size}-fp32", make).result() for size in range(KEPT_SIZES)]
    seen = [weakref.ref(graph) for graph in made]
    in_use = made[1]
    del made
    # The first is used again, and so the second and third are those that were not used for longest.
    assert graphs.begin("unet-0-fp32", make).result() is seen[0]()
    for size in ("x", "y"):
        graphs.begin(f"unet-{size}-fp32", make).result()
    gc.collect()
    assert [graph() is not None for graph in seen] == [
        True,
        True,
        False,
        *[True] * (KEPT_SIZES - 3),
    ]
    assert seen[1]() is in_use
    # What is being made is nobody's to forget, and other components have their own.
    assert graphs.begin("unet-slow-fp32", make) is unfinished
    goes_on.set()
    unfinished.result()
    assert graphs.begin("decoder-0-fp32", make).result() is decoder
    # Equal reports of what has gone are one.
    assert len(graphs.kernels()) == KEPT_SIZES + 2


def test_what_is_forgotten_is_made_again_and_its_kernels_ran() -> None:
    graphs = CompiledGraphs()

    def make() -> CompiledGraph:
        return CompiledGraph(SimpleQueue(), KernelReport(integer=("a",)))

    unet = graphs.begin("unet-1x4-fp32", make).result()
    decoder = graphs.begin("decoder-1x4-fp32", make).result()
    gone = weakref.ref(unet)
    graphs.forget(("encoder", "unet"))
    del unet
    gc.collect()
    assert gone() is None
    assert graphs.begin("decoder-1x4-fp32", make).result() is decoder
    assert len(graphs.kernels()) == 2
    graphs.begin("unet-1x4-fp32", make).result()
    assert len(graphs.kernels()) == 3
