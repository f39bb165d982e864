"""What every engine does alike; and what only one that trains elsewhere can do."""

from __future__ import annotations

import hashlib
import importlib.util
import os
import shutil
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch

import dnntrain
from dnntrain import interruption, yamltext
from dnntrain.checkpoints import read_checkpoint
from dnntrain.errors import Interrupted, UsageError
from dnntrain.store import RunDirectory
from dnntrain.sweep.engines import ray as rays
from dnntrain.sweep.engines.base import Engine, Job, Outcome
from dnntrain.sweep.engines.inline import Inline
from dnntrain.sweep.engines.local import Local
from dnntrain.sweep.engines.ray import Ray
from dnntrain.training.state import differences
from dnntrain.verifying import TIMES

pytestmark = pytest.mark.process

PATIENCE_S = 120.0
NO_RAY = "" if importlib.util.find_spec("ray") else "ray is not installed: pip install 'dnntrain[ray]'"
needs_ray = pytest.mark.skipif(bool(NO_RAY), reason=NO_RAY)

STEP = 15  # of the plugin
PLUGIN = Path(__file__).with_name("dyingparts.py")
PLUGINS = {str(PLUGIN): hashlib.sha256(PLUGIN.read_bytes()).hexdigest()}

EXPERIMENT: dict[str, Any] = {
    "name": "tiny",
    "seed": 3,
    "data": {"dataset": "digits", "limit": 310},
    "model": {"architecture": {"name": "mlp", "hidden": [16]}, "activation": "relu", "initializer": "he_normal"},
    "optimizer": {"name": "adamw", "lr": 0.01},
    "training": {"epochs": 4, "threads": 1, "checkpoint": {"every": 7}},
    "callbacks": [],
}


def text(*, activation: Any = "relu", lr: float = 0.01, seed: int = 3) -> str:
    return yamltext.dump(
        {
            **EXPERIMENT,
            "seed": seed,
            "model": {**EXPERIMENT["model"], "activation": activation},
            "optimizer": {"name": "adamw" if lr < 100 else "sgd", "lr": lr},
        }
    )


def waiting(mark: Path) -> str:
    """Return an experiment that waits in its middle."""
    return text(activation={"name": "waiting_relu", "mark": str(mark)})


class Cluster:
    """Two nodes of Ray on this machine, each with one CPU."""

    def __init__(self, folder: Path) -> None:
        from ray.cluster_utils import Cluster as Made

        self.folder = folder
        self.options = {"num_cpus": 1, "object_store_memory": 100 * 2**20, "include_dashboard": False}
        head = {**self.options, "temp_dir": str(self.folder)}
        self.made = Made(initialize_head=True, head_node_args=head, shutdown_at_exit=False)
        self.other = self.made.add_node(**self.options)
        self.address = str(self.made.address)

    def drop_other(self) -> None:
        """Kill the node that is not the head, without a word."""
        self.made.remove_node(self.other, allow_graceful=False)

    def shutdown(self) -> None:
        self.made.shutdown()
        shutil.rmtree(self.folder, ignore_errors=True)


