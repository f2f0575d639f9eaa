from __future__ import annotations

from pathlib import Path

import pytest

from passionsr_cli import api
from passionsr_cli.benchmark import variants
from passionsr_cli.benchmark.settings import BenchmarkSettings
from passionsr_cli.benchmark.variants import Kind, plan
from passionsr_cli.config import CalibrationSettings
from passionsr_cli.errors import ConfigError, DeviceError, ModelError


def _plan(**options: object) -> list[tuple[str, str, str]]:
    settings = BenchmarkSettings.model_validate({"device": "cpu", **options})
    return [(c.variant.name, c.backend, c.variant.precision) for c in plan(settings)]


@pytest.fixture
def bf16(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(variants, "_cpu_precision", lambda: "bf16")


def test_by_default_each_variant_runs_where_it_exists(
    bf16: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(variants, "has_nncf", lambda: True)
    both = ("torch", "openvino")
    wanted = [("fp32-nchw", "torch", "fp32")]
    wanted += [(name, backend, name) for name in ("fp32", "bf16") for backend in both]
    # As they upscale: OpenVINO in bf16 where that is fast, torch simulates in float32.
    around = tuple(zip(both, ("fp32", "bf16"), strict=True))
    wanted += [(name, *each) for name in ("w8a8", "w6a6", "w4a4") for each in around]
    assert _plan() == [*wanted, ("nncf", "openvino", "bf16")]
    monkeypatch.setattr(variants, "has_nncf", lambda: False)
    assert _plan() == wanted
    assert _plan(variants=["w8a8"], precision="fp32") == [
        ("w8a8", "torch", "fp32"),
        ("w8a8", "openvino", "fp32"),
    ]


def test_a_variant_can_be_asked_for_on_one_backend(bf16: None) -> None:
    assert _plan(variants=["torch:fp32-nchw", "openvino:w8a8", "bf16"]) == [
        ("fp32-nchw", "torch", "fp32"),
        ("w8a8", "openvino", "bf16"),
        ("bf16", "torch", "bf16"),
        ("bf16", "openvino", "bf16"),
    ]


def test_triton_runs_checkpoints_on_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = {"variants": ["w8a8", "bf16"], "backend": ["torch", "triton"], "precision": "bf16"}
    rows = [("w8a8", "torch", "bf16"), ("bf16", "torch", "bf16")]
    assert _plan(**asked) == rows
    monkeypatch.setattr(variants, "choose_device", lambda device: device)
    assert _plan(**asked, device="cuda") == [rows[0], ("w8a8", "triton", "bf16"), rows[1]]


def test_torch_alone_compiles() -> None:
    assert _plan(variants=["bf16-compiled"]) == [("bf16-compiled", "torch", "bf16")]


def test_openvino_has_no_bf16_without_its_instructions(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(variants, "_cpu_precision", lambda: "fp32")
    assert _plan(variants=["bf16"]) == [("bf16", "torch", "bf16")]
    assert _plan(variants=["w8a8"], precision="bf16") == [("w8a8", "torch", "bf16")]
    assert _plan(variants=["openvino:w8a8"]) == [("w8a8", "openvino", "fp32")]


@pytest.mark.parametrize(
    ("name", "bits", "method"),
    [
        ("w4a4-qartsr", "w4a4", "qartsr"),
        ("w8a8-unet-svdquant", "w8a8-unet", "svdquant"),
        ("w8a8-unet", "w8a8-unet", "maxmin"),
    ],
)
def test_bits_may_name_the_method_whose_layers_they_have(name: str, bits: str, method: str) -> None:
    (case,) = plan(BenchmarkSettings(device="cpu", variants=(name,), backend=("torch",)))
    assert (case.variant.bits, case.variant.method) == (bits, method)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"variants": ["w4a16-qdm"]}, "qdm' supports activations of 2 to 8 bits"),
        ({"variants": ["w9a9"]}, "unknown variant 'w9a9'; use fp32-nchw, fp32"),
        ({"variants": ["low-memory"]}, "low-memory: unknown key 'tile'"),
        ({"variants": ["fp"]}, "nothing would be quantized"),
        ({"variants": ["fp32-nchw"], "backend": ["openvino"]}, "no row is left: fp32-nchw"),
        ({"variants": ["fp16"]}, "no row is left: fp16 cannot run on torch, openvino"),
    ],
)
def test_what_cannot_be_is_refused(options: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        _plan(**options)


def test_nncf_that_is_not_installed_says_how(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(variants, "has_nncf", lambda: False)
    with pytest.raises(DeviceError, match=r"needs NNCF.*: pip install nncf"):
        _plan(variants=["nncf"])


def test_checkpoints_are_variants_of_their_own_model(tiny_folder: Path) -> None:
    settings = CalibrationSettings(
        model=str(tiny_folder), method="maxmin", crops=1, crop_px=32, device="cpu"
    )
    api.calibrate(settings, "mine")
    wanted = BenchmarkSettings(model=str(tiny_folder), variants=("mine",), device="cpu")
    assert [case.variant.kind for case in plan(wanted)] == [Kind.CHECKPOINT] * 2
    with pytest.raises(ModelError, match="checkpoint 'mine' was made from"):
        _plan(variants=["mine"])
    with pytest.raises(ConfigError, match="weights of its own"):
        _plan(variants=["mine"], random_weights=True)
