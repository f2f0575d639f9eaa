from __future__ import annotations

import torch

from passionsr_cli.data.drawn import drawn_image, plain_colour


def test_drawn_images_have_areas_and_sharp_edges() -> None:
    image = drawn_image(96, torch.Generator().manual_seed(1)).float()
    steps = (image[:, :, 1:] - image[:, :, :-1]).abs().sum(0)
    assert float((steps == 0).float().mean()) > 0.5
    assert float(steps.max()) > 100
    again = drawn_image(96, torch.Generator().manual_seed(1)).float()
    other = drawn_image(96, torch.Generator().manual_seed(2)).float()
    assert torch.equal(image, again)
    assert not torch.equal(image, other)


def test_plain_colours_are_those_of_files() -> None:
    generator = torch.Generator().manual_seed(0)
    colours = [plain_colour(generator) for _ in range(40)]
    levels = torch.stack(colours) * 255
    torch.testing.assert_close(levels, levels.round())
    assert any((colour == 0).all() for colour in colours)
    assert any((colour == 1).all() for colour in colours)
    assert any(len(colour.unique()) == 3 for colour in colours)
