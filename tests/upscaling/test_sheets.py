from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from passionsr_cli.system.own_files import MADE_BY
from passionsr_cli.upscaling.naming import Naming
from passionsr_cli.upscaling.planning import Job, plan


@pytest.mark.parametrize("pattern", ["", "*.png"])
def test_contact_sheets_are_no_images_to_upscale_but_photographs_called_so_are(
    tmp_path: Path, pattern: str
) -> None:
    about = PngInfo()
    about.add_text("Comment", MADE_BY)
    image = Image.new("RGB", (9, 9))
    for name in ("contact-sheet.png", "a_x4_contact-sheet-2.png"):
        image.save(tmp_path / name, pnginfo=about)
    for name in ("contact-sheet-3.png", "my-contact-sheet.png", "b.png"):
        image.save(tmp_path / name)
    (tmp_path / "c_contact-sheet.png").symlink_to("nowhere")
    planned = plan([str(tmp_path / pattern)], tmp_path / "out", Naming())
    jobs = [Path(item.source).name for item in planned if isinstance(item, Job)]
    assert jobs == ["b.png", "contact-sheet-3.png", "my-contact-sheet.png"]
