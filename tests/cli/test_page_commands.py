"""`compare --html` and `watch` as commands."""

from __future__ import annotations

import json
import re
import signal
import socket
import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest
from madeupruns import make_run
from typer.testing import CliRunner

from dnntrain.cli import app

COMMAND = [sys.executable, "-c", "from dnntrain.cli import main; main()"]


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    make_run(tmp_path / "runs")
    return tmp_path / "runs"


def test_a_page_is_written_beside_the_table(runs: Path, tmp_path: Path) -> None:
    page = tmp_path / "report.html"
    done = CliRunner().invoke(app, ["compare", str(runs), "--html", str(page)])
    assert done.exit_code == 0
    assert "quality" in done.stdout and done.stdout.endswith(f"wrote {page}\n")
    assert page.read_text().startswith("<!DOCTYPE html>")


@pytest.mark.parametrize("form", ["--json", "--csv"])
def test_what_programs_read_stays_pure(runs: Path, tmp_path: Path, form: str) -> None:
    page = tmp_path / "report.html"
    done = CliRunner().invoke(app, ["compare", str(runs), form, "--html", str(page)])
    assert done.exit_code == 0 and page.exists()
    assert "wrote" not in done.stdout and "wrote" in done.stderr
    if form == "--json":
        json.loads(done.stdout)


def test_a_page_that_cannot_be_written_is_told(runs: Path, tmp_path: Path) -> None:
    done = CliRunner().invoke(app, ["compare", str(runs), "--html", str(tmp_path / "nowhere" / "report.html")])
    assert done.exit_code == 1
    assert "cannot write" in done.stderr and "No such file" in done.stderr


def test_a_port_in_use_is_told(runs: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        done = CliRunner().invoke(app, ["watch", str(runs), "--port", str(port)])
    assert done.exit_code == 2
    assert (
        done.stderr
        == f"port {port} is in use: choose another with --port, or let the system choose one with --port 0\n"
    )


@pytest.mark.process
def test_watch_serves_until_ctrl_c(runs: Path) -> None:
    # A shell has what it starts in the background ignore Ctrl-C, and these tests may have been started there.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        process = subprocess.Popen(
            [*COMMAND, "watch", str(runs), "--port", "0"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
    finally:
        signal.signal(signal.SIGINT, before)
    try:
        assert process.stdout is not None
        found = re.search(r"http://127\.0\.0\.1:\d+/", process.stdout.readline())
        assert found is not None
        with urllib.request.urlopen(found[0] + "data", timeout=60) as answer:
            assert len(json.load(answer)["runs"]) == 1
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=60)
    finally:
        process.kill()
        process.communicate()
    assert (process.returncode, errors) == (0, "")


@pytest.mark.process
def test_watch_warns_beyond_loopback_and_imports_no_torch(runs: Path) -> None:
    code = (
        "import sys, dnntrain.compare.serve as serve\n"
        "serve.PageServer.serve_forever = lambda self: self.watched.now() and None\n"
        f"sys.argv = ['dnntrain', 'watch', {str(runs)!r}, '--port', '0', '--host', '0.0.0.0']\n"
        "import dnntrain.cli\n"
        "try:\n    dnntrain.cli.main()\n"
        "except SystemExit as stop:\n    assert not stop.code\n"
        "assert 'torch' not in sys.modules\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stderr == "warning: everyone who reaches 0.0.0.0 can see these runs; there is no password\n"
    assert "http://localhost:" in done.stdout
