"""A small table of a small model, begun, stopped, and gone on with."""

from __future__ import annotations

import csv
import math
import shutil
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
import yaml
from calibrating import Making
from PIL import Image

from passionsr_cli.bits import EIGHT_BITS
from passionsr_cli.checkpoints.catalogue import Checkpoint, find_checkpoint
from passionsr_cli.checkpoints.manifest import StageResult
from passionsr_cli.checkpoints.unfinished import unfinished
from passionsr_cli.errors import FitError, OutputError, PassionSRError
from passionsr_cli.progress import NO_DETAILS, SILENT, Reporter, Silent
from passionsr_cli.reproduction import retraining
from passionsr_cli.reproduction.calibrations import Calibration
from passionsr_cli.reproduction.run import plan, reproduce
from passionsr_cli.reproduction.settings import ReproductionSettings
from passionsr_cli.store import MODEL, Store

W8A8, W6A6 = "least-w8a8-maxmin-quick", "least-w6a6-maxmin-quick"
PASSIONSR = "least-w6a6-passionsr-quick"
SVG = "{http://www.w3.org/2000/svg}"


class _Counting(Silent):
    """How many images were upscaled and scored."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()

    def step(self, task: str, done: float, details: Mapping[str, float] = NO_DETAILS) -> None:
        self.counts[task.partition(" ")[0]] += 1


def test_our_numbers_stand_beside_the_published_ones(
    settings: ReproductionSettings, making: Making
) -> None:
    table = reproduce(settings, SILENT, making)
    assert making.asked == [(W8A8, "to do"), (W6A6, "to do")]
    assert [(line.row, line.whose) for line in table.lines] == [
        ("OSEDiff", "published only"),
        ("PassionSR-FP", "least"),
        ("PassionSR-FP", "published"),
        ("MaxMin W8A8", "least"),
        ("MaxMin W8A8", "published"),
        ("MaxMin W6A6", "least"),
        ("MaxMin W6A6", "published"),
    ]
    keys = ["psnr", "ssim", "to_fp_db", "hours", "memory_gb"]
    assert [column.key for column in table.columns] == keys
    ours, manifest = table.lines[5], find_checkpoint(W6A6).manifest
    assert ours.values["hours"] == pytest.approx(manifest.seconds / 3600)
    assert ours.values["memory_gb"] == pytest.approx(manifest.peak_memory_bytes / 1e9)
    assert ours.values["to_fp_db"] == pytest.approx(_psnr(settings, W6A6, "least"), abs=1e-4)
    assert ours.cells[2] == f"{_psnr(settings, W6A6, 'least'):.2f}"
    assert table.lines[6].cells == ("15.55", "0.2417", "", "", "")
    assert table.failed == []
    assert any("ours are of the 512×512 crops" in remark for remark in table.remarks)


def _psnr(settings: ReproductionSettings, one: str, other: str) -> float:
    """Mean PSNR of the images of two rows, by hand."""
    assert settings.output is not None
    values = []
    for name in ("a", "b"):
        first, second = (
            np.asarray(Image.open(settings.output / "images" / row / f"{name}.png")).astype(float)
            for row in (one, other)
        )
        values.append(10 * math.log10(255**2 / ((first - second) ** 2).mean()))
    return sum(values) / len(values)


def test_stopped_between_rows_it_goes_on_with_the_next_and_nothing_is_done_twice(
    settings: ReproductionSettings, making: Making
) -> None:
    def stopped(calibration: Calibration, reporter: Reporter) -> Checkpoint:
        if making.asked:
            raise KeyboardInterrupt
        return making(calibration, reporter)

    with pytest.raises(KeyboardInterrupt):
        reproduce(settings, SILENT, stopped)
    assert settings.output is not None
    lines = list(csv.DictReader((settings.output / "table.csv").open()))
    states = [line["state"] for line in lines if line["whose"] == "least"]
    assert states == ["done", "done", "to come"]
    assert [state for _, _, state in plan(settings)] == ["", "", "there", "to do"]
    making.asked.clear()
    listener = _Counting()
    table = reproduce(settings, listener, making)
    assert making.asked == [(W6A6, "to do")]
    assert listener.counts["upscaling"] == 2
    assert {line.state for line in table.lines} == {"done", "published", "published only"}

    written = {path.name: path.read_bytes() for path in settings.output.glob("table.*")}
    assert set(written) == {"table.md", "table.csv", "table.html"}
    making.asked.clear()
    listener = _Counting()
    assert reproduce(settings, listener, making) == table
    assert (making.asked, listener.counts["upscaling"]) == ([], 0)
    assert {path.name: path.read_bytes() for path in settings.output.glob("table.*")} == written


def test_an_unfinished_calibration_goes_on(settings: ReproductionSettings, making: Making) -> None:
    class Stop(Silent):
        def done(self, result: object) -> None:
            if isinstance(result, StageResult) and result.name == "encoder":
                raise KeyboardInterrupt

    learning = settings.model_copy(update={"only": ("passionsr w6a6",)})
    with pytest.raises(KeyboardInterrupt):
        reproduce(learning, Stop(), making)
    assert unfinished() == [PASSIONSR]
    making.asked.clear()
    table = reproduce(learning, SILENT, making)
    assert making.asked == [(PASSIONSR, "unfinished")]
    assert [(line.row, line.state) for line in table.lines] == [
        ("PassionSR W6A6", "done"),
        ("PassionSR W6A6", "published"),
    ]


def test_a_failed_row_says_why_and_the_others_go_on(
    settings: ReproductionSettings, making: Making, tmp_path: Path
) -> None:
    """A fit diverges; then a method is not there, and a checkpoint was made otherwise."""

    def diverging(calibration: Calibration, reporter: Reporter) -> Checkpoint:
        if calibration.settings.unet == EIGHT_BITS:
            raise FitError("the loss became nan")
        return making(calibration, reporter)

    def replace(file: str, old: str, new: str) -> None:
        text = (tmp_path / file).read_text()
        assert old in text
        (tmp_path / file).write_text(text.replace(old, new))

    table = reproduce(settings, SILENT, diverging)
    (failed,) = table.failed
    found = (failed.row, failed.error, failed.cells[0])
    assert found == ("MaxMin W8A8", "the loss became nan", "failed")
    assert table.lines[5].state == "done"
    replace("small.yaml", "method: passionsr", "method: nobody")
    replace("quick.yaml", "crops: 2", "crops: 3")
    chosen = settings.model_copy(update={"only": ("w6a6",)})
    errors = {line.row: line.error for line in reproduce(chosen, SILENT, making).failed}
    assert errors["PassionSR W6A6"].startswith("unknown method 'nobody'; known are maxmin, ")
    assert errors["MaxMin W6A6"].startswith(
        f"the checkpoint '{W6A6}' that is there was made with crops 2, not 3; delete it with"
    )


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"table": "table9"}, "unknown table 'table9'; known are methods, methods-full-size"),
        ({"dataset": "nowhere"}, "no data set 'nowhere'"),
        ({"model": "nobody"}, "unknown model 'nobody'"),
        ({"model": "passionsr-fp"}, "weights of 'passionsr-fp' are not on this machine"),
        ({"only": ("svdquant",)}, "no row is called 'svdquant'; there are: OSEDiff, PassionSR-FP"),
        ({"config": "none.yaml"}, "no configuration 'none.yaml'"),
        ({"metrics": ("fid",)}, "protocol 'passionsr' has no metric 'fid'"),
        ({"output": Path(__file__)}, "a file, but --output names a folder"),
    ],
)
def test_what_cannot_be_is_said_before_any_work(
    change: dict[str, object], message: str, settings: ReproductionSettings, making: Making
) -> None:
    with pytest.raises(PassionSRError) as error:
        reproduce(settings.model_copy(update=change), SILENT, making)
    assert message in str(error.value)
    assert making.asked == []
    assert settings.output is not None
    assert not settings.output.exists()


def test_a_table_of_others_is_not_replaced(
    settings: ReproductionSettings, making: Making, tmp_path: Path
) -> None:
    (tmp_path / "table.md").write_text("notes")
    with pytest.raises(OutputError, match=r"table\.md: is there already, and passionsr did not"):
        reproduce(settings.model_copy(update={"output": tmp_path}), SILENT, making)


def test_a_row_at_another_timestep_is_of_a_retrained_model(
    settings: ReproductionSettings,
    making: Making,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    table = yaml.safe_load(Path(settings.table).read_text())
    table["rows"] = [{"label": "TRQ", "bits": "w8a8", "method": "maxmin", "timestep": 99}]
    Path(settings.table).write_text(yaml.safe_dump(table))
    stage = {"name": "latent", "target": "latent", "steps": 2, "crop_px": 32}
    stage |= {"learning_rate": 0.001}
    values = {"stages": [stage], "lora_rank": 2, "validation_crops": 1}
    (tmp_path / "short.yaml").write_text(yaml.safe_dump(values))
    monkeypatch.setattr(retraining, "PRESET", str(tmp_path / "short.yaml"))
    wanted = settings.model_copy(update={"only": ()})
    done = reproduce(wanted, SILENT, making)
    assert making.asked == [("least-t99-w8a8-maxmin-quick", "to do")]
    assert done.failed == []
    origin = find_checkpoint("least-t99-w8a8-maxmin-quick").manifest.model
    assert (origin.name, origin.description.timestep) == ("least-t99", 99)
    # It is compared with full precision as it was, not with the retrained model.
    assert done.lines[0].values["to_fp_db"] < 60

    making.asked.clear()
    assert reproduce(wanted, SILENT, making) == done
    assert making.asked == []

    shutil.rmtree(find_checkpoint("least-t99-w8a8-maxmin-quick").folder)
    entry = Store(MODEL).read("least-t99")
    for other in ({"made_from": {"model": {"sha256": "0" * 64}}}, {"retraining": {"steps": 1}}):
        Store(MODEL).write("least-t99", {**entry.manifest, **other}, entry.tensors())
        (failed,) = reproduce(wanted, SILENT, making).failed
        assert "the model 'least-t99' that is there was retrained from another" in failed.error


def test_rows_of_several_seeds_are_ranked_by_size(
    settings: ReproductionSettings, making: Making
) -> None:
    """Means and deviations by hand; a budget beside uniform bits; both plots."""
    table = yaml.safe_load(Path(settings.table).read_text())
    del table["published"]
    rows = [{"label": "full precision"}, {"label": "MaxMin", "bits": "w6a6", "method": "maxmin"}]
    rows.append({"label": "MaxMin", "budget": "4bit", "method": "maxmin"})
    columns = ["to_fp_db", "psnr", "mb", "weight_bits", "named_share", "seconds", "minutes"]
    table |= {"rows": rows, "columns": columns, "seeds": [0, 1], "best_below_mb": [1]}
    Path(settings.table).write_text(yaml.safe_dump(table))
    wanted = settings.model_copy(update={"only": ()})
    done = reproduce(wanted, SILENT, making)
    assert done.failed == []
    budget = "least-4bit-maxmin-quick"
    names = [W6A6, f"{W6A6}-seed1", budget, f"{budget}-seed1"]
    assert [name for name, _ in making.asked] == names
    assert [name for _, name, _ in plan(wanted)] == ["", *names]
    lines = {line.row: line for line in done.lines}
    sizes = [line.values["mb"] for line in done.lines]
    assert sizes == sorted(sizes)
    both = [_psnr(settings, name, "least") for name in names[:2]]
    ours = lines["MaxMin W6A6"]
    assert ours.values["to_fp_db"] == pytest.approx(sum(both) / 2, abs=1e-4)
    assert ours.values["to_fp_deviation"] == pytest.approx(
        abs(both[0] - both[1]) / 2**0.5, abs=1e-4
    )
    assert ours.cells[0] == f"{sum(both) / 2:.2f} ± {abs(both[0] - both[1]) / 2**0.5:.2f}"
    assert ours.values["named_share"] > 50
    written = csv.DictReader((done.folder / "table.csv").open())
    noted = {(line["method"], line["bits"]): line["to_fp_deviation"] for line in written}
    assert noted["MaxMin", "W6A6"] == repr(ours.values["to_fp_deviation"])
    assert noted["full precision", "FP"] == ""
    assert lines["MaxMin 4bit"].values["named_share"] == 0
    assert done.remarks[0].startswith("The nearest below 1 MB: MaxMin ")
    page = (done.folder / "table.html").read_text()
    assert page.count("<svg") == 2
    for name in ("mb.svg", "seconds.svg"):
        drawing = ElementTree.fromstring((done.folder / name).read_text())
        # Two rows, and one series in the legend.
        assert len(drawing.findall(f"{SVG}circle")) == 3
        assert [text.text for text in drawing.findall(f"{SVG}text")][-1] == "MaxMin"
