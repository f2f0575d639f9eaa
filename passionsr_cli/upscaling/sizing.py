"""Size of a result."""

from __future__ import annotations

from dataclasses import dataclass

from passionsr_cli.config import Fit, UpscaleSettings
from passionsr_cli.errors import ImageError

LARGEST_SCALE = 8


@dataclass(frozen=True)
class TargetSize:
    """A factor, or a width, a height or both in pixels; none of them: the model's own factor.

    With both, `fit` says whether the result lies inside of them (contain), covers them (cover),
    both with the proportions of the input, or is stretched to them (fill).
    """

    scale: float | None = None
    width: int | None = None
    height: int | None = None
    fit: Fit = "contain"

    @classmethod
    def of(cls, settings: UpscaleSettings) -> TargetSize:
        """The size that settings ask for."""
        return cls(settings.scale, settings.width, settings.height, settings.fit)

    def label(self, factor: int) -> str:
        """Ending of the names of results, such as x4, x2.5, w1920, h1080 or 1920x1080."""
        if self.width and self.height:
            return f"{self.width}x{self.height}"
        if self.width or self.height:
            return f"w{self.width}" if self.width else f"h{self.height}"
        return f"x{self.scale or factor:g}"

    def of_input(self, size: tuple[int, int], factor: int) -> tuple[int, int]:
        """(width, height) of the result for an input of that (width, height).

        Raises `ImageError` where that is smaller than the input or more than 8 times as large.
        """
        across, down = self._scales(size, factor)
        result = (max(1, round(size[0] * across)), max(1, round(size[1] * down)))
        if min(across, down) < 1 or max(across, down) > LARGEST_SCALE:
            raise ImageError(
                f"the image is {size[0]}×{size[1]} px, {result[0]}×{result[1]} were asked for; "
                f"it can become 1 to {LARGEST_SCALE} times as large"
            )
        return result

    def _scales(self, size: tuple[int, int], factor: int) -> tuple[float, float]:
        across = self.width / size[0] if self.width else None
        down = self.height / size[1] if self.height else None
        if across and down:
            if self.fit == "fill":
                return across, down
            one = min(across, down) if self.fit == "contain" else max(across, down)
            return one, one
        one = across or down or self.scale or factor
        return one, one
