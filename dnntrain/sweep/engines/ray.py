"""Processes on the nodes of a Ray cluster.

Each slot is an actor, `Node`, with a warm process beside it that trains: the pool of `local`, one process large. An
actor that trained itself could not be asked to end by a signal, nor tell how it died. The process can be asked as
everywhere else, and when it dies, the actor is still there to say so and to send home what it left.

Files travel through Ray's object store, which moves pieces between nodes and puts on disk what it has no memory for.
"""

from __future__ import annotations

import contextlib
import hashlib
import logging
import math
import os
import shutil
import signal
import socket
import tempfile
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cache, cached_property
from importlib import metadata
from pathlib import Path
from types import ModuleType
from typing import Any, Final

from dnntrain import interruption
from dnntrain.errors import StoreError, UsageError, shorten
from dnntrain.sweep.engines.base import Job, Outcome
from dnntrain.sweep.engines.local import Local
from dnntrain.sweep.engines.parcels import Parcel, bring_home, mend, pack, unpack

_GRACE_S: Final = 90.0
"""How long a node has to leave its job and to pack the files; its process has 60 s of them to save its state."""

_ANSWER_S: Final = 10.0
"""An actor that does not answer for so long was never started, or is cut off."""

_REACH_S: Final = 5.0
"""How long a cluster's port may take to open."""

_POLL_S: Final = 0.5
_ALONE: Final = "local"
"""Ray's word for a cluster of its own."""


@dataclass
class _Errand:
    """A job with all that goes along; what is referred to here stays in the object store."""

    job: Job
    plugins: dict[str, bytes]
    parcel: Parcel | None


@dataclass
class _Worker:
    """An actor, and what it has been asked last: nothing, to do an errand, or whether it is there."""

    actor: Any
    answer: Any
    errand: _Errand | None = None


