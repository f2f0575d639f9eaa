"""OpenVINO: quantized layers on integer kernels, of CPUs and of Intel's GPUs and NPUs."""

from __future__ import annotations

import threading
from collections.abc import Iterable
from concurrent.futures import Future
from queue import SimpleQueue
from typing import Any

import numpy as np
import openvino

from passionsr_cli.conversion.graph_passes import begin_behind_moves, fit_to_cpu
from passionsr_cli.conversion.kernels import KernelReport, is_integer_kernel
from passionsr_cli.conversion.stored_graphs import (
    BRANCH_SUFFIX,
    PART_SUFFIX,
    Graphs,
    StoredGraph,
    attention_products,
)
from passionsr_cli.description import ModelDescription
from passionsr_cli.errors import TileMemoryError
from passionsr_cli.graphs import arithmetic
from passionsr_cli.graphs.compiled_graphs import CompiledGraph, CompiledGraphs
from passionsr_cli.graphs.core import DEVICE, core
from passionsr_cli.graphs.mapped_graphs import import_mapped
from passionsr_cli.models.components import DECODER, ENCODER, UNET
from passionsr_cli.models.schedule import mix_heads, predict_x0, rates
from passionsr_cli.pixels.arrays import Array
from passionsr_cli.system.memory import is_out_of_memory, process_peak_bytes

UNSAID = "OpenVINO does not say how it runs"
OVERFLOWS = "its sums of 8-bit products would overflow on this CPU"
# How the execution graph's types of products begin.
PRODUCTS = ("Convolution", "FullyConnected", "MatMul")
# An activation of Stable Diffusion's autoencoder has 128 MB at 256 pixels.
SMALL_BYTES = 1 << 25
PRECISIONS = {"fp32": "f32", "bf16": "bf16", "fp16": "f16"}


