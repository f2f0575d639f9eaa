"""Models made of what others publish: both layouts, adapters, the context, and what goes wrong."""

from __future__ import annotations

import json
import os
import shutil
from contextlib import AbstractContextManager
from pathlib import Path

import foreign
import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from torch import nn

from passionsr_cli.description import ModelDescription
from passionsr_cli.errors import ModelError, OutputError, StoreError
from passionsr_cli.models import loading
from passionsr_cli.models.one_step import OneStepModel
from passionsr_cli.progress import Notes
from passionsr_cli.published import adding, keeping, legacy, prompts
from passionsr_cli.published.adding import ModelFiles, put_together
from passionsr_cli.published.lora import read_adapters
from passionsr_cli.store import Store

TOKENS, WIDTH, VOCABULARY = 3, 8, 11


@pytest.fixture
def text() -> foreign.Tensors:
    return foreign.openclip_state(WIDTH, TOKENS, VOCABULARY, blocks=3, seed=5)


@pytest.fixture
def folder(tiny_model: OneStepModel, text: foreign.Tensors, tmp_path: Path) -> Path:
    path = tmp_path / "diffusers"
    foreign.write_folder(path, tiny_model.state_dict(), tiny_model.description, old_names=True)
    foreign.write_text_folder(path / "text_encoder", text)
    return path


@pytest.fixture
def ldm(tiny_model: OneStepModel, text: foreign.Tensors, tmp_path: Path) -> Path:
    state = foreign.ldm_state(tiny_model.state_dict(), tiny_model.description)
    path = tmp_path / "ldm.ckpt"
    extra = {"betas": torch.zeros(3), "model_ema.decay": torch.tensor(1.0)}
    torch.save({"global_step": 3, "state_dict": {**state, **text, **extra}}, path)
    return path


@pytest.fixture
def pickle(tiny_model: OneStepModel, tmp_path: Path) -> Path:
    torch.save(foreign.osediff_pickle(tiny_model, rank=4, seed=1), tmp_path / "osediff.pkl")
    return tmp_path / "osediff.pkl"


def test_both_layouts_become_the_same_model(
    tiny_model: OneStepModel, folder: Path, ldm: Path, pickle: Path
) -> None:
    description = tiny_model.description
    one = put_together("one", description, ModelFiles(folder, pickle)).tensors()
    two = put_together("two", description, ModelFiles(ldm, pickle)).tensors()
    assert one.keys() == two.keys() == tiny_model.state_dict().keys()
    assert all(torch.equal(one[name], two[name]) for name in one if name != "context")
    torch.testing.assert_close(one["context"], two["context"], rtol=0, atol=1e-6)
    assert one["context"].shape == (1, TOKENS, WIDTH)
    # Adapters are there, in the layers they are for and in no others.
    plain = tiny_model.state_dict()
    same = {name for name in plain if torch.equal(plain[name], one[name].float())}
    assert "vae.decoder.conv_in.weight" in same
    assert "unet.conv_in.weight" not in same
    assert "vae.encoder.conv_in.weight" not in same
    loaded = loading.load("one")
    assert torch.isfinite(loaded(torch.rand(1, 3, 32, 32))).all()


def test_without_adapters_the_base_is_kept_as_it_is(tiny_model: OneStepModel, ldm: Path) -> None:
    entry = put_together("plain", tiny_model.description, ModelFiles(ldm))
    found, plain = entry.tensors(), tiny_model.state_dict()
    assert all(torch.equal(found[name].float(), plain[name]) for name in plain if name != "context")
    assert entry.manifest["description"]["name"] == "plain"
    assert entry.manifest["made_from"]["base"][0]["bytes"] == ldm.stat().st_size


def _layer(model: OneStepModel, name: str) -> nn.Module:
    return model.get_submodule(name)


