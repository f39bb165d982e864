"""Pruners: which configurations of a sweep train on, and which are left where they are.

A configuration is judged at its *rungs*, epochs of which the last is the full training. A pruner decides by the table
of what each configuration came to at each rung that it has reached, and by nothing else. The same table therefore
gives the same answer whoever asks, after a crash as before it, and in whatever order its figures came in.

**The figure** at a rung is the mean over a configuration's seeds of the best value of the metric up to that epoch:
by the best epochs it is ranked in the end, and no single noisy epoch then decides. The papers, and Optuna, take the
value of that very epoch. A run that has ended by itself before a rung keeps its figure there.

None stands for no figure: a run has failed, or nothing was finite yet. It is worse than any other, counts among those
that have reached the rung, and goes on nowhere.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from statistics import mean, median
from typing import Annotated, ClassVar, Literal

from pydantic import Field
from typing_extensions import override

from dnntrain.registry import Family, NonNegative, PositiveInt

Better = Literal["min", "max"]
# By number of the configuration, from 0 in the order of asking: its figure at each rung that it has reached.
Standings = Mapping[int, Sequence[float | None]]
# Standings in which lower is better, and infinity is no figure.
_Losses = Mapping[int, Sequence[float]]

_Factor = Annotated[int, Field(ge=2)]

pruners = Family(
    "pruner",
    summary="Which configurations of a sweep train on, and which are left where they are.",
    synonyms={
        "successive_halving": "asha",
        "successivehalving": "asha",
        "successivehalvingpruner": "asha",
        "sha": "asha",
        "async_hyperband": "hyperband",
        "hyperbandpruner": "hyperband",
        "median_stopping": "median",
        "medianpruner": "median",
        "patient": "patience",
        "patientpruner": "patience",
        "early_stopping": "patience",
    },
)


class Pruner(ABC):
    """Says which configurations may train on from their latest rung.

    Args:
        better: whether a lower or a higher figure is better.

    Attributes:
        final: whether a refusal is for good; else it holds until the table has grown.
    """

    final: ClassVar[bool]

    def __init__(self, better: Better, /) -> None:
        self._sign = 1.0 if better == "min" else -1.0

    @abstractmethod
    def rungs(self, number: int, /) -> tuple[int, ...]:
        """Return the epochs after which a configuration is judged, ascending; the last is the full number."""

    def goes_on(self, number: int, standings: Standings, /, *, more: bool = True) -> bool:
        """Whether a configuration may train on from its latest rung now; see `queue`."""
        return bool(self.queue([number], standings, more=more))

    def queue(self, waiting: Iterable[int], standings: Standings, /, *, more: bool = True) -> list[int]:
        """Return those that may train on now: the highest rung first, then the best figure, then the lowest number.

        Args:
            waiting: the numbers asked for: of configurations that are not in training. One that is not in the table,
                or has reached no rung, may begin, after all others.
            standings: the whole table, of those in training too.
            more: whether figures are still to come, from configurations that are in training or not asked for yet.
        """
        losses = {number: [self._loss(value) for value in values] for number, values in standings.items()}
        passing = self._passing(losses, more)

        def may(number: int) -> bool:
            own = losses.get(number)
            if not own:
                return True
            return own[-1] < math.inf and len(own) < len(self.rungs(number)) and number in passing

        def urgency(number: int) -> tuple[int, float, int]:
            own = losses.get(number)
            return (-self.rungs(number)[len(own) - 1], own[-1], number) if own else (0, 0.0, number)

        return sorted(filter(may, waiting), key=urgency)

    @abstractmethod
    def _passing(self, losses: _Losses, more: bool, /) -> set[int]:
        """Return the configurations, begun and not complete, that may train on; of others nothing need be said."""

    def _loss(self, value: float | None) -> float:
        return self._sign * value if value is not None and math.isfinite(value) else math.inf


class SuccessiveHalving(Pruner):
    """The best of those that have reached a rung go on to the next; see `asha`.

    Args:
        better: whether a lower or a higher figure is better.
        rungs: of the configurations that are judged at all of them.
        eta: one in so many goes on.
    """

    final = False

    def __init__(self, better: Better, rungs: tuple[int, ...], eta: int) -> None:
        super().__init__(better)
        self._rungs = rungs
        self._eta = eta

    def bracket(self, number: int, /) -> int:
        """Return at how many of the first rungs a configuration is not judged; it competes with those alike."""
        return 0

    @override
    def rungs(self, number: int, /) -> tuple[int, ...]:
        return self._rungs[self.bracket(number) :]

    @override
    def _passing(self, losses: _Losses, more: bool, /) -> set[int]:
        reached: dict[tuple[int, int], list[tuple[float, int]]] = defaultdict(list)
        for number, own in losses.items():
            for rung, loss in enumerate(own):
                reached[self.bracket(number), rung].append((loss, number))
        passing = set()
        for (_, rung), competing in reached.items():
            places = len(competing) // self._eta
            best = sorted(competing)[: places if more else max(1, places)]
            passing |= {number for _, number in best if len(losses[number]) == rung + 1}
        return passing


class Hyperband(SuccessiveHalving):
    """Successive halving in brackets, each with a first rung of its own; see `hyperband`.

    Args:
        better: whether a lower or a higher figure is better.
        rungs: of the first bracket.
        eta: one in so many goes on.

    Attributes:
        weights: how many configurations each bracket has in a round.
    """

    def __init__(self, better: Better, rungs: tuple[int, ...], eta: int) -> None:
        super().__init__(better, rungs, eta)
        count = len(rungs)
        self.weights = tuple(_ceil_div(count * eta ** (left - 1), left) for left in range(count, 0, -1))
        self._credit = [0] * count
        self._dealt: list[int] = []

    @override
    def bracket(self, number: int, /) -> int:
        while len(self._dealt) <= number:
            self._credit = [credit + weight for credit, weight in zip(self._credit, self.weights, strict=True)]
            furthest_behind = self._credit.index(max(self._credit))
            self._credit[furthest_behind] -= sum(self.weights)
            self._dealt.append(furthest_behind)
        return self._dealt[number]


class MedianRule(Pruner):
    """Stops what has done worse so far than half of the complete configurations had; see `median_rule`.

    Args:
        better: whether a lower or a higher figure is better.
        rungs: of every configuration.
        startup: nothing is stopped before so many are complete.
    """

    final = True

    def __init__(self, better: Better, rungs: tuple[int, ...], startup: int) -> None:
        super().__init__(better)
        self._rungs = rungs
        self._startup = startup

    @override
    def rungs(self, number: int, /) -> tuple[int, ...]:
        return self._rungs

    @override
    def _passing(self, losses: _Losses, more: bool, /) -> set[int]:
        complete = [own for own in losses.values() if len(own) >= len(self._rungs)]
        begun = {number: own for number, own in losses.items() if own}
        if len(complete) < self._startup:
            return set(begun)
        limits = {count: median(_running_mean(own[:count]) for own in complete) for count in map(len, begun.values())}
        return {number for number, own in begun.items() if min(own) <= limits[len(own)]}


class PatienceRule(Pruner):
    """Stops what has not improved for a while; see `patience_rule`.

    Args:
        better: whether a lower or a higher figure is better.
        rungs: of every configuration.
        patience: epochs without improvement after which it stops.
        min_delta: what counts as an improvement.
    """

    final = True

    def __init__(self, better: Better, rungs: tuple[int, ...], patience: int, min_delta: float) -> None:
        super().__init__(better)
        self._rungs = rungs
        self._patience = patience
        self._min_delta = min_delta

    @override
    def rungs(self, number: int, /) -> tuple[int, ...]:
        return self._rungs

    @override
    def _passing(self, losses: _Losses, more: bool, /) -> set[int]:
        return {number for number, own in losses.items() if own and self._waited(own) < self._patience}

    def _waited(self, own: Sequence[float]) -> int:
        """Return the epochs since the last improvement."""
        best, since = math.inf, 0
        for epoch, loss in zip(self._rungs, own, strict=False):
            if loss < best - self._min_delta:
                best, since = loss, epoch
        return self._rungs[min(len(own), len(self._rungs)) - 1] - since


def _ceil_div(a: int, b: int) -> int:
    return -(-a // b)


def _running_mean(losses: Sequence[float]) -> float:
    """Return the mean of the figures that there are."""
    known = [loss for loss in losses if loss < math.inf]
    return mean(known) if known else math.inf


def _tenth(epochs: int) -> int:
    return max(1, epochs // 10)


def _every(interval: int | None, first: int, epochs: int) -> tuple[int, ...]:
    """Return rungs at equal distances, and the end."""
    return (*range(first, epochs, interval or _tenth(epochs)), epochs)


def _by_factor(first: int, eta: int, epochs: int) -> tuple[int, ...]:
    rungs = []
    while first < epochs:
        rungs.append(first)
        first *= eta
    return (*rungs, epochs)


@pruners.register(
    "asha",
    equation="of n that have reached a rung, the best floor(n / eta) go on; rungs at min_epochs eta^k and at the end",
    cite="arXiv:1810.05934, algorithm 2",
)
def asha(epochs: int, better: Better, /, *, min_epochs: PositiveInt = 1, eta: _Factor = 3) -> Pruner:
    """Asynchronous successive halving: many configurations begin, and one in eta goes on from each rung to the next.

    Nobody waits for a rung to fill up. Whoever is among the best of those that are there goes on from its checkpoint,
    and who is not now may be later; equal figures go by number. Of 27 configurations on 27 epochs, 27 train for 1
    epoch, 9 of them for 3, 3 for 9 and 1 for all 27: 81 epochs instead of 729.

    That is so where the best come first. Who went on is not called back when better ones come, and these go on as well.
    In a random order the 81 epochs become some 90, and the share of those that went on wrongly vanishes as n grows. In
    the worst order, each better than all before, all but the first eta - 1 go on, and little is saved. A configuration
    that is slow at first may be left behind in any order: min_epochs must be long enough to tell.

    Once nothing else is to come, one at least goes on from each rung, so that fewer configurations than fill the rungs
    have a complete one among them too. The paper, whose configurations never end, has no such rule. It also has no
    rung but min_epochs eta^k; here the last is the full number of epochs, so the step to it may be shorter.

    Optuna's SuccessiveHalvingPruner, and Ray's ASHA, decide about a run only once, when it comes to a rung: what does
    not go on then is lost, and of the first eta - 1 Optuna keeps whoever is the best so far.

    Args:
        epochs: the full number.
        better: which way is better.
        min_epochs: the first rung: what every configuration gets. With as many as the full number nothing is pruned.
        eta: one in so many goes on, to so many times the epochs; the reduction factor.
    """
    return SuccessiveHalving(better, _by_factor(min_epochs, eta, epochs), eta)


@pruners.register(
    "hyperband",
    equation="bracket b of 0..S: asha without its first b rungs, for ceil((S+1) eta^(S-b) / (S-b+1)) in a round",
    cite="arXiv:1603.06560, algorithm 1; arXiv:1810.05934",
)
def hyperband(epochs: int, better: Better, /, *, min_epochs: PositiveInt = 1, eta: _Factor = 3) -> Pruner:
    """Several asha side by side, which judge early or late: a hedge against configurations that are slow at first.

    As many brackets as asha has rungs: the first is asha itself, each further one begins a rung later, and the last
    trains in full. A configuration competes within its bracket only. With 27 epochs a round is 27 + 12 + 6 + 4
    configurations, for which the brackets spend about the same: 81, 78, 90 and 108 epochs.

    The paper fills one bracket after the other. Here each configuration, in the order of asking, goes to the bracket
    that is furthest behind its share, so that the shares are right for any number of them: exactly so after a round,
    and nearly so before. Optuna draws the bracket from a hash of the study's name.

    It costs more than asha: a bracket that ends has a complete configuration, and those of the last one are all
    complete.

    Args:
        epochs: the full number.
        better: which way is better.
        min_epochs: the first rung of the first bracket.
        eta: one in so many goes on, to so many times the epochs; the reduction factor.
    """
    return Hyperband(better, _by_factor(min_epochs, eta, epochs), eta)


@pruners.register(
    "median",
    equation="stop if the best figure so far is worse than the median, over complete ones, of their mean up to there",
    cite="Golovin et al. 2017, Google Vizier: A service for black-box optimization",
)
def median_rule(
    epochs: int,
    better: Better,
    /,
    *,
    min_epochs: PositiveInt = 1,
    interval: PositiveInt | None = None,
    startup: PositiveInt = 5,
) -> Pruner:
    """Stop what does worse than half of the complete configurations did at that time.

    What is compared with are running means, from the first rung on, of configurations that ran through; those that were
    stopped or have failed are left out. The mean lags behind the best, so the rule is mild at first; as only good
    configurations become complete, it grows stricter. A stop is for good.

    Optuna's MedianPruner compares with the complete ones' figures of that very step, which is stricter; Ray's
    MedianStoppingRule takes running means of those in training too.

    Args:
        epochs: the full number.
        better: which way is better.
        min_epochs: the first rung: what every configuration gets.
        interval: epochs from one rung to the next; a tenth of all of them if null. At each rung a run is left and taken
            up again, which takes a moment.
        startup: nothing is stopped before so many are complete.
    """
    return MedianRule(better, _every(interval, min_epochs, epochs), startup)


@pruners.register(
    "patience",
    equation="stop at epoch e if no figure after epoch e - patience is better than the best before by over min_delta",
    cite="Prechelt 1998, Early stopping - but when?",
)
def patience_rule(
    epochs: int,
    better: Better,
    /,
    *,
    patience: PositiveInt = 10,
    min_delta: NonNegative = 0.0,
    interval: PositiveInt | None = None,
) -> Pruner:
    """Stop a configuration that no longer improves, whatever the others do.

    The callback `early_stopping` does so for each run; here it is the mean over the seeds that must improve, so one
    seed that does keeps the others going. A stop is for good. Optuna's PatientPruner waits for one step more, and does
    not stop where the best is equalled.

    Args:
        epochs: the full number.
        better: which way is better.
        patience: epochs without improvement after which a configuration stops.
        min_delta: what counts as an improvement.
        interval: epochs from one rung to the next, a tenth of all of them if null; patience ends at a rung. At each
            rung a run is left and taken up again, which takes a moment.
    """
    return PatienceRule(better, _every(interval, interval or _tenth(epochs), epochs), patience, min_delta)
