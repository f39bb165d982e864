"""What readers of a run may rely on: its files may be damaged, or edited by hand."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from dnntrain.errors import StoreError

_NUMBER: Final = (int, float)
_NOTHING: Final = type(None)
_TIME: Final = (*_NUMBER, _NOTHING)
_SUMMARY: Final[Mapping[str, tuple[type, ...]]] = {
    "name": (str,),
    "status": (str,),
    "stop_reason": (str, _NOTHING),
    "seed": (int,),
    "epochs": (int,),
    "best": (dict,),
    "test": (dict, _NOTHING),
    "seconds": _NUMBER,
    "error": (str, _NOTHING),
    "spec": (dict,),
}
_MONITOR: Final = ("training.monitor.metric", "training.monitor.mode")


def check_summary(path: Path, summary: Mapping[str, Any]) -> None:
    """See that a summary has all that is shown and compared.

    Args:
        path: of the file, for the message.
        summary: what it holds.

    Raises:
        StoreError: something is missing, or of another kind.
    """
    if lacking := sorted(_SUMMARY.keys() - summary.keys()):
        raise StoreError(f"{path} is damaged: it lacks {', '.join(lacking)}")
    wrong = [key for key, kinds in _SUMMARY.items() if not isinstance(summary[key], kinds)]
    if not wrong:
        best, test, spec = summary["best"], summary["test"], summary["spec"]
        sound = {
            "best.epoch": isinstance(best.get("epoch"), int | None),
            "best.metrics": _are_figures(best.get("metrics")),
            "test": test is None or _are_figures(test),
            **{f"spec.{key}": isinstance(spec.get(key), str) for key in _MONITOR},
        }
        wrong = [key for key, is_sound in sound.items() if not is_sound]
    if wrong:
        raise StoreError(f"{path} is damaged: what it has as {', '.join(wrong)} does not belong there")


def check_rows(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """See that rows are those of epochs.

    Args:
        path: of the file, for the message.
        rows: what it holds.

    Raises:
        StoreError: one has no epoch, or a time that is no number.
    """
    for number, row in enumerate(rows, start=1):
        # Written out, since it is asked of every epoch of every run.
        if not (
            isinstance(row.get("epoch"), int)
            and isinstance(row.get("seconds"), _TIME)
            and isinstance(row.get("samples_per_second"), _TIME)
        ):
            raise StoreError(f"{path} is damaged: row {number} is not that of an epoch")


def check_notes(path: Path, notes: Mapping[str, Any]) -> None:
    """See that tags and notes are texts.

    Args:
        path: of the file, for the message.
        notes: what it holds.

    Raises:
        StoreError: they are not.
    """
    tags, written = notes.get("tags", []), notes.get("notes", [])
    sound = {
        "tags": isinstance(tags, list) and all(isinstance(tag, str) for tag in tags),
        "notes": isinstance(written, list) and all(_is_note(each) for each in written),
    }
    if wrong := [key for key, is_sound in sound.items() if not is_sound]:
        raise StoreError(f"{path} is damaged: what it has as {', '.join(wrong)} does not belong there")


def _are_figures(value: Any) -> bool:
    return isinstance(value, dict) and all(isinstance(each, int | float | None) for each in value.values())


def _is_note(value: Any) -> bool:
    return isinstance(value, dict) and all(isinstance(value.get(key), str) for key in ("time", "text"))
