"""Signals to a real training, and what others may do meanwhile."""

from __future__ import annotations

import json
import os
import signal
import socket
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from faultruns import EXPERIMENT, Child, check_readable, leftovers, started, unlike, until

from dnntrain import yamltext
from dnntrain.store import RunDirectory

pytestmark = pytest.mark.process

PLUGIN = Path(__file__).with_name("waiting.py")
CODES = {signal.SIGINT: 130, signal.SIGTERM: 143, signal.SIGUSR1: 138}
RUN = ["run", "waits.yaml", "--plugin", str(PLUGIN), "-q"]


def written(folder: Path, dataset: str = "digits") -> Path:
    experiment: dict[str, Any] = {
        **EXPERIMENT,
        "data": {**EXPERIMENT["data"], "dataset": dataset},
        "model": {**EXPERIMENT["model"], "activation": "waiting", "initializer": "he_normal"},
    }
    (folder / "waits.yaml").write_text(yamltext.dump(experiment))
    return folder


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> RunDirectory:
    """Return the run that nobody disturbs."""
    folder = written(tmp_path_factory.mktemp("whole"))
    assert Child(folder, RUN).wait() == 0
    run = started(folder / "runs")
    assert run is not None
    return run


def stopped_at(folder: Path, place: str, *, before: Callable[[], object] | None = None) -> Child:
    """Start a run and wait until it waits at a place."""
    (folder / f"wait-{place}").touch()
    child = Child(folder, RUN, before=before)
    until((folder / "reached").exists, child)
    return child


def only_run(folder: Path) -> RunDirectory:
    run = started(folder / "runs")
    assert run is not None
    return run


def ends_like(folder: Path, whole: RunDirectory) -> None:
    """Go on, and compare the end."""
    child = Child(folder, [*RUN, "--resume-or-start"])
    assert child.wait() == 0, child.said()
    run = only_run(folder)
    assert unlike(whole, run) == []
    assert leftovers(run) == []


@pytest.mark.parametrize("place", ["training", "evaluating"])
@pytest.mark.parametrize("number", CODES, ids=lambda number: number.name)
def test_a_signal_leaves_a_run_that_goes_on(
    number: signal.Signals, place: str, whole: RunDirectory, folder: Path
) -> None:
    child = stopped_at(written(folder), place)
    child.signal(number)
    (folder / "go").touch()
    assert child.wait() == CODES[number], child.said()
    run = only_run(folder)
    assert child.said()[1] == f"interrupted by {number.name}\nto go on: dnntrain resume runs/{run.name}\n"
    assert run.summary()["status"] == "interrupted"
    assert run.summary()["stop_reason"] == f"interrupted by {number.name}"
    assert leftovers(run) == []
    check_readable(run)
    assert run.checkpoint(run.LAST).exists()
    ends_like(folder, whole)


@pytest.mark.parametrize("number", CODES, ids=lambda number: number.name)
def test_a_signal_while_data_is_prepared_leaves_nothing(number: signal.Signals, folder: Path) -> None:
    child = stopped_at(written(folder, "waiting_digits"), "preparing")
    child.signal(number)
    (folder / "go").touch()
    assert child.wait() == CODES[number], child.said()
    assert child.said() == ("", f"interrupted by {number.name}\n")
    assert not (folder / "runs").exists()


def test_a_second_ctrl_c_does_not_wait(whole: RunDirectory, folder: Path) -> None:
    child = stopped_at(written(folder), "evaluating")
    child.signal(signal.SIGINT)
    until((folder / "noted").exists, child)
    assert child.lives
    child.signal(signal.SIGINT)
    assert child.wait() == 130
    run = only_run(folder)
    assert "Traceback" not in child.said()[1]
    assert run.summary()["status"] == "interrupted"
    check_readable(run)
    assert leftovers(run) == []
    (folder / "go").touch()
    ends_like(folder, whole)


