"""Several worker processes on one storage: a journal, and a PostgreSQL server of the test's own."""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import tempfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from optuna.storages import _CachedStorage
from warmprocesses import WARM

from dnntrain.sweep.board import Board
from dnntrain.sweep.storage import open_storage

pytestmark = pytest.mark.process


BINARIES = sorted(Path("/usr/lib/postgresql").glob("*/bin"))
CONFIGURATIONS = 40


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    """Start a server that listens on a socket in a folder of its own, and return its URL."""
    if not BINARIES:
        pytest.skip("there is no PostgreSQL: apt-get install postgresql")
    if importlib.util.find_spec("psycopg") is None:
        pytest.skip("psycopg is not installed: pip install 'dnntrain[postgresql]'")
    binaries = BINARIES[-1]
    # The server refuses to run as root.
    unprivileged = ["runuser", "-u", "nobody", "--"] if os.geteuid() == 0 else []
    if unprivileged and shutil.which("runuser") is None:
        pytest.skip("PostgreSQL does not run as root, and there is no runuser")
    folder = Path(tempfile.mkdtemp(prefix="dnntrain-pg-"))
    if unprivileged:
        shutil.chown(folder, "nobody")

    def command(name: str, *arguments: str) -> None:
        done = subprocess.run(
            [*unprivileged, str(binaries / name), *arguments], cwd=folder, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr

    data, log = str(folder / "data"), str(folder / "log")
    try:
        command("initdb", "-D", data, "-U", "sweeper", "-A", "trust", "--no-sync")
        options = f"-c listen_addresses='' -c unix_socket_directories='{folder}' -c fsync=off"
        command("pg_ctl", "-D", data, "-l", log, "-w", "-o", options, "start")
        try:
            yield f"postgresql+psycopg://sweeper@/postgres?host={folder}"
        finally:
            command("pg_ctl", "-D", data, "-m", "immediate", "stop")
    finally:
        shutil.rmtree(folder)


def _work(storage: str | None, folder: Path, pipe: Any) -> None:
    from instantsweeps import RANGE, NoBeats, Sweep, plan, smooth

    from dnntrain.sweep import conductor
    from dnntrain.sweep.leases import Owner, Watch

    sweep = Sweep(
        plan(RANGE, search="random", trials=CONFIGURATIONS),
        smooth,
        storage=open_storage(folder / "journal.log", storage),
    )
    first = []

    def met(*arguments: Any, **named: Any) -> Any:
        """Look at a run, the first time only when the other process looks at one of its own."""
        if not first:
            first.append(True)
            pipe.send("at work")
            pipe.recv()
        return sweep.figure(*arguments, **named)

    conductor.figure = met
    worker = sweep.conductor()
    worker._me = Owner.me()
    worker._watch = Watch(NoBeats())
    pipe.send("ready")
    pipe.recv()
    worker.run()
    pipe.send(dict(sweep.disk.trained))


def check(storage: str | None, folder: Path) -> None:
    board = Board(open_storage(folder / "journal.log", storage), "sweep", better="min")
    pipes = []
    for _ in range(2):
        ours, theirs = WARM.Pipe()
        WARM.Process(target=_work, args=(storage, folder, theirs), daemon=True).start()
        theirs.close()
        pipes.append(ours)
    for reached in ("ready", "at work"):
        assert [pipe.recv() for pipe in pipes] == [reached] * 2
        for pipe in pipes:
            pipe.send("go")
    trained = [pipe.recv() for pipe in pipes]
    assert all(trained)
    total = sum(map(Counter, trained), Counter())
    assert total == {(number, 0, None, epoch): 1 for number in range(CONFIGURATIONS) for epoch in range(1, 10)}
    assert [each.value is not None for each in board.configurations()] == [True] * CONFIGURATIONS
    assert Counter(ticket.state for ticket in board.tickets())["done"] == CONFIGURATIONS
    if isinstance(board.storage, _CachedStorage):
        board.storage.remove_session()
        board.storage._backend.engine.dispose()


def test_two_workers_on_a_journal(tmp_path: Path) -> None:
    check(None, tmp_path)


def test_two_workers_on_postgresql(server: str, tmp_path: Path) -> None:
    check(server, tmp_path)
