"""Records of each candidate's images, on disk, so that nothing is done twice.

OUTPUT/images/ROW/NAME.png      a result, unless the row is a folder of finished images
OUTPUT/records/ROW/NAME.json    how it was made, and its scores
OUTPUT/records/ROW/.all.json    scores of all images together
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path

from pydantic import TypeAdapter

from passionsr_cli.errors import OutputError
from passionsr_cli.system.files import read_json, replace_atomically
from passionsr_cli.system.own_files import check_replaceable

# No image is called so: its file would be hidden.
OF_ALL = ".all"
RECORDS_FOLDER = "records"


@dataclass
class Record:
    """One image: `made_by` is the fingerprint of the row that made it from `lr_sha256`, `scores`
    are by the fingerprint of the metric, and true of exactly these two files."""

    made_by: str = ""
    lr_sha256: str = ""
    seconds: float | None = None
    image_sha256: str = ""
    reference_sha256: str = ""
    scores: dict[str, float] = field(default_factory=dict)

    def scores_of(self, image_sha256: str, reference_sha256: str) -> dict[str, float]:
        """The scores, forgotten if they belong to other files."""
        if (self.image_sha256, self.reference_sha256) != (image_sha256, reference_sha256):
            self.scores = {}
        self.image_sha256, self.reference_sha256 = image_sha256, reference_sha256
        return self.scores


_RECORD = TypeAdapter(Record)


def check_results(folder: Path, page: str, *beside: str) -> None:
    """Refuse to write a page and what goes beside it over files of others.

    Records tell that a folder is ours whose page somebody threw away. Raises `OutputError`.
    """
    if not (folder / RECORDS_FOLDER).is_dir():
        check_replaceable(folder / page, *beside)


class RowFolder:
    """The results and records of one row. Raises `OutputError` where links lead out of `output`."""

    def __init__(self, output: Path, row: str) -> None:
        self.images = output / "images" / row
        self.records = output / RECORDS_FOLDER / row
        for folder in (self.images.parent, self.images, self.records.parent, self.records):
            if folder.is_symlink():
                raise OutputError(
                    f"{folder} is a link, which passionsr did not make: remove the link"
                )

    def image(self, name: str) -> Path:
        return self.images / f"{name}.png"

    def read(self, name: str) -> Record:
        """The record of an image; an empty one if there is none, or none that can be read."""
        try:
            return _RECORD.validate_python(read_json(self.records / f"{name}.json"))
        except (OSError, ValueError):
            return Record()

    def write(self, name: str, record: Record) -> None:
        write_text(self.records / f"{name}.json", json.dumps(asdict(record)))

    def keep_only(self, made_by: str) -> None:
        """Remove the images that another model, or other settings, left under this name; what is
        no record is somebody else's."""
        for path in self.records.glob("*.json"):
            if path.stem != OF_ALL and self.read(path.stem).made_by not in ("", made_by):
                self.image(path.stem).unlink(missing_ok=True)
                path.unlink()


def write_text(path: Path, text: str) -> None:
    """Write a file whole or not at all."""
    try:
        with replace_atomically(path) as temporary:
            temporary.write_text(text, encoding="utf-8")
    except OSError as error:
        raise OutputError(f"{path}: cannot be written ({error.strerror or error})") from error