class WaitInSync:
    """Makes the N-th sync of a file wait; for `Child(before=...)`."""

    def __init__(self, number: int) -> None:
        self.number = number

    def __call__(self) -> None:
        sync, calls = os.fsync, 0

        def waiting(descriptor: int) -> None:
            nonlocal calls
            calls += 1
            if calls == self.number:
                Path("reached").touch()
                while not Path("go").exists():
                    time.sleep(0.001)
            sync(descriptor)

        os.fsync = waiting


@pytest.mark.parametrize("number", [14, 18, 22, 27])
def test_a_second_ctrl_c_in_the_middle_of_a_write_spoils_no_file(
    number: int, whole: RunDirectory, folder: Path
) -> None:
    written(folder)
    child = Child(folder, RUN, before=WaitInSync(number))
    until((folder / "reached").exists, child)
    child.signal(signal.SIGINT)
    child.signal(signal.SIGINT)
    child.signal(signal.SIGTERM)
    code = child.wait()
    # The third may come when the command has given its handlers back and is about to leave: then it ends it itself.
    assert code in (130, 143, -signal.SIGTERM)
    assert "Traceback" not in child.said()[1]
    run = only_run(folder)
    check_readable(run)
    assert leftovers(run) == []
    ends_like(folder, whole)


def test_one_run_has_one_writer_and_any_number_of_readers(whole: RunDirectory, folder: Path) -> None:
    first = stopped_at(written(folder), "training")
    run = only_run(folder)
    for words in (["resume", "last", "--plugin", str(PLUGIN)], [*RUN, "--resume-or-start"]):
        second = Child(folder, words)
        assert second.wait() == 1
        said, told = second.said()
        assert said == ""
        assert told.startswith(f"runs/{run.name} is in use by process {first.pid} on {socket.gethostname()}, since ")
        assert told.endswith(": wait for it to end, or stop it\n")
        assert len(told.splitlines()) == 1
    listed, shown = Child(folder, ["ls", "--json"]), Child(folder, ["show", "last", "--json"])
    assert (listed.wait(), shown.wait()) == (0, 0)
    assert json.loads(listed.said()[0])[0]["status"] == "running"
    assert json.loads(shown.said()[0])["status"] == "running"
    first.kill()
    assert run.summary()["status"] == "running"
    listed, shown = Child(folder, ["ls", "--json"]), Child(folder, ["show", "last", "--json"])
    assert (listed.wait(), shown.wait()) == (0, 0)
    assert json.loads(listed.said()[0])[0]["status"] == "interrupted"
    assert json.loads(shown.said()[0])["status"] == "interrupted"
    (folder / "go").touch()
    ends_like(folder, whole)


def test_two_that_want_to_go_on_at_once_do_not_both(whole: RunDirectory, folder: Path) -> None:
    stopped_at(written(folder), "training").kill()
    (folder / "go").touch()
    both = [Child(folder, [*RUN, "--resume-or-start"]) for _ in range(2)]
    codes = sorted(child.wait() for child in both)
    # The later one is refused, or finds the run at its end.
    assert codes in ([0, 0], [0, 1])
    told = "".join(child.said()[1] for child in both)
    assert ("is in use by process" in told) or ("has come to its end" in told)
    assert unlike(whole, only_run(folder)) == []


def test_a_forked_child_dies_of_a_signal_and_the_training_does_not(whole: RunDirectory, folder: Path) -> None:
    (folder / "fork").touch()
    (folder / "wait-training").touch()
    (folder / "go").touch()
    child = Child(written(folder), RUN)
    until(lambda: (folder / "forked").exists() and (folder / "forked").read_text().endswith("\n"), child)
    os.kill(int((folder / "forked").read_text()), signal.SIGTERM)
    assert child.wait() == 0, child.said()
    assert (folder / "ended").read_text() == str(-signal.SIGTERM)
    assert unlike(whole, only_run(folder)) == []
