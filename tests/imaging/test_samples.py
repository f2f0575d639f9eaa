from __future__ import annotations

import pytest

from passionsr_cli.errors import ImageError
from passionsr_cli.imaging import samples


@pytest.mark.parametrize("name", samples.NAMES)
def test_every_sample_is_a_small_photograph(name: str) -> None:
    hr, lr = (f(f"sample:{name}") for f in (samples.high_resolution, samples.low_resolution))
    assert [side * 4 for side in lr.shape[1:]] == list(hr.shape[1:])
    assert lr.std() > 0.05
    assert lr.min() >= 0
    assert lr.max() <= 1


def test_unknown_samples_list_the_known() -> None:
    with pytest.raises(ImageError, match="unknown sample; known are astronaut"):
        samples.low_resolution("sample:nobody")
