from __future__ import annotations

import copy
import threading
import time

import numpy as np
import numpy.typing as npt
import pytest
import torch
from reporting import Heard

from passionsr_cli.description import ColorFix
from passionsr_cli.imaging import samples
from passionsr_cli.inference.torch_executor import TorchExecutor
from passionsr_cli.models.loading import load
from passionsr_cli.models.one_step import OneStepModel
from passionsr_cli.pixels.arrays import Array
from passionsr_cli.pixels.resampling import bicubic
from passionsr_cli.progress import Notes
from passionsr_cli.system.devices import open_device
from passionsr_cli.tiling import memory
from passionsr_cli.tiling.upscaler import TiledUpscaler


@pytest.fixture
def executor(tiny_model: OneStepModel) -> TorchExecutor:
    return TorchExecutor(tiny_model, open_device("cpu", "fp32"))


def _image(height: int, width: int) -> Array:
    return np.random.default_rng(height + width).random((3, height, width), np.float32)


def test_an_even_size_is_the_model_itself(
    executor: TorchExecutor, tiny_model: OneStepModel
) -> None:
    lr = _image(16, 24)
    upscaled = torch.from_numpy(bicubic(lr, (64, 96)).clip(0, 1))
    expected = tiny_model(upscaled[None])[0].clamp(0, 1).numpy()
    np.testing.assert_allclose(TiledUpscaler(executor, 0).upscale(lr).rgb, expected, atol=1e-5)


def test_one_tile_is_no_tiling_bit_for_bit(executor: TorchExecutor) -> None:
    lr = _image(20, 27)
    whole, tile = (TiledUpscaler(executor, tile_px).upscale(lr) for tile_px in (0, 128))
    assert tile.tiles == whole.tiles == 1
    assert np.array_equal(whole.rgb, tile.rgb)


def test_a_tile_that_cannot_be_is_rounded_up_and_said(executor: TorchExecutor) -> None:
    unit = executor.description.unit_px
    for asked, said in (
        (unit + 1, [f"tiles of {2 * unit} pixels: multiples of {unit}"]),
        (unit, []),
    ):
        notes = Notes()
        upscaler = TiledUpscaler(executor, asked, reporter=notes)
        assert (upscaler.tile_px, notes.texts) == (unit * (1 + len(said)), said)
    notes = Notes()
    upscaler = TiledUpscaler(executor, "auto", 5000, reporter=notes)
    assert notes.texts[-1] == f"tiles overlap by {upscaler.tile_px // 2} pixels, half of one"


def test_the_same_input_gives_the_same_bits(executor: TorchExecutor) -> None:
    lr = _image(40, 52)
    one, two = (TiledUpscaler(executor, 64, 16).upscale(lr).rgb for _ in range(2))
    assert np.array_equal(one, two)


