"""Several processes on this machine."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import threading
import time
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from multiprocessing import forkserver, resource_tracker
from multiprocessing.connection import Connection, wait
from multiprocessing.context import ForkServerContext, SpawnContext
from multiprocessing.process import BaseProcess
from queue import SimpleQueue
from typing import Final

from dnntrain import interruption
from dnntrain.sweep.engines.base import Job, Outcome

_FORKED: Final = multiprocessing.get_context("forkserver")
_SPAWN: Final = multiprocessing.get_context("spawn")
_NURSERY: Final = ["dnntrain.sweep.engines.nursery"]
"""What the process imports that workers are forked from."""
_GRACE_S: Final = 60.0
"""How long the workers have to save their state once they were asked to end."""
_LEAVE: Final = "leave"


def prepare() -> ForkServerContext | SpawnContext:
    """Begin to import what workers need, in the process that they are forked from, and return at once.

    Whoever has to import PyTorch first, or to look for GPUs, calls this before, so that both happen at a time.

    Returns:
        How workers are started: where there cannot be such a process, each imports everything by itself.
    """
    _FORKED.set_forkserver_preload(_NURSERY)
    resource_tracker.ensure_running()  # which unblocks signals where it has to be started
    path = os.environ.get("PYTHONPATH")
    # Its modules are to be ours, also where a program has added to the places where they are looked for.
    os.environ["PYTHONPATH"] = os.pathsep.join(place or os.getcwd() for place in sys.path)
    try:
        with _unheard():
            forkserver.ensure_running()
    except OSError:
        # A temporary folder whose name is too long for a socket; a child of the process that started one.
        return _SPAWN
    finally:
        if path is None:
            del os.environ["PYTHONPATH"]
        else:
            os.environ["PYTHONPATH"] = path
    return _FORKED


@contextmanager
def _unheard() -> Iterator[None]:
    """Let a process that is started here not hear of a signal to the whole group: the conductor says what it means."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, interruption.SIGNALS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


@dataclass
class _Worker:
    process: BaseProcess
    pipe: Connection
    job: Job | None = None


