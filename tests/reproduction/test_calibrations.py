"""Names and states of the calibrations that rows ask for."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from calibrating import Making
from PIL import Image

from passionsr_cli.config import CalibrationSettings
from passionsr_cli.errors import ConfigError
from passionsr_cli.progress import SILENT
from passionsr_cli.reproduction.calibrations import _settings_of, calibration_of
from passionsr_cli.reproduction.definitions import read_table
from passionsr_cli.reproduction.run import plan, reproduce
from passionsr_cli.reproduction.settings import ReproductionSettings

W8A8 = "least-w8a8-maxmin-quick"


def test_images_are_the_same_by_their_whole_path(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    typed, noted = (
        _settings_of(CalibrationSettings(images=folder)) for folder in (Path("a"), tmp_path / "a")
    )
    assert typed == noted != _settings_of(CalibrationSettings(images=Path("b")))


def test_a_configurations_seed_is_used_where_the_table_says_none(
    settings: ReproductionSettings, tmp_path: Path
) -> None:
    (tmp_path / "quick.yaml").write_text("seed: 1")
    row = read_table(settings.table).rows[2]
    for seed, used in ((None, 1), (0, 0), (1, 1), (2, 2)):
        assert calibration_of(row, settings, seed).settings.seed == used
    assert read_table(settings.table).asked_seeds == (None,)
    assert read_table("methods").asked_seeds == (0, 1, 2)


def test_a_checkpoint_of_other_images_is_not_taken(
    settings: ReproductionSettings, making: Making, tmp_path: Path
) -> None:
    folder = tmp_path / "photographs"
    folder.mkdir()
    Image.radial_gradient("L").resize((48, 48)).save(folder / "a.png")
    wanted = settings.model_copy(update={"images": folder, "only": ("maxmin w8a8",)})
    (row,) = read_table(settings.table).chosen_rows(wanted.only)
    making(calibration_of(row, wanted), SILENT)
    assert [state for _, _, state in plan(wanted)] == ["there"]
    Image.linear_gradient("L").resize((48, 48)).save(folder / "a.png")
    ((_, _, state),) = plan(wanted)
    said = f"the checkpoint '{W8A8}' that is there was made when other images were in {folder}; "
    assert state.startswith(f"{said}delete it with `passionsr checkpoints remove {W8A8}`")


def test_two_ways_of_one_name_are_refused_before_any_work(
    settings: ReproductionSettings, making: Making
) -> None:
    table = yaml.safe_load(Path(settings.table).read_text())
    row = {"bits": "w6a6", "method": "passionsr", "method_settings": {"bounds_start": "mse"}}
    other = {**row, "method_settings": {"bounds_start": "extremes"}}
    table["rows"] = [{"label": "A+B", **row}, {"label": "A B", **row}]
    Path(settings.table).write_text(yaml.safe_dump(table))
    wanted = settings.model_copy(update={"only": ()})
    assert [state for _, _, state in plan(wanted)] == ["to do", "to do"]
    table["rows"][1] = {"label": "A B", **other}
    Path(settings.table).write_text(yaml.safe_dump(table))
    for verb in (plan, lambda wanted: reproduce(wanted, SILENT, making)):
        with pytest.raises(ConfigError, match=r"rows 'A\+B W6A6' and 'A B W6A6' differ, but both"):
            verb(wanted)
    assert making.asked == []
