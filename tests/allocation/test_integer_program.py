from __future__ import annotations

from itertools import product

import numpy as np
import pytest

from passionsr_cli.allocation.integer_program import Choice, allocate
from passionsr_cli.errors import ConfigError

WIDTHS = (2, 4, 8)


def _choices(seed: int, layers: int) -> dict[str, list[Choice]]:
    """Layers of random sizes and sensitivities that differ a thousandfold."""
    rng = np.random.default_rng(seed)
    found = {}
    for number in range(layers):
        size, sensitivity = rng.uniform(1, 100), 10.0 ** rng.uniform(-6, -3)
        found[f"layer{number}"] = [
            Choice(
                f"w{bits}a{bits}",
                sensitivity * 4.0**-bits,
                {"size": size * bits, "wide": 0.0 if bits <= 4 else size},
            )
            for bits in WIDTHS
        ]
    return found


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("shares", [{"size": 0.5}, {"wide": 0.3}, {"size": 0.6, "wide": 0.2}])
def test_it_is_the_best_of_all_choices(seed: int, shares: dict[str, float]) -> None:
    choices = _choices(seed, 6)
    limits = {
        key: share * sum(each[-1].costs[key] for each in choices.values())
        for key, share in shares.items()
    }
    allowed = [
        combination
        for combination in product(*choices.values())
        if all(sum(c.costs[key] for c in combination) <= limit for key, limit in limits.items())
    ]
    best = min(sum(choice.error for choice in combination) for combination in allowed)
    chosen = allocate(choices, limits)
    assert list(chosen) == list(choices)
    for key, limit in limits.items():
        assert sum(choice.costs[key] for choice in chosen.values()) <= limit * (1 + 1e-6)
    assert sum(choice.error for choice in chosen.values()) == pytest.approx(best, rel=2e-4)


def test_limits_that_only_exclude_each_other_together_are_refused() -> None:
    one = [Choice("w8a2", 0.0, {"size": 8, "wide": 0}), Choice("w2a8", 0.0, {"size": 2, "wide": 1})]
    with pytest.raises(ConfigError, match="no bits of the layers keep within the budget"):
        allocate({"layer": one}, {"size": 2, "wide": 0})
