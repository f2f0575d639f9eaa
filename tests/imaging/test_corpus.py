"""Files of every kind that people have are read as other decoders show them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from corpus import Specimen, specimens

from passionsr_cli.imaging.files import read_picture

SPECIMENS = list(specimens())


def test_there_are_enough_kinds_and_no_name_twice() -> None:
    names = [specimen.name for specimen in SPECIMENS]
    assert len(set(names)) == len(names) >= 100
    assert len({Path(name).suffix for name in names}) >= 9


@pytest.mark.parametrize("specimen", SPECIMENS, ids=lambda specimen: specimen.name)
def test_it_is_read_as_others_show_it(tmp_path: Path, specimen: Specimen) -> None:
    path = tmp_path / specimen.name
    path.write_bytes(specimen.content)
    picture = read_picture(path)
    assert picture.depth == specimen.depth
    difference = np.abs(picture.rgb.transpose(1, 2, 0) - specimen.shown)
    assert difference.max() <= specimen.tolerance
    assert (picture.alpha is None) == (specimen.alpha is None)
    if picture.alpha is not None and specimen.alpha is not None:
        assert np.abs(picture.alpha[0] - specimen.alpha).max() <= max(specimen.tolerance, 1 / 255)
    assert (picture.note is not None) == ("endless" in specimen.name)
