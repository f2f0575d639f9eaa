"""Full-size models as others publish them, with random weights: both layouts, adapters, upscaling.

    PASSIONSR_FULL_SIZE=1 pytest -s tests/quality/test_published.py

writes a model of Stable Diffusion 2.1's shape as a diffusers folder and as one checkpoint, each
5.2 GB with its text encoder, and makes models of both, in processes of their own whose peak
memory is measured. It takes some minutes and 19 GB of disk in the folder for temporary files.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import foreign
import pytest
import torch
from PIL import Image

from passionsr_cli.models.one_step import OneStepModel
from passionsr_cli.registry import describe
from passionsr_cli.store import Store

MOST_GIGABYTES = 12
# OpenCLIP ViT-H/14, the text encoder of Stable Diffusion 2.
TEXT_WIDTH, TOKENS, VOCABULARY, BLOCKS = 1024, 77, 49408, 24

pytestmark = pytest.mark.skipif(
    not os.environ.get("PASSIONSR_FULL_SIZE"), reason="set PASSIONSR_FULL_SIZE=1 to run this"
)


def write_published(folder: Path, layout: str) -> None:
    """The same random model in one layout; the adapters beside it."""
    description = describe("passionsr-fp")
    torch.manual_seed(0)
    model = OneStepModel(description)
    text = foreign.openclip_state(TEXT_WIDTH, TOKENS, VOCABULARY, BLOCKS, seed=1)
    if layout == "folder":
        foreign.write_folder(folder / "base", model.state_dict(), description, old_names=True)
        foreign.write_text_folder(folder / "base" / "text_encoder", text)
    else:
        state = foreign.ldm_state(model.state_dict(), description)
        torch.save({"state_dict": {**state, **text}}, folder / "base.ckpt")
    torch.save(foreign.osediff_pickle(model, rank=4, seed=2), folder / "osediff.pkl")


def _passionsr(*arguments: str) -> dict[str, Any]:
    """What the command prints as JSON, its seconds and its peak memory."""
    started = time.monotonic()
    command = [sys.executable, "-c", _MEASURED, *arguments, "--json"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    peak = int(done.stderr.rpartition("PEAK ")[2])
    seconds = time.monotonic() - started
    print(f"{arguments[:3]}: {seconds:.0f} s, peak {peak / 1e9:.2f} GB", flush=True)
    assert peak < MOST_GIGABYTES * 1e9
    return json.loads(done.stdout)  # type: ignore[no-any-return]


_MEASURED = """
import resource, sys
from passionsr_cli.cli.app import main
try:
    main()
finally:
    print("PEAK", resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024, file=sys.stderr)
"""


def test_both_layouts_give_the_same_model_and_it_upscales(tmp_path: Path) -> None:
    for name, base in (("folder", "base"), ("ldm", "base.ckpt")):
        subprocess.run(
            [sys.executable, "-c", _WRITE, str(Path(__file__)), str(tmp_path), name], check=True
        )
        _passionsr(
            *("models", "add", name, "--base", str(tmp_path / base)),
            *("--lora", str(tmp_path / "osediff.pkl")),
        )
        subprocess.run(["rm", "-r", str(tmp_path / base)], check=True)
    one, two = (Store("model").read(name).tensors() for name in ("folder", "ldm"))
    assert one.keys() == two.keys()
    largest = max(float((one[key].float() - two[key].float()).abs().max()) for key in one)
    print(f"largest difference between the layouts: {largest:.3g}")
    assert largest <= 1e-6
    del one, two
    Store("model").remove("ldm")
    photo = tmp_path / "photo.png"
    Image.effect_noise((128, 128), 60).convert("RGB").save(photo)
    for backend in ("torch", "openvino"):
        target = str(tmp_path / f"{backend}.png")
        _passionsr("upscale", str(photo), "--model", "folder", "--backend", backend, "-o", target)
        with Image.open(target) as image:
            assert image.size == (512, 512)


_WRITE = """
import sys
from pathlib import Path
sys.path.insert(0, str(Path(sys.argv[1]).parents[1]))
sys.path.insert(0, str(Path(sys.argv[1]).parent))
import os
os.environ["PASSIONSR_FULL_SIZE"] = "1"
from test_published import write_published
write_published(Path(sys.argv[2]), sys.argv[3])
"""
