from __future__ import annotations

import numpy as np
import torch

from passionsr_cli.imaging.finishing import finished
from passionsr_cli.imaging.picture import Picture
from passionsr_cli.imaging.resampling import bicubic
from passionsr_cli.imaging.transparency import spread_colours


def _sticker() -> tuple[torch.Tensor, torch.Tensor]:
    """A bright disc with a soft and a hard half on pixels of a colour that must not be seen."""
    rows, columns = torch.meshgrid(torch.arange(48.0), torch.arange(48.0), indexing="ij")
    distance = ((rows - 23.5) ** 2 + (columns - 23.5) ** 2).sqrt()
    alpha = (16 - distance).clamp(0, 1)
    soft = ((18 - distance) / 6).clamp(0, 1)
    alpha = torch.where(columns < 24, alpha, soft)
    alpha = (alpha * 255).round() / 255
    rgb = torch.tensor([0.9, 0.7, 0.2])[:, None, None].expand(3, 48, 48).clone()
    rgb[:, alpha == 0] = torch.tensor([0.0, 0.0, 1.0])[:, None]
    return rgb, alpha[None]


def test_transparent_pixels_take_the_colours_around_them() -> None:
    rgb, alpha = _sticker()
    spread = spread_colours(rgb, alpha)
    wanted = torch.tensor([0.9, 0.7, 0.2])[:, None, None].expand_as(spread)
    torch.testing.assert_close(spread, wanted)


def test_opaque_colours_stay() -> None:
    rgb = torch.rand(3, 21, 34)
    alpha = torch.rand(1, 21, 34).clamp_min(0.13)
    assert torch.equal(spread_colours(rgb, alpha), rgb)
    assert torch.equal(spread_colours(rgb, torch.zeros(1, 21, 34)), rgb)
    alpha[:, :5] = 0
    torch.testing.assert_close(spread_colours(rgb, alpha)[:, 5:], rgb[:, 5:])


def test_over_any_background_no_fringe_shows() -> None:
    """Composed after upscaling or before, the image is the same."""
    rgb, alpha = _sticker()
    picture = Picture(spread_colours(rgb, alpha), alpha)
    strips = bicubic(picture.rgb[None], (192, 192))[0].split(50, -2)
    large = torch.cat(list(finished(strips, (192, 192), picture, (192, 192))), -2)
    for background in ((0, 0, 0), (1, 1, 1), (0, 1, 0), (1, 0, 1), (0.9, 0.7, 0.2)):
        behind = torch.tensor(background, dtype=torch.float32)[:, None, None]
        composed = large[:3] * large[3:] + behind * (1 - large[3:])
        before = rgb * alpha + behind * (1 - alpha)
        expected = bicubic(before[None], (192, 192))[0]
        # Opacity is clipped where the kernel overshoots; a fringe would be many times that.
        low, high = before.amin((1, 2), keepdim=True), before.amax((1, 2), keepdim=True)
        assert (composed - expected.clamp(low, high)).abs().max() < 0.02
        assert (composed >= low - 1e-3).all()
        assert (composed <= high + 1e-3).all()


def test_beside_a_hard_edge_of_opacity_no_line_shows() -> None:
    alpha = torch.zeros(1, 16, 16)
    alpha[:, :, 8:] = 1
    picture = Picture(torch.rand(3, 16, 16), alpha)
    strips = [torch.rand(3, 64, 64)]
    found = torch.cat(list(finished(strips, (64, 64), picture, (64, 64))), -2)[3]
    assert (found[:, :24] == 0).all()
    assert (found[:, 40:] == 1).all()
    assert (found.diff(dim=1) >= 0).all()


def test_another_size_is_resampled_in_strips_as_in_one() -> None:
    image = torch.rand(3, 300, 90, generator=torch.manual_seed(0))
    picture = Picture(torch.rand(3, 75, 22), torch.rand(1, 75, 22))
    for size in ((45, 150), (61, 431), (90, 300)):
        one = torch.cat(list(finished([image], (90, 300), picture, size)), -2)
        many = torch.cat(list(finished(image.split(7, -2), (90, 300), picture, size)), -2)
        assert one.shape == (4, size[1], size[0])
        assert np.abs((one - many).numpy()).max() < 1e-5
