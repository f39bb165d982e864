"""What a tool that is told of runs has to offer."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any

from dnntrain.store import RunDirectory
from dnntrain.training.hooks import RunView


class Tracker(ABC):
    """A tool that is told of a run: first that it goes on from an epoch, if so, then its beginning, epochs and end.

    Each method may raise `StoreError` or `OSError` where the tool cannot be told; training goes on without it then.

    Attributes:
        name: of the tool.
        tries_again: whether it is told more after it could not be told something. A tool behind a network is not, lest
            each epoch waits for it.
    """

    name: str
    tries_again = True

    @abstractmethod
    def begin(self, directory: RunDirectory, spec: Mapping[str, Any], /) -> None:
        """Training begins or goes on.

        Args:
            directory: of the run.
            spec: the experiment under dotted keys.
        """

    @abstractmethod
    def go_on(self, epoch: int, /) -> None:
        """What was told of later epochs is void: training stands after this one, and they are trained again."""

    @abstractmethod
    def tell(self, run: RunView, /) -> None:
        """An epoch has ended."""

    @abstractmethod
    def end(self, summary: Mapping[str, Any], /) -> None:
        """Training has ended, however it did, and the run directory says so."""

    @abstractmethod
    def close(self) -> None:
        """Nothing more is told."""


def scalars(row: Mapping[str, Any] | None) -> dict[str, float]:
    """Return what can be drawn of some figures; a confusion matrix cannot, and what is missing."""
    return {name: float(value) for name, value in (row or {}).items() if isinstance(value, int | float)}
