"""Other tools that are told of a run while it goes on, or afterwards: TensorBoard always, MLflow on request."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final

from dnntrain.errors import UsageError, shorten, suggest

if TYPE_CHECKING:
    from dnntrain.tracking.mlflow import MlflowTracker

KNOWN: Final = ("mlflow",)


def open_trackers(asked: Sequence[str], *, runs: Path) -> list[MlflowTracker]:
    """Reach the tools that are asked for, before there is anything to tell them.

    Args:
        asked: names of tools, each with `=URI` where it is not to be the default place: `mlflow=http://host:5000`.
        runs: the folder of the runs, in which a tool keeps its own files unless told otherwise.

    Raises:
        UsageError: there is no such tool, it is not installed, or it cannot be reached.
    """
    opened: list[MlflowTracker] = []
    for name, uri in dict(_pair(each) for each in asked).items():
        if name not in KNOWN:
            raise UsageError(f"no tool '{shorten(name)}' to track with; {suggest(name, KNOWN)}")
        from dnntrain.tracking.mlflow import MlflowTracker

        opened.append(MlflowTracker(runs, uri or None))
    return opened


def _pair(text: str) -> tuple[str, str]:
    name, _, uri = text.partition("=")
    return name, uri
