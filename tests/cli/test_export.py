from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from passionsr_cli.cli.app import app

runner = CliRunner()


def test_a_model_is_exported_and_said_to_be_near(least_folder: Path, tmp_path: Path) -> None:
    folder = tmp_path / "out"
    arguments = ["export", str(least_folder), "--output", str(folder), "--size", "62"]
    result = runner.invoke(app, [*arguments, "--json"])
    assert result.exit_code == 0, result.output
    shown = json.loads(result.stdout)
    assert shown["format"] == "openvino"
    # 62 is no multiple of 4, which is said on the other stream.
    assert shown["size_px"] == 64
    assert "multiples of 4" in result.stderr
    assert shown["psnr"] > shown["required_psnr"]
    assert (folder / "encoder.xml").exists()
    assert runner.invoke(app, arguments).exit_code == 0
    (folder / "encoder.xml").write_text("changed")
    again = runner.invoke(app, arguments)
    assert again.exit_code == 1
    assert "exists already" in again.stderr


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["nothing"], 1, "no checkpoint or model 'nothing'"),
        (["mini", "--format", "tflite"], 2, "known are openvino, onnx, safetensors"),
        (["mini", "--target", "tensorrt"], 2, "does not go with openvino"),
        (["mini", "--precision", "fp16"], 2, "--precision fp16 is for onnx"),
        (["mini", "-f", "safetensors", "--size", "64"], 2, "--size 64 is for openvino and onnx"),
        (["mini", "--size", "0"], 2, "0 px"),
        (["passionsr-fp"], 1, "not on this machine"),
    ],
)
def test_what_cannot_be_is_one_line(arguments: list[str], code: int, words: str) -> None:
    result = runner.invoke(app, ["export", *arguments])
    assert result.exit_code == code
    assert words in " ".join(result.stderr.split())
    assert "Traceback" not in result.output
