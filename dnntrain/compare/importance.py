"""Which settings of a search mattered: how much of what the groups differ in goes with each key."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import permutations
from typing import TYPE_CHECKING, Any, Final

from dnntrain.compare.estimates import same
from dnntrain.compare.statistics import holm

if TYPE_CHECKING:
    import numpy as np

    Array = np.ndarray[Any, np.dtype[np.float64]]

FEWEST_GROUPS: Final = 4
"""With fewer groups, the few ways to deal the figures out show nothing."""
FEWEST_KEYS: Final = 2
MOST_BINS: Final = 4
"""A numeric key with more values than this is cut into so many bins of about equal counts."""
_ORDERINGS: Final = 5000
_EXACT_UP_TO: Final = 7


@dataclass(frozen=True)
class Importance:
    """How much of the variance between groups goes with one key.

    Attributes:
        keys: the key; several where they always change together, so that nobody can tell them apart.
        share: of the variance, corrected for the number of values; 0 where luck would explain as much.
        raw_share: without that correction (eta squared).
        p: how often figures dealt out at random show as large a share, corrected for the number of keys.
        levels: how many values, or bins of values, were told apart.
        groups: how many groups have a figure.
    """

    keys: tuple[str, ...]
    share: float
    raw_share: float
    p: float
    levels: int
    groups: int


def importance(
    configurations: Sequence[Mapping[str, Any]], values: Sequence[float | None], keys: Sequence[str]
) -> list[Importance]:
    """Say for each key how much of the variance of a figure between groups goes with it, the largest share first.

    One-way analysis of variance over the groups' means y_1..y_n, each key by itself: with the groups parted by the
    key's k values, eta squared = SS_between / SS_total. Any parting into many values explains much by luck alone, so
    the share that is told is Kelley's epsilon squared, 1 - (1 - eta^2) (n - 1) / (n - k), at least 0; it is right on
    average where the key has no effect. p is how often eta squared is as large when the figures are dealt out to the
    groups anew: over all orders for 7 groups or fewer, else over 5000 at random (with the observed one among them, so
    that it is never 0), then Holm's correction over the keys.

    Limits. It is about the groups that were trained: in a search that was steered, or where keys go together, a share
    may be another key's. Shares need not sum to 1: interactions belong to no key alone, and keys that go together are
    counted twice. Numeric keys with more than 4 values are cut into 4 bins, so that what rises and falls within a bin
    is not seen. Groups without a figure (all runs failed) are left out, so a key that makes training fail looks
    harmless: look at the statuses. Random-forest importances (fANOVA, as in Optuna) see interactions, but need many
    more groups.

    Source: Kelley 1935, doi:10.1073/pnas.21.9.554.

    Args:
        configurations: of the groups, dotted key -> value.
        values: the groups' figures, such as means over seeds; None where there is none.
        keys: that differ between the groups.

    Returns:
        One for each parting of the groups that the keys make; nothing with fewer than 4 groups or 2 keys, or where all
        figures are the same. A key whose every value occurs once is left out, since nothing can be said of it.
    """
    known = [
        (configuration, float(value))
        for configuration, value in zip(configurations, values, strict=True)
        if value is not None and math.isfinite(value)
    ]
    if len(known) < FEWEST_GROUPS or len(keys) < FEWEST_KEYS or same([value for _, value in known]):
        return []
    partings: dict[tuple[int, ...], list[str]] = {}
    for key in keys:
        parting = _levels([configuration.get(key) for configuration, _ in known])
        if 1 < len(set(parting)) < len(known):
            partings.setdefault(parting, []).append(key)
    if not partings:
        return []
    figures = [value for _, value in known]
    found = _analysed(partings, figures)
    return sorted(found, key=lambda each: (-each.share, -each.raw_share, each.keys))


def _analysed(partings: Mapping[tuple[int, ...], Sequence[str]], figures: Sequence[float]) -> list[Importance]:
    """Analyse each parting; see `importance`."""
    orders = _orders(figures)
    total = float(((orders[0] - orders[0].mean()) ** 2).sum())
    count = len(figures)
    shares = [_between(orders, parting) / total for parting in partings]
    # The first order is the observed one; sums in another order differ by their rounding.
    p_values = [float((each >= each[0] - 1e-9).mean()) for each in shares]
    return [
        Importance(
            keys=tuple(keys),
            share=max(0.0, 1 - (1 - float(each[0])) * (count - 1) / (count - len(set(parting)))),
            raw_share=min(1.0, float(each[0])),
            p=p,
            levels=len(set(parting)),
            groups=count,
        )
        for (parting, keys), each, p in zip(partings.items(), shares, holm(p_values), strict=True)
    ]


def _levels(values: Sequence[Any]) -> tuple[int, ...]:
    """Number the values, or the bins of many numbers, in the order in which they first occur."""
    numbers = [value for value in values if isinstance(value, int | float) and not isinstance(value, bool)]
    marks: Sequence[Any] = [repr(value) for value in values]
    distinct = sorted(set(numbers))
    if len(numbers) == len(values) and len(distinct) > MOST_BINS:
        ranks = {value: index for index, value in enumerate(sorted(numbers))}
        marks = [ranks[value] * MOST_BINS // len(numbers) for value in values]
    first = {mark: index for index, mark in enumerate(dict.fromkeys(marks))}
    return tuple(first[mark] for mark in marks)


def _orders(figures: Sequence[float]) -> Array:
    """Return the figures in the observed order, then in every other one, or in many at random; one order a row."""
    import numpy as np

    observed = np.asarray(figures, dtype=np.float64)
    observed = observed - observed.mean()
    if len(figures) <= _EXACT_UP_TO:
        return np.asarray(list(permutations(observed.tolist())))
    generator = np.random.default_rng(0)
    dealt = generator.permuted(np.tile(observed, (_ORDERINGS, 1)), axis=1)
    return np.vstack([observed, dealt])


def _between(orders: Array, parting: Sequence[int]) -> Array:
    """Return the sum of squares between the parts, for each order of figures whose mean is 0."""
    import numpy as np

    members = np.eye(max(parting) + 1)[list(parting)]
    return np.asarray((orders @ members) ** 2 @ (1 / members.sum(axis=0)))
