"""What a conductor asks of an engine, and what it is told."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, Protocol

Ending = Literal["ended", "paused", "failed", "interrupted", "crashed"]


@dataclass(frozen=True)
class Job:
    """A piece of one run: from where it was left, to its end or to a certain epoch.

    Attributes:
        key: by which the outcome is told.
        text: the experiment, as a file with absolute paths.
        directory: where the run is made, or where it goes on.
        until: the epoch after which it pauses; None for its end.
        plugins: path -> SHA-256 of the local files that register parts.
    """

    key: int
    text: str
    directory: Path
    until: int | None = None
    plugins: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Outcome:
    """How a job came to its end.

    Attributes:
        key: of the job.
        ending: `ended`: the run has come to its end; `paused`: it has come to the epoch that was asked for; `failed`:
            it cannot come to its end, and would not if it were tried again; `interrupted`: a signal asked for the end;
            `crashed`: its process died.
        message: why, where there is something to say.
    """

    key: int
    ending: Ending
    message: str = ""


class Engine(Protocol):
    """Trains jobs, several at a time.

    Attributes:
        slots: how many.
        threads: CPU threads of each; None for those of this process.
    """

    slots: int
    threads: int | None

    def submit(self, job: Job) -> None:
        """Take a job; there must be a free slot."""

    def wait(self, timeout: float) -> list[Outcome]:
        """Return what has come to its end since the last call; wait for something, but no longer than so many seconds.

        Raises:
            Interrupted: a signal asked for the end; jobs were left where they can go on, or are still being left.
        """

    def close(self) -> list[Outcome]:
        """End what is still going on, where it can be taken up again, and return how it came out."""
