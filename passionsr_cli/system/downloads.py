"""Download a file from an address: whole, verified, and continued where it stopped."""

from __future__ import annotations

import http.client
import urllib.error
import urllib.request
from contextlib import ExitStack
from pathlib import Path

from passionsr_cli.errors import DamagedDownloadError, DownloadError
from passionsr_cli.progress import SILENT, Reporter
from passionsr_cli.system.claims import alone
from passionsr_cli.system.files import sha256_of

BLOCK_BYTES = 1 << 20
TIMEOUT_SECONDS = 30


def download(
    address: str,
    target: Path,
    reporter: Reporter = SILENT,
    sha256: str = "",
    size: int | None = None,
) -> None:
    """Fetch a file, unless an earlier attempt left it whole; what it left of it is continued.

    `sha256` may be the beginning of one. Raises `DownloadError` for an address that does not
    answer with the whole file, `DamagedDownloadError` for another file than was expected, of which
    nothing stays.
    """
    if _is_whole(target, sha256):
        return
    partial = target.with_name(f"{target.name}.part")
    with ExitStack() as held:
        try:
            partial.parent.mkdir(parents=True, exist_ok=True)
            held.enter_context(alone(partial, f"fetches {target.name}", reporter))
        except OSError as error:
            raise DownloadError(f"cannot be fetched: {error}") from error
        # Another process may have fetched it meanwhile.
        if not _is_whole(target, sha256):
            _fetch(address, partial, target, reporter, sha256, size)


def _is_whole(target: Path, sha256: str) -> bool:
    return bool(sha256) and target.is_file() and sha256_of(target).startswith(sha256)


def _fetch(
    address: str, partial: Path, target: Path, reporter: Reporter, sha256: str, size: int | None
) -> None:
    expected = _receive(address, partial, reporter)
    found = partial.stat().st_size
    if found < expected:
        raise DownloadError(
            f"the connection ended after {found:,} of {expected:,} bytes; the same command goes on "
            "from there"
        )
    if size is not None and found != size:
        partial.unlink()
        raise DamagedDownloadError(f"has {found:,} bytes, expected {size:,}; what came was removed")
    check_digest(partial, sha256, partial)
    partial.replace(target)


def _receive(address: str, partial: Path, reporter: Reporter) -> int:
    """Append what is missing of a file; the number of bytes it should have then."""
    start = partial.stat().st_size if partial.is_file() else 0
    request = urllib.request.Request(address, headers={"Range": f"bytes={start}-"})
    try:
        with urllib.request.urlopen(request, timeout=TIMEOUT_SECONDS) as answer:
            if answer.headers.get_content_type() == "text/html":
                raise DownloadError("answers with a web page, not with a file; open it yourself")
            # A server that cannot continue sends everything again.
            start = start if answer.status == 206 else 0
            size = start + int(answer.headers.get("Content-Length") or 0)
            reporter.started(partial.stem, size or None)
            with partial.open("r+b" if start else "wb") as file:
                file.seek(start)
                while block := answer.read(BLOCK_BYTES):
                    file.write(block)
                    reporter.step(partial.stem, file.tell())
            return size
    except urllib.error.HTTPError as error:
        if error.code == 416 and start:
            # Nothing is missing.
            return start
        raise DownloadError(f"answers {error.code} {error.reason}") from error
    except urllib.error.URLError as error:
        raise DownloadError(f"cannot be reached: {error.reason}") from error
    except (OSError, http.client.HTTPException) as error:
        reason = str(error) or type(error).__name__
        raise DownloadError(f"cannot be fetched: {reason}") from error


def check_digest(path: Path, sha256: str, shown: Path) -> None:
    """Remove a file whose SHA-256 does not begin so, and raise `DamagedDownloadError`."""
    found = sha256_of(path)
    if not found.startswith(sha256):
        path.unlink()
        raise DamagedDownloadError(
            f"{shown} has SHA-256 {found[:12]}…, expected {sha256[:12]}…; it was removed, the same "
            "command fetches it again"
        )
