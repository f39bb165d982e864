"""Two runs side by side: what differs in their experiments, their environments and their figures."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from dnntrain.compare.records import aligned
from dnntrain.store import RunDirectory, flatten

TIMES: Final = frozenset({"seconds", "samples_per_second"})
OF_ONE_START: Final = ("command", "folder", "identity", "git.patch", "resumed")
"""What of an environment is of one start or one experiment and not of the machine: it always differs, and says nothing
that is not told elsewhere."""


@dataclass(frozen=True)
class Difference:
    """One thing that two runs have differently; None where one of them lacks it."""

    key: str
    one: Any
    other: Any


@dataclass(frozen=True)
class RunDiff:
    """What differs between two runs.

    Attributes:
        spec: keys of the experiments, the name aside.
        environment: what they ran on.
        metrics: figures of the best epoch, of the test part, and how many epochs there were; times aside.
    """

    spec: list[Difference]
    environment: list[Difference]
    metrics: list[Difference]

    def __bool__(self) -> bool:
        """Whether anything differs."""
        return bool(self.spec or self.environment or self.metrics)


def diff_runs(one: RunDirectory, other: RunDirectory) -> RunDiff:
    """Compare two runs key by key.

    Raises:
        StoreError: one of them is damaged.
    """
    summaries = one.sound_summary(), other.sound_summary()
    specs = aligned([{k: v for k, v in summary["spec"].items() if k != "name"} for summary in summaries])
    environments = [_environment(directory) for directory in (one, other)]
    figures = [_figures(summary) for summary in summaries]
    return RunDiff(_differing(*specs), _differing(*environments), _differing(*figures))


def _environment(directory: RunDirectory) -> dict[str, Any]:
    flat = flatten(directory.environment())
    return {key: value for key, value in flat.items() if not key.startswith(OF_ONE_START)}


def _figures(summary: Mapping[str, Any]) -> dict[str, Any]:
    best = {f"best {key}": value for key, value in summary["best"]["metrics"].items() if key not in TIMES}
    return {"status": summary["status"], "epochs": summary["epochs"], **best, **(summary["test"] or {})}


def _differing(one: Mapping[str, Any], other: Mapping[str, Any]) -> list[Difference]:
    keys = dict.fromkeys([*one, *other])
    return [Difference(key, one.get(key), other.get(key)) for key in keys if one.get(key) != other.get(key)]
