from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from passionsr_cli.calibration.bits import settings_for
from passionsr_cli.errors import ConfigError
from passionsr_cli.models.costs import ComponentCosts
from passionsr_cli.progress import SILENT
from passionsr_cli.reproduction.run import reproduce
from passionsr_cli.reproduction.settings import ReproductionSettings
from passionsr_cli.reproduction.sizes import sizes


def test_passionsr_fp_has_the_published_size_and_work(tmp_path: Path) -> None:
    """No weights are needed, and nothing is calibrated."""
    settings = ReproductionSettings(
        table="passionsr-table3", model="passionsr-fp", output=tmp_path / "out"
    )
    table = reproduce(settings, SILENT)
    ours = {line.row: line.values for line in table.lines if line.whose == "passionsr-fp"}
    printed = {line.row: line.values for line in table.lines if line.state == "published"}
    assert set(ours) == set(printed)
    assert len(ours) == 5
    for row, values in printed.items():
        assert ours[row]["parameters_m"] == pytest.approx(values["parameters_m"], abs=1)
        assert ours[row]["operations_g"] == pytest.approx(values["operations_g"], rel=0.002)
    alone = [line.row for line in table.lines if line.state == "published only"]
    assert alone == ["DiffBIR (50 steps)", "OSEDiff"]
    text = (tmp_path / "out" / "table.md").read_text()
    assert "|  | DiffBIR (50 steps) | published only | 1618 | 49056 |" in text.replace("FP", "")


def test_plans_say_what_names_of_widths_stand_for(tmp_path: Path) -> None:
    settings = ReproductionSettings(
        table="methods-full-size",
        model="passionsr-fp",
        only=("full precision", "qartsr w2a2"),
        output=tmp_path / "out",
    )
    full, qartsr = (line.values for line in reproduce(settings, SILENT).lines)
    # 949.6 M parameters in 32 bits; branches of rank 32 beside all layers make 2 bits to 2.74.
    assert full["mb"] == pytest.approx(3798, abs=1)
    assert qartsr["weight_bits"] == pytest.approx(2, abs=0.01)
    bits = sum(qartsr[f"{part}_bits"] for part in ("weight", "branch", "rest"))
    assert bits == pytest.approx(2.74, abs=0.004)
    assert qartsr["mb"] == pytest.approx(full["mb"] * bits / 32, rel=1e-3)


@pytest.mark.parametrize(
    ("configs", "parameters", "operations"),
    [
        ({"unet": "w4a8", "vae": "w8a8"}, 320 * 4 / 32 + 32 * 8 / 32, 640 * 8 / 32 + 64 * 8 / 32),
        ({"unet": "w4a4", "vae": "w8a4"}, 320 * 4 / 32 + 32 * 8 / 32, 640 * 4 / 32 + 64 * 8 / 32),
        ({"unet": "w4a16", "vae": "fp"}, 320 * 4 / 32 + 32, 640 + 64),
    ],
)
def test_each_component_counts_at_its_own_bits(
    configs: dict[str, str], parameters: float, operations: float, tmp_path: Path
) -> None:
    preset = tmp_path / "own.yaml"
    preset.write_text("".join(f"{key}: {value}\n" for key, value in configs.items()))
    costs = [
        ComponentCosts("unet", 320_000_000, 640_000_000_000, 0),
        ComponentCosts("vae", 32_000_000, 64_000_000_000, 0),
    ]
    settings = settings_for("w8a8-unet", str(preset), {})
    assert sizes(settings, costs) == pytest.approx(
        {"parameters_m": parameters, "operations_g": operations}
    )


def test_rows_of_presets_have_the_sizes_of_what_these_say(tmp_path: Path) -> None:
    """Bits by a preset, then layers and a budget by a configuration."""
    own = tmp_path / "own.yaml"
    rows = [
        {"label": "Ours", "bits": bits, "method": "maxmin", "configs": configs}
        for bits, configs in (("w8a8", []), ("quick", []), ("w6a6", [str(own)]))
    ]
    columns = ["parameters_m", "mb", "eight_share", "named_share"]
    table = tmp_path / "own-table.yaml"
    table.write_text(yaml.safe_dump({"title": "A table", "columns": columns, "rows": rows}))
    own.write_text("layer_bits: {unet.conv_in: w4a8}")
    settings = ReproductionSettings(table=str(table), output=tmp_path / "out")
    uniform, quick, layers = reproduce(settings).lines
    assert (uniform.row, quick.row) == ("Ours W8A8", "Ours QUICK")
    assert quick.cells[:2] == uniform.cells[:2]
    # No width is named: all of it is only said to have up to 8 bits.
    assert quick.values["eight_share"] == uniform.values["named_share"] > 90
    assert layers.cells[0] == ""
    assert layers.values["mb"] < uniform.values["mb"]
    own.write_text("budget: 4bit")
    with pytest.raises(ConfigError, match=r"'Ours W6A6' has the budget 4bit by its configuration"):
        reproduce(settings)
