from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from passionsr_cli import Done, Failed, UpscaleSettings, upscale
from passionsr_cli.errors import ConfigError
from passionsr_cli.upscaling.run import plan_work, upscale_on_ray


def test_without_ray_the_error_says_how_to_get_it(
    photographs: Path, settings: UpscaleSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(__import__("sys").modules, "ray", None)
    with pytest.raises(ConfigError, match=r"pip install 'ray\[data\]'"):
        list(upscale([str(photographs)], settings.model_copy(update={"engine": "ray"})))


@pytest.mark.filterwarnings("error:.*deprecated.*:FutureWarning")
@pytest.mark.filterwarnings("error:.*ray_remote_args:Warning")
def test_ray_makes_what_one_process_makes(
    photographs: Path, settings: UpscaleSettings, tmp_path: Path
) -> None:
    ray = pytest.importorskip("ray", reason="Ray is not installed")
    (photographs / "03.png").write_bytes(b"no photograph")
    here = settings.model_copy(update={"output": tmp_path / "here"})
    list(upscale([str(photographs)], here))
    try:
        found = list(upscale_on_ray(plan_work([str(photographs)], settings), settings))
    finally:
        ray.shutdown()
    assert sum(isinstance(item, Done) for item in found) == 10
    (failed,) = (item for item in found if isinstance(item, Failed))
    assert "03.png: not an image file" in failed.error
    for path in (tmp_path / "here").rglob("*.png"):
        other = tmp_path / "out" / path.relative_to(tmp_path / "here")
        # The order of sums depends on the number of threads.
        difference = np.array(Image.open(other)).astype(int) - np.array(Image.open(path))
        assert np.abs(difference).max() <= 1
    assert not (tmp_path / "out" / ".passionsr").exists()
