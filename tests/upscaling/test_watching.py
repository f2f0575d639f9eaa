from __future__ import annotations

import threading
import time
from pathlib import Path

from PIL import Image

from passionsr_cli.config import UpscaleSettings
from passionsr_cli.upscaling.images import Done, Failed, open_upscaler
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
