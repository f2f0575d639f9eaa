"""Fetching published weights: whole, verified, resumable, from the first place that has them."""

from __future__ import annotations

import hashlib
import io
import re
from collections.abc import Sequence
from dataclasses import dataclass
from os.path import exists
from pathlib import Path
from typing import TYPE_CHECKING, Any

from passionsr_cli.description import DownloadSource, ModelDescription
from passionsr_cli.errors import DownloadError, ModelError
from passionsr_cli.progress import SILENT, Reporter
from passionsr_cli.system.downloads import check_digest, download

if TYPE_CHECKING:
    from tqdm import tqdm

# What a base model is made of in the hub's repositories.
HUB_FILES = (
    "scheduler/scheduler_config.json",
    "unet/config.json",
    "vae/config.json",
    "text_encoder/config.json",
    "vae/diffusion_pytorch_model.safetensors",
    "text_encoder/model.safetensors",
    "unet/diffusion_pytorch_model.safetensors",
)


@dataclass(frozen=True)
class Downloader:
    """Fetches files into `folder`, what comes from the hub into the cache it shares with others."""

    folder: Path
    reporter: Reporter = SILENT

    def base(self, description: ModelDescription, given: str | None) -> tuple[Path, str]:
        """The base model as a folder or file, and where it is from.

        `given` is a folder, a file, an address or a repository of the hub, instead of the sources.
        """
        sources = _of_part(description, "base") if given is None else [_source(given, "base")]
        # What is in the cache already needs no network, whichever source it came from.
        for source in sources:
            if source.kind == "hub" and (found := self._cached(source.location)) is not None:
                return found, source.location
        return self._first(sources, description)

    def file(
        self, part: str, description: ModelDescription, given: str | None
    ) -> tuple[Path | None, str | None]:
        """The file of adapters or of a decoder, and where it is from; none if a model has none.

        `given` is a file or an address instead of the sources.
        """
        sources = _of_part(description, part) if given is None else [_source(given, part)]
        return self._first(sources, description) if sources else (None, None)

    def _first(
        self, sources: Sequence[DownloadSource], description: ModelDescription
    ) -> tuple[Path, str]:
        failures = []
        places = [source for source in sources if source.kind != "page"]
        for source in places:
            try:
                return self._fetch(source), source.location
            # Whatever keeps one source from answering, another may.
            except Exception as error:
                told = str(error).strip().split("\n")[0]
                failures.append(f"{source.location}: {told or type(error).__name__}")
                if source is not places[-1]:
                    self.reporter.note(failures[-1])
        raise ModelError(_advice(sources, failures, description))

    def _fetch(self, source: DownloadSource) -> Path:
        if Path(source.location).exists():
            return Path(source.location)
        _refuse_offline()
        if source.kind == "hub":
            return self._from_hub(source.location, local_only=False)
        return self._from_url(source)

    def _cached(self, repository: str) -> Path | None:
        try:
            return self._from_hub(repository, local_only=True)
        except (DownloadError, ModelError):
            return None

    def _from_hub(self, repository: str, local_only: bool) -> Path:
        """The folder of a repository in the hub's cache with all files of a base model."""
        from huggingface_hub import hf_hub_download
        from huggingface_hub.errors import LocalEntryNotFoundError

        paths = []
        for name in HUB_FILES:
            if not local_only:
                self.reporter.note(f"{repository}/{name}")
            try:
                found = hf_hub_download(
                    repository, name, local_files_only=local_only, tqdm_class=_bars(self.reporter)
                )
            except LocalEntryNotFoundError:
                raise ModelError("cannot be reached, and is not whole in the hub's cache") from None
            paths.append(Path(found))
        for path in paths:
            _check_blob(path)
        return paths[0].parents[1]

    def _from_url(self, source: DownloadSource) -> Path:
        """One file, continued where an earlier attempt stopped."""
        # What one address began to send, another must not go on with.
        key = hashlib.sha256(source.location.encode()).hexdigest()[:8]
        target = self.folder / f"{key}-{Path(source.location.partition('?')[0]).name}"
        download(source.location, target, self.reporter, source.sha256 or "", source.bytes)
        return target


def _bars(reporter: Reporter) -> type[tqdm[Any]]:
    """A progress bar for the hub, which shows nothing and tells the reporter."""
    from tqdm import tqdm

    class Bar(tqdm):  # type: ignore[type-arg]
        def __init__(self, *args: Any, **settings: Any) -> None:
            super().__init__(*args, **{**settings, "file": io.StringIO(), "disable": False})
            reporter.started(str(self.desc), self.total or None)

        def update(self, n: float | None = 1) -> bool | None:
            shown = super().update(n)
            reporter.step(str(self.desc), self.n)
            return shown

    return Bar


def _of_part(description: ModelDescription, part: str) -> list[DownloadSource]:
    return [source for source in description.sources if source.part == part]


def _source(given: str, part: Any) -> DownloadSource:
    if re.match(r"https?://", given):
        return DownloadSource(kind="url", location=given, part=part)
    if not exists(given) and re.fullmatch(r"[\w.-]+/[\w.-]+", given):
        return DownloadSource(kind="hub", location=given, part=part)
    if not exists(given):
        raise ModelError(
            f"there is no '{given}'; give a folder, a file, an address (https://…) or a "
            "repository of the hub (owner/name)"
        )
    return DownloadSource(kind="url", location=given, part=part)


def _refuse_offline() -> None:
    from huggingface_hub import constants

    if constants.HF_HUB_OFFLINE:
        raise ModelError("HF_HUB_OFFLINE is set, so nothing is fetched")


def _check_blob(path: Path) -> None:
    """The hub's cache calls a large file by its SHA-256; one that is not that is removed."""
    blob = path.resolve()
    if re.fullmatch(r"[0-9a-f]{64}", blob.name):
        check_digest(blob, blob.name, path)


def _advice(
    sources: Sequence[DownloadSource], failures: Sequence[str], description: ModelDescription
) -> str:
    """Advice: what was tried, and where a person finds the file and puts it."""
    part = sources[0].part if sources else "base"
    option = {
        "base": "--source DIR|FILE",
        "adapters": "--lora FILE",
        "decoder": "models add --decoder FILE",
    }[part]
    pages = ", ".join(f"{s.location} ({s.note})" for s in sources if s.kind == "page")
    tried = "; ".join(failures) or "there is no address to fetch them from"
    where = f"download them from {pages}" if pages else "download them elsewhere"
    what = f"the {'base weights' if part == 'base' else part}"
    return f"{what} of '{description.name}' cannot be had ({tried}); {where} and give {option}"
