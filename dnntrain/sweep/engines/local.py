"""Several processes on this machine."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from typing import Final

from dnntrain import interruption
from dnntrain.sweep.engines.base import Job, Outcome

_SPAWN: Final = multiprocessing.get_context("spawn")
_GRACE_S: Final = 60.0
"""How long a worker has to save its state once it was asked to end."""


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
        self._threads = threads or max(1, len(os.sched_getaffinity(0)) // workers)
        self._gpus = gpus
        self._workers: list[_Worker | None] = [None] * workers
        self._lost: list[Outcome] = []

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
        worker.job = job
        try:
            worker.pipe.send(job)
        except BrokenPipeError:
            # It died while it was idle.
            self._bury(place)
            self.submit(job)

    def wait(self, timeout: float) -> list[Outcome]:
        """Return the outcomes that have arrived.

        Raises:
            Interrupted: a signal asked for the end; `close` is to be called.
        """
        interruption.check()
        busy = [worker for worker in self._workers if worker is not None and worker.job is not None]
        if not busy:
            interruption.sleep(timeout)
            return []
        wait([worker.pipe for worker in busy], min(timeout, 0.5))
        interruption.check()
        return self._arrived()

    def close(self) -> list[Outcome]:
        """Ask all workers to leave their jobs where they can go on; end those that do not."""
        workers = [worker for worker in self._workers if worker is not None]
        for worker in workers:
            if worker.job is not None and worker.process.pid is not None and worker.process.is_alive():
                os.kill(worker.process.pid, signal.SIGTERM)
        told = []
        for worker in workers:
            if worker.job is not None and wait([worker.pipe], _GRACE_S):
                told += self._arrived()
            worker.pipe.close()
        for worker in workers:
            worker.process.join(_GRACE_S if worker.job is None else 1.0)
            if worker.process.is_alive():
                worker.process.kill()
                worker.process.join()
            if worker.job is not None:
                told.append(Outcome(worker.job.key, "interrupted"))
        self._workers = [None] * self.slots
        return told

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
        ours, theirs = _SPAWN.Pipe()
        environment = {} if not self._gpus else {"CUDA_VISIBLE_DEVICES": str(place % self._gpus)}
        process = _SPAWN.Process(target=_work, args=(theirs, self._threads, environment), daemon=True)
        process.start()
        theirs.close()
        return _Worker(process, ours)

    def _bury(self, place: int) -> int:
        worker, self._workers[place] = self._workers[place], None
        if worker is None:
            return 0
        worker.process.join()
        worker.pipe.close()
        return worker.process.exitcode or 0


def _work(pipe: Connection, threads: int, environment: dict[str, str]) -> None:
    """Train one job after the other until the pipe is closed."""
    os.environ.update(environment)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    # Ctrl-C goes to the whole group of processes; the conductor alone decides what it means.
    signal.signal(signal.SIGINT, signal.SIG_IGN)

    import torch

    from dnntrain.errors import Interrupted
    from dnntrain.sweep.engines.work import do

    torch.set_num_threads(threads)
    while True:
        try:
            job = pipe.recv()
        except EOFError:
            return
        try:
            with interruption.listening(signal.SIGTERM):
                outcome = do(job)
        except Interrupted as interrupted:
            pipe.send(Outcome(job.key, "interrupted", str(interrupted)))
            return
        pipe.send(outcome)


def _end_with_parent() -> None:
    """End at once when the conductor is gone: nobody would hear of this job, and another will take it up again."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        wait([parent.sentinel])
        os._exit(1)
