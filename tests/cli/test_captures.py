"""What every command leaves on a terminal of 80×24, kept as text in `captures/`.

`python -m pytest tests/cli/test_captures.py --write-captures` writes them anew, to be looked at;
with PASSIONSR_CAPTURES=1 they are compared. Both take minutes: every command is its own process.
Digits and the widths of columns may differ from machine to machine; words may not.
"""

from __future__ import annotations

import os
import re
import shutil
import sys
from pathlib import Path

import pytest
import yaml
from PIL import Image
from screens import run_on_terminal, screen

COLUMNS = 80
CAPTURES = Path(__file__).parent / "captures"
CALIBRATE = "calibrate --method maxmin --config small.yaml"
EVALUATE = "evaluate --model tiny --baseline bicubic --metrics psnr,ssim --limit 1 -o out"
# In this order in one folder: the later ones use what the earlier ones made.
COMMANDS = {
    "help": "--help",
    "upscale": "upscale photo.png --model tiny --backend torch",
    "upscale-folder": "upscale photos --model tiny --backend torch",
    "upscale-refused": "upscale photo.png --scael 2",
    "calibrate": f"{CALIBRATE} --bits w8a8",
    "calibrate-again": f"{CALIBRATE} --bits w8a8",
    "calibrate-w4a4": f"{CALIBRATE} --bits w4a4 --name smaller",
    "checkpoints": "checkpoints",
    "checkpoints-show": "checkpoints show smaller",
    "checkpoints-compare": "checkpoints compare tiny-w8a8-maxmin smaller",
    "checkpoints-remove": "checkpoints remove smaller --yes",
    "models": "models",
    "models-show": "models show tiny",
    "evaluate": f"{EVALUATE} --checkpoint tiny-w8a8-maxmin --backend torch",
    "score": "score photo_x4.png photo_x4.png --metrics psnr,ssim",
    "export": "export tiny-w8a8-maxmin --format safetensors --output exported",
    "sweep-timestep": "sweep-timestep tiny --timesteps 999,199 --crops 1 --crop-px 32",
    "reproduce": "reproduce passionsr-table2 --model tiny --dry-run",
    "reproduce-sizes": "reproduce passionsr-table3 --output sizes",
    "train": "train --photos photos --name x",
}
CODES = {"upscale-folder": 1, "upscale-refused": 2, "train": 1}


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory, saved_models: Path) -> Path:
    """A folder with photographs and a configuration, and a home that holds a model."""
    folder = tmp_path_factory.mktemp("captures")
    shutil.copytree(saved_models / "tiny", folder / "home" / "models" / "tiny")
    Image.radial_gradient("L").convert("RGB").resize((24, 16)).save(folder / "photo.png")
    (folder / "photos").mkdir()
    for name in ("one", "two"):
        shutil.copy(folder / "photo.png", folder / "photos" / f"{name}.png")
    (folder / "photos" / "broken.png").write_text("no image")
    small = {"model": "tiny", "crops": 1, "crop_px": 32, "device": "cpu", "precision": "fp32"}
    (folder / "small.yaml").write_text(yaml.safe_dump(small))
    return folder


def _alike(text: str, place: Path) -> str:
    """A text without what other machines have otherwise: a longer folder also wraps elsewhere."""
    text = re.sub(r"[\s─━│┃┏┓┡┩└┘╭╮╰╯╇╈┬┴═-]+", "", text)
    text = text.replace(re.sub("-", "", str(place)), "/home/me")
    return re.sub(r"\d+(\.\d+)?(e\d+)?", "0", re.sub(r"[0-9a-f]{12,}", "0", text))


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has other terminals")
def test_every_command_is_readable(place: Path, request: pytest.FixtureRequest) -> None:
    if not (os.environ.get("PASSIONSR_CAPTURES") or request.config.getoption("--write-captures")):
        pytest.skip("takes minutes; PASSIONSR_CAPTURES=1 asks for it")
    environment = {"PASSIONSR_HOME": str(place / "home"), "HF_HUB_OFFLINE": "1"}
    for name, command in COMMANDS.items():
        code, written = run_on_terminal(command.split(), COLUMNS, place, **environment)
        shown = "\n".join(screen(written, COLUMNS)).rstrip() + "\n"
        shown = f"$ passionsr {command}\n{shown.replace(str(place), '/home/me')}"
        if request.config.getoption("--write-captures"):
            CAPTURES.mkdir(exist_ok=True)
            (CAPTURES / f"{name}.txt").write_text(shown, encoding="utf-8")
        kept = (CAPTURES / f"{name}.txt").read_text(encoding="utf-8")
        assert _alike(shown, place) == _alike(kept, place), f"{name}:\n{shown}"
        assert code == CODES.get(name, 0), shown
        lines = shown.splitlines()[1:]
        assert max(map(len, lines)) <= COLUMNS
        assert "…" not in "".join(lines).replace("|…", "")
    assert {path.stem for path in CAPTURES.iterdir()} == set(COMMANDS)
