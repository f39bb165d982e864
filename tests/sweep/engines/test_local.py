from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from dnntrain import spec, yamltext
from dnntrain.store import RunDirectory
from dnntrain.sweep.engines import local
from dnntrain.sweep.engines.base import Job, Outcome
from dnntrain.sweep.engines.local import Local

pytestmark = pytest.mark.process


def job(key: int, folder: Path, *, epochs: int = 2, until: int | None = None) -> Job:
    content: dict[str, Any] = {
        "name": "job",
        "data": {"dataset": "digits", "limit": 100},
        "model": {"architecture": {"name": "mlp", "hidden": [4]}},
        "training": {"epochs": epochs, "threads": 1},
        "callbacks": [],
    }
    text = spec.dump(spec.loads(yamltext.dump(content), source="job.yaml"))
    return Job(key, text, folder / f"run-{key}", until)


@pytest.fixture
def engine() -> Iterator[Local]:
    made = Local(1, threads=1)
    yield made
    made.close()


def outcomes(engine: Local, count: int = 1) -> list[Outcome]:
    deadline, told = time.monotonic() + 120, []
    while len(told) < count:
        assert time.monotonic() < deadline, "nothing came"
        told += engine.wait(0.5)
    return told


def is_going(folder: Path, key: int) -> None:
    deadline = time.monotonic() + 120
    while not (folder / f"run-{key}" / RunDirectory.METRICS).exists():
        assert time.monotonic() < deadline, "it never began"
        time.sleep(0.01)


def test_what_becomes_of_jobs(engine: Local, tmp_path: Path) -> None:
    """One process has them all: paused, ended, impossible; then it dies while idle, and another one goes on."""
    engine.submit(job(1, tmp_path, until=1))
    with pytest.raises(ValueError, match="no worker is free"):
        engine.submit(job(2, tmp_path))
    assert outcomes(engine) == [Outcome(1, "paused", "paused after epoch 1 of 2")]
    engine.submit(job(1, tmp_path))
    assert outcomes(engine) == [Outcome(1, "ended")]
    assert [row["epoch"] for row in RunDirectory(tmp_path / "run-1").metrics()] == [1, 2]
    engine.submit(Job(2, "name: [", tmp_path / "run-2"))
    (wrong,) = outcomes(engine)
    assert (wrong.key, wrong.ending) == (2, "failed")

    (worker,) = engine._workers
    assert worker is not None and worker.process.pid is not None
    os.kill(worker.process.pid, signal.SIGKILL)
    worker.process.join()
    engine.submit(job(3, tmp_path, epochs=10_000))
    is_going(tmp_path, 3)
    (told,) = engine.close()
    assert (told.key, told.ending) == (3, "interrupted")
    assert RunDirectory(tmp_path / "run-3").status() == "interrupted"
    assert RunDirectory(tmp_path / "run-3").resumable()


def test_a_worker_that_dies_when_it_is_asked_to_leave_has_not_crashed(engine: Local, tmp_path: Path) -> None:
    engine.submit(job(1, tmp_path))
    (worker,) = engine._workers
    assert worker is not None and worker.process.pid is not None
    os.kill(worker.process.pid, signal.SIGKILL)
    assert engine.close() == [Outcome(1, "interrupted", "its process was ended by SIGKILL")]


ORPHANS = """
import sys
sys.path[:0] = sys.argv[2:]
from pathlib import Path
from test_local import job
from dnntrain.sweep.engines.local import Local
if __name__ == "__main__":
    engine = Local(1, threads=1)
    engine.submit(job(1, Path(sys.argv[1]), epochs=10_000))
    print(type(engine._workers[0].process).__name__, engine._workers[0].process.pid, flush=True)
    sys.stdin.read()
"""


