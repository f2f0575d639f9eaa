from __future__ import annotations

from pathlib import Path

import pytest
import torch

from passionsr_cli.errors import ConfigError, ModelError, StoreError
from passionsr_cli.models import catalogue, loading
from passionsr_cli.models.one_step import OneStepModel
from passionsr_cli.registry import EMBEDDED_FOLDER, model_names
from passionsr_cli.store import Store


def test_a_saved_model_computes_what_it_computed(tiny_model: OneStepModel, tmp_path: Path) -> None:
    halved = OneStepModel(tiny_model.description).eval()
    halved.load_state_dict({k: v.half() for k, v in tiny_model.state_dict().items()})
    loading.save(tmp_path / "tiny", tiny_model, {"origin": "test"})
    loaded = loading.load(str(tmp_path / "tiny"))
    image = torch.rand(1, 3, 32, 32)
    torch.testing.assert_close(loaded(image), halved(image))
    assert loaded.description == tiny_model.description


def test_models_of_the_store_are_known_by_name(tiny_model: OneStepModel) -> None:
    loading.save(Store("model").folder("mine"), tiny_model, {})
    assert catalogue.find("mine").description.name == "tiny"
    assert [model.name for model in catalogue.known_models()] == [*model_names(), "mine"]


def test_a_folder_of_photographs_does_not_hide_a_model_of_its_name(
    tiny_model: OneStepModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    loading.save(Store("model").folder("portraits"), tiny_model, {})
    monkeypatch.chdir(tmp_path)
    (tmp_path / "portraits").mkdir()
    (tmp_path / "osediff").mkdir()
    assert catalogue.find("portraits").folder == Store("model").folder("portraits")
    assert catalogue.find("osediff").folder is None


def test_the_embedded_model_is_present_and_fits_its_limits() -> None:
    assert catalogue.find("mini").folder == EMBEDDED_FOLDER
    files = list(EMBEDDED_FOLDER.iterdir())
    assert sum(path.stat().st_size for path in files) <= 24e6
    assert (EMBEDDED_FOLDER / "README.md").is_file()


def test_the_embedded_model_has_every_kind_of_layer() -> None:
    model = loading.load("mini")
    names = [name for name, _ in model.named_modules()]
    for kind in (
        "vae.encoder.conv_in",
        "vae.decoder.mid_block.resnets.0.conv1",
        "unet.down_blocks.0.downsamplers.0.conv",
        "unet.up_blocks.0.upsamplers.0.conv",
        "unet.mid_block.attentions.0.transformer_blocks.0.attn1.to_q",
        "unet.mid_block.attentions.0.transformer_blocks.0.attn2.to_k",
        "unet.mid_block.attentions.0.proj_in",
        "unet.up_blocks.0.resnets.0.conv_shortcut",
    ):
        assert kind in names


def test_an_unknown_model_lists_the_known() -> None:
    with pytest.raises(ModelError, match=r"model 'x', and no folder; known are mini, adcsr"):
        loading.load("x")


def test_absent_weights_say_how_they_are_had() -> None:
    with pytest.raises(ModelError, match=r"'osediff' are not on this machine.*models pull osediff"):
        loading.load("osediff")


def test_tensors_that_do_not_fit_are_refused(tiny_model: OneStepModel, tmp_path: Path) -> None:
    entry = loading.save(tmp_path / "tiny", tiny_model, {})
    tensors = entry.tensors()
    tensors["extra"] = tensors.pop("context")
    from passionsr_cli.store import write_entry

    broken = write_entry(
        tmp_path / "tiny", "model", {"description": entry.manifest["description"]}, tensors
    )
    with pytest.raises(ModelError, match="1 tensors missing, 1 unknown, 0 of another shape"):
        loading.load_entry(broken, tiny_model.description)


def test_a_folder_without_a_model_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="holds no model"):
        loading.load(str(tmp_path))


def test_a_damaged_model_is_refused(tiny_model: OneStepModel, tmp_path: Path) -> None:
    entry = loading.save(tmp_path / "tiny", tiny_model, {})
    entry.tensors_path.write_bytes(entry.tensors_path.read_bytes()[:-10])
    with pytest.raises(StoreError, match="damaged"):
        loading.load(str(tmp_path / "tiny"))


def test_a_dial_that_is_not_there_cannot_be_set(
    tiny_model: OneStepModel, dial_model: OneStepModel
) -> None:
    loading.save(Store("model").folder("mine"), dial_model, {})
    catalogue.check_dial(catalogue.find("mine").description, 0.5)
    catalogue.check_dial(tiny_model.description, None)
    with pytest.raises(ConfigError, match=r"^'tiny' has no dial for realism; .*\bmine$"):
        catalogue.check_dial(tiny_model.description, 0.5)