class Local:
    """Trains in a pool of processes, each with its share of the cores and one GPU, or a share of one.

    A process that dies takes its job with it, and nothing else: another one is started in its place.

    Args:
        workers: how many processes.
        threads: CPU threads of each; the cores are divided equally unless given.
        gpus: how many GPUs there are; worker i has GPU i modulo that number.
    """

    def __init__(self, workers: int, *, threads: int | None = None, gpus: int = 0) -> None:
        self.slots = workers
        self.threads: int | None = threads or max(1, len(os.sched_getaffinity(0)) // workers)
        self._gpus = _gpus(gpus)
        self._workers: list[_Worker | None] = [None] * workers

    def submit(self, job: Job) -> None:
        """Hand a job to an idle worker, which is started first if need be.

        Raises:
            ValueError: all of them are at work.
        """
        place = next((i for i, worker in enumerate(self._workers) if worker is None or worker.job is None), None)
        if place is None:
            raise ValueError("no worker is free")
        worker = self._workers[place] or self._start(place)
        self._workers[place] = worker
        try:
            worker.pipe.send(job)
        except (BrokenPipeError, ConnectionResetError):
            # It died while it was idle.
            self._bury(place)
            self.submit(job)
        else:
            worker.job = job

    def wait(self, timeout: float) -> list[Outcome]:
        """Return the outcomes that have arrived.

        Raises:
            Interrupted: a signal asked for the end; `close` is to be called.
        """
        interruption.check()
        busy = [worker.pipe for worker in self._workers if worker is not None and worker.job is not None]
        if not busy:
            interruption.sleep(timeout)
            return []
        wait(busy, timeout)
        interruption.check()
        return self._arrived()

    def close(self) -> list[Outcome]:
        """Ask all workers to leave their jobs where they can go on; end those that do not.

        One that dies meanwhile has not crashed: whoever ends the sweep may be ending all of its processes.
        """
        told: list[Outcome] = []
        try:
            busy = [worker for worker in self._workers if worker is not None and worker.job is not None]
            for worker in busy:
                try:
                    worker.pipe.send(_LEAVE)
                except (BrokenPipeError, ConnectionResetError):
                    continue
            deadline = time.monotonic() + _GRACE_S
            while (left := deadline - time.monotonic()) > 0:
                waiting = [w.pipe for w in self._workers if w is not None and w.job is not None]
                if not waiting:
                    break
                wait(waiting, left)
                told += self._arrived()
        finally:
            # Also where the wait was broken off by a second signal.
            for worker in filter(None, self._workers):
                worker.pipe.close()
                worker.process.kill()
                worker.process.join()
            left_over = [worker.job.key for worker in self._workers if worker is not None and worker.job is not None]
            self._workers = [None] * self.slots
        told = [replace(each, ending="interrupted") if each.ending == "crashed" else each for each in told]
        return told + [Outcome(key, "interrupted") for key in left_over]

    def _arrived(self) -> list[Outcome]:
        told = []
        for place, worker in enumerate(self._workers):
            if worker is None or worker.job is None or not worker.pipe.poll():
                continue
            job, worker.job = worker.job, None
            try:
                told.append(worker.pipe.recv())
            except (EOFError, ConnectionResetError):
                code = self._bury(place)
                why = f"was ended by {signal.Signals(-code).name}" if code < 0 else f"ended with {code}"
                told.append(Outcome(job.key, "crashed", f"its process {why}"))
        return told

    def _start(self, place: int) -> _Worker:
        context = prepare()
        ours, theirs = context.Pipe()
        environment = dict(os.environ)
        if self._gpus:
            environment["CUDA_VISIBLE_DEVICES"] = self._gpus[place % len(self._gpus)]
        process = context.Process(target=_work, args=(theirs, self.threads, environment), daemon=True)
        with _unheard():
            process.start()
        theirs.close()
        worker = _Worker(process, ours)
        # A program may come to its end without closing the engine; multiprocessing then waits for its processes.
        weakref.finalize(worker, ours.close)
        return worker

    def _bury(self, place: int) -> int:
        """Make room for another process, and return how this one ended."""
        worker, self._workers[place] = self._workers[place], None
        if worker is None:
            return 0
        worker.pipe.close()
        worker.process.join()
        return worker.process.exitcode or 0


def _gpus(count: int) -> list[str]:
    """Return by what names so many GPUs are made visible, of those that are visible here."""
    visible = [name for name in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",") if name]
    return visible[:count] if visible else [str(number) for number in range(count)]


def _work(pipe: Connection, threads: int, environment: dict[str, str]) -> None:
    """Train one job after the other until the pipe is closed."""
    # Signals go to the whole group of processes; the conductor alone decides what they mean.
    for number in interruption.SIGNALS:
        signal.signal(number, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, interruption.SIGNALS)
    os.environ.clear()  # of the time when the process was started that this one was forked from
    os.environ.update(environment)
    import torch

    from dnntrain.errors import Interrupted
    from dnntrain.sweep.engines.work import do

    torch.set_num_threads(threads)
    jobs: SimpleQueue[Job] = SimpleQueue()
    with interruption.listening():
        for number in interruption.SIGNALS:
            signal.signal(number, signal.SIG_IGN)
        threading.Thread(target=_hear, args=(pipe, jobs), daemon=True).start()
        while True:
            job = jobs.get()
            try:
                outcome = do(job)
            except Interrupted as interrupted:
                outcome = Outcome(job.key, "interrupted", str(interrupted))
            pipe.send(outcome)


def _hear(pipe: Connection, jobs: SimpleQueue[Job]) -> None:
    """Take what the conductor says; once it is gone, end at once: another one will take the job up again."""
    while True:
        try:
            said = pipe.recv()
        except (EOFError, OSError):
            os._exit(1)
        if said == _LEAVE:
            interruption.ask(signal.SIGTERM)
        else:
            jobs.put(said)
