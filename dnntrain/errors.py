"""Everything that dnntrain raises for a user, and how a located mistake is shown.

The tree::

    DnntrainError                 exit code 1
    ├── SpecError                 2   mistakes in an experiment file, all of them at once
    ├── UsageError                2   the command is wrong: no such run, no such file, an option that cannot be
    ├── RegistrationError         2   a part (a plugin's, say) is registered in a way that cannot work
    ├── DataError                 1   data is missing, damaged or unfit for the experiment
    ├── StoreError                1   a run directory cannot be written or read
    │   ├── LockedError           1   another process holds the run directory
    │   └── NewerError            1   a newer dnntrain wrote it
    ├── ExportError               1   a network cannot be written in a format, or does not compute the same there
    └── DivergedError             1   training met numbers that are not finite

    Interrupted                       128 + the signal's number: a signal asked for the end (a KeyboardInterrupt)
    └── Paused                        the program itself asked for it: training goes on later
"""

from __future__ import annotations

import difflib
import signal
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

_LINE_WIDTH: Final = 120
_LINE_BEFORE: Final = 60


class DnntrainError(Exception):
    """Base of all errors that are explained to the user without a traceback.

    What a message quotes (a file's name, a class, a line of YAML) may hold anything, so control characters are written
    as escapes, lest a file could command the terminal.
    """

    exit_code = 1

    def __init__(self, message: str) -> None:
        super().__init__(visible(message))


class UsageError(DnntrainError):
    """The command itself is wrong."""

    exit_code = 2


class RegistrationError(DnntrainError):
    """A part is registered in a way that cannot work."""

    exit_code = 2


class DataError(DnntrainError):
    """Data is missing, damaged or unfit for the experiment."""


class StoreError(DnntrainError):
    """A run directory cannot be written or read."""


class LockedError(StoreError):
    """Another process holds the run directory."""


class NewerError(StoreError):
    """What is to be read was written by a newer dnntrain."""


class ExportError(DnntrainError):
    """A network cannot be written in a format, or does not compute the same there."""


class DivergedError(DnntrainError):
    """Training met a loss or a gradient that is not finite.

    Attributes:
        step: the first optimizer step that did, from 1; 0 where no step was taken.
        report: what is known of that step, as plain values.
    """

    def __init__(self, message: str, *, step: int = 0, report: Mapping[str, Any] | None = None) -> None:
        super().__init__(message)
        self.step = step
        self.report = dict(report or {})


class Interrupted(KeyboardInterrupt):
    """A signal asked for the end.

    Attributes:
        number: the signal.
        at_once: raised wherever the process was, since it did not end at the first request; else between two pieces of
            work, where it can be taken up again.
    """

    def __init__(self, number: int, *, at_once: bool = False) -> None:
        super().__init__(f"interrupted by {signal.Signals(number).name}")
        self.number = number
        self.at_once = at_once

    @property
    def exit_code(self) -> int:
        """What a shell calls a process that a signal has ended."""
        return 128 + self.number


class Paused(Interrupted):
    """Training was left after an epoch, as was asked for when it began; it can be taken up again."""

    def __init__(self, epoch: int, epochs: int) -> None:
        super().__init__(signal.SIGUSR1)
        self.args = (f"paused after epoch {epoch} of {epochs}",)


@dataclass(frozen=True)
class Mark:
    """A place in a text: where a value or a key stands.

    Attributes:
        source: the name to print, usually the path as the user gave it.
        line: counted from 1.
        column: counted from 1, in characters.
        width: characters to underline.
        text: the whole line.
    """

    source: str
    line: int
    column: int
    width: int
    text: str

    def __str__(self) -> str:
        return f"{self.source}:{self.line}:{self.column}"


@dataclass(frozen=True)
class Problem:
    """One mistake: what is wrong, where, and how to mend it."""

    message: str
    mark: Mark | None = None
    hint: str = ""

    def render(self) -> str:
        """Show the mistake as `file:line:column`, the line, a caret and the hint."""
        if self.mark is None:
            return self.message + (f"\n    {self.hint}" if self.hint else "")
        text, start, width = _excerpt(self.mark)
        margin = f"  {self.mark.line} | "
        gutter = " " * (len(margin) - 2) + "| "
        indent = "".join(map(_blank, text[:start]))
        caret = "^" * max(1, sum(len(_blank(c)) for c in text[start : start + width]))
        pointer = f"{gutter}{indent}{caret} {self.hint}".rstrip()
        return f"{self.mark}: {self.message}\n{margin}{text}\n{pointer}"


def _excerpt(mark: Mark) -> tuple[str, int, int]:
    """Return a marked line with the start and the width of what is marked, cut where it is too long to be read."""
    text = "".join(c if c.isprintable() or c == "\t" else "\N{REPLACEMENT CHARACTER}" for c in mark.text)
    start = mark.column - 1
    width = max(1, min(mark.width, len(text) - start))
    if len(text) <= _LINE_WIDTH:
        return text, start, width
    first = max(0, start - _LINE_BEFORE)
    shown = text[first : first + _LINE_WIDTH]
    width = max(1, min(width, len(shown) - (start - first)))
    before, after = "..." * (first > 0), "..." * (first + _LINE_WIDTH < len(text))
    return before + shown + after, start - first + len(before), width


def _blank(character: str) -> str:
    """Return the blank that is as wide as a character on a terminal; a tab is as wide as a tab alone."""
    if character == "\t":
        return character
    if unicodedata.combining(character):
        return ""
    return "  " if unicodedata.east_asian_width(character) in "WF" else " "


class SpecError(DnntrainError):
    """One or more mistakes in an experiment file, reported together."""

    exit_code = 2

    def __init__(self, problems: Sequence[Problem]) -> None:
        self.problems = tuple(problems)
        super().__init__("\n".join(problem.render() for problem in self.problems))


def nearest(name: str, known: Iterable[str], *, cutoff: float = 0.6) -> str | None:
    """Return the known name that `name` most likely stands for, if any is as near as `cutoff` (1: the same)."""
    close = difflib.get_close_matches(name.lower(), list(known), n=1, cutoff=cutoff)
    return close[0] if close else None


def suggest(name: str, known: Iterable[str], *, limit: int = 12) -> str:
    """Write the hint for an unknown name: the nearest one, then what is known."""
    names = sorted(known)
    near = nearest(name, names)
    shown = ", ".join(names[:limit]) + (", ..." if len(names) > limit else "")
    return (f"did you mean '{near}'?  " if near else "") + f"known: {shown}"


def visible(text: str, keep: str = "\n\t") -> str:
    """Write what would not be printed as it is, such as control characters, as escapes; `keep` names exceptions."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() or c in keep else c.encode("unicode_escape").decode() for c in text)


def shorten(text: str, limit: int = 60) -> str:
    """Write a text of unknown length and content so that a message stays on one line."""
    shown = visible(text[: limit + 1], keep="")
    return shown if len(shown) <= limit else shown[: limit - 3] + "..."