class Ray:
    """Trains on the nodes of a Ray cluster, each trial with its share of CPUs and GPUs.

    A node or a process that dies takes its job with it, and nothing else. The engine connects when it is made, and
    is of no use any more once it is closed.

    Args:
        address: `auto` for the cluster that this machine is part of, `HOST:PORT` for a certain one, `ray://HOST:PORT`
            for one that this machine is not part of, which goes with `home`; None for the one that the environment
            variable `RAY_ADDRESS` names, or else one of this machine alone, started here and ended with the engine.
        workers: how many jobs at a time; as many as there is room for on the nodes unless given.
        cpus: CPUs of each, which are its threads too.
        gpus: GPUs of each; 0.5 lets two share one.
        home: whether runs are trained in a folder of the node and brought home when their job is over. Otherwise all
            nodes must see the runs' folder under the same path.

    Raises:
        UsageError: Ray is not installed, there is no such cluster, or no node has room for a job.
    """

    def __init__(
        self,
        address: str | None = None,
        *,
        workers: int | None = None,
        cpus: float = 1,
        gpus: float = 0,
        home: bool = False,
    ) -> None:
        if cpus <= 0 or gpus < 0 or (gpus > 1 and gpus != int(gpus)):
            raise UsageError(
                f"{cpus:g} CPUs and {gpus:g} GPUs a trial cannot be: it needs some CPU, and whole GPUs or less than one"
            )
        address = address or os.environ.get("RAY_ADDRESS") or _ALONE
        self._ray = _library(joining=address != _ALONE)
        self._connected = not self._ray.is_initialized()
        if self._connected:
            _connect(self._ray, address)
        try:
            self.slots = workers or _room(self._ray, cpus, gpus)
        except UsageError:
            self._disconnect()
            raise
        self.threads: int | None = max(1, int(cpus))
        self._home = home
        self._workers: list[_Worker] = []
        self._waiting: list[_Errand] = []
        self._told: list[Outcome] = []
        self._refusal: UsageError | None = None
        options = {"num_cpus": cpus, "num_gpus": gpus, "max_restarts": 0, "max_task_retries": 0, "max_concurrency": 2}
        self._remote: Any = self._ray.remote(**options, scheduling_strategy="SPREAD")(Node)

    def submit(self, job: Job) -> None:
        """Hand a job to an idle worker, or to the first that will be.

        Raises:
            ValueError: all of them are at work.
            UsageError: a plugin is not what it was any more.
            StoreError: the run cannot be read, or its folder cannot be made.
        """
        if len(self._waiting) + sum(worker.errand is not None for worker in self._workers) >= self.slots:
            raise ValueError("no worker is free")
        job = replace(job, directory=Path(os.path.abspath(job.directory)))
        plugins = {path: _plugin(path, digest) for path, digest in job.plugins.items()}
        parcel = None
        try:
            if self._home:
                mend(job.directory)
                parcel = pack(job.directory, self._ray.put)
            else:
                # Whoever does not find it does not see this folder.
                job.directory.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise StoreError(f"cannot send out {job.directory}: {error.strerror or error}") from error
        self._waiting.append(_Errand(job, plugins, parcel))
        self._hand_out()

    def wait(self, timeout: float) -> list[Outcome]:
        """Return the outcomes that have arrived, once the files of their runs have as well.

        Raises:
            Interrupted: a signal asked for the end; `close` is to be called.
            UsageError: a node is not fit for these jobs.
        """
        interruption.check()
        answers = [worker.answer for worker in self._workers if worker.answer is not None]
        if not answers:
            interruption.sleep(timeout)
        else:
            self._ray.wait(answers, timeout=min(timeout, _POLL_S))
            interruption.check()
            self._collect(answers, 0.0)
            if self._refusal is not None:
                raise self._refusal
            self._hand_out()
        told, self._told = self._told, []
        return told

    def close(self) -> list[Outcome]:
        """Ask all nodes to leave their jobs where they can go on and wait for the files; end those that do not."""
        try:
            there = [worker for worker in self._workers if worker.answer is None or worker.errand is not None]
            left = [worker for worker in there if worker.errand is not None]
            self._arrived([worker.actor.stop.remote() for worker in left], _ANSWER_S)
            self._collect([worker.answer for worker in left], _GRACE_S)
            self._arrived([worker.actor.end.remote() for worker in there if worker in self._workers], _ANSWER_S)
            unheard = [worker.errand for worker in self._workers if worker.errand is not None] + self._waiting
            told, self._told = self._told + [Outcome(errand.job.key, "interrupted") for errand in unheard], []
            return told
        finally:
            for worker in list(self._workers):
                self._bury(worker)
            self._waiting = []
            self._disconnect()

    def _hand_out(self) -> None:
        """Give what waits to those that are idle, and start others for the rest.

        Nothing is given to one that is not there yet: the room that it was to have may have gone with a node, and then
        it never comes, while another becomes idle.
        """
        for worker in self._workers:
            if worker.answer is None and self._waiting:
                worker.errand = errand = self._waiting.pop(0)
                worker.answer = worker.actor.do.remote(errand.job, errand.plugins, errand.parcel)
        starting = sum(worker.answer is not None and worker.errand is None for worker in self._workers)
        for _ in range(min(len(self._waiting) - starting, self.slots - len(self._workers))):
            actor = self._remote.remote(self.threads)
            self._workers.append(_Worker(actor, actor.hello.remote()))

    def _arrived(self, references: list[Any], timeout: float) -> list[Any]:
        """Wait for all of these, but no longer than so many seconds, and return those that are there."""
        if not references:
            return []
        ready: list[Any] = self._ray.wait(references, num_returns=len(references), timeout=timeout)[0]
        return ready

    def _collect(self, answers: list[Any], timeout: float) -> None:
        """Take note of what has arrived by then."""
        ready = self._arrived(answers, timeout)
        for worker in [worker for worker in self._workers if worker.answer in ready]:
            errand, answer, worker.errand, worker.answer = worker.errand, worker.answer, None, None
            try:
                if errand is None:
                    _check_same(versions(), *self._ray.get(answer))
                else:
                    self._told.append(self._outcome(answer, errand.job))
            except UsageError as error:
                self._refusal = error
                if errand is not None:
                    self._told.append(Outcome(errand.job.key, "interrupted", str(error)))
            except self._ray.exceptions.RayTaskError:
                # Not a death but a fault, whose traceback is wanted.
                raise
            except self._ray.exceptions.RayError as error:
                self._bury(worker)
                lost = errand or (self._waiting.pop(0) if self._waiting else None)
                if lost is not None:
                    self._told.append(Outcome(lost.job.key, "crashed", _why(error)))

    def _outcome(self, answer: Any, job: Job) -> Outcome:
        """Return how a job came out, and bring its files home.

        Raises:
            UsageError: the node is not fit for it.
        """
        try:
            outcome, parcel = self._ray.get(answer)
            if parcel:
                bring_home(parcel, self._ray.get, job.directory)
        except self._ray.exceptions.RayTaskError as error:
            if isinstance(error.cause, UsageError):
                raise error.cause from None
            raise
        except StoreError as error:
            return Outcome(job.key, "crashed", str(error))
        return Outcome(job.key, outcome.ending, outcome.message)

    def _bury(self, worker: _Worker) -> None:
        """End a worker for certain: one that is only cut off must not go on with a job that another gets."""
        self._workers.remove(worker)
        self._ray.kill(worker.actor)

    def _disconnect(self) -> None:
        if self._connected:
            self._connected = False
            self._ray.shutdown()


