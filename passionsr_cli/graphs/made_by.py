"""Code that decides what a graph and an image are: parts of the keys they are kept under."""

from __future__ import annotations

from passionsr_cli.system.sources import sources_sha256

# From a stored entry to a compiled graph.
GRAPH_PLACES = (
    *(
        "bits.py",
        "description.py",
        "registry.py",
        "store.py",
        "checkpoints",
        "models",
        "published",
        "quantization",
    ),
    *("layers", "conversion", "triton_kernels", "graphs", "inference"),
)
# Packages that convert a model, besides the one whose graphs they are.
CONVERTERS = ("torch", "diffusers")
ONNX_CONVERTERS = (*CONVERTERS, "onnx", "onnxscript")
# From a file to the pixels of its result.
IMAGE_PLACES = (*GRAPH_PLACES, "config.py", "metadata", "pixels", "imaging", "tiling")


def graph_code() -> str:
    """SHA-256 of the sources that decide a converted and compiled graph."""
    return sources_sha256(*GRAPH_PLACES)


def image_code(*places: str) -> str:
    """SHA-256 of the sources that decide an upscaled image, those below `places` among them."""
    return sources_sha256(*IMAGE_PLACES, *places)
