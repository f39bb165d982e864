"""The page that follows runs: news come in by themselves, and what the reader has set stays set."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from madeupruns import make_run
from warmprocesses import Command

from dnntrain.compare.serve import PageServer
from dnntrain.compare.watching import Watched

pytestmark = [pytest.mark.browser, pytest.mark.process]

ROOT = Path(__file__).parents[2]
COMMAND = [sys.executable, "-c", "from dnntrain.cli import main; main()"]
Opened = Callable[..., Any]
ZOOM = """() => {
  const { dataZoom: [zoom] } = echarts.getInstanceByDom(document.querySelector('#curves .chart')).getOption();
  return [zoom.startValue, zoom.endValue];
}"""
ENOUGH = 3  # delays that are measured
LAST_EPOCHS = "() => [...document.querySelectorAll('#curves .alternative td:last-child')].map((cell) => cell.innerText)"


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    return tmp_path / "runs"


@pytest.fixture
def server(runs: Path) -> Iterator[PageServer]:
    with PageServer(Watched(runs), port=0) as made:
        thread = threading.Thread(target=made.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield made
        made.shutdown()
        thread.join()


def says(page: Any, selector: str, text: str, seconds: float = 10) -> None:
    """Wait until an element says something."""
    page.wait_for_function(
        "([selector, text]) => document.querySelector(selector)?.innerText.includes(text)",
        arg=[selector, text],
        timeout=1000 * seconds,
    )


def test_runs_appear_in_a_folder_that_was_not_there(opened: Opened, server: PageServer, runs: Path) -> None:
    page = opened(server.url, offline=False)
    says(page, "h1", "No runs yet")
    assert "no runs in" in page.locator("#notice").inner_text()
    make_run(runs, "first")
    says(page, "h1", "1 group, 1 run")
    assert not page.locator("#notice").is_visible()
    make_run(runs, "second", spec={"optimizer.lr": 1.0}, minutes=1)
    says(page, "h1", "2 groups, 2 runs")
    says(page, "#live", "live")


def test_what_the_reader_set_stays_set(opened: Opened, server: PageServer, runs: Path) -> None:
    growing = make_run(runs, "growing", losses=[3 - epoch / 20 for epoch in range(40)])
    make_run(runs, "other", spec={"optimizer.lr": 1.0}, minutes=1)
    make_run(runs, "third", spec={"optimizer.lr": 2.0}, minutes=2)
    page = opened(server.url, offline=False)
    page.locator("#table").get_by_role("radio", name="Run").check()
    page.get_by_role("checkbox", name="other").uncheck()
    page.locator("#table thead").get_by_role("button", name="epochs", exact=True).click()
    page.get_by_label("Filter rows").fill("r")
    page.locator("#curves").get_by_label("Metric").select_option("valid/accuracy")
    page.locator("#curves").get_by_role("button", name="Zoom in").click()
    before = page.evaluate(ZOOM)
    page.get_by_role("checkbox", name="third").focus()
    growing.append_metrics({"epoch": 41, "valid/loss": 0.5, "valid/accuracy": 0.9})
    growing.close()
    says(page, "#table tbody", "\t41\t")
    assert "2 of 3 groups drawn" in page.locator(".legend").inner_text()
    assert not page.get_by_role("checkbox", name="other").is_checked()
    assert page.locator("#table thead th[aria-sort]").inner_text().startswith("epochs")
    assert page.get_by_label("Filter rows").input_value() == "r"
    assert page.locator("#curves").get_by_label("Metric").input_value() == "valid/accuracy"
    assert page.evaluate(ZOOM) == pytest.approx(before)
    assert page.evaluate("document.activeElement.dataset.id").startswith("third")


def test_a_run_that_is_damaged_midway_is_told(opened: Opened, server: PageServer, runs: Path) -> None:
    make_run(runs, seed=0)
    broken = make_run(runs, seed=1)
    page = opened(server.url, offline=False)
    says(page, "h1", "1 group, 2 runs")
    (broken.path / "summary.json").write_text("{")
    says(page, "#remarks", "left out")
    says(page, "h1", "1 group, 1 run")


def test_a_lost_server_is_told_and_found_again(opened: Opened, server: PageServer, runs: Path) -> None:
    make_run(runs)
    page = opened(server.url, offline=False, complains="503")
    says(page, "#live", "live")
    page.route("**/data", lambda route: route.fulfill(status=503))
    says(page, "#live", "no connection")
    page.unroute("**/data")
    page.wait_for_function("() => document.querySelector('#live').innerText === 'live'")


def test_axe_finds_nothing_serious(
    opened: Opened, server: PageServer, runs: Path, accessible: Callable[[Any], None]
) -> None:
    page = opened(server.url, offline=False)
    says(page, "h1", "No runs yet")
    # The policy that keeps foreign scripts out holds for what is put in by a test as well.
    make_run(runs)
    says(page, "h1", "1 run")
    accessible(page)


def test_epochs_of_a_real_training_are_shown_within_seconds(opened: Opened, tmp_path: Path, runs: Path) -> None:
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    watching = subprocess.Popen(
        [*COMMAND, "watch", str(runs), "--port", "0"], stdout=subprocess.PIPE, text=True, cwd=tmp_path, env=environment
    )
    training = Command(
        ["run", str(ROOT / "configs" / "digits_mlp.yaml"), "--epochs", "1000", "--runs-dir", str(runs), "-q"]
        + ["--set", "data.batch_size=2", "--set", "callbacks=[]"],
        tmp_path,
        environment=environment,
    )
    try:
        assert watching.stdout is not None
        url = watching.stdout.readline().split()[2]
        page = opened(url, offline=False)
        delays = followed(page, runs, training)
    finally:
        training.send_signal(signal.SIGKILL)
        training.communicate()
        watching.terminate()
        watching.communicate()
    assert len(delays) >= ENOUGH
    # Two are promised, and the poll takes one of them; a machine that is busy with other tests gets more.
    print("seconds from written to shown:", [round(delay, 2) for delay in delays])
    assert sorted(delays)[len(delays) // 2] < 10


def followed(page: Any, runs: Path, training: Command) -> list[float]:
    """Return for each epoch how long after it was written the page showed it."""
    written: dict[int, float] = {}
    shown: dict[int, float] = {}
    deadline = time.monotonic() + 90
    counted: list[float] = []
    while len(counted) < ENOUGH and time.monotonic() < deadline and training.returncode is None:
        for path in runs.glob("*/metrics.jsonl"):
            for epoch in range(1, path.read_bytes().count(b"\n") + 1):
                written.setdefault(epoch, time.monotonic())
        if page.locator("#curves summary").is_visible() and not page.locator("#curves details[open]").count():
            page.locator("#curves summary").click()
        for text in page.evaluate(LAST_EPOCHS):
            for epoch in written:
                if epoch <= int(text):
                    shown.setdefault(epoch, time.monotonic())
        # What was there before the page looked says nothing of its speed.
        first = min(shown.values(), default=0)
        counted = [shown[epoch] - written[epoch] for epoch in shown if written[epoch] >= first]
        time.sleep(0.02)
    return counted