@pytest.mark.parametrize(
    "name",
    [
        "unet.conv_in",
        "unet.down_blocks.0.downsamplers.0.conv",
        "unet.up_blocks.0.upsamplers.0.conv",
        "unet.up_blocks.0.resnets.0.conv_shortcut",
        "unet.mid_block.attentions.0.proj_in",
        "unet.mid_block.attentions.0.transformer_blocks.0.attn2.to_k",
        "unet.mid_block.attentions.0.transformer_blocks.0.ff.net.0.proj",
        "vae.encoder.down_blocks.0.downsamplers.0.conv",
        "vae.encoder.mid_block.attentions.0.to_q",
    ],
)
def test_a_merged_layer_computes_what_layer_and_adapter_do(
    tiny_model: OneStepModel, ldm: Path, pickle: Path, name: str
) -> None:
    """W x + 8/r · B(A x), the adapter run beside the layer as in training."""
    put_together("merged", tiny_model.description, ModelFiles(ldm, pickle))
    base, merged = _layer(tiny_model, name), _layer(loading.load("merged"), name)
    part, _, inner = name.partition(".")
    state = torch.load(pickle, weights_only=True)[f"state_dict_{part}"]
    halves = {key: state[key] for key in state if key.startswith(f"{inner}.lora_")}
    down = next(value for key, value in halves.items() if "lora_A" in key)
    up = next(value for key, value in halves.items() if "lora_B" in key)
    torch.manual_seed(3)
    if isinstance(base, nn.Conv2d):
        x = torch.randn(2, base.in_channels, 9, 9)
        beside = F.conv2d(F.conv2d(x, down, None, base.stride, base.padding), up)
    else:
        assert isinstance(base, nn.Linear)
        x = torch.randn(2, 5, base.in_features)
        beside = F.linear(F.linear(x, down), up)
    expected = base(x) + 8 / 4 * beside
    error = (merged(x) - expected).norm() / expected.norm()
    assert error < 1e-5
    assert (base(x) - expected).norm() / expected.norm() > 1e-3


def test_passionsrs_file_is_osediffs_without_what_its_code_leaves_out(
    tiny_model: OneStepModel, ldm: Path, pickle: Path, tmp_path: Path
) -> None:
    held = torch.load(pickle, weights_only=True)
    other = {"rank_unet": 4, "unet_state_dict": held["state_dict_unet"]}
    vae = dict(held["state_dict_vae"])
    vae["decoder.conv_in.lora_A.default_decoder.weight"] = torch.ones(4, 4, 3, 3)
    vae["decoder.conv_in.lora_B.default_decoder.weight"] = torch.ones(16, 4, 1, 1)
    torch.save({**other, "vae_state_dict": vae}, tmp_path / "osediff.ckpt")
    one = put_together("one", tiny_model.description, ModelFiles(ldm, pickle))
    two = put_together("two", tiny_model.description, ModelFiles(ldm, tmp_path / "osediff.ckpt"))
    assert two.manifest["made_from"]["adapters"]["unused"] == 1
    assert one.tensors_file.sha256 == two.tensors_file.sha256


def test_pisa_srs_two_adapters_of_a_layer_add_up(
    tiny_model: OneStepModel, ldm: Path, tmp_path: Path
) -> None:
    layer = "mid_block.attentions.0.proj_in"
    halves = torch.randn(2, 4, 16), torch.randn(2, 16, 4)
    state = {}
    for number, adapter in enumerate(("default_others_pix", "default_others_sem")):
        state[f"{layer}.lora_A.{adapter}.weight"] = halves[0][number]
        state[f"{layer}.lora_B.{adapter}.weight"] = halves[1][number]
    path = tmp_path / "pisa_sr.pkl"
    torch.save({"lora_rank_unet_pix": 4, "lora_rank_unet_sem": 4, "state_dict_unet": state}, path)
    found = put_together("x", tiny_model.description, ModelFiles(ldm, path)).tensors()
    change = 2 * (halves[1] @ halves[0]).sum(0)
    expected = tiny_model.get_submodule(f"unet.{layer}").weight + change
    torch.testing.assert_close(found[f"unet.{layer}.weight"], expected)


