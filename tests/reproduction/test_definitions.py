"""The tables of the package are whole, and say what papers said."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from passionsr_cli import methods
from passionsr_cli.errors import ConfigError
from passionsr_cli.evaluation.published import published_table
from passionsr_cli.layering import preset_names
from passionsr_cli.methods.stages import Method
from passionsr_cli.models.components import COMPONENTS
from passionsr_cli.reproduction.calibrations import calibration_of
from passionsr_cli.reproduction.definitions import RowDefinition, read_table, table_names
from passionsr_cli.reproduction.settings import ReproductionSettings

METHODS = {"maxmin", "lsq", "qdiffusion", "efficientdm", "qdm", "passionsr", "svdquant", "qartsr"}


def test_there_are_seven_and_none_is_a_preset() -> None:
    names = ["methods", "methods-full-size", *(f"passionsr-table{number}" for number in (2, 3, 4))]
    names += ["qartsr-ablation", "qartsr-table3"]
    assert table_names() == names
    assert not set(names) & set(preset_names())


@pytest.mark.parametrize("name", ["passionsr-table2", "passionsr-table3", "qartsr-table3"])
def test_rows_are_those_of_the_paper_in_its_order(name: str) -> None:
    table = read_table(name)
    lines = published_table(table.published).rows
    printed = [line.name for line in lines if line.dataset in (None, "RealSR")]
    assert [row.name for row in table.rows] == printed


def test_the_ablation_has_the_papers_rows_between_full_precision_and_ours() -> None:
    table = read_table("passionsr-table4")
    printed = [line.name for line in published_table(table.published).rows]
    assert [row.name for row in table.rows[:-1]] == ["full precision", *printed]
    assert table.rows[-1].name == "LBQ+LET+DQC, one fit W6A6"


def test_the_ablations_rows_learn_each_component_equally_long_and_fast() -> None:
    learning = read_table("passionsr-table4").rows[2:]
    calibrations = [
        calibration_of(row, ReproductionSettings(table="passionsr-table4")) for row in learning
    ]
    assert len({calibration.name for calibration in calibrations}) == 4
    made = [methods.build(calibration.settings) for calibration in calibrations]
    for method in made:
        fits = [(stage.components, stage.fit) for stage in method.stages if stage.fit]
        for component in COMPONENTS:
            assert sum(fit.steps for where, fit in fits if component in where) == 120
        assert {fit.learning_rate for _, fit in fits} == {0.3}
    names = [[stage.name for stage in method.stages] for method in made]
    assert names[:2] == [["joint"], ["joint"]]
    assert names[2] == [f"{part} {what}" for part in COMPONENTS for what in ("LET", "LBQ")]
    assert names[3] == list(COMPONENTS)


def _steps(method: Method, modules: int) -> int:
    """Steps of all fits of a method, where each module has its own ones `modules` times."""
    fits = [(stage.fit.steps, stage.modules) for stage in method.stages if stage.fit]
    # The three components' modules are counted together.
    each = {steps for steps, order in fits if order is not None}
    assert len(each) < 2
    return modules * sum(each) + sum(steps for steps, order in fits if order is None)


def test_what_takes_qartsr_apart_has_equal_steps_and_one_thing_else() -> None:
    table = read_table("qartsr-ablation")
    modules = 33
    made = {}
    for row in table.rows[1:]:
        calibration = calibration_of(row, ReproductionSettings(table="qartsr-ablation"))
        made[row.label] = (calibration, methods.build(calibration.settings))
    assert len({calibration.name for calibration, _ in made.values()}) == len(made)
    whole, method = made["QArtSR"]
    assert whole.settings.model == "mini-t149"
    assert _steps(method, modules) == pytest.approx(600, rel=0.02)
    for label, (calibration, other) in made.items():
        assert _steps(other, modules) == pytest.approx(600, rel=0.02), label
        changed = {key for key in method.settings if method.settings[key] != other.settings[key]}
        trained = {"module", "end_to_end"}
        expected = {
            "QArtSR": set(),
            "without TRQ": set(),
            "without RPQ": trained,
            "without ET": trained,
            "without branches": {"ranks"},
            "without merged branches": {"merged_ranks"},
            "without the modules' loss": {"module_weight"},
            "without the perceptual loss": {"perceptual_weight"},
        }
        assert changed == expected[label], label
        assert calibration.settings.model == ("mini" if label == "without TRQ" else "mini-t149")


def test_the_table_of_methods_has_rows_of_bits_and_of_budgets_of_their_own_names() -> None:
    table, settings = read_table("methods"), ReproductionSettings(table="methods")
    assert table.metrics == ("psnr", "ssim", "niqe", "lite1")
    names = [
        calibration_of(row, settings, seed).name
        for row in table.rows
        if row.is_calibrated
        for seed in table.seeds
    ]
    assert len(set(names)) == len(names) == 3 * (len(table.rows) - 1)
    assert {"mini-6.6MB-20p-passionsr-seed2", "mini-w4a4-qartsr"} < set(names)
    assert {calibration_of(row, settings, 2).settings.seed for row in table.rows[1:]} == {2}
    bits = {row.name: row.named_bits for row in table.rows}
    assert (bits["MaxMin W6A6"], bits["PassionSR 6.6MB,20%"]) == (6, None)


def test_presets_of_no_widths_stand_in_names_whole() -> None:
    settings = ReproductionSettings(table="methods")
    for bits, title, named, name in (
        ("quick", "QUICK", None, "mini-w8a8-passionsr-quick"),
        ("full-size-cpu", "FULL-SIZE-CPU", None, "mini-w8a8-passionsr-full-size-cpu"),
        ("w6a6-unet", "W6A6", 6, "mini-unet-w6a6-vae-fp-passionsr"),
    ):
        row = RowDefinition(label="Ours", bits=bits, method="passionsr")
        assert (row.bits_title, row.named_bits) == (title, named)
        assert calibration_of(row, settings).name == name


def test_every_method_is_one_that_is_or_will_be_there() -> None:
    rows = [row for name in table_names() for row in read_table(name).rows]
    assert {row.method for row in rows} == METHODS | {None}


def test_a_table_of_ones_own(tmp_path: Path) -> None:
    values = {
        "title": "Mine",
        "published": "QArtSR, Table 3",
        "columns": ["niqe", "to_fp_db"],
        "rows": [{"label": "Ours", "bits": "w4a4", "method": "maxmin"}],
    }
    path = tmp_path / "mine.yaml"
    path.write_text(yaml.safe_dump(values))
    table = read_table(str(path))
    assert [column.title for column in table.shown_columns(None)] == ["NIQE ↓", "to FP (dB) ↑"]
    assert [column.key for column in table.shown_columns(["psnr"])] == ["to_fp_db"]
    for change, message in (
        ({"columns": ["fid"]}, "no column 'fid'; there are psnr, "),
        ({"best_below_mb": [8]}, "best_below_mb needs the columns mb and to_fp_db"),
        (
            {"rows": [{"label": "Ours", "bits": "w4a4", "budget": "7MB", "method": "maxmin"}]},
            "row 'Ours 7MB' has bits and a budget; give one of them",
        ),
        ({"rows": [{"label": "Ours", "bits": "w4a4"}]}, "row 'Ours W4A4' names no method"),
        *(
            (
                {
                    "columns": columns,
                    "rows": [{"label": "Ours", "budget": "7MB", "method": "maxmin"}],
                },
                "row 'Ours 7MB' has a budget, whose bits are measured, but the columns "
                + ", ".join(columns),
            )
            for columns in (["parameters_m", "operations_g"], ["mb", "weight_bits"])
        ),
        ({"row": []}, "unknown key 'row'; did you mean 'rows'?"),
        ({"seeds": [1, 0, 1]}, "seeds must differ, found 1, 0, 1"),
        ({"rows": values["rows"] * 2}, "two rows are called 'Ours W4A4'; give one of them another"),
    ):
        path.write_text(yaml.safe_dump({**values, **change}))
        with pytest.raises(ConfigError, match=r"mine\.yaml") as error:
            read_table(str(path))
        assert message in str(error.value)
