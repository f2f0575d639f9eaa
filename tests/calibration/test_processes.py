from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from passionsr_cli import api
from passionsr_cli.checkpoints.catalogue import find_checkpoint
from passionsr_cli.config import CalibrationSettings


def test_two_processes_learn_what_one_does_from_their_batches_together(
    tiny_folder: Path, tmp_path: Path
) -> None:
    values = {
        "model": str(tiny_folder),
        "unet": "w8a8",
        "vae": "w8a8",
        "crops": 4,
        "crop_px": 32,
        "batch_size": 1,
        "device": "cpu",
        "precision": "fp32",
        "method_settings": {"passionsr": {"component": {"steps": 4, "learning_rate": 0.2}}},
    }
    config = tmp_path / "tiny.yaml"
    config.write_text(yaml.safe_dump(values))
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2"]
    command += ["--standalone", "-m", "passionsr_cli", "calibrate", "--config", str(config)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [*command, "--name", "two", "--json"], env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr[-2000:]
    # One of them speaks.
    assert json.loads(done.stdout)["name"] == "two"
    two = find_checkpoint("two").manifest.stages
    one = api.calibrate(CalibrationSettings.model_validate({**values, "batch_size": 2}), "one")
    # The encoder's images are the same in both, and so is its start. Each process divides by the
    # target of its own image, so the steps are alike, not the same: Adam makes
    # full steps even of gradients that are noise.
    first, other = one.manifest.stages[0], two[0]
    assert other.start_error == pytest.approx(first.start_error, rel=1e-4)
    assert other.end_error == pytest.approx(first.end_error, rel=0.3)
    assert other.end_error < 0.9 * other.start_error
    assert [stage.name for stage in two] == ["encoder", "unet", "decoder"]
