"""Settings of peft: patterns against peft itself, and what is refused by name."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from passionsr_cli.errors import ModelError
from passionsr_cli.models.one_step import OneStepModel
from passionsr_cli.published.lora import read_adapters
from passionsr_cli.published.lora_settings import factor_of

LAYER = "mid_block.attentions.0.proj_in"
HALVES = {
    f"{LAYER}.lora_A.weight": torch.ones(2, 16),
    f"{LAYER}.lora_B.weight": torch.ones(16, 2),
}
ORIGIN = Path("adapter_config.json")


@pytest.mark.parametrize(
    ("pattern", "matches"),
    [
        (f"^{LAYER}", True),
        ("mid_block.*", True),
        ("proj_in", True),
        ("unet.mid_block.*", False),
        ("^proj_in", False),
    ],
)
def test_patterns_are_of_the_names_that_peft_sees(
    tiny_model: OneStepModel, tmp_path: Path, pattern: str, matches: bool
) -> None:
    peft = pytest.importorskip("peft")
    own = {"r": 2, "lora_alpha": 2, "alpha_pattern": {pattern: 8}}
    wrapped = nn.ModuleDict({"mid_block": nn.ModuleDict({"attentions": nn.ModuleList([])})})
    wrapped["mid_block"]["attentions"].append(nn.ModuleDict({"proj_in": nn.Linear(16, 16)}))
    adapted = peft.get_peft_model(wrapped, peft.LoraConfig(target_modules=["proj_in"], **own))
    expected = adapted.get_submodule(f"base_model.model.{LAYER}").scaling["default"]
    assert expected == (4 if matches else 1)
    folder = tmp_path / "peft"
    folder.mkdir()
    (folder / "adapter_config.json").write_text(json.dumps({"peft_type": "LORA", **own}))
    save_file(HALVES, folder / "adapter_model.safetensors")
    noted = {"lora_adapter_metadata": json.dumps({f"unet.{key}": own[key] for key in own})}
    named = {f"unet.{name}": half for name, half in HALVES.items()}
    save_file(named, tmp_path / "noted.safetensors", noted)
    for path in (folder, tmp_path / "noted.safetensors"):
        (pair,) = read_adapters(path, tiny_model.state_dict()).pairs[f"unet.{LAYER}"]
        assert pair.factor == expected


def test_no_alpha_is_another_one_than_zero() -> None:
    assert factor_of(ORIGIN, {"r": 2, "lora_alpha": 0}, "unet.", 8)("unet.a", 2) == 0
    assert factor_of(ORIGIN, {"r": 2}, "unet.", 8)("unet.a", 2) == 4
    assert factor_of(ORIGIN, {"r": 2}, "unet.", None)("unet.a", 2) == 1


def test_a_folder_of_peft_without_alpha_has_pefts(tiny_model: OneStepModel, tmp_path: Path) -> None:
    (tmp_path / "adapter_config.json").write_text(json.dumps({"peft_type": "LORA", "r": 2}))
    save_file(HALVES, tmp_path / "adapter_model.safetensors")
    (pair,) = read_adapters(tmp_path, tiny_model.state_dict()).pairs[f"unet.{LAYER}"]
    assert pair.factor == 4


@pytest.mark.parametrize(
    ("key", "value"),
    [
        *(("init_lora_weights", kind) for kind in ("pissa_niter_4", "olora", "corda", "loftq")),
        ("use_dora", True),
        ("use_qalora", True),
        ("lora_bias", True),
        ("layer_replication", [[0, 1]]),
    ],
)
def test_other_adapters_than_plain_lora_are_refused(key: str, value: object) -> None:
    with pytest.raises(ModelError, match=f"{key} is .*, expected .*: only plain LoRA"):
        factor_of(ORIGIN, {"r": 2, key: value}, "", None)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("lora_alpha", "x"),
        ("lora_alpha", {}),
        ("lora_alpha", [1]),
        ("lora_alpha", float("nan")),
        ("r", 0),
        ("alpha_pattern", {"(": 3}),
        ("alpha_pattern", [3]),
        ("rank_pattern", {"[": 3}),
        ("rank_pattern", {"(" * 100_000: 3}),
    ],
)
def test_settings_that_are_none_are_refused_in_a_line(key: str, value: object) -> None:
    with pytest.raises(ModelError, match=key) as refused:
        factor_of(ORIGIN, {key: value}, "", None)
    assert len(str(refused.value).splitlines()) == 1
    assert len(str(refused.value)) < 300


def test_settings_that_are_nested_without_end_are_refused(
    tiny_model: OneStepModel, tmp_path: Path
) -> None:
    save_file(HALVES, tmp_path / "a.safetensors", {"lora_adapter_metadata": "[" * 100_000})
    with pytest.raises(ModelError, match="its lora_adapter_metadata cannot be read"):
        read_adapters(tmp_path / "a.safetensors", tiny_model.state_dict())
