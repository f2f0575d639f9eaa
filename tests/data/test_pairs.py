from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

from passionsr_cli.data.pairs import KNOWN, find_dataset, finished_images
from passionsr_cli.errors import DataError


def _image(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (4, 4)).save(path)


def _crops(folder: Path, *names: str) -> Path:
    for name in names:
        _image(folder / "test_LR" / f"{name}.png")
        _image(folder / "test_HR" / f"{name}.png")
    return folder


LAYOUTS = [
    ("RealSR", "test_LR/Canon_001_LR4.png", "test_HR/Canon_001_LR4.png"),
    ("RealSR", "test/LR/X4/Canon_001_LR4.png", "test/HR/Canon_001_HR.png"),
    ("RealSR", "Canon/Test/4/Canon_001_LR4.png", "Canon/Test/4/Canon_001_HR.png"),
    ("RealSR", "Canon_001_LR4.png", "Canon_001_HR.png"),
    ("DRealSR", "test_LR/a.png", "test_HR/a.png"),
    ("DIV2K_val", "DIV2K_valid_LR_bicubic/X4/0801x4.png", "DIV2K_valid_HR/0801.png"),
    ("Urban100", "image_SRF_4/img_001_SRF_4_LR.png", "image_SRF_4/img_001_SRF_4_HR.png"),
    ("Set5", "image_SRF_4/img_001_SRF_4_LR.png", "image_SRF_4/img_001_SRF_4_HR.png"),
    ("Set14", "image_SRF_4/img_001_SRF_4_LR.png", "image_SRF_4/img_001_SRF_4_HR.png"),
    ("BSD100", "image_SRF_4/img_001_SRF_4_LR.png", "image_SRF_4/img_001_SRF_4_HR.png"),
]


@pytest.mark.parametrize(("name", "lr", "hr"), LAYOUTS)
def test_every_layout_is_found_by_name_and_by_folder(
    tmp_path: Path, name: str, lr: str, hr: str
) -> None:
    folder = tmp_path / name
    _image(folder / lr)
    _image(folder / hr)
    by_name, by_folder = find_dataset(name.lower(), tmp_path), find_dataset(str(folder), None)
    assert by_name == by_folder
    assert by_name.name == name
    assert [(pair.lr, pair.hr) for pair in by_name.pairs] == [(str(folder / lr), str(folder / hr))]
    assert by_name.crops == lr.startswith("test_LR")
    assert {known for known, _, _ in LAYOUTS} == set(KNOWN)


def test_the_cameras_of_realsr_are_one_data_set(tmp_path: Path) -> None:
    folder = tmp_path / "RealSR(V3)"
    for camera in ("Nikon", "Canon"):
        for name in (f"{camera}_001_LR4.png", f"{camera}_001_HR.png"):
            _image(folder / camera / "Test" / "4" / name)
    names = [pair.name for pair in find_dataset(str(folder), None).pairs]
    assert names == ["Canon_001_LR4", "Nikon_001_LR4"]
    lack = folder / "Nikon" / "Test" / "4" / "Nikon_001_HR.png"
    lack.unlink()
    with pytest.raises(DataError, match=r"no partner .*/\*/Test/4/Nikon_001_HR "):
        find_dataset(str(folder), None)
    _image(tmp_path / "x_HR.png")
    with pytest.raises(DataError, match="holds one side of pairs"):
        find_dataset(str(tmp_path), None)


def test_folders_of_any_name_and_suffix_are_a_data_set(tmp_path: Path) -> None:
    for name in ("lr/b.jpg", "lr/a.png", "hr/a.tif", "hr/b.png"):
        _image(tmp_path / name)
    pair = find_dataset(f"{tmp_path / 'lr'},{tmp_path / 'hr'}", None)
    assert [one.name for one in pair.pairs] == ["a", "b"]
    assert find_dataset(str(tmp_path), None).pairs == pair.pairs


