from __future__ import annotations

import os
import threading
import time
from pathlib import Path

import pytest
from PIL import Image

from passionsr_cli.config import UpscaleSettings
from passionsr_cli.upscaling.images import Done, Failed, open_upscaler
from passionsr_cli.upscaling.run import Outcomes
from passionsr_cli.upscaling.watching import watch


def test_images_are_upscaled_as_they_arrive_and_only_whole(
    tmp_path: Path, tiny_folder: Path
) -> None:
    folder, whole = tmp_path / "in", tmp_path / "whole.png"
    folder.mkdir()
    Image.effect_noise((32, 24), 50).save(whole)
    there = folder / "there.png"
    there.write_bytes(whole.read_bytes())
    settings = UpscaleSettings(
        model=str(tiny_folder), backend="torch", device="cpu", output=tmp_path / "out"
    )

    def arrive() -> None:
        """Piece by piece, as a camera or a network writes."""
        content = whole.read_bytes()
        with (folder / "late.png").open("wb") as file:
            for start in range(0, len(content), 200):
                file.write(content[start : start + 200])
                file.flush()
                time.sleep(0.05)

    outcomes = watch(open_upscaler(settings), [str(folder)], settings, every_seconds=0.2)
    first = next(outcomes)
    assert isinstance(first, Done)
    assert first.source == str(there)
    writer = threading.Thread(target=arrive)
    writer.start()
    second = next(outcomes)
    writer.join()
    assert isinstance(second, Done), second
    assert (second.source, second.output_size) == (str(folder / "late.png"), (128, 96))
    (folder / "broken.png").write_text("no image")
    third = next(outcomes)
    assert isinstance(third, Failed)
    assert "broken.png: not an image file" in third.error
    # Told of once: the next outcome is another file's, and then that of the mended one.
    (folder / "other.png").write_bytes(whole.read_bytes())
    assert next(outcomes).source == str(folder / "other.png")
    (folder / "broken.png").write_bytes(whole.read_bytes())
    assert isinstance(next(outcomes), Done)
    # Two images cannot have one result.
    Image.open(whole).save(folder / "other.jpg")
    fifth = next(outcomes)
    assert isinstance(fifth, Failed)
    assert "is already that of" in fifth.error
    outcomes.close()
    assert len(list((tmp_path / "out").iterdir())) == 4


@pytest.mark.parametrize("how", ["overwritten", "another suffix", "made by others"])
def test_an_image_in_the_place_of_another_is_told_of_once(
    tmp_path: Path, least_folder: Path, how: str
) -> None:
    folder, result = tmp_path / "in", tmp_path / "out" / "a_x4.png"
    folder.mkdir()
    noise = Image.effect_noise((16, 12), 50)
    noise.save(folder / "a.png")
    settings = UpscaleSettings(
        model=str(least_folder), backend="torch", device="cpu", output=tmp_path / "out"
    )
    upscaler = open_upscaler(settings)

    def watched() -> Outcomes:
        return watch(upscaler, [str(folder)], settings, every_seconds=0.01)

    if how == "made by others":
        result.parent.mkdir()
        noise.save(result)
        os.utime(result, (1, 1))
    else:
        assert isinstance(next(watched()), Done)
        (folder / "a.png").unlink()
        Image.new("RGB", (12, 16)).save(folder / ("a.bmp" if how == "another suffix" else "a.png"))
    (named,) = folder.iterdir()
    noise.save(folder / "b.png")
    # After a restart, too; and those that come later are not held up.
    outcomes = watched()
    told = next(outcomes)
    assert isinstance(told, Failed)
    assert f"{named}: its result {result} is of another image" in told.error
    assert next(outcomes).source == str(folder / "b.png")
    result.unlink()
    assert next(outcomes).source == str(named)
    noise.save(folder / "c.png")
    assert next(outcomes).source == str(folder / "c.png")
    outcomes.close()
