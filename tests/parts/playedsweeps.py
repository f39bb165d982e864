"""Sweeps on made-up learning curves, played through by a scheduler of its own, from rung to rung."""

from __future__ import annotations

import heapq
import random
from collections.abc import Sequence
from dataclasses import dataclass, field

from dnntrain.parts.pruners import Pruner

Curves = Sequence[Sequence[float | None]]
"""Of each configuration, its figure after each epoch; None from a failure on."""


@dataclass
class Played:
    """A sweep that was played through.

    Attributes:
        table: what each configuration came to at each rung that it reached.
        begun: each piece of training in the order of beginning: a configuration, and the epoch it began after.
        asked: the table, the waiting and whether more was to come at each decision, with the answer.
    """

    table: dict[int, list[float | None]] = field(default_factory=dict)
    begun: list[tuple[int, int]] = field(default_factory=list)
    asked: list[tuple[dict[int, tuple[float | None, ...]], list[int], bool, list[int]]] = field(default_factory=list)
    epochs: int = 0

    def reached(self, rung: int) -> set[int]:
        return {number for number, values in self.table.items() if len(values) > rung}


def simulate(
    pruner: Pruner, curves: Curves, workers: int = 1, speeds: Sequence[float] | None = None, shuffle: int | None = None
) -> Played:
    """Train configurations by their curves, from rung to rung, on workers that take what is first in the queue.

    Args:
        pruner: what decides.
        curves: one for each configuration.
        workers: how many train at a time.
        speeds: how long an epoch of each configuration takes.
        shuffle: if given, the table is handed over in an order drawn with this seed, so that none can matter.
    """
    played, clock, waiting, fresh = Played(), 0.0, set[int](), list(range(len(curves)))
    training: list[tuple[float, int]] = []
    mixer = random.Random(shuffle)

    def begin(number: int) -> None:
        values = played.table.setdefault(number, [])
        rungs = pruner.rungs(number)
        start, end = rungs[len(values) - 1] if values else 0, rungs[len(values)]
        played.begun.append((number, start))
        played.epochs += end - start
        heapq.heappush(training, (clock + (end - start) * (speeds[number] if speeds else 1.0), number))

    def choose() -> int | None:
        table = [(number, tuple(values)) for number, values in played.table.items()]
        asked = sorted(waiting)
        if shuffle is not None:
            mixer.shuffle(table)
            mixer.shuffle(asked)
        more = bool(fresh or training)
        queue = pruner.queue(asked, dict(table), more=more)
        assert len(queue) == len(set(queue))
        played.asked.append((dict(table), sorted(asked), more, queue))
        if pruner.final:
            waiting.intersection_update(queue)
        if queue:
            waiting.discard(queue[0])
            return queue[0]
        return fresh.pop(0) if fresh else None

    while True:
        while len(training) < workers and (chosen := choose()) is not None:
            begin(chosen)
        if not training:
            return played
        clock, number = heapq.heappop(training)
        values = played.table[number]
        values.append(curves[number][pruner.rungs(number)[len(values)] - 1])
        if len(values) < len(pruner.rungs(number)):
            waiting.add(number)


def parallel(figures: Sequence[float], epochs: int = 27) -> Curves:
    """Return falling curves that do not cross."""
    return [[figure + 10.0 / epoch for epoch in range(1, epochs + 1)] for figure in figures]