@pytest.mark.parametrize(("alpha", "factor"), [(None, 1.0), (6, 1.5)])
def test_a_diffusers_lora_has_its_own_factor(
    tiny_model: OneStepModel, ldm: Path, tmp_path: Path, alpha: int | None, factor: float
) -> None:
    path = tmp_path / "lora.safetensors"
    down, up = torch.randn(4, 16), torch.randn(16, 4)
    layer = "unet.mid_block.attentions.0.proj_in"
    noted = {} if alpha is None else {"unet.lora_alpha": alpha, "unet.r": 4}
    save_file(
        {f"{layer}.lora_A.weight": down, f"{layer}.lora_B.weight": up},
        path,
        {"lora_adapter_metadata": json.dumps(noted)},
    )
    found = put_together("x", tiny_model.description, ModelFiles(ldm, path)).tensors()
    expected = tiny_model.get_submodule(layer).weight + factor * up @ down
    torch.testing.assert_close(found[f"{layer}.weight"], expected)
    old = {f"{layer}.lora.down.weight": down, f"{layer}.lora.up.weight": up}
    save_file({**old, f"{layer}.alpha": torch.tensor(4.0 * factor)}, path)
    assert read_adapters(path, tiny_model.state_dict()).pairs[layer][0].factor == factor


def test_the_context_is_the_text_encoders_of_the_empty_prompt(
    tiny_model: OneStepModel, ldm: Path, text: foreign.Tensors
) -> None:
    """Against a transformer block written out: start, end, '!' through all blocks but the last."""
    found = put_together("x", tiny_model.description, ModelFiles(ldm)).tensors()["context"][0]
    held = torch.load(ldm, weights_only=True)["state_dict"]
    turbo = {key.replace("cond_stage_model", "conditioner.embedders.0"): held[key] for key in held}
    torch.save({"state_dict": turbo}, ldm)
    again = put_together("turbo", tiny_model.description, ModelFiles(ldm)).tensors()["context"][0]
    assert torch.equal(again, found)
    state = {key.removeprefix("cond_stage_model.model."): value for key, value in text.items()}
    x = state["token_embedding.weight"][[VOCABULARY - 2, VOCABULARY - 1, 0]]
    x = x + state["positional_embedding"]
    for number in range(2):
        own = {
            key.split(".", 3)[3]: value
            for key, value in state.items()
            if key.startswith(f"transformer.resblocks.{number}.")
        }
        y = F.layer_norm(x, (WIDTH,), own["ln_1.weight"], own["ln_1.bias"])
        q, k, v = F.linear(y, own["attn.in_proj_weight"], own["attn.in_proj_bias"]).chunk(3, -1)
        mixed = F.scaled_dot_product_attention(q[None], k[None], v[None], is_causal=True)[0]
        x = x + F.linear(mixed, own["attn.out_proj.weight"], own["attn.out_proj.bias"])
        y = F.layer_norm(x, (WIDTH,), own["ln_2.weight"], own["ln_2.bias"])
        y = F.gelu(F.linear(y, own["mlp.c_fc.weight"], own["mlp.c_fc.bias"]))
        x = x + F.linear(y, own["mlp.c_proj.weight"], own["mlp.c_proj.bias"])
    expected = F.layer_norm(x, (WIDTH,), state["ln_final.weight"], state["ln_final.bias"])
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-6)


def test_a_given_context_is_taken(tiny_model: OneStepModel, ldm: Path, tmp_path: Path) -> None:
    given = torch.randn(1, TOKENS, WIDTH)
    torch.save(given, tmp_path / "context.pt")
    parts = ModelFiles(ldm, context=tmp_path / "context.pt")
    assert torch.equal(put_together("x", tiny_model.description, parts).tensors()["context"], given)
    torch.save(torch.randn(1, 4, WIDTH), tmp_path / "context.pt")
    with pytest.raises(ModelError, match=r"shape \(1, 4, 8\), expected \(1, 3, 8\)"):
        put_together("y", tiny_model.description, parts)


