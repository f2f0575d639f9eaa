from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from PIL import Image
from typer.testing import CliRunner

from passionsr_cli.cli.app import app
from passionsr_cli.graphs.arithmetic import products_saturate
from passionsr_cli.system.devices import choose_precision

RUNNER = CliRunner()
ATTENTION = "unet.mid_block.attentions.0.transformer_blocks.0.attn1"


def _run(*arguments: object) -> Any:
    return RUNNER.invoke(app, [str(argument) for argument in arguments])


def _line(result: Any) -> str:
    return " ".join(result.output.split())


@pytest.fixture
def config(tmp_path: Path, least_folder: Path) -> Path:
    fits = {
        name: {"steps": 2, "learning_rate": 0.01} for name in ("component", "let", "lbq", "joint")
    }
    path = tmp_path / "least.yaml"
    path.write_text(
        yaml.safe_dump(
            {
                "model": str(least_folder),
                "crops": 2,
                "crop_px": 32,
                "device": "cpu",
                "precision": "fp32",
                "method_settings": {"passionsr": fits},
            }
        )
    )
    return path


@pytest.mark.usefixtures("pictures")
def test_from_calibration_to_an_upscaled_photograph(config: Path, tmp_path: Path) -> None:
    done = _run("calibrate", "--bits", "w6a6", "--config", config, "--name", "mine")
    assert done.exit_code == 0, done.output
    assert "use it: passionsr upscale photo.jpg --checkpoint mine" in done.output
    for word in ("encoder", "decoder", "of 32 bits"):
        assert word in done.output
    photo, target = tmp_path / "photo.png", tmp_path / "out.png"
    noise = np.random.default_rng(0).integers(0, 256, (24, 32, 3), np.uint8)
    Image.fromarray(noise).save(photo)
    arguments = ("upscale", photo, "--checkpoint", "mine", "-o", target)
    done = _run(*arguments, "--json")
    assert done.exit_code == 0, done.output
    printed = json.loads(done.stdout)
    assert target.exists()
    assert printed["checkpoint"] == "mine"
    assert printed["precision"] == choose_precision("auto", "cpu")
    assert printed["model"] == "least"
    assert printed["backend"] == "openvino"
    # Where 8-bit products saturate, the layers that would overflow run in floating point.
    assert printed["integer"] or products_saturate()
    assert printed["layers"]["integer"] > 30
    done = _run(*arguments, "--overwrite", "--backend", "torch")
    assert "simulated: torch computes the checkpoint's integers in floating point" in _line(done)
    simulated = json.loads(_run(*arguments, "--overwrite", "--backend", "torch", "--json").stdout)
    assert simulated["integer"] is False
    done = _run(*arguments, "--overwrite", "--model", "mini")
    assert done.exit_code == 1
    assert "was made from" in _line(done)


@pytest.mark.parametrize(
    ("arguments", "unet", "vae"),
    [
        (["--bits", "w6a6"], "w6a6", "w6a6"),
        (["--bits", "w4a16"], "w4a16", "w4a16"),
        (["--bits", "w8a8-unet"], "w8a8", "fp"),
        (["--unet", "w6a6", "--vae", "w8a8"], "w6a6", "w8a8"),
        (["--bits", "w4a4", "--vae", "fp"], "w4a4", "fp"),
        ([], "w8a8", "w8a8"),
    ],
)
def test_bits_of_the_parts(config: Path, arguments: list[str], unet: str, vae: str) -> None:
    done = _run("calibrate", "--config", config, "--method", "maxmin", "--json", *arguments)
    printed = json.loads(done.stdout)
    assert (printed["settings"]["unet"], printed["settings"]["vae"]) == (unet, vae)


def test_a_file_goes_on_top_of_bits_and_options_on_top_of_it(config: Path) -> None:
    config.write_text(config.read_text() + "unet: fp\n")
    arguments = ["--config", config, "--method", "maxmin", "--json", "--bits"]
    settings = [
        json.loads(_run("calibrate", *arguments, *own).stdout)["settings"]
        for own in (["w6a6"], ["w5a7"], ["w6a6", "--unet", "w4a4"])
    ]
    parts = [(each["unet"], each["vae"]) for each in settings]
    assert parts == [("fp", "w6a6"), ("fp", "w5a7"), ("w4a4", "w6a6")]


def test_json_is_one_object(config: Path) -> None:
    done = _run("calibrate", "--unet", "w4a8", "--config", config, "--json", "--method", "maxmin")
    printed = json.loads(done.stdout)
    assert printed["name"] == "least-unet-w4a8-vae-w8a8-maxmin"
    assert printed["layer_bits"]["w4a8"] > 10
    assert printed["stages"][0]["name"] == "min-max"
    assert printed["image_psnr"] > 20
    again = json.loads(_run("checkpoints", "show", printed["name"], "--json").stdout)
    assert again == printed


def test_checkpoints_are_listed_shown_and_removed(config: Path) -> None:
    assert "mini-w8a8" in _run("checkpoints").output
    _run("calibrate", "--bits", "w4a4", "--config", config, "--name", "mine", "--method", "maxmin")
    listed = json.loads(_run("checkpoints", "--json").stdout)
    assert [item["name"] for item in listed["checkpoints"]] == ["mini-w8a8", "mine"]
    assert "mine" in _run("checkpoints").output
    shown = _line(_run("checkpoints", "show", "mine", "--layers"))
    assert "4 bits, asymmetric, per channel" in shown.replace("│ ", "") or "4 bits," in shown
    unanswered = _run("checkpoints", "remove", "mine")
    assert unanswered.exit_code == 2
    assert "nobody said whether to delete the checkpoint 'mine'; add --yes" in _line(unanswered)
    assert _run("checkpoints", "remove", "mine", "--yes").exit_code == 0
    done = _run("checkpoints", "show", "mine")
    assert done.exit_code == 1
    assert "no checkpoint named 'mine'" in _line(done)