def test_roots_are_searched_in_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for place in ("given", "variable", "home/data"):
        _crops(tmp_path / place / "DRealSR", place.partition("/")[0])
    monkeypatch.setenv("PASSIONSR_DATA", str(tmp_path / "variable"))
    assert find_dataset("DRealSR", tmp_path / "given").pairs[0].name == "given"
    assert find_dataset("DRealSR", tmp_path).pairs[0].name == "variable"
    monkeypatch.delenv("PASSIONSR_DATA")
    assert find_dataset("DRealSR", tmp_path).pairs[0].name == "home"


def test_folders_may_be_capitalised_otherwise(tmp_path: Path) -> None:
    folder = _crops(tmp_path / "realsr", "a")
    for found in (
        find_dataset("RealSR", tmp_path),
        find_dataset("realSR", folder),
        find_dataset(str(folder), None),
    ):
        assert (found.name, found.pairs[0].lr) == ("RealSR", str(folder / "test_LR" / "a.png"))
    _crops(tmp_path / "RealSR", "exact")
    if len(list(tmp_path.iterdir())) > 1:
        assert find_dataset("realsr", tmp_path).pairs[0].name == "exact"


def test_the_root_may_be_the_data_sets_own_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _crops(tmp_path / "RealSR", "own")
    assert find_dataset("RealSR", tmp_path / "RealSR").pairs[0].name == "own"
    monkeypatch.chdir(tmp_path / "RealSR")
    assert find_dataset("realsr", Path()).pairs[0].name == "own"
    # A folder of that name with data sets in it is no data set.
    _crops(tmp_path / "RealSR" / "RealSR", "inner")
    assert find_dataset("RealSR", tmp_path / "RealSR").pairs[0].name == "inner"
    with pytest.raises(DataError, match="data set 'DRealSR' is not in"):
        find_dataset("DRealSR", tmp_path / "RealSR")


def test_a_missing_data_set_says_where_it_can_be_had(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"DIV2K_val.*--data-root.*https://"):
        find_dataset("DIV2K_val", tmp_path)
    with pytest.raises(DataError, match=r"no data set 'nope': neither .*; known are sample"):
        find_dataset("nope", None)
    (tmp_path / "RealSR").mkdir()
    with pytest.raises(DataError, match=r"holds no pairs of images; .*: test_LR/\*"):
        find_dataset("RealSR", tmp_path)


def test_a_missing_partner_is_an_error_that_names_the_file(tmp_path: Path) -> None:
    folder = _crops(tmp_path / "RealSR", "a", "b")
    (folder / "test_HR" / "b.png").unlink()
    with pytest.raises(DataError, match=r"test_LR/b.png has no partner .*test_HR/b"):
        find_dataset(str(folder), None)
    _image(folder / "test_HR" / "bb.png")
    (folder / "test_LR" / "b.png").unlink()
    with pytest.raises(DataError, match=r"test_HR/bb.png has no partner .*test_LR/bb"):
        find_dataset(str(folder), None)


def test_two_partners_are_an_error_that_names_both(tmp_path: Path) -> None:
    folder = _crops(tmp_path / "RealSR", "a")
    _image(folder / "test_HR" / "a.jpg")
    with pytest.raises(DataError, match=r"a.jpg and .*a.png are the same image twice"):
        find_dataset(str(folder), None)


def test_finished_images_are_found_under_any_of_their_names(tmp_path: Path) -> None:
    _image(tmp_path / "DIV2K_val/DIV2K_valid_LR_bicubic/X4/0801x4.png")
    _image(tmp_path / "DIV2K_val/DIV2K_valid_HR/0801.png")
    dataset = find_dataset("DIV2K_val", tmp_path)
    for name in ("0801.png", "0801x4.jpg", "0801x4_x4.png"):
        _image(tmp_path / name / name)
        assert finished_images(tmp_path / name, dataset) == {"0801x4": tmp_path / name / name}
    _image(tmp_path / "0801.png" / "0801x4.png")
    with pytest.raises(DataError, match="are both results of '0801x4'"):
        finished_images(tmp_path / "0801.png", dataset)
    _image(tmp_path / "0801x4.jpg" / "0802.png")
    with pytest.raises(DataError, match=r"0802.png belongs to no image of data set 'DIV2K_val'"):
        finished_images(tmp_path / "0801x4.jpg", dataset)