class OpenVINOExecutor:
    """Runs the graphs of one model; everything that is not quantized computes in `precision`.

    Of a `quantized` model the encoder computes in float32 on CPUs at any precision: 16 bits would
    turn what reads the image into other codes, and make it no faster. `device` is what people call
    it, `plugin` what OpenVINO does. All cores compute one tile, or as many tiles at once, in
    threads of the caller's, as it is `shared` for.
    """

    backend = "openvino"

    def __init__(
        self,
        description: ModelDescription,
        graphs: Graphs,
        precision: str,
        device: str = "cpu",
        plugin: str = DEVICE,
        quantized: bool = False,
    ) -> None:
        self.description, self.precision = description, precision
        self.device, self._plugin, self._quantized = device, plugin, quantized
        self._graphs, self._compiled = graphs, CompiledGraphs()
        self._compiling = threading.Lock()
        self._at_once, self._turns = 1, threading.Semaphore(1)
        self._rates = rates(description)

    def shared(self, at_once: int) -> OpenVINOExecutor:
        """The same model for so many threads at once, among which the cores are divided.

        Where cores do not wait for each other at the end of every layer, two cores take 14 % less
        time for a tile of `mini`.
        """
        given = (self.description, self._graphs, self.precision, self.device, self._plugin)
        other = OpenVINOExecutor(*given, self._quantized)
        other._compiled, other._compiling = self._compiled, self._compiling
        other._at_once, other._turns = at_once, threading.Semaphore(at_once)
        return other

    def restore_latent(self, upscaled: Array, realism: float | None = None) -> Array:
        batch, _, height, width = upscaled.shape
        factor = self.description.latent_factor
        channels = int(self.description.unet["in_channels"])
        # The largest graph is taken in while the encoder runs.
        self._begin(UNET, (batch, channels, height // factor, width // factor))
        latent = self._run(ENCODER, upscaled)
        if self._is_small(DECODER, latent):
            # So is the decoder, where it need not wait until restoring's memory is given back.
            latents = int(self.description.vae["latent_channels"])
            self._begin(DECODER, (batch, latents, height // factor, width // factor))
        noise = mix_heads(self._run(UNET, latent), self.description, realism)
        return predict_x0(latent, noise, self._rates)

    def decode(self, latent: Array) -> Array:
        return self._run(DECODER, latent)

    def release_restoring(self) -> None:
        self._compiled.forget((ENCODER, UNET))

    def kernels(self) -> KernelReport:
        """Kernels that really ran; a layer that fell back for any size counts as floating."""
        parts = self._compiled.kernels()
        floating = dict(pair for part in parts for pair in part.floating)
        return KernelReport(
            _unique(name for part in parts for name in part.integer if name not in floating),
            _unique(name for part in parts for name in part.folded),
            tuple(floating.items()),
            tuple(dict(pair for part in parts for pair in part.attentions).items()),
        )

    def peak_memory_bytes(self) -> int:
        return process_peak_bytes()

    def _begin(self, component: str, shape: tuple[int, ...]) -> Future[CompiledGraph]:
        """A component for inputs of this shape, which is made if it is not there."""
        precision = self._precision_of(component)
        name = "-".join([component, "x".join(str(side) for side in shape), precision])
        if self._at_once > 1:
            name += f"-{self._at_once}"
        return self._compiled.begin(name, lambda: self._made(component, name, shape))

    def _precision_of(self, component: str) -> str:
        kept = component == ENCODER and self._quantized and self._plugin == DEVICE
        return "fp32" if kept else self.precision

    def _run(self, component: str, x: Array) -> Array:
        compiled = self._begin(component, tuple(x.shape)).result()
        if component == ENCODER:
            x = _unshuffled(x, self.description.patch_size)
        request = compiled.requests.get()
        try:
            with self._turns:
                # The autoencoder computes on the whole image: each half needs the other's memory.
                # Of several tiles at once, which are small, others still use it.
                keeps_memory = (
                    component == UNET or self._at_once > 1 or self._is_small(component, x)
                )
                return _infer(request, np.ascontiguousarray(x), keeps_memory)
        finally:
            compiled.requests.put(request)
            if compiled.file is not None and self._at_once == 1:
                # Small constants are read from all over it.
                compiled.file.give_back()

    def _is_small(self, component: str, x: Array) -> bool:
        """Tell whether the autoencoder's activations take little memory: to give it back and have
        all of its pages cleared for the next tile costs `mini` up to a tenth of a tile's time."""
        channels: list[int] = self.description.vae["block_out_channels"]
        halvings = len(channels) - 1 if component == DECODER else 0
        pixels = int(x.shape[-2] * x.shape[-1]) << 2 * halvings
        return 4 * max(channels) * pixels <= SMALL_BYTES

    def _made(self, component: str, name: str, shape: tuple[int, ...]) -> CompiledGraph:
        settings = {
            "INFERENCE_PRECISION_HINT": PRECISIONS[self._precision_of(component)],
            "PERFORMANCE_HINT": "LATENCY",
        }
        if self._at_once > 1:
            settings |= {"PERFORMANCE_HINT": "THROUGHPUT", "NUM_STREAMS": str(self._at_once)}
            # Each component's first stream would be tied to the same core: while one tile is
            # restored and another decoded, both would wait for it, and a core would rest.
            settings["ENABLE_CPU_PINNING"] = "NO"
        # Where this is there, graphs are neither read nor verified, which takes as long again.
        kept = self._graphs.compiled(name) if self._plugin == DEVICE else None
        if kept is not None:
            path, kernels = kept
            compiled, file = import_mapped(path, settings)
            return CompiledGraph(_requests(compiled, self._at_once), kernels, file)
        # One after the other: meanwhile each needs its weights twice.
        with self._compiling:
            return self._compile(component, name, shape, settings)

    def _compile(
        self, component: str, name: str, shape: tuple[int, ...], settings: dict[str, str]
    ) -> CompiledGraph:
        graph = self._graphs.graph(component)
        if self._plugin != DEVICE:
            return self._compile_elsewhere(component, graph, shape, settings)
        model = _shaped(graph, shape)
        fit_to_cpu(model, self._quantized and arithmetic.products_saturate())
        if component == ENCODER:
            begin_behind_moves(model)
        compiled = core().compile_model(model, DEVICE, settings)
        kernels = what_ran(compiled.get_runtime_model(), graph)
        self._graphs.keep(name, compiled, kernels)
        return CompiledGraph(_requests(compiled, self._at_once), kernels)

    def _compile_elsewhere(
        self, component: str, graph: StoredGraph, shape: tuple[int, ...], settings: dict[str, str]
    ) -> CompiledGraph:
        """On a GPU or an NPU, which keep what they compile themselves."""
        kept = {"CACHE_DIR": str(graph.path.parent / "compiled")}
        model = _shaped(graph, shape)
        if component == ENCODER:
            begin_behind_moves(model)
        compiled = core().compile_model(model, self._plugin, {**settings, **kept})
        try:
            kernels = what_ran(compiled.get_runtime_model(), graph)
        except (RuntimeError, KeyError):
            # Not every plugin tells.
            left = [layer for layer in graph.layers if layer not in graph.folded]
            kernels = KernelReport((), graph.folded, tuple((layer, UNSAID) for layer in left))
        return CompiledGraph(_requests(compiled, self._at_once), kernels)


def _infer(request: Any, x: Array, keeps_memory: bool) -> Array:
    """A copy of what a request makes of its input: its own memory is written again by its next."""
    try:
        request.infer([x])
    except (MemoryError, RuntimeError) as error:
        if not is_out_of_memory(error):
            raise
        raise TileMemoryError("out of memory on one tile; choose a smaller --tile") from error
    output: Array = request.get_output_tensor(0).data.copy()
    if not keeps_memory:
        request.get_compiled_model().release_memory()
    return output


def _requests(compiled: Any, count: int) -> SimpleQueue[Any]:
    requests: SimpleQueue[Any] = SimpleQueue()
    for _ in range(count):
        requests.put(compiled.create_infer_request())
    return requests


def _shaped(graph: StoredGraph, shape: tuple[int, ...]) -> openvino.Model:
    model = core().read_model(graph.path)
    model.reshape(list(shape))
    return model


def _unshuffled(images: Array, factor: int) -> Array:
    """Patches of factor × factor pixels as channels, as torch's `pixel_unshuffle` orders them."""
    batch, channels, height, width = images.shape
    shape = (batch, channels, height // factor, factor, width // factor, factor)
    patches = images.reshape(shape).transpose(0, 1, 3, 5, 2, 4)
    return patches.reshape(batch, channels * factor**2, height // factor, width // factor)


def what_ran(runtime_model: Any, graph: StoredGraph) -> KernelReport:
    """Kernels of a graph's quantized layers, from OpenVINO's own execution graph."""
    kernels = _kernels(runtime_model, graph)
    integer, floating = [], []
    for layer in graph.layers:
        kernel = kernels.get(layer, "")
        if layer in graph.folded:
            continue
        if is_integer_kernel(kernel):
            integer.append(layer)
        elif layer in graph.overflowing:
            floating.append((layer, OVERFLOWS))
        else:
            reason = f"runs as {kernel}" if kernel else UNSAID
            floating.append((layer, reason))
    attentions = []
    for layer in graph.attentions:
        # OpenVINO may fuse both products into one kernel.
        found = _unique(kernels[name] for name in attention_products(layer) if name in kernels)
        attentions.append((layer, " and ".join(found)))
    return KernelReport(tuple(integer), graph.folded, tuple(floating), tuple(attentions))


def _kernels(runtime_model: Any, graph: StoredGraph) -> dict[str, str]:
    """The kernel of each layer and each of attention's products, by their names in the graph."""
    known = {
        *graph.layers,
        *(name for each in graph.attentions for name in attention_products(each)),
    }
    kernels: dict[str, str] = {}
    unclaimed = []
    for node in runtime_model.get_ops():
        notes = {key: str(value.astype(str)) for key, value in node.get_rt_info().items()}
        names = [_layer_name(name) for name in notes["originalLayersNames"].split(",")]
        kernels.update(dict.fromkeys(names, notes["primitiveType"]))
        if any(BRANCH_SUFFIX in name for name in names):
            continue
        if notes["layerType"].startswith(PRODUCTS) and known.isdisjoint(names):
            unclaimed.append(notes["primitiveType"])
    missing = [name for name in graph.layers if name not in kernels and name not in graph.folded]
    # A product whose scale was fused with a factor behind it has lost its name.
    if len(missing) == len(unclaimed) and len(set(unclaimed)) == 1:
        kernels.update(dict.fromkeys(missing, unclaimed[0]))
    return kernels


def _layer_name(name: str) -> str:
    """A layer may be known by what its scale became alone, or by one of its parts."""
    return name.partition("/Dequantization")[0].partition(PART_SUFFIX)[0]


def _unique(names: Iterable[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(names))