class Node:
    """What stands on a node for each slot: an actor that has jobs trained by a process beside it.

    Ray calls `do` in one thread and `stop` in another.

    Args:
        threads: CPU threads of the process.
    """

    def __init__(self, threads: int) -> None:
        # The GPUs that Ray has chosen are in the environment, which the process inherits.
        self._local = Local(1, threads=threads)
        self._stopping = threading.Event()

    @cached_property
    def _folder(self) -> Path:
        """Where runs and plugins are kept meanwhile; made when first needed: one that only starts may be killed."""
        return Path(tempfile.mkdtemp(prefix="dnntrain-"))

    def hello(self) -> tuple[dict[str, str], str]:
        """Say what this node has installed, and its name."""
        return versions(), socket.gethostname()

    def do(self, job: Job, plugins: Mapping[str, bytes], parcel: Parcel | None) -> tuple[Outcome, Parcel | None]:
        """Have a job trained.

        Args:
            job: the job.
            plugins: the content of the files in `job.plugins`.
            parcel: the run as it was left; None where this node sees the run's own folder.

        Returns:
            How it came out, and the run as it is now, where it was sent.

        Raises:
            UsageError: this node is not fit for it.
        """
        import ray

        here = replace(job, plugins=self._at_hand(job.plugins, plugins))
        if parcel is None:
            if not job.directory.is_dir():
                raise UsageError(
                    f"the node {socket.gethostname()} does not see {job.directory}, which was made for a run: keep the "
                    "sweep on a file system that all nodes share, under one path, or have its runs brought home"
                )
            return self._train(here), None
        folder = self._folder / job.directory.name
        shutil.rmtree(folder, ignore_errors=True)
        unpack(parcel, ray.get, folder)
        outcome = self._train(replace(here, directory=folder))
        try:
            return outcome, pack(folder, ray.put)
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    def stop(self) -> None:
        """Have the job left where it can go on."""
        self._stopping.set()

    def end(self) -> None:
        """End the process and leave nothing behind; `do` must have come to its end."""
        self._local.close()
        shutil.rmtree(self._folder, ignore_errors=True)

    def _train(self, job: Job) -> Outcome:
        if self._stopping.is_set():
            return Outcome(job.key, "interrupted")
        self._local.submit(job)
        while not (told := self._local.wait(_POLL_S)):
            if self._stopping.is_set():
                (outcome,) = self._local.close()
                return outcome
        return told[0]

    def _at_hand(self, digests: Mapping[str, str], contents: Mapping[str, bytes]) -> dict[str, str]:
        """Return the plugins as files of this node: the same ones where they are here too, else copies."""
        found = {}
        for name, digest in digests.items():
            path = Path(name)
            if not path.is_file() or hashlib.sha256(path.read_bytes()).hexdigest() != digest:
                path = self._folder / "plugins" / digest / path.name
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(contents[name])
            found[str(path)] = digest
        return found


