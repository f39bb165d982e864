"""Commands as processes: exit codes, streams, and what a terminal shows."""

from __future__ import annotations

import json
import os
import pty
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from warmprocesses import Command

pytestmark = pytest.mark.process

COMMAND = [sys.executable, "-c", "from dnntrain.cli import main; main()"]
CONFIG = "name: tiny\ndata: {dataset: digits, limit: 128}\nmodel: {architecture: {name: mlp, hidden: [8]}}\n"


def test_a_run_on_a_terminal_shows_progress_and_respects_no_color(tmp_path: Path) -> None:
    (tmp_path / "tiny.yaml").write_text(CONFIG)
    leader, follower = pty.openpty()
    environment = {"NO_COLOR": "1", "COLUMNS": "160", "TERM": "xterm"}
    process = Command(["run", "tiny.yaml", "--epochs", "3"], tmp_path, output=follower, environment=environment)
    os.close(follower)
    shown = b""
    while True:
        try:
            piece = os.read(leader, 4096)
        except OSError:
            break
        if not piece:
            break
        shown += piece
    os.close(leader)
    process.communicate()
    assert process.returncode == 0
    text = shown.decode()
    assert "epoch 3/3" in text
    assert "completed after 3 epochs" in text
    assert "\x1b[3" not in text  # no colours


def test_ctrl_c_exits_with_130_and_keeps_the_run(tmp_path: Path) -> None:
    (tmp_path / "tiny.yaml").write_text(CONFIG)
    process = subprocess.Popen(
        [*COMMAND, "run", "tiny.yaml", "--epochs", "100000", "--set", "callbacks=[]"],
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline().startswith("epoch")
    process.send_signal(signal.SIGINT)
    try:
        _, errors = process.communicate(timeout=60)
    finally:
        process.kill()
    assert process.returncode == 130
    (run,) = (tmp_path / "runs").iterdir()
    assert errors == f"interrupted by SIGINT\nto go on: dnntrain resume runs/{run.name}\n"
    assert json.loads((run / "summary.json").read_text())["status"] == "interrupted"


def test_two_runs_started_together_get_two_directories(tmp_path: Path) -> None:
    (tmp_path / "tiny.yaml").write_text(CONFIG)
    processes = [Command(["run", "tiny.yaml", "--epochs", "1", "-q"], tmp_path) for _ in range(2)]
    paths = {process.communicate()[0].strip() for process in processes}
    assert [process.returncode for process in processes] == [0, 0]
    assert len(paths) == 2
    for path in paths:
        assert json.loads((tmp_path / path / "summary.json").read_text())["status"] == "completed"


def test_a_killed_run_is_shown_as_interrupted(tmp_path: Path) -> None:
    (tmp_path / "tiny.yaml").write_text(CONFIG)
    process = Command(["run", "tiny.yaml", "--epochs", "100000", "--set", "callbacks=[]"], tmp_path)
    process.stdout.readline()
    listed = subprocess.run([*COMMAND, "ls", "--json"], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert json.loads(listed.stdout)[0]["status"] == "running"
    process.send_signal(signal.SIGKILL)
    process.communicate()
    listed = subprocess.run([*COMMAND, "ls", "--json"], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert json.loads(listed.stdout)[0]["status"] == "interrupted"


def test_a_bug_keeps_its_traceback(tmp_path: Path) -> None:
    (tmp_path / "tiny.yaml").write_text(CONFIG)
    (tmp_path / "broken.py").write_text("raise ZeroDivisionError('in a plugin')\n")
    done = subprocess.run(
        [*COMMAND, "run", "tiny.yaml", "--plugin", "broken.py"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert "Traceback" in done.stderr
    assert "ZeroDivisionError: in a plugin" in done.stderr


def test_a_reader_that_leaves_does_not_end_the_training(tmp_path: Path) -> None:
    (tmp_path / "tiny.yaml").write_text(CONFIG)
    process = Command(["run", "tiny.yaml", "--epochs", "40", "--set", "callbacks=[]"], tmp_path)
    process.stdout.readline()
    process.stdout.close()
    _, errors = process.communicate()
    assert process.returncode == 0, errors
    (run,) = (tmp_path / "runs").iterdir()
    summary = json.loads((run / "summary.json").read_text())
    assert (summary["status"], summary["epochs"]) == ("completed", 40)