@contextmanager
def clusters() -> Iterator[Cluster]:
    # Sockets have short names only, so not in pytest's folder.
    folder = Path(tempfile.mkdtemp(prefix="ray-", dir="/tmp"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        patch.setenv("PYTHONPATH", str(Path(dnntrain.__file__).parents[1]))
        (folder / "tmp" / "ray").mkdir(parents=True)
        patch.setenv("TMPDIR", str(folder / "tmp"))
        patch.delenv("RAY_ADDRESS", raising=False)
        rays._library(joining=True)  # which sets what Ray reads when it is first imported
        made = Cluster(folder)
        try:
            yield made
        finally:
            made.shutdown()


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    with clusters() as made:
        yield made


class Bench:
    """Has one engine at a time, which is kept warm for the next test that wants one of its kind.

    A job has a quarter of a CPU of Ray's, so that an engine of a test's own finds room beside it.
    """

    def __init__(self, cluster: Callable[[], Cluster]) -> None:
        self.cluster = cluster
        self.kind, self.made = "", None

    def engine(self, kind: str) -> Engine:
        if self.kind != kind or self.made is None:
            self.close()
            self.kind, self.made = kind, self.make(kind)
        return self.made

    def make(self, kind: str) -> Any:
        if kind == "inline":
            return Inline()
        if kind == "local":
            return Local(2, threads=1)
        return Ray(self.cluster().address, workers=2, cpus=0.25, home=kind == "ray, brought home")

    def close(self) -> list[Outcome]:
        made, self.made = self.made, None
        return made.close() if made is not None else []


@pytest.fixture(scope="module")
def bench(request: pytest.FixtureRequest) -> Iterator[Bench]:
    made = Bench(lambda: request.getfixturevalue("cluster"))
    yield made
    made.close()


@pytest.fixture(scope="module")
def kind(request: pytest.FixtureRequest) -> str:
    """The kind of engine; pytest runs the tests of one kind together."""
    if request.param.startswith("ray"):
        request.getfixturevalue("cluster")
    return request.param


@pytest.fixture
def engine(kind: str, bench: Bench) -> Engine:
    return bench.engine(kind)


@pytest.fixture
def address(bench: Bench, cluster: Cluster) -> str:
    """The cluster's, which nobody is connected to."""
    bench.close()
    return cluster.address


OTHER_PROCESSES = [
    "local",
    pytest.param("ray", marks=needs_ray),
    pytest.param("ray, brought home", marks=needs_ray),
]
every_engine = pytest.mark.parametrize("kind", ["inline", *OTHER_PROCESSES], indirect=True, scope="module")
with_processes = pytest.mark.parametrize("kind", OTHER_PROCESSES, indirect=True, scope="module")


@contextmanager
def closing(engine: Engine) -> Iterator[Engine]:
    try:
        yield engine
    finally:
        engine.close()


def work(engine: Engine, *jobs: Job) -> dict[int, Outcome]:
    """Have jobs done, as many at a time as there are slots."""
    waiting, told = list(jobs), dict[int, Outcome]()
    deadline = time.monotonic() + PATIENCE_S
    while len(told) < len(jobs):
        assert time.monotonic() < deadline, f"only {told}"
        while waiting and len(jobs) - len(told) - len(waiting) < engine.slots:
            engine.submit(waiting.pop(0))
        told |= {outcome.key: outcome for outcome in engine.wait(1.0)}
    return told


def reach(engine: Engine, mark: Path) -> None:
    """Wait until training has come to a place."""
    deadline = time.monotonic() + PATIENCE_S
    while not mark.exists():
        assert time.monotonic() < deadline
        assert engine.wait(0.1) == []


def without_times(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: without_times(item) for key, item in value.items() if key not in TIMES | {"peak_memory"}}
    return [without_times(item) for item in value] if isinstance(value, list | tuple) else value


def other_figures(one: Path, other: Path) -> list[str]:
    """Return the figures in which two runs differ."""
    return list(differences(*(without_times(RunDirectory(each).metrics()) for each in (one, other))))


def unlike(one: Path, other: Path) -> list[str]:
    """Return what two ended runs differ in: in a single bit of state, weights, metrics, summary."""
    a, b = RunDirectory(one), RunDirectory(other)
    found = []
    for name in (a.LAST, a.BEST):
        states = (without_times(read_checkpoint(run.checkpoint(name), torch.device("cpu"))) for run in (a, b))
        found += [f"{name}: {path}" for path in differences(*states)]
    found += [f"metrics: {path}" for path in other_figures(one, other)]
    return found + [f"summary: {path}" for path in differences(*(without_times(run.summary()) for run in (a, b)))]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """Return the run of an experiment that was trained here, in one go."""
    made: dict[str, Path] = {}

    def of(experiment: str) -> Path:
        if experiment not in made:
            directory = tmp_path_factory.mktemp("whole") / "run"
            assert work(Inline(), Job(0, experiment, directory))[0].ending == "ended"
            made[experiment] = directory
        return made[experiment]

    return of


def left(folder: Path) -> list[str]:
    """Return what lies in a folder of runs, leftovers included."""
    return sorted(path.name for path in folder.iterdir())


@every_engine
def test_jobs_are_trained_to_the_same_end(engine: Engine, whole: Callable[..., Path], tmp_path: Path) -> None:
    jobs = [Job(seed, text(seed=seed), tmp_path / f"run{seed}") for seed in (1, 2, 3)]
    told = work(engine, *jobs)
    assert [told[seed] for seed in (1, 2, 3)] == [Outcome(seed, "ended") for seed in (1, 2, 3)]
    for job in jobs:
        assert unlike(whole(job.text), job.directory) == []
        assert RunDirectory(job.directory).environment()["threads"] == 1
    assert left(tmp_path) == ["run1", "run2", "run3"]


@every_engine
def test_a_job_pauses_and_goes_on(engine: Engine, whole: Callable[..., Path], tmp_path: Path) -> None:
    directory = tmp_path / "run"
    assert work(engine, Job(1, text(), directory, until=2))[1].ending == "paused"
    assert [row["epoch"] for row in RunDirectory(directory).metrics()] == [1, 2]
    assert RunDirectory(directory).status() == "interrupted"
    assert work(engine, Job(2, text(), directory, until=3))[2].ending == "paused"
    assert work(engine, Job(3, text(), directory))[3] == Outcome(3, "ended")
    assert unlike(whole(text()), directory) == []
    assert left(tmp_path) == ["run"]


@every_engine
def test_a_job_that_diverges_has_failed_and_the_next_one_is_trained(engine: Engine, tmp_path: Path) -> None:
    told = work(engine, Job(1, text(lr=1e15), tmp_path / "bad"))[1]
    assert told.ending == "failed" and "not finite" in told.message
    assert work(engine, Job(2, text(), tmp_path / "good"))[2].ending == "ended"
    assert RunDirectory(tmp_path / "bad").status() == "failed"


@with_processes
def test_a_job_whose_process_dies_goes_on_from_its_checkpoint(
    engine: Engine, whole: Callable[..., Path], tmp_path: Path
) -> None:
    directory = tmp_path / "runs" / "run"
    experiment = text(activation={"name": "dying", "mark": str(tmp_path / "mark")})
    told = work(engine, Job(1, experiment, directory, plugins=PLUGINS))[1]
    assert told == Outcome(1, "crashed", "its process was ended by SIGKILL")
    assert RunDirectory(directory).checkpoint("last.pt").exists()
    assert work(engine, Job(2, experiment, directory, plugins=PLUGINS))[2] == Outcome(2, "ended")
    assert "going on after" in (directory / "log.txt").read_text()
    assert left(tmp_path / "runs") == ["run"]
    assert other_figures(directory, whole(text())) == []


@with_processes
def test_closed_in_the_middle_a_job_goes_on_elsewhere_and_a_signal_is_heard_by_the_conductor_alone(
    kind: str, bench: Bench, whole: Callable[..., Path], tmp_path: Path
) -> None:
    directory, mark, other = tmp_path / "runs" / "run", tmp_path / "mark", tmp_path / "other"
    experiment = waiting(mark)
    engine = bench.engine(kind)
    engine.submit(Job(1, experiment, directory, plugins=PLUGINS))
    reach(engine, mark)
    assert bench.close() == [Outcome(1, "interrupted", "interrupted by SIGTERM")]
    run = RunDirectory(directory)
    assert run.status() == "interrupted" and not run.is_locked()
    # Where it stood, which is between two checkpoints.
    assert read_checkpoint(run.checkpoint("last.pt"), torch.device("cpu"))["training"]["progress"]["step"] == STEP
    mark.with_suffix(".go").touch()
    with interruption.listening():
        # Made in here, as a conductor does: Ray takes SIGTERM for itself when it connects.
        engine = bench.engine(kind)
        assert work(engine, Job(2, experiment, directory, plugins=PLUGINS))[2] == Outcome(2, "ended")
        assert left(tmp_path / "runs") == ["run"]
        assert other_figures(directory, whole(text())) == []
        engine.submit(Job(3, waiting(other), tmp_path / "signalled", plugins=PLUGINS))
        reach(engine, other)
        os.kill(os.getpid(), signal.SIGTERM)
        with pytest.raises(Interrupted, match="SIGTERM"):
            engine.wait(5.0)
        assert [outcome.ending for outcome in bench.close()] == ["interrupted"]


@every_engine
def test_it_knows_its_slots_and_waits_for_nothing(engine: Engine) -> None:
    assert engine.slots == (1 if isinstance(engine, Inline) else 2)
    assert engine.wait(0.01) == []


@needs_ray
def test_a_node_that_goes_takes_its_jobs_which_are_trained_on_the_other(
    bench: Bench, whole: Callable[..., Path], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    bench.close()
    # With these shares, each engine has one place on each of the two nodes.
    with (
        clusters() as own,
        closing(Ray(own.address, cpus=0.6)) as sharing,
        closing(Ray(own.address, workers=2, cpus=0.4, home=True)) as bringing,
    ):
        assert sharing.slots == 2
        losing = [Losing(engine, tmp_path / name) for engine, name in ((sharing, "shared"), (bringing, "home"))]
        for each in losing:
            each.begin()
        own.drop_other()
        for each in losing:
            each.lose_one_and_end()
    for each in losing:
        for job in each.jobs:
            assert other_figures(job.directory, whole(text())) == []
        assert left(each.folder / "runs") == ["run0", "run1"]
    assert capfd.readouterr().out == ""  # Ray would tell of the death there, in the middle of `--json`


class Losing:
    """An engine with two jobs, one of which is lost with its node."""

    def __init__(self, engine: Engine, folder: Path) -> None:
        self.engine, self.folder = engine, folder
        self.marks = [folder / "mark0", folder / "mark1"]
        self.jobs = [
            Job(key, waiting(mark), folder / "runs" / f"run{key}", plugins=PLUGINS)
            for key, mark in enumerate(self.marks)
        ]
        folder.mkdir()

    def begin(self) -> None:
        for job in self.jobs:
            self.engine.submit(job)
        for mark in self.marks:
            reach(self.engine, mark)

    def lose_one_and_end(self) -> None:
        told: list[Outcome] = []
        deadline = time.monotonic() + PATIENCE_S
        while not told and time.monotonic() < deadline:
            told = self.engine.wait(1.0)
        (lost,) = told
        assert lost.ending == "crashed" and "\n" not in lost.message
        assert lost.message.startswith("its place in the Ray cluster was lost: ")
        for mark in self.marks:
            mark.with_suffix(".go").touch()
        while not (told := self.engine.wait(1.0)):
            assert time.monotonic() < deadline
        assert told == [Outcome(1 - lost.key, "ended")]
        for _ in range(3):  # as a conductor does: a node may be chosen before it is known to be gone
            ending = work(self.engine, self.jobs[lost.key])[lost.key].ending
            if ending == "ended":
                break
        assert ending == "ended"


@needs_ray
def test_a_plugin_that_no_node_has_is_sent_along() -> None:
    sent = {"/nowhere/dyingparts.py": PLUGIN.read_bytes()}
    node = rays.Node(1)
    try:
        (path,) = node._at_hand({"/nowhere/dyingparts.py": PLUGINS[str(PLUGIN)]}, sent)
        assert Path(path).read_bytes() == PLUGIN.read_bytes() and Path(path).name == "dyingparts.py"
        assert node._at_hand(PLUGINS, {}) == PLUGINS
    finally:
        node.end()
    assert not Path(path).exists()


@needs_ray
def test_a_plugin_that_has_changed_is_refused(address: str, tmp_path: Path) -> None:
    with closing(Ray(address)) as engine, pytest.raises(UsageError, match="has changed since"):
        engine.submit(Job(1, text(), tmp_path / "run", plugins={str(PLUGIN): "0" * 64}))


@needs_ray
def test_a_node_with_another_installation_is_refused(
    address: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rays, "versions", lambda: {"dnntrain": "0.0", "torch": rays.metadata.version("torch")})
    with closing(Ray(address)) as engine:
        engine.submit(Job(1, text(), tmp_path / "run"))
        with pytest.raises(UsageError, match=r"the node .* has dnntrain .* instead of 0.0: install there"):
            work(engine, Job(1, text(), tmp_path / "run"))


@needs_ray
def test_a_node_that_does_not_see_the_folder_says_so(tmp_path: Path) -> None:
    node = rays.Node(1)
    try:
        with pytest.raises(UsageError, match="does not see .*run, .*a file system that all nodes share"):
            node.do(Job(1, text(), tmp_path / "run"), {}, None)
    finally:
        node.end()


@needs_ray
def test_a_trial_that_no_node_has_room_for_is_refused(address: str) -> None:
    with pytest.raises(UsageError, match="no node of the Ray cluster has the 64 CPUs and 0 GPUs.*1 CPUs, 0 GPUs; 1 C"):
        Ray(address, cpus=64)
    with closing(Ray(address, cpus=0.1)) as engine:
        assert engine.slots == 20


@pytest.mark.parametrize(("cpus", "gpus"), [(0, 1), (1, 1.5), (-1, 0), (1, -1)])
def test_shares_that_cannot_be_are_refused(cpus: float, gpus: float) -> None:
    with pytest.raises(UsageError, match="cannot be"):
        Ray(cpus=cpus, gpus=gpus)


@needs_ray
@pytest.mark.parametrize("where", ["127.0.0.1:1", "127.0.0.1:high", "ray://127.0.0.1:1"])
def test_a_cluster_that_is_not_there_is_said(where: str, bench: Bench) -> None:
    with pytest.raises(UsageError, match=f"cannot join the Ray cluster '{where}'"):
        bench.close()
        Ray(where)


def test_without_ray_the_way_to_get_it_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(UsageError, match=r"pip install 'dnntrain\[ray\]'"):
        Ray()


@needs_ray
def test_it_says_nothing_and_leaves_nothing(
    address: str, cluster: Cluster, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    handler, threads = signal.getsignal(signal.SIGTERM), threading.active_count()
    with closing(Ray(address, home=True)) as engine:
        experiment = text(activation={"name": "dying", "mark": str(tmp_path / "mark")})
        assert engine.wait(0.1) == []
        assert work(engine, Job(1, text(), tmp_path / "runs" / "good"))[1].ending == "ended"
        assert work(engine, Job(2, experiment, tmp_path / "runs" / "bad", plugins=PLUGINS))[2].ending == "crashed"
        assert signal.getsignal(signal.SIGTERM) == handler
    assert capfd.readouterr() == ("", "")
    assert not list(cluster.folder.glob("*/dnntrain-*"))
    assert threading.active_count() <= threads
