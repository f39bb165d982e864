"""MLflow: what its own client reads back, from a file and from a real server."""

from __future__ import annotations

import json
import logging
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from madeupruns import make_run

import dnntrain
from dnntrain.errors import Interrupted, UsageError
from dnntrain.store import RunDirectory
from dnntrain.store.housekeeping import note
from dnntrain.tracking import open_trackers
from dnntrain.training.hooks import Hook, RunView

mlflow = pytest.importorskip("mlflow", reason="MLflow is an extra: pip install 'dnntrain[mlflow]'")

# Warnings of other packages about each other, met while MLflow is imported and makes its database.
pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:.*noload.*"),
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
]

SMALL: dict[str, Any] = {
    "name": "small",
    "seed": 3,
    "data": {"dataset": "digits", "limit": 100},
    "model": {"architecture": {"name": "mlp", "hidden": [4]}},
    "training": {"epochs": 3, "threads": 1},
}


@pytest.fixture(autouse=True)
def own_settings(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    for name in list(os.environ):
        if name.startswith("MLFLOW_"):
            monkeypatch.delenv(name)
    before = dict(os.environ)
    yield
    for name in set(os.environ) - set(before):
        del os.environ[name]


@pytest.fixture(scope="session")
def empty_database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make a database, which takes seconds, once."""
    folder = tmp_path_factory.mktemp("mlflow")
    client(folder).search_experiments()
    return folder / "mlflow.db"


@pytest.fixture
def folder(empty_database: Path, tmp_path: Path) -> Path:
    """Return a folder of runs that MLflow knows already."""
    made = tmp_path / "runs"
    made.mkdir()
    shutil.copy(empty_database, made)
    return made


class Stop(Hook):
    """Ends training as a signal would, after a step."""

    def __init__(self, step: int) -> None:
        self.step = step

    def on_step_end(self, run: RunView, /) -> None:
        if run.step == self.step:
            raise Interrupted(signal.SIGINT)


def client(place: Path | str) -> Any:
    return mlflow.MlflowClient(tracking_uri=place if isinstance(place, str) else f"sqlite:///{place / 'mlflow.db'}")


def only_run(there: Any, experiment: str) -> Any:
    (run,) = there.search_runs([there.get_experiment_by_name(experiment).experiment_id])
    return run


def history(there: Any, run: Any, metric: str) -> list[tuple[int, float]]:
    return [(each.step, each.value) for each in there.get_metric_history(run.info.run_id, metric)]


def train(runs: Path, *observers: Hook, spec: dict[str, Any] = SMALL, uri: str = "") -> dnntrain.RunRecord:
    trackers = open_trackers([f"mlflow={uri}" if uri else "mlflow"], runs=runs)
    return dnntrain.train(spec, runs=runs, test=True, observers=observers, trackers=trackers)


def resume(path: Path, *overrides: str) -> dnntrain.RunRecord:
    return dnntrain.resume(path, overrides=overrides, trackers=open_trackers(["mlflow"], runs=path.parent))


def check(there: Any, run: Any, record: dnntrain.RunRecord) -> None:
    """Compare what a client reads with the run directory."""
    rows = RunDirectory(record.path).metrics()
    assert run.info.status == "FINISHED"
    assert run.info.run_name == record.path.name
    assert run.data.params["optimizer.name"] == "adamw"
    assert run.data.params["model.architecture.hidden"] == "[4]"
    assert run.data.params["training.clip"] == "null"
    assert set(run.data.params) == set(record.summary["spec"])
    for metric in ("valid/loss", "train/accuracy", "lr"):
        assert history(there, run, metric) == [(row["epoch"], row[metric]) for row in rows]
    times = [each.timestamp for each in there.get_metric_history(run.info.run_id, "valid/loss")]
    assert times == sorted(times)
    assert abs(times[-1] / 1000 - time.time()) < 120
    assert record.test is not None
    assert run.data.metrics["test/loss"] == record.test["test/loss"]
    assert run.data.metrics["best/valid/loss"] == record.best["valid/loss"]
    assert run.data.tags["dnntrain.status"] == "completed"
    assert run.data.tags["dnntrain.seed"] == "3"
    assert {each.path for each in there.list_artifacts(run.info.run_id)} == {"spec.yaml", "summary.json"}


def test_a_local_file_holds_what_the_run_directory_holds(tmp_path: Path) -> None:
    record = train(tmp_path / "study")
    there = client(tmp_path / "study")
    run = only_run(there, "study")
    check(there, run, record)
    assert record.remarks == ()
    kept = tmp_path / "study" / "mlflow-artifacts" / run.info.run_id / "artifacts" / "summary.json"
    assert json.loads(kept.read_text())["status"] == "completed"
    assert RunDirectory(record.path).tracking() == {"mlflow": run.info.run_id}
    assert os.environ["MLFLOW_DISABLE_TELEMETRY"] == "true"


def test_tracking_changes_no_number(folder: Path) -> None:
    rows = [
        [{k: v for k, v in row.items() if "second" not in k} for row in RunDirectory(record.path).metrics()]
        for record in (train(folder), dnntrain.train(SMALL, runs=folder.parent / "b"))
    ]
    assert rows[0] == rows[1]


def test_a_run_that_goes_on_is_the_same_run_there_and_no_epoch_is_doubled(folder: Path) -> None:
    spec = {**SMALL, "training": {**SMALL["training"], "checkpoint": {"every": 3}}}
    with pytest.raises(Interrupted):
        train(folder, Stop(11), spec=spec)  # four steps an epoch: two epochs are told
    there = client(folder)
    before = only_run(there, folder.name)
    assert before.info.status == "KILLED"
    assert before.data.tags["dnntrain.status"] == "interrupted"
    (path,) = (each for each in folder.iterdir() if (each / "summary.json").exists())
    checkpoints = path / "checkpoints"
    (checkpoints / "last.pt").unlink()
    (checkpoints / "previous.pt").unlink()  # back to the start
    resume(path, "optimizer.lr=0.002")
    run = only_run(there, folder.name)
    assert run.info.run_id == before.info.run_id
    assert run.info.status == "FINISHED"
    assert [step for step, _ in history(there, run, "valid/loss")] == [1, 2, 3]
    assert history(there, run, "valid/loss")[:2] == history(there, before, "valid/loss")[:2]
    assert run.data.tags["dnntrain.trained_again"] == "epochs 1 to 2; told as they were at first"
    assert run.data.tags["changed.optimizer.lr"] == "0.002"
    assert run.data.params["optimizer.lr"] == "0.001"


def test_a_failed_run_has_failed(folder: Path) -> None:
    spec = {**SMALL, "optimizer": {"name": "sgd", "lr": 1e15}}
    with pytest.raises(dnntrain.errors.DivergedError):
        train(folder, spec=spec)
    run = only_run(client(folder), folder.name)
    assert run.info.status == "FAILED"
    assert "diverged" in run.data.tags["dnntrain.error"]


def test_a_tracker_that_fails_is_given_up_and_said_once(
    folder: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []

    class Break(Hook):
        def on_epoch_end(self, run: RunView, /) -> None:
            def gone(*_: Any, **__: Any) -> None:
                asked.append(run.epoch)
                raise mlflow.exceptions.MlflowException("server is gone\nwith many lines")

            monkeypatch.setattr(mlflow.MlflowClient, "log_batch", gone)

    with caplog.at_level(logging.WARNING, "dnntrain"):
        record = train(folder, Break())
    assert record.status == "completed"
    assert len(RunDirectory(record.path).metrics()) == 3
    assert len(asked) == 1
    assert caplog.text.count("training goes on without it") == 1
    (remark,) = record.remarks
    assert "server is gone" in remark
    assert "many lines" not in remark


def test_ended_runs_are_told_later_and_only_once(folder: Path) -> None:
    from dnntrain.tracking.mlflow import MlflowTracker, export

    made = [
        make_run(folder, "a", losses=(3.0, None, 1.0), tags=["paper"], test={"test/loss": 1.5}),
        make_run(folder, "b", status="interrupted", minutes=5),
    ]
    note(made[0], "as in the first table")
    for _ in range(2):
        export(made, MlflowTracker(folder))
    there = client(folder)
    runs = {
        run.info.run_name: run for run in there.search_runs([there.get_experiment_by_name(folder.name).experiment_id])
    }
    assert set(runs) == {directory.name for directory in made}
    first, second = (runs[directory.name] for directory in made)
    assert history(there, first, "valid/loss") == [(1, 3.0), (3, 1.0)]
    assert history(there, first, "test/loss") == [(3, 1.5)]
    assert first.data.tags["dnntrain.tags"] == "paper"
    assert first.data.tags["mlflow.note.content"] == "as in the first table"
    assert (first.info.status, second.info.status) == ("FINISHED", "KILLED")
    started = made[0].started
    assert started is not None
    times = [
        each.timestamp / 1000 - started.timestamp() for each in there.get_metric_history(first.info.run_id, "epoch")
    ]
    assert times == pytest.approx([2.0, 4.0, 6.0])
    assert first.info.start_time == pytest.approx(1000 * started.timestamp())


def test_names_and_values_are_cut_to_what_mlflow_takes(folder: Path) -> None:
    from dnntrain.tracking.mlflow import MlflowTracker, export

    odd = {"a[0]&b": "x" * 7000, "k" * 300: "\udcff", **{f"many.{i}": i for i in range(250)}}
    directory = make_run(folder, spec=odd)
    export([directory], MlflowTracker(folder))
    params = only_run(client(folder), folder.name).data.params
    assert len(params["a_0__b"]) == 6000
    assert params["k" * 247 + "..."] == "\\udcff"
    assert params["many.249"] == "249"


def test_a_running_run_is_not_exported(folder: Path) -> None:
    from dnntrain.tracking.mlflow import MlflowTracker, export

    directory = make_run(folder, status="running")
    with directory.lock(), pytest.raises(UsageError, match="still running"):
        export([directory], MlflowTracker(folder))


def test_nothing_is_trained_where_the_server_does_not_answer(tmp_path: Path) -> None:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port = listener.getsockname()[1]
    with pytest.raises(UsageError, match="MLflow at http://.*cannot be told") as caught:
        open_trackers([f"mlflow=http://user:secret@127.0.0.1:{port}"], runs=tmp_path)
    assert "is it the right place" in str(caught.value)
    assert list(tmp_path.iterdir()) == []


@pytest.fixture
def server(empty_database: Path, tmp_path: Path) -> Iterator[str]:
    """Run a real server on a port of its own."""
    shutil.copy(empty_database, tmp_path / "server.db")
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port = listener.getsockname()[1]
    uri = f"http://127.0.0.1:{port}"
    database, artifacts = f"sqlite:///{tmp_path / 'server.db'}", (tmp_path / "artifacts").as_uri()
    words = (tmp_path / "words.txt").open("w")
    process = subprocess.Popen(
        [
            sys.executable,
            "-m",
            "mlflow",
            "server",
            "--backend-store-uri",
            database,
            "--artifacts-destination",
            artifacts,
        ]
        + ["--host", "127.0.0.1", "--port", str(port), "--workers", "1"],
        stdout=words,
        stderr=words,
        start_new_session=True,
        env={
            **os.environ,
            "MLFLOW_DISABLE_TELEMETRY": "true",
            "DO_NOT_TRACK": "true",
            "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",  # processes of its own for what is not tried here
        },
    )
    try:
        for _ in range(300):
            try:
                with urllib.request.urlopen(f"{uri}/health", timeout=1):
                    break
            except OSError:
                assert process.poll() is None, (tmp_path / "words.txt").read_text()
                time.sleep(0.2)
        yield uri
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        words.close()


@pytest.mark.process
def test_a_real_server_is_told_the_same(server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    record = train(tmp_path / "study", uri=server)
    there = client(server)
    check(there, only_run(there, "study"), record)
    assert not (tmp_path / "study" / "mlflow.db").exists()
    monkeypatch.setenv("MLFLOW_TRACKING_URI", server)
    resume(record.path, "training.epochs=4")
    assert [step for step, _ in history(there, only_run(there, "study"), "valid/loss")] == [1, 2, 3, 4]


def test_the_commands_track_and_say_when_they_do_not(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from typer.testing import CliRunner

    from dnntrain import yamltext
    from dnntrain.cli import app

    monkeypatch.chdir(folder.parent)
    Path("small.yaml").write_text(yamltext.dump(SMALL))
    done = CliRunner().invoke(app, ["run", "small.yaml", "-q", "--track", "mlflow"])
    assert done.exit_code == 0, done.stderr
    there = client(folder)
    silent = CliRunner().invoke(app, ["resume", "last", "-q", "--set", "training.epochs=4"])
    assert "mlflow knows this run, but is not told how it goes on: --track mlflow tells it" in silent.stderr
    assert len(history(there, only_run(there, "runs"), "valid/loss")) == 3
    told = CliRunner().invoke(app, ["resume", "last", "-q", "--set", "training.epochs=5", "--track", "mlflow"])
    assert "mlflow knows" not in told.stderr
    assert sorted(step for step, _ in history(there, only_run(there, "runs"), "valid/loss")) == [1, 2, 3, 4, 5]
    assert CliRunner().invoke(app, ["export-metrics", "runs", "--track", "mlflow"]).exit_code == 0
    assert len(history(there, only_run(there, "runs"), "valid/loss")) == 5
    assert only_run(there, "runs").info.status == "FINISHED"
