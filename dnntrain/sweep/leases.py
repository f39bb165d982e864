"""Who is at work on what, and whether they still live."""

from __future__ import annotations

import contextlib
import logging
import os
import socket
import threading
import time
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Final, Protocol

from dnntrain.errors import StoreError
from dnntrain.store import write_atomic
from dnntrain.sweep.storage import explained

if TYPE_CHECKING:
    from dnntrain.sweep.board import Board

_log = logging.getLogger(__name__)

BEAT_S: Final = 5.0
"""How often a living owner says so."""

GRACE_S: Final = 60.0
"""An owner on another machine that has not said so for this long is dead."""


@dataclass(frozen=True)
class Owner:
    """A process: its machine, since when and in which container that runs, its number, and when it was started.

    Numbers of processes are used again, and machines are started again; all together name one process for ever.
    """

    host: str
    boot: str
    pid: int
    started: str

    @classmethod
    def me(cls) -> Owner:
        """This process."""
        return cls(socket.gethostname(), _boot(), os.getpid(), _started(os.getpid()) or "")

    @classmethod
    def parse(cls, text: str) -> Owner | None:
        """Read what `str` wrote; None where it is something else."""
        pieces = text.split(" ")
        if len(pieces) != 4 or not pieces[2].isdecimal():
            return None
        return cls(pieces[0], pieces[1], int(pieces[2]), pieces[3])

    def __str__(self) -> str:
        return f"{self.host} {self.boot} {self.pid} {self.started}"

    @property
    def gone(self) -> bool | None:
        """Whether the process is no more; None where this process cannot see it.

        Names of machines are not always their own, so a process of another start of this machine is not taken for dead.
        """
        if (self.host, self.boot) != (socket.gethostname(), _boot()):
            return None
        return _started(self.pid) != self.started


class Beats(Protocol):
    """Where owners say that they live."""

    def beat(self, key: int, count: int) -> None:
        """Say so once more."""

    def last(self, key: int) -> str:
        """Return what was said last; empty for nothing."""

    def forget(self, key: int) -> None:
        """Remove the lease of what has ended."""


class StorageBeats:
    """A word on each ticket, for workers that share nothing but a database.

    Args:
        board: holds the tickets; keys are their ids.
    """

    def __init__(self, board: Board) -> None:
        self._board = board

    def beat(self, key: int, count: int) -> None:
        """Say so once more.

        Raises:
            StoreError: the database fails.
        """
        with explained():
            self._board.beat(key, f"{Owner.me()} {count}")

    def last(self, key: int) -> str:
        """Return what was said last; empty for nothing."""
        return self._board.last_beat(key)

    def forget(self, key: int) -> None:
        """Leave it: the ticket has ended, and says so."""


class FileBeats:
    """A file for each lease, in a folder that all share.

    Args:
        folder: made when missing.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def beat(self, key: int, count: int) -> None:
        """Say so once more.

        Raises:
            StoreError: the file cannot be written.
        """
        try:
            self._folder.mkdir(exist_ok=True)
        except OSError as error:
            raise StoreError(f"cannot make {self._folder}: {error.strerror or error}") from error
        write_atomic(self._folder / str(key), lambda file: file.write(f"{Owner.me()} {count}\n".encode()))

    def last(self, key: int) -> str:
        """Return what was said last; empty for nothing."""
        with contextlib.suppress(OSError):
            return (self._folder / str(key)).read_text(encoding="utf-8", errors="replace")
        return ""

    def forget(self, key: int) -> None:
        """Remove the lease of what has ended."""
        (self._folder / str(key)).unlink(missing_ok=True)


@dataclass
class Watch:
    """Judges whether owners live, by what they said and when this process saw it.

    Clocks of different machines are never compared: an owner is dead if what it says has not changed for `grace`
    seconds by the clock of whoever looks.

    Attributes:
        beats: where they say so.
        grace: in seconds.
    """

    beats: Beats
    grace: float = GRACE_S
    _seen: dict[int, tuple[str, float]] = field(default_factory=dict)

    def is_dead(self, key: int, owner: Owner | None) -> bool:
        """Whether the owner of a lease is dead, as far as can be known by now."""
        if owner is not None and owner.gone is not None:
            return owner.gone
        said = self.beats.last(key)
        now = time.monotonic()
        before, since = self._seen.get(key, (None, now))
        if said != before:
            since = now
        self._seen[key] = (said, since)
        return now - since > self.grace


class Heart:
    """Says for as long as it beats that this process lives, for everything that it holds.

    A beat that cannot be given is a warning: others may then take this process for dead, which costs time but spoils
    nothing, and the next beat may go well.

    Args:
        beats: where.
        every: seconds between two beats.
    """

    def __init__(self, beats: Beats, *, every: float = BEAT_S) -> None:
        self._beats = beats
        self._every = every
        self._held: dict[int, int] = {}
        self._guard = threading.Lock()
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> Heart:
        self._thread.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._end.set()
        self._thread.join()

    def hold(self, key: int) -> None:
        """Begin to say so for one thing."""
        with self._guard:
            self._beats.beat(key, 0)
            self._held[key] = 0

    def drop(self, key: int) -> None:
        """Say no more; nothing is being said any more when this returns."""
        with self._guard:
            self._held.pop(key, None)

    def _run(self) -> None:
        while not self._end.wait(self._every):
            with self._guard:
                for key in self._held:
                    self._held[key] += 1
                    try:
                        self._beats.beat(key, self._held[key])
                    except StoreError as error:
                        _log.warning("this worker cannot say that it lives: %s", error)


@cache
def _boot() -> str:
    """Return what names this run of this machine, and the container within which it numbers processes."""
    with contextlib.suppress(OSError):
        namespace = os.stat("/proc/self/ns/pid").st_ino
        return f"{Path('/proc/sys/kernel/random/boot_id').read_text().strip()}/{namespace}"
    return "-"


def _started(pid: int) -> str | None:
    """Return when a process was started, in a unit of the machine's own; None if there is no such process."""
    try:
        # The name of the program, in brackets, may hold anything.
        fields = Path(f"/proc/{pid}/stat").read_text(errors="replace").rpartition(")")[2].split()
    except OSError:
        pass
    else:
        return None if fields[0] == "Z" else fields[19]
    if os.path.isdir("/proc/self"):
        return None
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, OverflowError):
        return None
    except PermissionError:
        pass
    return "-"
