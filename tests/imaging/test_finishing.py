from __future__ import annotations

import numpy as np

from passionsr_cli.imaging.finishing import finished
from passionsr_cli.imaging.picture import Picture
from passionsr_cli.pixels.arrays import Array
from passionsr_cli.pixels.resampling import bicubic
from passionsr_cli.pixels.transparency import spread_colours

YELLOW = np.array([0.9, 0.7, 0.2], np.float32)[:, None, None]


def _random(*shape: int, seed: int = 0) -> Array:
    return np.random.default_rng(seed).random(shape, np.float32)


def _sticker() -> tuple[Array, Array]:
    """A bright disc with a soft and a hard half on pixels of a colour that must not be seen."""
    rows, columns = np.mgrid[:48, :48].astype(np.float32)
    distance = np.hypot(rows - 23.5, columns - 23.5)
    alpha = np.where(columns < 24, 16 - distance, (18 - distance) / 6).clip(0, 1)
    alpha = ((alpha * 255).round() / 255).astype(np.float32)
    blue = np.array([0, 0, 1], np.float32)[:, None, None]
    return np.where(alpha == 0, blue, YELLOW), alpha[None]


def test_transparent_pixels_take_the_colours_around_them() -> None:
    rgb, alpha = _sticker()
    spread = spread_colours(rgb, alpha)
    np.testing.assert_allclose(spread, np.broadcast_to(YELLOW, spread.shape), rtol=1e-5)


def test_opaque_colours_stay() -> None:
    rgb, alpha = _random(3, 21, 34), _random(1, 21, 34, seed=1).clip(0.13)
    assert np.array_equal(spread_colours(rgb, alpha), rgb)
    assert np.array_equal(spread_colours(rgb, np.zeros_like(alpha)), rgb)
    alpha[:, :5] = 0
    np.testing.assert_allclose(spread_colours(rgb, alpha)[:, 5:], rgb[:, 5:], rtol=1e-5)


def test_over_any_background_no_fringe_shows() -> None:
    """Composed after upscaling or before, the image is the same."""
    rgb, alpha = _sticker()
    picture = Picture(spread_colours(rgb, alpha), alpha)
    strips = np.split(bicubic(picture.rgb, (192, 192)), (50, 100, 150), -2)
    large = np.concatenate(list(finished(strips, (192, 192), picture, (192, 192))), -2)
    for background in ((0, 0, 0), (1, 1, 1), (0, 1, 0), (1, 0, 1), (0.9, 0.7, 0.2)):
        behind = np.array(background, np.float32)[:, None, None]
        composed = large[:3] * large[3:] + behind * (1 - large[3:])
        before = rgb * alpha + behind * (1 - alpha)
        expected = bicubic(before, (192, 192))
        # Opacity is clipped where the kernel overshoots; a fringe would be many times that.
        low, high = before.min((1, 2), keepdims=True), before.max((1, 2), keepdims=True)
        assert np.abs(composed - expected.clip(low, high)).max() < 0.02
        assert (composed >= low - 1e-3).all()
        assert (composed <= high + 1e-3).all()


def test_beside_a_hard_edge_of_opacity_no_line_shows() -> None:
    alpha = np.zeros((1, 16, 16), np.float32)
    alpha[:, :, 8:] = 1
    picture = Picture(_random(3, 16, 16), alpha)
    strips = [_random(3, 64, 64)]
    found = np.concatenate(list(finished(strips, (64, 64), picture, (64, 64))), -2)[3]
    assert (found[:, :24] == 0).all()
    assert (found[:, 40:] == 1).all()
    assert (np.diff(found, axis=1) >= 0).all()


def test_another_size_is_resampled_in_strips_as_in_one() -> None:
    image = _random(3, 300, 90)
    picture = Picture(_random(3, 75, 22), _random(1, 75, 22))
    for size in ((45, 150), (61, 431), (90, 300)):
        one = np.concatenate(list(finished([image], (90, 300), picture, size)), -2)
        many = np.concatenate(
            list(finished(np.split(image, range(7, 300, 7), -2), (90, 300), picture, size)), -2
        )
        assert one.shape == (4, size[1], size[0])
        assert np.abs(one - many).max() < 1e-5