@pytest.mark.parametrize("bits", ["w9a1", "8x8", "w6"])
def test_malformed_bits_are_usage_errors(bits: str) -> None:
    done = _run("calibrate", "--bits", bits)
    assert done.exit_code == 2
    assert f"'{bits}' is no bit width; write w6a6" in _line(done)
    assert "Traceback" not in done.output


def test_bad_inputs_are_one_line_each(config: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    cases: list[tuple[list[object], int, str]] = [
        (["--images", tmp_path / "empty"], 1, "no images in this folder"),
        (["--images", tmp_path / "none"], 1, "no such folder; --images"),
        (["--method", "lqs"], 2, "unknown method 'lqs'; did you mean 'lsq'"),
        (
            ["--method", "efficientdm", "--bits", "w16a8"],
            2,
            "method 'efficientdm' supports weights of 2 to 8 bits, and the unet has w16a8",
        ),
        (["--method", "svdquant"], 2, "rank 32 is too large for vae.encoder."),
        (["--model", "nothing"], 1, "unknown model 'nothing'"),
        (["--model", "passionsr-fp"], 1, "weights of 'passionsr-fp' are not on this machine"),
        (["--name", "a/b"], 1, "'a/b' is no checkpoint name"),
        (["--resume", "--name", "x"], 1, "no unfinished calibration 'x'"),
    ]
    for arguments, code, message in cases:
        done = _run("calibrate", "--config", config, *arguments)
        assert (done.exit_code, message in _line(done)) == (code, True), done.output
        assert len(done.output.strip().splitlines()) == 1, done.output
    listed = json.loads(_run("checkpoints", "--json").stdout)
    # Nothing but what comes with the package.
    assert [entry["name"] for entry in listed["checkpoints"]] == ["mini-w8a8"]
    assert (listed["damaged"], listed["unfinished"]) == ({}, [])


def test_a_preset_with_a_layer_that_does_not_exist(config: Path) -> None:
    values = yaml.safe_load(config.read_text())
    config.write_text(yaml.safe_dump({**values, "eight_bit_layers": ["unet.conf_out"]}))
    done = _run("calibrate", "--config", config)
    assert done.exit_code == 2
    assert "the model has no layer 'unet.conf_out'; did you mean 'unet.conv_out'?" in _line(done)


def test_sigterm_as_ctrl_c_leaves_a_run_that_can_be_resumed(config: Path, home: Path) -> None:
    values = yaml.safe_load(config.read_text())
    values["method_settings"]["passionsr"]["component"]["steps"] = 4000
    config.write_text(yaml.safe_dump(values))
    command = [sys.executable, "-m", "passionsr_cli", "calibrate", "--config", str(config)]
    process = subprocess.Popen(
        [*command, "--name", "mine"],
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
        stderr=subprocess.PIPE,
        text=True,
    )
    folder = home / "calibration" / "mine"
    deadline = time.monotonic() + 120
    while not (folder / "calibration.pt").exists():
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.1)
    time.sleep(0.5)
    process.send_signal(signal.SIGTERM)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 143
    assert "interrupted; go on with: passionsr calibrate --resume --name mine" in errors
    assert "Traceback" not in errors
    assert (folder / "fit.pt").exists()
    listed = json.loads(_run("checkpoints", "--json").stdout)
    assert listed["unfinished"] == ["mine"]
    assert _run("checkpoints", "remove", "mine", "-y").exit_code == 0
    assert not folder.exists()


def test_bits_within_a_budget_and_the_plan_again(config: Path, tmp_path: Path) -> None:
    arguments = ("calibrate", "--method", "maxmin", "--config", config)
    done = _run(*arguments, "--budget", "4bit", "--name", "mixed", "--json")
    assert done.exit_code == 0, done.output
    shown = json.loads(done.stdout)
    assert shown["bits"] == "4bit"
    assert 3.5 < shown["mean_weight_bits"] <= 4
    plan = Path(shown["folder"]) / "plan.yaml"
    done = _run(*arguments, "--plan", plan)
    assert done.exit_code == 0, done.output
    mean = shown["mean_weight_bits"]
    assert "least-plan-maxmin: " in _line(done)
    assert f", {round(mean, 2):g}bit, maxmin" in _line(done)
    assert f"a weight has {mean:.2f} bits on average" in _line(done)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("unet.conv_inn: w4a4", "the model has no layer 'unet.conv_inn'; did you mean"),
        (f"{ATTENTION}: w4a8", f"'{ATTENTION}' has no weights; write a8, found w4a8"),
        ("unet.conv_in: w9a4", "layer_bits.unet.conv_in: 'w9a4' is no bit width"),
        ("[unet.conv_in]", "must hold 'key: value' lines"),
    ],
)
def test_a_wrong_plan_is_refused(config: Path, tmp_path: Path, text: str, message: str) -> None:
    plan = tmp_path / "plan.yaml"
    plan.write_text(text)
    done = _run("calibrate", "--config", config, "--plan", plan, "--name", "mine")
    assert done.exit_code == 2
    assert message in _line(done)