def _half(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def _edit(path: Path, **changes: object) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def _nothing_is_left() -> bool:
    root = Store("model").root
    return not root.exists() or not list(root.iterdir())


def test_a_folder_that_is_not_the_model_is_refused(
    tiny_model: OneStepModel, folder: Path, text: foreign.Tensors
) -> None:
    def refuse(match: str) -> None:
        with pytest.raises(ModelError, match=match):
            put_together("x", tiny_model.description, ModelFiles(folder))
        assert _nothing_is_left()

    weights = folder / "unet" / "diffusion_pytorch_model.safetensors"
    # Copies: what is loaded points into the file.
    whole = weights.read_bytes()
    tensors = {name: tensor.clone() for name, tensor in load_file(weights).items()}
    _half(folder / "text_encoder" / "model.safetensors")
    refuse(r"text_encoder/model\.safetensors .*bytes\) cannot be read.*fetch it again")
    (folder / "text_encoder" / "config.json").unlink()
    refuse(r"cannot read .*text_encoder/config\.json")
    (folder / "text_encoder" / "model.safetensors").unlink()
    (folder / "text_encoder").rmdir()
    refuse("has no text encoder.*--context FILE")
    _half(weights)
    refuse(r"cannot be read: .*expected a whole safetensors file")
    weights.unlink()
    refuse("lacks its weights; expected diffusion_pytorch_model.safetensors")
    first = next(iter(tensors))
    weights.write_bytes(whole)
    save_file({k: v for k, v in tensors.items() if k != first}, weights)
    refuse("another architecture or not whole: .* 1 are missing")
    save_file({**tensors, first: torch.zeros(1)}, weights)
    refuse(r"has shape \(1,\), expected")
    _edit(folder / "scheduler" / "scheduler_config.json", prediction_type="v_prediction")
    weights.write_bytes(whole)
    refuse("prediction_type is v_prediction, expected epsilon: the base model must be")
    _edit(folder / "unet" / "config.json", cross_attention_dim=768)
    refuse(r"cross_attention_dim is 768, expected 8 \(it looks like Stable Diffusion 1\)")
    (folder / "vae" / "config.json").unlink()
    refuse(r"lacks vae/config\.json; expected a diffusers model .* found scheduler, unet, vae")


@pytest.mark.parametrize(
    ("part", "key", "value"),
    [
        ("unet", "act_fn", "gelu"),
        ("unet", "flip_sin_to_cos", False),
        ("unet", "norm_eps", 1e-2),
        ("unet", "only_cross_attention", True),
        ("unet", "cross_attention_dim", [1, 2]),
        ("vae", "shift_factor", 0.1),
        ("vae", "latents_mean", [1, 2, 3, 4]),
        ("scheduler", "trained_betas", [0.1]),
        ("scheduler", "rescale_betas_zero_snr", True),
    ],
)
def test_settings_that_would_make_other_images_are_refused(
    tiny_description: ModelDescription, folder: Path, part: str, key: str, value: object
) -> None:
    name = "scheduler_config" if part == "scheduler" else "config"
    _edit(folder / part / f"{name}.json", **{key: value})
    with pytest.raises(ModelError, match=f"{key} is .*, expected"):
        legacy.read_base(folder, tiny_description)


def test_settings_as_publishers_write_them_are_taken(
    tiny_description: ModelDescription, folder: Path
) -> None:
    """Keys of older and newer versions of diffusers, null for no, and what changes no result."""
    unet = dict.fromkeys(("class_embed_type", "num_class_embeds", "only_cross_attention"))
    unet |= {"_class_name": "UNet2DConditionModel", "upcast_attention": True, "freq_shift": 0}
    unet |= {"dual_cross_attention": False, "downsample_padding": 1, "norm_eps": 1e-05}
    unet |= {"unheard_of": 5, "sample_size": 96, "dropout": 0.1, "attention_type": "default"}
    _edit(folder / "unet" / "config.json", **unet)
    vae = {"force_upcast": False, "latents_mean": None, "shift_factor": None, "sample_size": 7}
    _edit(folder / "vae" / "config.json", **vae)
    scheduler = {"trained_betas": None, "rescale_betas_zero_snr": False, "steps_offset": 1}
    _edit(folder / "scheduler" / "scheduler_config.json", **scheduler)
    assert legacy.read_base(folder, tiny_description).text_folder == folder / "text_encoder"


@pytest.mark.parametrize(
    "settings",
    [
        {"hidden_size": "x"},
        {"num_attention_heads": 7},
        {"hidden_act": "nope"},
        {"hidden_size": 10**9},
        {"num_hidden_layers": 10**9},
        {"vocab_size": 1},
    ],
)
def test_a_text_encoder_of_wrong_settings_is_refused_in_a_line(
    folder: Path, settings: dict[str, object]
) -> None:
    _edit(folder / "text_encoder" / "config.json", **settings)
    base = legacy.Base({}, (), text_folder=folder / "text_encoder")
    with pytest.raises(ModelError, match="the text encoder") as refused:
        prompts.empty_context(base, (TOKENS, WIDTH))
    assert len(str(refused.value).splitlines()) == 1


@pytest.mark.parametrize("kind", [torch.int8, torch.bool, torch.complex64])
def test_weights_that_are_no_floats_are_refused(
    tiny_model: OneStepModel, tmp_path: Path, kind: torch.dtype
) -> None:
    state = {key: value for key, value in tiny_model.state_dict().items() if key != "context"}
    state["unet.conv_in.weight"] = state["unet.conv_in.weight"].to(kind)
    with pytest.raises(ModelError, match=r"conv_in\.weight holds numbers of type \w+, expected"):
        legacy.check_fits(state, tiny_model.description, tmp_path)
    torch.save(torch.zeros(1, TOKENS, WIDTH).to(kind), tmp_path / "context.pt")
    with pytest.raises(ModelError, match="its tensor holds numbers of type"):
        prompts.read_context(tmp_path / "context.pt", (TOKENS, WIDTH))


def test_a_checkpoint_that_is_not_the_model_is_refused(
    tiny_model: OneStepModel, ldm: Path, tmp_path: Path
) -> None:
    def refuse(path: Path, match: str) -> None:
        with pytest.raises(ModelError, match=match):
            put_together("x", tiny_model.description, ModelFiles(path))
        assert _nothing_is_left()

    held = torch.load(ldm, weights_only=True)["state_dict"]
    path = tmp_path / "other.ckpt"
    width = {k: v[:, :1].expand(-1, 768) for k, v in held.items() if "attn2.to_k.weight" in k}
    torch.save({**held, **width}, path)
    refuse(path, "is Stable Diffusion 1: its UNet reads embeddings of width 768, expected 8")
    width = {k: v[:, :1].expand(-1, 2048) for k, v in held.items() if "attn2.to_k.weight" in k}
    torch.save({**held, **width}, path)
    refuse(path, "is Stable Diffusion XL")
    torch.save({k: v for k, v in held.items() if "output_blocks.1.0" not in k}, path)
    refuse(path, "another architecture or not whole")
    flat = {k: v[0, 0] for k, v in held.items() if "attn2.to_k.weight" in k}
    torch.save({**held, **flat}, path)
    refuse(path, "embeddings of width 0, expected 8")
    torch.save({k: v for k, v in held.items() if not k.startswith("first_stage")}, path)
    refuse(path, r"holds no first_stage_model\.\*, expected a checkpoint of latent diffusion")
    torch.save([1, 2], path)
    refuse(path, "holds a list, expected tensors by name")
    torch.save({"state_dict": held, "callbacks": ModelFiles(path)}, path)
    refuse(
        path,
        r"holds a Python object \(passionsr_cli.published.adding.ModelFiles\), and such",
    )
    torch.save({"state_dict": held, "of": os.system}, path)
    refuse(path, r"holds a Python object \(\w+\.system\), and such a file can run any program")
    torch.save({"state_dict": torch.ones(1)}, path)
    refuse(path, r"holds no model\.diffusion_model\.\* and first_stage_model")
    path.write_text("hello")
    refuse(path, r"\(5 bytes\) cannot be read: it is no such file; expected a whole")
    _half(ldm)
    refuse(ldm, r"bytes\) cannot be read: .*fetch it again")
    refuse(tmp_path / "nowhere", "there is no file or folder")


def test_a_context_that_is_not_there_is_refused(
    tiny_model: OneStepModel, ldm: Path, tmp_path: Path
) -> None:
    with pytest.raises(ModelError, match=r"there is no file .*context\.pt"):
        put_together("x", tiny_model.description, ModelFiles(ldm, context=tmp_path / "context.pt"))


def test_adapters_that_do_not_fit_are_refused(
    tiny_model: OneStepModel, ldm: Path, pickle: Path, tmp_path: Path
) -> None:
    held = torch.load(pickle, weights_only=True)
    state = held["state_dict_unet"]
    path = tmp_path / "bad.pkl"

    def refuse(match: str, **changes: object) -> None:
        torch.save({**held, **changes}, path)
        with pytest.raises(ModelError, match=match):
            put_together("x", tiny_model.description, ModelFiles(ldm, path))
        assert _nothing_is_left()

    first = next(key for key in state if "lora_A" in key)
    rest = {key: value for key, value in state.items() if key != first}
    refuse("only half is there", state_dict_unet=rest)
    for misfit in (torch.ones(3, 4, 3, 3), torch.ones(4), torch.ones(0, 4, 3, 3)):
        refuse("the halves do not fit", state_dict_unet={**state, first: misfit})
    refuse("holds a tensor under 3, expected a name", state_dict_unet={**state, 3: torch.ones(2)})
    endless = torch.full_like(state[first], torch.inf)
    refuse(
        r"holds NaN or infinity; .*bad\.pkl is damaged", state_dict_unet={**state, first: endless}
    )
    refuse("is for another base model", state_dict_unet={**state, first: torch.ones(4, 5, 3, 3)})
    whole = state[first]
    refuse("numbers of type int8", state_dict_unet={**state, first: whole.to(torch.int8)})
    up = first.replace("lora_A", "lora_B")
    wide = state[up].expand(-1, -1, 2, 2).clone()
    refuse("the halves do not fit", state_dict_unet={**state, up: wide})
    # Their product would take terabytes.
    huge = {first: torch.zeros(1, 900_000), up: torch.zeros(900_000, 1)}
    refuse(r"in shape \(900000, 900000\), expected", state_dict_unet={**state, **huge})
    stray = {**state, "sky.alpha": torch.tensor(3)}
    refuse(r"has unet\.sky\.alpha, but no adapter of that layer", state_dict_unet=stray)
    name = "sky.lora_A.default_others.weight"
    more = {**state, name: torch.ones(4, 2), name.replace("_A", "_B"): torch.ones(2, 4)}
    refuse(
        r"changes unet\.sky\.weight, which this architecture does not have", state_dict_unet=more
    )
    torch.save({"a": torch.ones(1)}, path)
    with pytest.raises(ModelError, match="holds no adapters: found a; expected a diffusers LoRA"):
        put_together("x", tiny_model.description, ModelFiles(ldm, path))
    path = tmp_path / "bad.safetensors"
    noted = {"lora_adapter_metadata": "[]"}
    save_file({"unet.conv_in.lora_A.weight": torch.ones(1, 1)}, path, metadata=noted)
    with pytest.raises(ModelError, match="its lora_adapter_metadata cannot be read"):
        put_together("x", tiny_model.description, ModelFiles(ldm, path))


def test_names_and_full_disks(
    tiny_description: ModelDescription, ldm: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(OutputError, match="'mini' is the model inside the package"):
        put_together("mini", tiny_description, ModelFiles(ldm))
    put_together("x", tiny_description, ModelFiles(ldm))
    other = tiny_description.model_copy(update={"timestep": 7})
    with pytest.raises(OutputError, match=r"there is another model 'x' .* --overwrite"):
        put_together("x", other, ModelFiles(ldm))
    put_together("x", tiny_description, ModelFiles(ldm), overwrite=True)
    monkeypatch.setattr(keeping.shutil, "disk_usage", lambda path: type("", (), {"free": 1000})())
    with pytest.raises(StoreError, match=r"0\.0 GB are free in"):
        put_together("y", tiny_description, ModelFiles(ldm))
    assert Store("model").names() == ["x"]


def test_of_two_at_once_one_is_told_of_the_other(
    tiny_description: ModelDescription, ldm: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    parts, read, told = ModelFiles(ldm), adding._put_together, []

    def meanwhile(*arguments: object) -> object:
        monkeypatch.setattr(adding, "_put_together", read)
        with pytest.raises(OutputError, match=r"adding since .* holds it; wait for it") as refused:
            put_together("x", tiny_description, parts, overwrite=True)
        told.append(refused.value)
        return read(*arguments)

    monkeypatch.setattr(adding, "_put_together", meanwhile)
    made = put_together("x", tiny_description, parts)
    assert told
    assert Store("model").read("x").tensors().keys() == made.tensors().keys()


def test_what_another_has_made_meanwhile_is_taken(
    tiny_description: ModelDescription, ldm: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As the same pull twice, of which the second waits for the downloads of the first."""
    parts, asked, claimed = ModelFiles(ldm), {"asked_for": {"model": "x"}}, adding.claimed

    def later(name: str) -> AbstractContextManager[None]:
        monkeypatch.setattr(adding, "claimed", claimed)
        put_together(name, tiny_description, parts, origin=asked)
        monkeypatch.setattr(adding, "_put_together", None)
        return claimed(name)

    monkeypatch.setattr(adding, "claimed", later)
    put_together("x", tiny_description, parts, origin=asked)


def test_a_store_that_cannot_be_written_is_named(
    tiny_description: ModelDescription, ldm: Path, home: Path
) -> None:
    home.mkdir(exist_ok=True)
    (home / "models").write_text("in its place")
    with pytest.raises(StoreError, match=r"cannot write .*models: .*; set PASSIONSR_HOME"):
        put_together("x", tiny_description, ModelFiles(ldm))


def test_the_same_again_is_finished_already(
    tiny_description: ModelDescription, ldm: Path, pickle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    parts, heard = ModelFiles(ldm, pickle), Notes()
    made = put_together("x", tiny_description, parts)
    with monkeypatch.context() as patched:
        patched.setattr(adding, "_put_together", None)
        again = put_together("x", tiny_description, parts, reporter=heard)
    assert again.tensors_file == made.tensors_file
    assert "'x' is finished already" in heard.texts
    pickle.write_bytes(pickle.read_bytes() + b" ")
    for changed in (parts, ModelFiles(ldm), ModelFiles(ldm, pickle, lora_alpha=2.0)):
        with pytest.raises(OutputError, match="there is another model 'x'"):
            put_together("x", tiny_description, changed)


@pytest.mark.parametrize("changed", ["alpha", "text"])
def test_what_settings_and_the_text_encoder_say_is_noticed_too(
    changed: str, tiny_model: OneStepModel, folder: Path, tmp_path: Path
) -> None:
    adapters = tmp_path / "peft"
    adapters.mkdir()
    config = adapters / "adapter_config.json"
    config.write_text(json.dumps({"peft_type": "LORA", "r": 2, "lora_alpha": 2}))
    layer = "base_model.model.unet.conv_in.lora_"
    halves = {
        f"{layer}A.weight": torch.randn(2, 4, 3, 3),
        f"{layer}B.weight": torch.ones(8, 2, 1, 1),
    }
    save_file(halves, adapters / "adapter_model.safetensors")
    parts = ModelFiles(folder, adapters)
    made = put_together("x", tiny_model.description, parts)
    assert put_together("x", tiny_model.description, parts).tensors_file == made.tensors_file
    if changed == "alpha":
        _edit(config, lora_alpha=32)
    else:
        shutil.rmtree(folder / "text_encoder")
        other = foreign.openclip_state(WIDTH, TOKENS, VOCABULARY, blocks=3, seed=6)
        foreign.write_text_folder(folder / "text_encoder", other)
    with pytest.raises(OutputError, match="there is another model 'x'"):
        put_together("x", tiny_model.description, parts)


def test_a_text_encoder_beside_a_given_context_is_of_no_account(
    tiny_model: OneStepModel, folder: Path, tmp_path: Path
) -> None:
    torch.save(torch.randn(1, TOKENS, WIDTH), tmp_path / "context.pt")
    parts = ModelFiles(folder, context=tmp_path / "context.pt")
    made = put_together("x", tiny_model.description, parts)
    _edit(folder / "text_encoder" / "config.json", num_hidden_layers=1)
    again = put_together("x", tiny_model.description, parts)
    assert again.tensors_file == made.tensors_file
