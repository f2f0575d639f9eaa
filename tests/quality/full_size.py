"""One complete PassionSR calibration of Stable Diffusion 2.1's architecture, random weights.

    python tests/quality/full_size.py [BITS]

Says what every stage takes for a step, and the peak memory: two 512×512 images, two steps a
stage. Then the checkpoint is exported, each time in a process of its own, whose seconds and peak
memory are said too. All of it (10 GB) lies in a temporary folder that is removed at the end.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch


def main(bits: str) -> None:
    from passionsr_cli import api
    from passionsr_cli.checkpoints.catalogue import describe
    from passionsr_cli.checkpoints.manifest import StageResult
    from passionsr_cli.config import CalibrationSettings
    from passionsr_cli.layering import settings_from
    from passionsr_cli.models.loading import save
    from passionsr_cli.models.one_step import OneStepModel
    from passionsr_cli.progress import NO_DETAILS, Silent
    from passionsr_cli.registry import describe as describe_model

    class Printer(Silent):
        def step(self, task: str, done: float, details: Mapping[str, float] = NO_DETAILS) -> None:
            print(f"{task} {done}", flush=True)

        def done(self, result: object) -> None:
            assert isinstance(result, StageResult)
            seconds = result.fit_seconds / result.steps
            print(f"{result.name}: {seconds:.1f} s a step, {result.seconds:.0f} s", flush=True)

    with tempfile.TemporaryDirectory() as folder:
        os.environ["PASSIONSR_HOME"] = folder
        torch.manual_seed(0)
        model = OneStepModel(describe_model("passionsr-fp"))
        parameters = sum(p.numel() for p in model.parameters())
        save(Path(folder) / "random", model, {})
        del model
        options = {
            "model": f"{folder}/random",
            "unet": bits,
            "vae": bits,
            "method_settings": {"passionsr": {"component": {"steps": 2, "learning_rate": 1.0}}},
        }
        settings = settings_from("low-memory-calibration", CalibrationSettings, options)
        shown = describe(api.calibrate(settings, "full-size", reporter=Printer()))
        _report(bits, parameters, shown)
        for form in ("safetensors", "openvino", "onnx"):
            _export(form, folder)


def _report(bits: str, parameters: int, shown: dict[str, Any]) -> None:
    print(
        f"{bits}: {parameters / 1e6:.1f} M parameters, {shown['seconds']:.0f} s, peak "
        f"{shown['peak_memory_bytes'] / 1e9:.1f} GB, {shown['bytes'] / 1e6:.0f} MB on disk, "
        f"{shown['share_of_32_bits']:.4f} of 32 bits",
        flush=True,
    )


def _export(form: str, folder: str) -> None:
    output = f"{folder}/{form}"
    command = [sys.executable, "-m", "passionsr_cli", "export", "full-size"]
    done = subprocess.run(
        [*command, "--format", form, "--size", "512", "--output", output, "--json"],
        stdout=subprocess.PIPE,
        check=True,
    )
    report = json.loads(done.stdout)
    layers = report["layers"]
    print(
        f"{form}: {report['seconds']:.0f} s, peak {report['peak_memory_bytes'] / 1e9:.1f} GB, "
        f"{report['bytes'] / 1e6:.0f} MB, {report['psnr']} dB to the definition "
        f"({report['required_psnr']:.1f} required), {layers['integer']} layers on integers, "
        f"{layers['folded']} folded, in floating point: {layers['floating']}",
        flush=True,
    )
    shutil.rmtree(output)


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else "w8a8")
