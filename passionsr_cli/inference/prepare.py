"""Make the graphs anew that the embedded model and checkpoint bring along.

    python -m passionsr_cli.inference.prepare

Needed whenever their weights change, or what conversion makes of them.
"""

from __future__ import annotations

import tempfile
from functools import partial
from pathlib import Path

from passionsr_cli.checkpoints.artifacts import Artifact, resolve
from passionsr_cli.conversion.prepared_graphs import prepared_folder, write_prepared
from passionsr_cli.registry import EMBEDDED_CHECKPOINT, EMBEDDED_MODEL


def prepare(artifact: Artifact, saturating: bool) -> None:
    """Convert a stored model or checkpoint and put its graphs beside its tensors."""
    from passionsr_cli.conversion.graph_files import write_graphs
    from passionsr_cli.conversion.openvino_graph import component_graph

    folder = prepared_folder(artifact.entry, saturating)
    with tempfile.TemporaryDirectory() as graphs:
        convert = partial(component_graph, saturating=saturating)
        write_graphs(artifact.load(), Path(graphs), convert=convert)
        write_prepared(Path(graphs), artifact.entry, artifact.fingerprint, folder)


def main() -> None:
    """Prepare both for every kind of CPU; only integers can saturate."""
    for name in (EMBEDDED_MODEL, EMBEDDED_CHECKPOINT):
        artifact = resolve(name)
        for saturating in (False, True) if artifact.quantized else (False,):
            prepare(artifact, saturating)


if __name__ == "__main__":
    main()
