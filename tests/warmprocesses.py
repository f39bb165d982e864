"""Real processes that have imported everything already: a second of work costs a second, and not five more.

One process imports what training needs, once, and each of ours is forked from it: with a number, signals and
descriptors of its own, as one that a shell starts. Forked from the test's own process it could not train, as autograd
has threads there.
"""

from __future__ import annotations

import atexit
import multiprocessing
import os
import signal
import sys
import tempfile
from collections.abc import Callable, Mapping
from multiprocessing.reduction import DupFd
from pathlib import Path
from typing import IO, Any

from dnntrain.sweep.engines import local

WARM = multiprocessing.get_context("forkserver")
# There is one such server in a process: the workers of an engine under test are forked from it too.
local._NURSERY += [
    "dnntrain.cli",
    "dnntrain.cli.live",
    "dnntrain.verifying",
    "sklearn.datasets",
    "tensorboard.compat.proto.summary_pb2",
    "tensorboard.summary.writer.record_writer",
    "tensorboard.plugins.hparams.api_pb2",
    "tensorboard.plugins.hparams.metadata",
]
WARM.set_forkserver_preload(local._NURSERY)


class _Descriptor:
    """An open file that is handed to the process."""

    def __init__(self, number: int) -> None:
        self.number = number

    def __reduce__(self) -> tuple[Callable[[Any], int], tuple[Any]]:
        return _detached, (DupFd(self.number),)


def _detached(sent: Any) -> int:
    number: int = sent.detach()
    return number


class Command:
    """The command `dnntrain` in a process of its own, which has a session of its own too; much as `subprocess.Popen`.

    Args:
        arguments: of the command; or a function to be called instead.
        folder: where it works.
        output: what it writes to, errors too; unless given, `stdout` is a pipe, and `errors` returns the errors.
        environment: more of it than ours.
    """

    def __init__(
        self,
        arguments: list[str] | Callable[[], object],
        folder: Path,
        *,
        output: int | None = None,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self._errors = tempfile.TemporaryFile("w+")
        ours, theirs = os.pipe()
        descriptors = (output, output) if output is not None else (theirs, self._errors.fileno())
        self._process = WARM.Process(
            target=_live,
            args=(arguments, folder, *map(_Descriptor, descriptors), {**os.environ, **(environment or {})}),
            daemon=False,
        )
        self._process.start()
        atexit.register(self._end)  # before multiprocessing would wait for one that a failed test left behind
        os.close(theirs)
        self.stdout: IO[str] = os.fdopen(ours)
        assert self._process.pid is not None
        self.pid = self._process.pid

    @property
    def returncode(self) -> int | None:
        """How it ended; minus the signal's number where one ended it."""
        return self._process.exitcode

    def send_signal(self, number: int, *, to_all: bool = False) -> None:
        """Send a signal to it, or to all processes of its session."""
        (os.killpg if to_all else os.kill)(self.pid, number)

    def communicate(self, timeout: float = 60.0) -> tuple[str, str]:
        """Wait for its end, which must come in so many seconds, and return what it wrote since."""
        said = ""
        try:
            # Its workers may have the pipe too, so that its end alone says nothing.
            self._process.join(timeout)
            assert self.returncode is not None, f"still running: {self.errors()}"
        finally:
            self._end()
            if not self.stdout.closed:
                said = self.stdout.read()
                self.stdout.close()
        errors = self.errors()
        self._errors.close()
        return said, errors

    def _end(self) -> None:
        if self.returncode is None:
            self.send_signal(signal.SIGKILL, to_all=True)
            self._process.join()

    def errors(self) -> str:
        """Return what it wrote to stderr by now."""
        self._errors.seek(0)
        return self._errors.read()


def _live(
    what: list[str] | Callable[[], object], folder: Path, output: int, errors: int, environment: Mapping[str, str]
) -> None:
    import torch

    os.setsid()
    for number, descriptor in ((1, output), (2, errors)):
        os.dup2(descriptor, number)
    os.close(output)
    if errors != output:
        os.close(errors)
    # Made anew: these knew what the server writes to, which is no terminal.
    sys.stdout, sys.stderr = (os.fdopen(number, "w", closefd=False) for number in (1, 2))
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    torch.set_num_threads(1)
    if callable(what):
        what()
    else:
        from dnntrain.cli import main

        sys.argv = ["dnntrain", *what]
        main()
