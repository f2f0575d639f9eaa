from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from passionsr_cli.checkpoints.catalogue import find_checkpoint, listing
from passionsr_cli.checkpoints.manifest import dump_manifest
from passionsr_cli.errors import StoreError
from passionsr_cli.store import checksum


@pytest.fixture
def path(calibrate: Callable[..., str]) -> Path:
    """The manifest of a checkpoint."""
    return find_checkpoint(calibrate("w4a8")).folder / "manifest.json"


def _rewritten(path: Path, change: Callable[[dict[str, Any]], None]) -> str:
    """Change a manifest as its writer could have, checksum and all; returns its checkpoint."""
    stored = json.loads(path.read_text())
    change(stored)
    path.write_text(json.dumps({**stored, "checksum": checksum(stored)}))
    return path.parent.name


def _means_the_same(changed: str, text: str) -> bool:
    try:
        return bool(json.loads(changed) == json.loads(text))
    except json.JSONDecodeError:
        # Numbers do not begin with zeros.
        return False


def test_no_changed_digit_is_accepted(path: Path) -> None:
    text = path.read_text()
    places = [found.start() for found in re.finditer(r"\d", text)]
    for place in places[::41]:
        changed = text[:place] + str((int(text[place]) + 5) % 10) + text[place + 1 :]
        if _means_the_same(changed, text):
            # The seventeenth digit of a number, which rounds to the same.
            continue
        path.write_text(changed)
        with pytest.raises(StoreError):
            find_checkpoint(path.parent.name)
    path.write_text(text)
    find_checkpoint(path.parent.name)


def test_layout_does_not_matter(path: Path) -> None:
    stored = json.loads(path.read_text())
    before = find_checkpoint(path.parent.name)
    path.write_text(json.dumps(dict(reversed(stored.items()))))
    assert find_checkpoint(path.parent.name) == before


def test_the_first_format_is_read(path: Path) -> None:
    now = find_checkpoint(path.parent.name)
    stored = json.loads(path.read_text())
    del stored["checksum"]
    path.write_text(json.dumps({**stored, "format_version": 1}))
    assert find_checkpoint(path.parent.name).manifest == now.manifest


def test_plans_of_one_level_are_read(path: Path) -> None:
    now = find_checkpoint(path.parent.name).manifest

    def flatten(manifest: dict[str, Any]) -> None:
        plans = [layer["plan"] for layer in manifest["layers"] if layer["plan"]]
        assert {len(plan["fitting"]) for plan in plans} == {2, 4}
        for plan in plans:
            plan.update(plan.pop("fitting"))

    assert find_checkpoint(_rewritten(path, flatten)).manifest == now


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda m: m.update(surplus=1), "surplus: Extra inputs"),
        (lambda m: m["layers"][0].update(surplus=1), r"layers\.0\.surplus"),
        (lambda m: m.pop("layers"), "layers: Field required"),
        (lambda m: m.update(seconds=-1), "seconds: "),
        (lambda m: m["model"].update(parameters=0), r"model\.parameters: "),
        (
            lambda m: m["layers"][0].update(kind="attention"),
            r"\(attention\) has the plan of another kind",
        ),
    ],
)
def test_what_is_no_manifest_is_refused_with_the_reason(
    path: Path, change: Callable[[dict[str, Any]], None], message: str
) -> None:
    name = _rewritten(path, change)
    with pytest.raises(StoreError, match=rf"the manifest of '{name}' is damaged: .*{message}"):
        find_checkpoint(name)
    assert list(listing()[1]) == [name]


def test_numbers_must_be_finite(path: Path) -> None:
    text = re.sub(r'"seconds": [\d.]+', '"seconds": NaN', path.read_text())
    path.write_text(text)
    with pytest.raises(StoreError, match="it holds NaN, numbers must be finite"):
        find_checkpoint(path.parent.name)


def test_a_manifest_that_nobody_could_read_is_not_written(path: Path) -> None:
    manifest = find_checkpoint(path.parent.name).manifest
    wrong = replace(manifest.stages[0], steps="two")
    with pytest.raises(StoreError, match=r"cannot be written: stages\.0\.steps: "):
        dump_manifest(manifest.model_copy(update={"stages": (wrong,)}))
