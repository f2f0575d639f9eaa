"""One metric, built once and asked image by image.

An image is scored alone, never in a batch: its number is then what pyiqa says of that image,
whatever else is scored and by how many processes.
"""

from __future__ import annotations

import hashlib
import json
import math
import shutil
import tempfile
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from passionsr_cli.errors import ConfigError, MetricError
from passionsr_cli.metrics.catalogue import Metric
from passionsr_cli.metrics.weights import Files
from passionsr_cli.system.files import sha256_of
from passionsr_cli.system.sources import sources_sha256
from passionsr_cli.system.text import suggestion

# Of pyiqa's metrics, where none is alike.
MOST_NAMED = 8
# What pyiqa and timm look up while they build is the whole process's.
_building = threading.Lock()


class Scorer:
    """A metric, ready for images. `fingerprint` is another if its numbers could be others."""

    def __init__(self, metric: Metric, files: Files, device: str = "cpu") -> None:
        self.metric = metric
        self.weights = {file.name: sha256_of(path) for file, path in files.items()}
        made_of = [*_definition(metric), metric.options, self.weights]
        self.fingerprint = hashlib.sha256(json.dumps(made_of).encode()).hexdigest()[:16]
        # Networks with hooks hold state while they run; the others can be asked from any thread.
        self._turn = nullcontext() if metric.cheap else threading.Lock()
        self._device = torch.device("cpu" if metric.cheap else device)
        try:
            self._network = built(metric, files, self._device)
        except ConfigError:
            raise
        except Exception as error:
            # pyiqa and what it builds on raise anything at all for files that do not fit.
            raise MetricError(
                f"{metric.title} cannot be set up: {type(error).__name__}: {error}"
            ) from error

    def score(self, image: Tensor, reference: Tensor | None = None) -> float:
        """The metric of an image (3, H, W) in [0, 1], compared with its reference if it does so.

        Raises `MetricError` where the result is no finite number, such as NIQE of one colour.
        """
        compared = [image] if reference is None else [image, reference]
        given = compared if self.metric.referenced else compared[:1]
        try:
            with self._turn, torch.inference_mode():
                value = float(self._network(*(tensor.unsqueeze(0) for tensor in given)))
        except Exception as error:
            raise MetricError(f"{self.metric.title} failed: {error}") from error
        if not math.isfinite(value):
            raise MetricError(f"{self.metric.title} gave {value}, no number that can be averaged")
        return value

    def distance(self, images: Sequence[Path], references: Sequence[Path]) -> float:
        """A metric of sets, such as FID, between two sets of image files."""
        with tempfile.TemporaryDirectory(prefix="passionsr-") as folder:
            sides = []
            for name, files in (("images", images), ("references", references)):
                side = Path(folder) / name
                side.mkdir()
                for number, file in enumerate(files):
                    _link(file, side / f"{number:06d}{file.suffix}")
                sides.append(str(side))
            try:
                from pyiqa.archs import fid_arch

                fid_arch.print = _unsaid
                with torch.inference_mode():
                    value = float(self._network(*sides, num_workers=0, verbose=False))
            except Exception as error:
                raise MetricError(f"{self.metric.title} failed: {error}") from error
        if not math.isfinite(value):
            raise MetricError(f"{self.metric.title} gave {value}, no number")
        return value


def _definition(metric: Metric) -> tuple[str, str]:
    """The source of a metric's definition, and its name there."""
    if metric.pyiqa_name is None:
        return f"{metric.definition} {sources_sha256('metrics')}", metric.key
    return version("pyiqa"), metric.pyiqa_name


def _lite1(weights: Path) -> nn.Module:
    from passionsr_cli.metrics.lite1 import Lite1

    return Lite1(weights)


# Metrics of our own by their keys, made of their files of weights.
OURS: dict[str, Callable[..., nn.Module]] = {"lite1": _lite1}


def built(metric: Metric, files: Files, device: torch.device) -> Any:
    """The network or function of a metric, by pyiqa or our own. Raises `ConfigError` for one that
    neither has, which no weights would help."""
    if metric.pyiqa_name is None:
        if metric.key not in OURS:
            raise ConfigError(
                f"no metric of our own is '{metric.key}'{suggestion(metric.key, OURS)}"
            )
        return OURS[metric.key](*files.values()).to(device)
    with tempfile.TemporaryDirectory(prefix="passionsr-") as folder:
        for file, path in files.items():
            place = Path(folder) / file.folder
            place.mkdir(exist_ok=True)
            _link(path, place / file.name)
        import pyiqa
        from pyiqa.archs import arch_util

        arch_util.print = _unsaid
        with _building, _hub_in(folder):
            if metric.pyiqa_name not in (known := pyiqa.list_models()):
                near = suggestion(metric.pyiqa_name, known, MOST_NAMED)
                raise ConfigError(f"pyiqa has no metric '{metric.pyiqa_name}'{near}")
            return pyiqa.create_metric(metric.pyiqa_name, device=device, **metric.options)


def _unsaid(*words: object) -> None:
    """In place of pyiqa's `print`: it says what it does on stdout, where results are printed."""


def _link(path: Path, place: Path) -> None:
    try:
        place.symlink_to(path.resolve())
    except OSError:
        # Windows lets few users make links.
        shutil.copyfile(path, place)


@contextmanager
def _hub_in(folder: str) -> Iterator[None]:
    """Let pyiqa find exactly these files where it would otherwise look, and download, by itself.

    MANIQA's checkpoint holds its whole vision transformer, yet pyiqa has timm download that
    first: it is built without weights instead, and the strict loading of the checkpoint proves
    that none of them is left over.
    """
    import timm
    from pyiqa.utils import download_util

    hub, cache, create = torch.hub.get_dir(), download_util.DEFAULT_CACHE_DIR, timm.create_model

    def without_weights(*args: Any, **kwargs: Any) -> Any:
        return create(*args, **{**kwargs, "pretrained": False})

    torch.hub.set_dir(folder)
    download_util.DEFAULT_CACHE_DIR = str(Path(folder) / "pyiqa")
    timm.create_model = without_weights
    try:
        yield
    finally:
        torch.hub.set_dir(hub)
        download_util.DEFAULT_CACHE_DIR = cache
        timm.create_model = create