@pytest.mark.parametrize("size", [(20, 27), (32, 8)])
def test_a_margin_is_the_mirrored_image_cut_off(
    executor: TorchExecutor, size: tuple[int, int]
) -> None:
    height, width = size
    lr = _image(height, width)
    unit = executor.description.unit_px
    # Rounded up to what tiles are multiples of.
    upscaler = TiledUpscaler(executor, 0, margin_px=unit + 1)
    margin = 2 * unit
    assert upscaler.margin_px == margin
    rest = [-side % (unit // 4) for side in size]
    around = [(margin // 4, margin // 4 + more) for more in rest]
    mirrored = np.pad(lr, ((0, 0), *around), mode="symmetric")
    whole = TiledUpscaler(executor, 0).upscale(mirrored).rgb
    inner = whole[:, margin : margin + 4 * height, margin : margin + 4 * width]
    assert np.array_equal(upscaler.upscale(lr).rgb, inner)


class _Releasing(TorchExecutor):
    """Says what is asked of it, a letter a call."""

    calls = ""

    def restore_latent(self, upscaled: Array, realism: float | None = None) -> Array:
        self.calls += "r"
        return super().restore_latent(upscaled, realism)

    def decode(self, latent: Array) -> Array:
        self.calls += "d"
        return super().decode(latent)

    def release_restoring(self) -> None:
        self.calls += "-"


def test_of_an_only_image_nothing_is_decoded_before_the_rest_of_a_large_model_went(
    tiny_model: OneStepModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    lr, executor = _image(40, 24), _Releasing(tiny_model, open_device("cpu", "fp32"))
    wanted = TiledUpscaler(executor, 64, 16, is_only=True).upscale(lr).rgb
    assert "dr" in executor.calls
    assert "-" not in executor.calls, "a small model's latents take more than it does"
    monkeypatch.setattr(memory, "MOST_SHARED_BYTES", 0)
    several, executor.calls = TiledUpscaler(executor, 64, 16), ""
    assert np.array_equal(several.upscale(lr).rgb, wanted)
    assert "-" not in executor.calls
    only, executor.calls = TiledUpscaler(executor, 64, 16, is_only=True), ""
    assert np.array_equal(only.upscale(lr).rgb, wanted)
    tiles = only.count_tiles(lr)
    assert tiles > 2
    assert executor.calls == "r" * tiles + "-" + "d" * tiles


def test_a_model_says_that_plain_areas_stay(tiny_model: OneStepModel) -> None:
    lr = _image(24, 40)
    lr[:, :, 16:] = 0.25
    model = copy.copy(tiny_model)
    model.description = tiny_model.description.model_copy(update={"plain_px": 2})
    kept = TiledUpscaler(TorchExecutor(model, open_device("cpu", "fp32")), 64, 16).upscale(lr).rgb
    executor = TorchExecutor(tiny_model, open_device("cpu", "fp32"))
    computed = TiledUpscaler(executor, 64, 16).upscale(lr).rgb
    assert np.abs(computed[:, :, 96:] - 0.25).max() > 1e-2
    np.testing.assert_allclose(kept[:, :, 96:], 0.25, atol=1e-6)
    assert np.array_equal(kept[:, :, :56], computed[:, :, :56])


class Sharing(TorchExecutor):
    """Counts the calls of both forms; the shared one lets later tiles overtake."""

    def __init__(self, model: OneStepModel, several: bool = False) -> None:
        super().__init__(model, open_device("cpu", "fp32"))
        self.model, self.several, self.calls = model, several, 0
        self.lock = threading.Lock()

    def shared(self, at_once: int) -> Sharing:
        self.other = Sharing(self.model, several=True)
        return self.other

    def decode(self, latent: Array) -> Array:
        with self.lock:
            self.calls += 1
            if self.several and self.calls % 2:
                time.sleep(0.05)
        return super().decode(latent)


def test_tiles_computed_at_once_are_the_same_image(
    executor: TorchExecutor, tiny_model: OneStepModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(memory, "tiles_in_parallel", lambda *_: 2)
    lr, sharing = _image(52, 40), Sharing(tiny_model)
    upscaler = TiledUpscaler(sharing, 64, 16)
    found = upscaler.upscale(lr)
    assert np.array_equal(found.rgb, TiledUpscaler(executor, 64, 16).upscale(lr).rgb)
    assert (sharing.calls, sharing.other.calls) == (0, found.tiles)
    # A single tile gets all cores.
    upscaler.upscale(_image(12, 12))
    assert (sharing.calls, sharing.other.calls) == (1, found.tiles)


def test_a_model_says_its_margin(tiny_model: OneStepModel) -> None:
    unit = tiny_model.description.unit_px
    model = copy.copy(tiny_model)
    model.description = tiny_model.description.model_copy(update={"margin_px": unit})
    executor = TorchExecutor(model, open_device("cpu", "fp32"))
    assert TiledUpscaler(executor).margin_px == unit
    strips = list(TiledUpscaler(executor, 64, 16).strips(_image(37, 21)))
    assert sum(strip.shape[1] for strip in strips) == 4 * 37
    assert {strip.shape[2] for strip in strips} == {4 * 21}


@pytest.mark.parametrize(("height", "width"), [(8, 8), (8, 61), (33, 9), (37, 41)])
@pytest.mark.parametrize("tile_px", [0, 64])
def test_any_size_works(executor: TorchExecutor, height: int, width: int, tile_px: int) -> None:
    result = TiledUpscaler(executor, tile_px, 16).upscale(_image(height, width)).rgb
    assert result.shape == (3, 4 * height, 4 * width)
    assert np.isfinite(result).all()
    assert result.min() >= 0
    assert result.max() <= 1


def test_strips_are_the_image_and_come_before_its_last_tile(executor: TorchExecutor) -> None:
    upscaler, heard = TiledUpscaler(executor, 64, 16), Heard()
    lr = _image(61, 37)
    whole = upscaler.upscale(lr).rgb
    strips = upscaler.strips(lr, "image", heard)
    first = next(strips)
    assert heard.places[-1] < ("image", 0.6)
    assert np.array_equal(np.concatenate([first, *strips], 1), whole)


def test_tiles_in_batches_give_the_same_image(executor: TorchExecutor) -> None:
    alone, together = TiledUpscaler(executor, 64, 16), TiledUpscaler(executor, 64, 16)
    together.batch = 3
    lr = _image(40, 52)
    found = together.upscale(lr).rgb
    np.testing.assert_allclose(found, alone.upscale(lr).rgb, atol=1e-5)


def test_only_images_longer_than_a_model_was_made_for_are_cut(executor: TorchExecutor) -> None:
    upscaler = TiledUpscaler(executor)
    assert upscaler.count_tiles(np.empty((3, 128, 128), np.float32)) == 1
    assert upscaler.count_tiles(np.empty((3, 129, 128), np.float32)) == 2
    # A margin makes no image longer than it is.
    with_margin = TiledUpscaler(executor, margin_px=32)
    assert with_margin.count_tiles(np.empty((3, 128, 128), np.float32)) == 1
    assert with_margin.count_tiles(np.empty((3, 129, 128), np.float32)) == 2


@pytest.mark.parametrize("fix", ["adain", "wavelet", "none"])
@pytest.mark.parametrize(("height", "width"), [(1, 1), (1, 70), (70, 1)])
def test_the_smallest_images_are_upscaled(
    executor: TorchExecutor, fix: ColorFix, height: int, width: int
) -> None:
    lr = _image(height, width)
    upscaled = TiledUpscaler(executor, 64, 16, fix, margin_px=8, plain_px=2).upscale(lr)
    assert upscaled.rgb.shape == (3, 4 * height, 4 * width)
    assert np.isfinite(upscaled.rgb).all()


def test_progress_goes_up_to_the_end(executor: TorchExecutor) -> None:
    upscaler, heard = TiledUpscaler(executor, 64, 16), Heard()
    list(upscaler.strips(_image(40, 40), "image", heard))
    shares = [share for _, share in heard.places]
    assert shares == sorted(shares)
    assert shares[-1] == 1.0
    assert len(shares) == 2 * upscaler.count_tiles(_image(40, 40))


@pytest.mark.parametrize("fix", ["adain", "wavelet"])
def test_colour_fix_brings_back_the_inputs_mean(executor: TorchExecutor, fix: str) -> None:
    lr = _image(24, 24) * 0.2 + 0.4
    plain = TiledUpscaler(executor, color_fix="none").upscale(lr).rgb
    fixed = TiledUpscaler(executor, color_fix=fix).upscale(lr).rgb  # type: ignore[arg-type]
    wanted = lr.mean((1, 2))
    assert np.abs(fixed.mean((1, 2)) - wanted).max() < 0.01
    assert np.abs(plain.mean((1, 2)) - wanted).max() > 0.01


def _osediff_colours(image: Array, reference: Array) -> Array:
    """The colour fix of OSEDiff, in float64: what a result that looks like its input keeps."""
    found, wanted = (torch.from_numpy(each).double().flatten(1) for each in (image, reference))
    deviations = [(each.var(1, keepdim=True) + 1e-5).sqrt() for each in (found, wanted)]
    normal = (found - found.mean(1, keepdim=True)) / deviations[0]
    fixed = normal * deviations[1] + wanted.mean(1, keepdim=True)
    return fixed.reshape(image.shape).clamp(0, 1).numpy()


@pytest.mark.parametrize("contrast", [1.0, 0.01])
def test_adain_takes_the_moments_of_the_enlarged_input(
    executor: TorchExecutor, contrast: float
) -> None:
    lr = ((_image(40, 24) - 0.5) * contrast + 0.5).astype(np.float32)
    enlarged = torch.nn.functional.interpolate(
        torch.from_numpy(lr)[None], scale_factor=4, mode="bicubic", antialias=True
    )
    reference = enlarged[0].clamp(0, 1).numpy()
    upscaler = TiledUpscaler(executor, 0, color_fix="adain", plain_px=0)
    # A restored image that leaves [0, 1] here and there.
    restored = np.split(reference * 1.5 - 0.3, [50, 90], 1)
    found = np.concatenate(list(upscaler._colours_fixed(iter(restored), lr)), 1).clip(0, 1)
    expected = _osediff_colours(np.concatenate(restored, 1).clip(0, 1), reference)
    np.testing.assert_allclose(found, expected, atol=1e-5)
    (same,) = upscaler._colours_fixed(iter([reference]), lr)
    np.testing.assert_allclose(same, reference, atol=1e-5)


def _borders(starts: tuple[int, ...], tile_px: int, length: int) -> npt.NDArray[np.bool_]:
    """Where tiles begin or end inside the image, eight pixels to both sides."""
    near = np.zeros(length, bool)
    for border in (*starts[1:], *(start + tile_px for start in starts[:-1])):
        near[border - 8 : border + 8] = True
    return near[:, None] | near[None, :]


def test_seams_do_not_show() -> None:
    """Tiled and untiled output differ no more along tile borders than elsewhere.

    Two tilings with borders in different places are compared, so that what the photograph
    holds at a border (detail differs more than sky) cancels out.
    """
    lr = samples.high_resolution("sample:astronaut")[:, 128:320, 128:320]
    executor = TorchExecutor(load("mini"), open_device("cpu", "fp32"))
    whole = TiledUpscaler(executor, 0).upscale(lr).rgb
    relative, borders = [], []
    for tile_px in (448, 512):
        upscaler = TiledUpscaler(executor, tile_px, 64)
        result = upscaler.upscale(lr)
        assert result.tiles == 4
        assert -10 * np.log10(np.square(result.rgb - whole).mean()) > 45
        difference = np.abs(result.rgb - whole).mean(0)
        relative.append(difference / difference.mean())
        borders.append(_borders(upscaler._axis(768).starts, tile_px, 768))
    only = [borders[0] & ~borders[1], borders[1] & ~borders[0]]
    along = relative[0][only[0]].mean() + relative[1][only[1]].mean()
    elsewhere = relative[1][only[0]].mean() + relative[0][only[1]].mean()
    assert along <= 1.2 * elsewhere


def _scene(name: str) -> Array:
    if name == "sky":
        return samples.high_resolution("sample:rocket")[:, :192, 100:292]
    down = np.linspace(0.2, 0.8, 192, dtype=np.float32)[:, None]
    across = np.linspace(0, 0.1, 192, dtype=np.float32)[None]
    planes = (down + across, 0.9 - down + 0 * across, 0.5 + across - 0.2 * down)
    return np.stack(planes)


@pytest.mark.parametrize(("name", "at_least_db"), [("sky", 50), ("gradient", 43)])
def test_smooth_scenes_show_no_tiles(name: str, at_least_db: float) -> None:
    lr, model = _scene(name), load("mini")
    # The network's own answer everywhere: plain areas differ nowhere.
    model.description = model.description.model_copy(update={"plain_px": 0})
    executor = TorchExecutor(model, open_device("cpu", "fp32"))
    upscaler = TiledUpscaler(executor, 448, 64)
    result = upscaler.upscale(lr)
    assert result.tiles == 4
    difference = np.abs(result.rgb - TiledUpscaler(executor, 0).upscale(lr).rgb)
    assert -10 * np.log10(np.square(difference).mean()) > at_least_db
    border, plane = _borders(upscaler._axis(768).starts, 448, 768), difference.mean(0)
    assert plane[border].mean() <= 1.2 * plane[~border].mean()


def test_on_a_clean_gradient_tiles_do_not_exist() -> None:
    lr = np.round(_scene("gradient") * 255).astype(np.float32) / 255
    executor = TorchExecutor(load("mini"), open_device("cpu", "fp32"))
    tiled, whole = (TiledUpscaler(executor, tile).upscale(lr).rgb for tile in (448, 0))
    np.testing.assert_allclose(tiled, whole, atol=1e-5)
    np.testing.assert_allclose(tiled, bicubic(lr, (768, 768)), atol=1e-5)


def test_white_paper_stays_white_in_the_model_inside() -> None:
    lr = np.ones((3, 24, 40), np.float32)
    lr[:, :, 30:] = 0.2
    model = load("mini")
    executor = TorchExecutor(model, open_device("cpu", "fp32"))
    kept, network = (TiledUpscaler(executor, plain_px=px).upscale(lr).rgb for px in (None, 0))
    # Away from the edge; the network alone is off there.
    assert kept[:, :, :96].min() > 1 - 1e-5
    assert network[:, :, :96].min() < 1 - 0.2 / 255


def test_the_dial_stands_at_its_default_or_where_it_was_set(dial_model: OneStepModel) -> None:
    executor = TorchExecutor(dial_model, open_device("cpu", "fp32"))
    lr = _image(16, 24)
    latent = dial_model.encode(torch.from_numpy(bicubic(lr, (64, 96)).clip(0, 1))[None])
    for asked, realism in ((None, 0.25), (0.0, 0.0), (0.8, 0.8)):
        noise = dial_model.predict(latent, realism)
        expected = dial_model.decode(dial_model.to_x0(latent, noise))[0].clamp(0, 1)
        upscaler = TiledUpscaler(executor, 0, realism=asked)
        assert upscaler.realism == realism
        np.testing.assert_allclose(upscaler.upscale(lr).rgb, expected.numpy(), atol=1e-5)
