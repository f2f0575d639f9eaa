from __future__ import annotations

import importlib
from pathlib import Path

import pytest
from PIL import Image
from reporting import Heard

import passionsr_cli
from passionsr_cli import UpscaleSettings, api, upscale
from passionsr_cli.errors import ModelError, OutputError, PassionSRError


def test_every_public_name_exists() -> None:
    for name in passionsr_cli.__all__:
        assert getattr(passionsr_cli, name) is not None
    assert {*passionsr_cli.__all__} == {*api.__all__, "__version__"} <= {*dir(passionsr_cli)}
    assert {*api.ROOMS} == {*api.__all__}
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        _ = passionsr_cli.nonsense


def test_a_verb_is_not_hidden_by_a_room_that_was_imported() -> None:
    """Importing a room makes it an attribute of the package, before any `__getattr__`."""
    for path in Path(passionsr_cli.__file__).parent.glob("*/__init__.py"):
        importlib.import_module(f"passionsr_cli.{path.parent.name}")
    assert all(callable(getattr(passionsr_cli, name)) for name in api.__all__)


def test_upscaling_from_python_reports_each_image(tmp_path: Path) -> None:
    heard = Heard()
    found = list(
        upscale(
            ["sample:rocket", "missing.png"],
            UpscaleSettings(output=tmp_path, precision="fp32"),
            heard,
        )
    )
    assert isinstance(found[0], passionsr_cli.Done)
    assert found[0].output == tmp_path / "rocket_x4.png"
    assert found[0].output.stat().st_size > 1000
    assert found[1] == passionsr_cli.Failed("missing.png", "missing.png: no such file")
    assert heard.places[-1] == ("sample:rocket", 1.0)
    assert heard.results == found


def test_nothing_in_is_nothing_out() -> None:
    assert list(upscale([])) == []


def test_a_wrong_model_raises_before_the_first_image() -> None:
    with pytest.raises(ModelError):
        upscale(["sample:rocket"], UpscaleSettings(model="nope"))


def test_one_file_may_stand_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A string is no list of letters, of which "." is a folder."""
    monkeypatch.chdir(tmp_path)
    for name in ("p.png", "other.png"):
        Image.new("RGB", (16, 12), "teal").save(name)
    for given in ("p.png", Path("p.png"), [Path("p.png")]):
        (done,) = upscale(given, UpscaleSettings(overwrite=True))
        assert isinstance(done, passionsr_cli.Done)
        assert (done.source, done.output) == ("p.png", Path("p_x4.png"))


def test_no_result_replaces_its_own_source(tmp_path: Path) -> None:
    photo = tmp_path / "p.png"
    Image.new("RGB", (16, 12), "teal").save(photo)
    before = photo.read_bytes()
    with passionsr_cli.Upscaler() as upscaler:
        for output in (photo, tmp_path / "nowhere" / ".." / "p.png"):
            with pytest.raises(OutputError, match="would replace its own input"):
                upscaler.upscale_file(photo, output)
    assert photo.read_bytes() == before


def test_texts_are_paths_and_one_name_is_a_metric(tmp_path: Path) -> None:
    photo = str(tmp_path / "p.png")
    Image.new("RGB", (16, 12), "teal").save(photo)
    ((_, values),) = ((each.image, each.scores) for each in api.score(photo, photo, "psnr"))
    assert [*values] == ["psnr"]
    with pytest.raises(ModelError, match="lacks unet"):
        api.add_model("mine", str(tmp_path))
    with pytest.raises(PassionSRError, match=r"p\.png"):
        api.import_checkpoint(photo, photo, "mini")
    settings = api.settings_from("train-mini", api.TrainingSettings)
    with pytest.raises(PassionSRError, match="none: no such folder"):
        api.train(settings, str(tmp_path / "none"), "mine")