@pytest.mark.parametrize("way", ["killed", "killed, without the process that workers are forked from", "not closed"])
def test_workers_end_with_the_conductor(way: str, tmp_path: Path) -> None:
    script, folder = tmp_path / "orphans.py", tmp_path / ("as long as names of folders are on some clusters " * 3)
    script.write_text(ORPHANS)
    folder.mkdir()
    command = [sys.executable, str(script), str(tmp_path), str(Path(__file__).parent)]
    forked = "without" not in way
    environment = os.environ if forked else {**os.environ, "TMPDIR": str(folder)}  # too long for a socket in it
    conductor = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment)
    assert conductor.stdout is not None
    kind, pid = conductor.stdout.readline().split()
    assert kind == ("ForkServerProcess" if forked else "SpawnProcess")
    is_going(tmp_path, 1)
    if "killed" in way:
        conductor.kill()
    conductor.communicate(timeout=60)
    deadline = time.monotonic() + 30
    while Path(f"/proc/{pid}").exists() and "Z" not in Path(f"/proc/{pid}/stat").read_text().split(")")[1].split()[0]:
        assert time.monotonic() < deadline, "the worker lives on"
        time.sleep(0.05)


LEAVES = """
import multiprocessing
import os
import signal
import sys
sys.path[:0] = sys.argv[2:]
from pathlib import Path
from test_local import job
from dnntrain import interruption
from dnntrain.errors import Interrupted
from dnntrain.sweep.engines.local import Local, prepare

def tell():
    print(signal.pthread_sigmask(signal.SIG_BLOCK, []), signal.getsignal(signal.SIGTERM).name, flush=True)

if __name__ == "__main__":
    sys.path.insert(0, "/first")
    prepare()
    server = Path(f"/proc/{multiprocessing.forkserver._forkserver._forkserver_pid}")
    print(b"PYTHONPATH=/first:" in (server / "environ").read_bytes(), os.environ["PYTHONPATH"])
    blocked = int((server / "status").read_text().split("SigBlk:")[1].split()[0], 16)
    print([number.name for number in interruption.SIGNALS if blocked >> (number - 1) & 1])
    other = multiprocessing.get_context("forkserver").Process(target=tell)
    other.start()
    other.join()
    engine = Local(2, threads=1)
    with interruption.listening():
        engine.submit(job(1, Path(sys.argv[1]), epochs=10_000))
        engine.submit(job(2, Path(sys.argv[1]), epochs=10_000))
        try:
            while True: engine.wait(1.0)
        except Interrupted:
            print(sorted((each.key, each.ending) for each in engine.close()))
"""


def test_a_signal_to_all_processes_is_the_conductors_alone(tmp_path: Path) -> None:
    script = tmp_path / "leaves.py"
    script.write_text(LEAVES)
    command = [sys.executable, str(script), str(tmp_path), str(Path(__file__).parent)]
    conductor = subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        env={**os.environ, "PYTHONPATH": "second"},
    )
    try:
        is_going(tmp_path, 1)
        is_going(tmp_path, 2)
        os.killpg(conductor.pid, signal.SIGTERM)
        # The end of what they say is the end of all of them: each has the pipes.
        said, errors = conductor.communicate(timeout=60)
    finally:
        if conductor.returncode is None:
            os.killpg(conductor.pid, signal.SIGKILL)
    places = "True second\n"  # those of the program, and its environment is as it was
    deaf = "['SIGINT', 'SIGTERM', 'SIGUSR1']\n"  # the process that workers are forked from
    others = "set() SIG_DFL\n"  # what is not ours, but forked from the same process, hears
    assert (said, errors) == (f"{places}{deaf}{others}[(1, 'interrupted'), (2, 'interrupted')]\n", "")
    assert all(RunDirectory(tmp_path / f"run-{key}").resumable() for key in (1, 2))


TELLS = """
import os
from pathlib import Path
Path(__file__).with_suffix(".txt").write_text(f"{os.environ.get('GIVEN')} {os.environ.get('PATH')}")
"""


def test_a_worker_has_the_environment_of_the_time_when_it_is_started(
    engine: Local, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    local.prepare()
    monkeypatch.setenv("GIVEN", "after")
    monkeypatch.delenv("PATH")
    (tmp_path / "tells.py").write_text(TELLS)
    engine.submit(replace(job(1, tmp_path), plugins=(str(tmp_path / "tells.py"),)))
    assert outcomes(engine) == [Outcome(1, "ended")]
    assert (tmp_path / "tells.txt").read_text() == "after None"


def test_gpus_are_those_that_are_visible(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    assert local._gpus(2) == ["0", "1"]
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3,5,7")
    assert local._gpus(2) == ["3", "5"]
    assert local._gpus(0) == []
