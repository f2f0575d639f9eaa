from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import ndimage
from torch import Generator

from passionsr_cli.config import CalibrationSettings, DegradationSettings
from passionsr_cli.data.degradation import add_sensor_noise, blur, degrade, random_kernel, sharpen
from passionsr_cli.errors import ConfigError
from passionsr_cli.imaging import samples
from passionsr_cli.layering import settings_from

SETTINGS = DegradationSettings()


def _photograph() -> torch.Tensor:
    return torch.from_numpy(samples.high_resolution("sample:astronaut")[:, :128, :160])


def test_the_same_seed_gives_the_same_image() -> None:
    one = degrade(_photograph(), 4, SETTINGS, Generator().manual_seed(3))
    same = degrade(_photograph(), 4, SETTINGS, Generator().manual_seed(3))
    other = degrade(_photograph(), 4, SETTINGS, Generator().manual_seed(4))
    assert torch.equal(one, same)
    assert not torch.equal(one, other)


def test_steps_that_nobody_asks_for_draw_no_numbers() -> None:
    """The next number is as far along as ever, on any machine."""
    found = []
    for seed in range(3):
        generator = Generator().manual_seed(seed)
        degrade(_photograph(), 4, SETTINGS, generator)
        found.append(float(torch.rand((), generator=generator)))
    assert found == pytest.approx([0.70335865, 0.41619217, 0.73240882], abs=1e-7)


def test_results_are_small_eight_bit_images_of_the_same_scene() -> None:
    image = _photograph()
    reference = torch.nn.functional.avg_pool2d(image[None], 4)[0]
    for seed in range(20):
        lr = degrade(image, 4, SETTINGS, Generator().manual_seed(seed))
        assert lr.shape == (3, 32, 40)
        assert torch.equal(lr, (lr * 255).round() / 255)
        error = (lr - reference).pow(2).mean()
        assert -10 * error.log10() > 20, f"seed {seed} is no longer a mild degradation"


@pytest.mark.parametrize("kind", list(SETTINGS.kernel_kinds))
def test_every_kernel_keeps_brightness_and_position(kind: str) -> None:
    settings = SETTINGS.model_copy(update={"kernel_kinds": {kind: 1.0}})
    for seed in range(5):
        kernel = random_kernel(settings, (0.3, 2.4), Generator().manual_seed(seed))
        assert kernel.sum() == pytest.approx(1)
        assert (kernel >= 0).all()
        torch.testing.assert_close(kernel, kernel.flip(0, 1), atol=1e-6, rtol=0)


def test_a_kind_of_kernel_that_is_none_is_refused() -> None:
    given = {"degradation": {"kernel_kinds": {"isotropc": 1.0}}}
    with pytest.raises(ConfigError, match=r"kernel_kinds\.isotropc: .* expected 'isotropic', "):
        settings_from(None, CalibrationSettings, given)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"kernel_kinds": {"disk": 0}}, r"no kind weighs anything"),
        ({"kernel_kinds": {}}, r"no kind weighs anything"),
        ({"blur_probability": 1.5}, r"blur_probability: .* less than or equal to 1"),
        ({"read_noise": [-0.1, 0.1]}, r"read_noise.*: .* greater than or equal to 0"),
        ({"sharpening_sigma_px": [0, 1]}, r"sharpening_sigma_px.*: .* greater than 0"),
    ],
)
def test_what_no_degradation_can_do_is_refused(given: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        settings_from(None, CalibrationSettings, {"degradation": given})


def test_qualities_of_jpeg_may_fall_and_are_ones_that_jpeg_has() -> None:
    rising, falling = (
        DegradationSettings(jpeg_quality=pair, jpeg_probability=1) for pair in ((60, 96), (96, 60))
    )
    image = _photograph()
    found = [degrade(image, 4, each, Generator().manual_seed(3)) for each in (rising, falling)]
    assert torch.equal(*found)
    given = {"degradation": {"jpeg_quality": [0, 96]}}
    with pytest.raises(ConfigError, match=r"jpeg_quality\.0: found '0', expected greater than"):
        settings_from(None, CalibrationSettings, given)


def test_blur_is_convolution_with_replicated_borders() -> None:
    kernel = random_kernel(SETTINGS, (1.0, 2.0), Generator().manual_seed(0))
    image = _photograph()[None]
    expected = np.stack(
        [ndimage.convolve(p, kernel.double().numpy(), mode="nearest") for p in image[0].double()]
    )
    found = blur(image, kernel)[0].double().numpy()
    assert np.abs(found - expected).max() < 1e-5


def test_noise_has_the_variance_of_a_sensor() -> None:
    grey = torch.full((1, 3, 400, 400), 0.5)
    noisy = add_sensor_noise(grey, 0.0004, 0.01, grey=False, generator=Generator().manual_seed(0))
    assert float((noisy - grey).var()) == pytest.approx(0.0004 * 0.5 + 0.01**2, rel=0.02)


@pytest.mark.parametrize(("amount", "sigma"), [(0.5, 0.7), (1.5, 1.4)])
def test_sharpening_is_an_unsharp_mask(amount: float, sigma: float) -> None:
    image = _photograph()[None] * 0.6 + 0.2
    found = sharpen(image, amount, sigma)[0].numpy()
    planes = image[0].numpy()
    blurred = np.stack([ndimage.gaussian_filter(x, sigma, mode="mirror") for x in planes])
    expected = (planes + amount * (planes - blurred)).clip(0, 1)
    assert np.abs(found - expected).max() < 5e-3


def test_sharpening_leaves_rims_where_it_is_asked_for() -> None:
    edge = torch.full((3, 64, 64), 0.25)
    edge[:, :, 32:] = 0.75
    plain = {
        "second_order_probability": 0.0,
        "noise_probability": 0.0,
        "jpeg_probability": 0.0,
        "kernel_kinds": {"isotropic": 1.0},
        "blur_sigma_px": (2.0, 2.0),
        "sharpening": (1.0, 1.0),
        "sharpening_sigma_px": (1.2, 1.2),
        "blur_probability": 1.0,
    }

    def contrast(**changes: float) -> float:
        settings = SETTINGS.model_copy(update={**plain, **changes})
        lr = degrade(edge, 4, settings, Generator().manual_seed(0))
        return float(lr.max() - lr.min())

    assert contrast() == pytest.approx(0.5, abs=0.02)
    assert contrast(sharpening_probability=1.0) > 0.55


def test_motion_is_seen_beside_blurs_of_no_width() -> None:
    """Its length is drawn from the widths: of [0, 2.4] few are below a third of a pixel."""
    settings = SETTINGS.model_copy(update={"kernel_kinds": {"motion": 1.0}})
    seeds = range(100)
    middles = [
        float(random_kernel(settings, (0.0, 2.4), Generator().manual_seed(seed))[7, 7])
        for seed in seeds
    ]
    assert sum(middle > 0.9 for middle in middles) < 25


@pytest.mark.parametrize("kind", list(SETTINGS.kernel_kinds))
def test_a_blur_of_no_width_changes_nothing(kind: str) -> None:
    settings = settings_from(None, DegradationSettings, {"kernel_kinds": {kind: 1.0}})
    kernel = random_kernel(settings, (0.0, 0.0), Generator().manual_seed(0))
    assert float(kernel[7, 7]) == pytest.approx(1, abs=1e-3)
    assert float(kernel.sum()) == pytest.approx(1)