@cache
def versions() -> dict[str, str]:
    """Return what must be equal wherever the runs of a sweep are trained, or they would not be comparable."""
    package = Path(__file__).parents[2]
    digest = hashlib.sha256()
    for path in sorted(package.rglob("*.py")):
        digest.update(f"{path.relative_to(package).as_posix()}\0".encode() + hashlib.sha256(path.read_bytes()).digest())
    # Asked of the package's records: importing torch takes seconds, and memory for as long as an actor lives.
    torch = metadata.version("torch")
    return {"dnntrain": f"{metadata.version('dnntrain')}, sources {digest.hexdigest()[:12]}", "torch": torch}


def _check_same(expected: Mapping[str, str], found: Mapping[str, str], host: str) -> None:
    unlike = [f"{name} {found[name]} instead of {expected[name]}" for name in expected if found[name] != expected[name]]
    if unlike:
        raise UsageError(
            f"the node {host} has {' and '.join(unlike)}: install there what is installed here, or the runs cannot be "
            "compared"
        )


def _library(*, joining: bool) -> ModuleType:
    """Import Ray, and keep it quiet.

    Args:
        joining: whether a cluster is to be joined, not started.

    Raises:
        UsageError: it is not installed.
    """
    # It reads these when it is imported: no report of its usage to its makers, and none of what dies on a node to our
    # standard output, whatever `log_to_driver` says; the sweep tells that itself.
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_DEDUP_LOGS_SKIP_REGEX", ".")
    if joining:
        # A cluster that is gone, but has left its address behind for `auto`, would be tried for a quarter of an hour.
        os.environ.setdefault("RAY_NUM_REDIS_GET_RETRIES", "2")
    try:
        import ray
        import ray.exceptions
    except ImportError as error:
        raise UsageError(f"the engine ray needs Ray ({error}): pip install 'dnntrain[ray]'") from error
    return ray


def _connect(ray: ModuleType, address: str) -> None:
    quiet: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR, "include_dashboard": False}
    try:
        _reach(address)
        with _own_sigterm():
            ray.init(address, **quiet)
    except (OSError, ValueError, RuntimeError) as error:
        raise UsageError(
            f"cannot join the Ray cluster '{shorten(address)}': {error}; is it running, and is the address right?"
        ) from error


def _reach(address: str) -> None:
    """See that something listens at an address, where it names a machine: Ray itself would try for minutes."""
    host, colon, port = address.rpartition("://")[2].rpartition(":")
    if colon:
        socket.create_connection((host.strip("[]"), int(port)), _REACH_S).close()


@contextlib.contextmanager
def _own_sigterm() -> Iterator[None]:
    """Keep what SIGTERM does here: Ray would have it end this process at once, before anything is saved."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.getsignal(signal.SIGTERM)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _room(ray: ModuleType, cpus: float, gpus: float) -> int:
    """Return how many jobs the nodes of the cluster have room for.

    Raises:
        UsageError: for none.
    """
    wanted = {"CPU": cpus, "GPU": gpus}
    nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    room: int = sum(
        # Shares such as 0.1 are not exact.
        min(math.floor(node.get(name, 0) / share + 1e-9) for name, share in wanted.items() if share)
        for node in nodes
    )
    if not room:
        there = "; ".join(f"{node.get('CPU', 0):g} CPUs, {node.get('GPU', 0):g} GPUs" for node in nodes)
        raise UsageError(
            f"no node of the Ray cluster has the {cpus:g} CPUs and {gpus:g} GPUs of a trial (its nodes have: {there}): "
            "ask for less, or say how many workers there are to be once there are nodes for them"
        )
    return room


def _plugin(path: str, digest: str) -> bytes:
    try:
        content = Path(path).read_bytes()
    except OSError as error:
        raise UsageError(f"cannot read the plugin {path}: {error.strerror}") from error
    if hashlib.sha256(content).hexdigest() != digest:
        raise UsageError(f"the plugin {path} has changed since the sweep was begun: bring it back, or begin another")
    return content


def _why(error: Exception) -> str:
    """Say in one line why a worker was lost; Ray's own words begin with its names for things."""
    told = [line for line in str(error).splitlines()[1:] if not line.startswith("\t")] or [str(error)]
    return f"its place in the Ray cluster was lost: {shorten(' '.join(told), 240)}"
