"""Mixed precision as an integer program: bits of every layer within a budget (MixDQ,
arXiv 2405.17873). Imports no torch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from passionsr_cli.errors import ConfigError

# How far from the best choice the solver may stop, and for how long it may try.
RELATIVE_GAP, SECONDS = 1e-4, 120.0


@dataclass(frozen=True)
class Choice:
    """Bits that a layer may have, the error they add, and what they cost of each limit."""

    bits: str
    error: float
    costs: Mapping[str, float]


def allocate(
    choices: Mapping[str, Sequence[Choice]], limits: Mapping[str, float]
) -> dict[str, Choice]:
    """One choice for each layer: the sum of errors is least, no sum of costs exceeds its limit.

    Errors are taken to add up. Keys of `limits` are those of the choices' costs. Raises
    `ConfigError` where no choice of all is within the limits.
    """
    from scipy.optimize import Bounds, LinearConstraint, milp
    from scipy.sparse import csr_array

    flat = [choice for each in choices.values() for choice in each]
    owners = np.repeat(np.arange(len(choices)), [len(each) for each in choices.values()])
    places = np.arange(len(flat))
    one_each = csr_array((np.ones(len(flat)), (owners, places)))
    constraints = [LinearConstraint(one_each, 1, 1)]
    for name, limit in limits.items():
        costs = np.array([choice.costs[name] for choice in flat])
        # Of order 1, as the solver's tolerances want it: they are then parts of the limit.
        unit = limit if limit > 0 else max(costs.sum(), 1e-12)
        constraints.append(LinearConstraint(costs[None] / unit, -np.inf, limit / unit))
    errors = np.array([choice.error for choice in flat])
    unit = max(sum(min(choice.error for choice in each) for each in choices.values()), 1e-30)
    solved = milp(
        errors / unit,
        integrality=np.ones(len(flat)),
        bounds=Bounds(0, 1),
        constraints=constraints,
        options={"mip_rel_gap": RELATIVE_GAP, "time_limit": SECONDS},
    )
    if solved.x is None:
        raise ConfigError(f"no bits of the layers keep within the budget ({solved.message})")
    taken = {int(owners[place]): flat[place] for place in places[solved.x > 0.5]}
    return {name: taken[number] for number, name in enumerate(choices)}


def least(choices: Mapping[str, Sequence[Choice]], cost: str) -> float:
    """The smallest sum of a cost that any choice of all layers has."""
    return sum(min(choice.costs[cost] for choice in each) for each in choices.values())
