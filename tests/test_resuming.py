from __future__ import annotations

import json
import logging
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import dnntrain
from dnntrain import spec
from dnntrain.errors import DataError, DivergedError, Interrupted, LockedError, StoreError, UsageError
from dnntrain.resuming import latest, pinned, unlike
from dnntrain.run import latest_of
from dnntrain.store import RunDirectory
from dnntrain.training.hooks import Hook, RunView
from dnntrain.training.state import copied, differences

CPU = torch.device("cpu")
TIMES = ("seconds", "samples_per_second", "training_seconds")
SMALL: dict[str, Any] = {
    "name": "small",
    "data": {"dataset": "digits", "limit": 300, "batch_size": 32},
    "model": {"architecture": {"name": "mlp", "hidden": [16, 16]}, "dropout": {"name": "dropout", "rate": 0.2}},
    "optimizer": {"name": "nadam", "lr": 0.01},
    "training": {"epochs": 4, "threads": 1},
}
STEPS = 10  # in an epoch


class Stop(Hook):
    """Asks for the end after a step, as a signal would."""

    def __init__(self, step: int, number: int = 15) -> None:
        self.step, self.number = step, number

    def on_step_end(self, run: RunView, /) -> None:
        if run.step == self.step:
            raise Interrupted(self.number)


def stopped(runs: Path, step: int = 15, **changes: Any) -> RunDirectory:
    test = "data" not in changes
    with pytest.raises(Interrupted):
        dnntrain.train({**SMALL, **changes}, runs=runs, test=test, observers=[Stop(step)])
    (path,) = runs.iterdir()
    return RunDirectory(path)


def state(directory: RunDirectory, name: str = "last.pt") -> Any:
    return torch.load(directory.checkpoint(name), weights_only=True)


def unequal(one: Any, other: Any) -> list[str]:
    return [path for path in differences(one, other) if path.rsplit(".", 1)[-1] not in TIMES]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> dnntrain.RunRecord:
    return dnntrain.train(SMALL, runs=tmp_path_factory.mktemp("whole"), test=True)


def same(whole: dnntrain.RunRecord, record: dnntrain.RunRecord) -> bool:
    one, other = RunDirectory(whole.path), RunDirectory(record.path)
    return (
        not unequal(state(one)["training"], state(other)["training"])
        and not unequal(state(one, "best.pt"), state(other, "best.pt"))
        and not unequal(one.metrics(), other.metrics())
        and whole.test == record.test
    )


@pytest.mark.parametrize("step", [1, 15, 2 * STEPS, 4 * STEPS - 1, 4 * STEPS])
def test_a_resumed_run_ends_as_one_that_never_stopped(step: int, whole: dnntrain.RunRecord, tmp_path: Path) -> None:
    directory = stopped(tmp_path, step)
    assert directory.status() == "interrupted"
    assert directory.summary()["stop_reason"] == "interrupted by SIGTERM"
    assert len(directory.metrics()) == (step - 1) // STEPS
    assert state(directory)["training"]["progress"]["step"] == step, "nothing that was computed is lost"
    record = dnntrain.resume(directory.path)
    assert (record.status, record.summary["epochs"], record.remarks) == ("completed", 4, ())
    assert same(whole, record)


def test_a_run_without_a_checkpoint_starts_over(whole: dnntrain.RunRecord, tmp_path: Path) -> None:
    directory = stopped(tmp_path)
    shutil.rmtree(directory.path / "checkpoints")
    record = dnntrain.resume(directory.path)
    assert "starts over" in record.remarks[0]
    assert same(whole, record)


def test_rows_and_a_best_checkpoint_past_the_state_are_taken_back(whole: dnntrain.RunRecord, tmp_path: Path) -> None:
    every = {"every": 25}
    directory = stopped(tmp_path / "a", 25, training={**SMALL["training"], "checkpoint": every})
    early = {name: directory.checkpoint(name).read_bytes() for name in ("last.pt", "best.pt")}
    dnntrain.resume(directory.path)
    later = directory.checkpoint("best.pt").read_bytes()
    directory.checkpoint("last.pt").write_bytes(early["last.pt"])
    summary = directory.summary()
    directory.write_summary({**summary, "status": "running"})
    assert len(directory.metrics()) == 4
    assert later != early["best.pt"]
    record = dnntrain.resume(directory.path)
    assert same(whole, record)
    assert [row["epoch"] for row in directory.metrics()] == [1, 2, 3, 4]


@pytest.mark.parametrize("damage", ["cut", "zeros", "flipped", "empty", "pickle"])
def test_a_damaged_checkpoint_gives_way_to_the_one_before(
    damage: str, whole: dnntrain.RunRecord, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    directory = stopped(tmp_path, 25)
    path = directory.checkpoint("last.pt")
    content = bytearray(path.read_bytes())
    middle = len(content) // 2
    made = {
        "cut": content[:middle],
        "zeros": bytes(len(content)),
        "flipped": content[:middle] + bytes([content[middle] ^ 255]) + content[middle + 1 :],
        "empty": b"",
        "pickle": b"cos\nsystem\n(S'false'\ntR.",
    }
    path.write_bytes(made[damage])
    with caplog.at_level(logging.WARNING, "dnntrain"):
        record = dnntrain.resume(directory.path)
    assert "last.pt" in caplog.text
    assert "trying the one before it" in caplog.text
    assert same(whole, record)


def test_checkpoints_that_are_all_damaged_are_not_overwritten(tmp_path: Path) -> None:
    directory = stopped(tmp_path, 25)
    for name in ("last.pt", "previous.pt"):
        directory.checkpoint(name).write_bytes(b"nothing of use")
    with pytest.raises(StoreError, match=r"no checkpoint of .* can be read; to start anew: dnntrain run"):
        dnntrain.resume(directory.path)
    assert directory.checkpoint("last.pt").read_bytes() == b"nothing of use"
    assert len(directory.metrics()) == 2


def test_a_best_checkpoint_that_is_lost_is_written_again(whole: dnntrain.RunRecord, tmp_path: Path) -> None:
    directory = stopped(tmp_path, 4 * STEPS)
    directory.checkpoint("best.pt").write_bytes(b"lost")
    assert same(whole, dnntrain.resume(directory.path))


def test_a_completed_run_is_left_alone_unless_it_gets_more_to_do(tmp_path: Path) -> None:
    longer = dnntrain.train({**SMALL, "schedule": "constant", "training": {"epochs": 6}}, runs=tmp_path / "long")
    record = dnntrain.train({**SMALL, "schedule": "constant"}, runs=tmp_path / "short")
    before = {path: path.read_bytes() for path in record.path.rglob("*") if path.is_file()}
    again = dnntrain.resume(record.path)
    assert "has come to its end" in again.remarks[0]
    assert {path: path.read_bytes() for path in record.path.rglob("*") if path.is_file()} == before
    more = dnntrain.resume(record.path, overrides=["training.epochs=6"])
    assert more.summary["epochs"] == 6
    assert more.remarks == ("from here on training.epochs: 4 -> 6",)
    assert spec.load(record.path / "spec.yaml").training.epochs == 6
    assert not unequal(RunDirectory(longer.path).metrics(), RunDirectory(record.path).metrics())


def test_changes_that_cannot_be_are_refused_and_change_nothing(tmp_path: Path) -> None:
    directory = stopped(tmp_path)
    before = directory.spec_text()
    with pytest.raises(UsageError, match=r"need a run of their own:\n    model\.activation\.name: relu -> elu"):
        dnntrain.resume(directory.path, overrides=["model.activation=elu", "training.epochs=9"])
    assert directory.spec_text() == before
    assert directory.status() == "interrupted"


@pytest.mark.parametrize(
    ("override", "afresh"),
    [
        ("optimizer={name: sgd, lr: 0.1}", "optimizer"),
        ("data.batch_size=64", "batches"),
        ("seed=9", "random"),
        ("training.average=ema", None),
        ("training.precision=fp16", "scaler"),
        ("metrics=[accuracy, f1]", "tally"),
        ("callbacks=none", None),
        ("training.max_time=2h", None),
    ],
)
def test_changes_that_reset_something_say_so_and_train_on(override: str, afresh: str | None, tmp_path: Path) -> None:
    directory = stopped(tmp_path)
    seen: list[Any] = []

    class Look(Hook):
        def on_fit_start(self, run: RunView, /) -> None:
            seen.append(copied(run.state_dict()))

    saved = state(directory)["training"]
    record = dnntrain.resume(directory.path, overrides=[override], observers=[Look()])
    assert record.status == "completed"
    assert record.remarks[0].startswith("from here on ")
    kept = {name for name in saved if name in seen[0] and not unequal(saved[name], seen[0][name])}
    assert "model" in kept
    if afresh is not None:
        assert afresh not in kept
    assert [row["epoch"] for row in directory.metrics()] == [1, 2, 3, 4]


def test_other_data_is_refused(tmp_path: Path) -> None:
    def write(shift: float) -> None:
        draws = np.random.default_rng(0)
        np.savez(
            tmp_path / "a.npz", x_train=draws.normal(size=(80, 4)).astype(np.float32) + shift, y_train=np.arange(80) % 2
        )

    write(0.0)
    directory = stopped(tmp_path / "runs", 3, data={"dataset": {"name": "npz", "path": str(tmp_path / "a.npz")}})
    write(1.0)
    with pytest.raises(DataError, match="the data is not what small-.* began with"):
        dnntrain.resume(directory.path)
    assert directory.status() == "interrupted"


def test_a_run_that_is_being_trained_is_refused(tmp_path: Path) -> None:
    directory = stopped(tmp_path)
    with directory.lock(), pytest.raises(LockedError, match="is in use by process"):
        dnntrain.resume(directory.path)


def test_another_environment_is_warned_of(tmp_path: Path) -> None:
    directory = stopped(tmp_path)
    directory.write_environment({**directory.environment(), "torch_build": "0.1", "cpu": "abacus"})
    remarks = dnntrain.resume(directory.path).remarks
    assert [remark.split(" than")[0] for remark in remarks] == ["another processor", "another PyTorch"]
    environment = directory.environment()
    assert environment["torch_build"] == "0.1"
    assert environment["resumed"][0]["torch_build"] == torch.__version__


def test_what_auto_chose_is_kept() -> None:
    chosen = spec.loads("data: {dataset: digits}\nmodel: {architecture: {name: mlp, hidden: [4]}}\n")
    recorded = {"device": "cpu", "precision": "bf16", "threads": 3}
    training = pinned(chosen, recorded).training
    assert (training.device, training.precision, training.threads) == ("cpu", "bf16", 3)
    said = spec.loads(
        "data: {dataset: digits}\nmodel: {architecture: {name: mlp, hidden: [4]}}\n"
        "training: {device: cpu, precision: fp32, threads: 1}\n"
    )
    assert pinned(said, {**recorded, "device": "mps"}).training == said.training
    assert unlike(recorded, recorded) == []
    assert len(unlike(recorded, {**recorded, "threads": 1, "precision": "fp32"})) == 2
    assert len(unlike(recorded, {**recorded, "threads": 1, "precision": "fp32"}, asked=["training.threads"])) == 1


def test_a_checkpoint_of_another_experiment_is_refused(tmp_path: Path) -> None:
    one = stopped(tmp_path / "a")
    other = stopped(tmp_path / "b", model={"architecture": {"name": "mlp", "hidden": [8]}})
    shutil.copy(other.checkpoint("last.pt"), one.checkpoint("last.pt"))
    with pytest.raises(StoreError, match=r"last\.pt does not belong to this experiment"):
        dnntrain.resume(one.path)
    shutil.copy(one.checkpoint("best.pt"), one.checkpoint("last.pt"))
    one.checkpoint("previous.pt").unlink(missing_ok=True)
    with pytest.raises(StoreError, match="is no state of training: it lacks record and training"):
        latest(one, CPU)


def test_the_latest_run_of_an_experiment(tmp_path: Path) -> None:
    experiment = spec.loads(json.dumps(SMALL))
    assert latest_of(experiment, runs=tmp_path) is None
    directory = stopped(tmp_path)
    found = latest_of(experiment, runs=tmp_path)
    assert found is not None
    assert found.path == directory.path
    assert latest_of(spec.loads(json.dumps({**SMALL, "seed": 5})), runs=tmp_path) is None


class Spoils(Hook):
    """Spoils the weights after a step, so that the next one diverges; as often as it is told."""

    def __init__(self, step: int, times: int) -> None:
        self.step, self.times = step, times

    def on_step_end(self, run: RunView, /) -> None:
        if run.step == self.step and self.times:
            self.times -= 1
            with torch.no_grad():
                next(run.model.parameters()).fill_(torch.nan)


RETRY = {"on_divergence": {"retry": 2, "lr_factor": 0.5}}


@pytest.mark.parametrize(("step", "back_to"), [(5, "the start"), (25, "last.pt"), (20, "previous.pt")])
def test_a_diverged_run_goes_back_with_a_lower_rate(step: int, back_to: str, tmp_path: Path) -> None:
    training = {**SMALL["training"], **RETRY}
    spoils = Spoils(step, 1)
    record = dnntrain.train({**SMALL, "training": training, "schedule": "constant"}, runs=tmp_path, observers=[spoils])
    assert record.status == "completed"
    assert f"going back to {back_to}, with 0.5 of the learning rate" in record.remarks[0]
    rows = RunDirectory(record.path).metrics()
    assert [row["epoch"] for row in rows] == [1, 2, 3, 4]
    good = {"the start": 0, "last.pt": 2, "previous.pt": 1}[back_to]
    assert [row["lr"] for row in rows] == [0.01] * good + [0.005] * (4 - good)
    report = json.loads((record.path / "divergence.json").read_text())
    assert report["step"] == step + 1
    assert report["last_good"] == (None if back_to == "the start" else "last.pt")


def test_retries_come_to_an_end(tmp_path: Path) -> None:
    training = {**SMALL["training"], **RETRY}
    spoils = Spoils(25, 3)
    with pytest.raises(DivergedError, match="step 26"):
        dnntrain.train({**SMALL, "training": training, "schedule": "constant"}, runs=tmp_path, observers=[spoils])
    assert spoils.times == 0
    (path,) = tmp_path.iterdir()
    directory = RunDirectory(path)
    assert directory.status() == "failed"
    assert len(directory.metrics()) == 2
    log = (path / "log.txt").read_text()
    assert "with 0.5 of the learning rate" in log
    assert "with 0.25 of the learning rate" in log


def test_a_failed_run_goes_on_with_what_helps(tmp_path: Path) -> None:
    with pytest.raises(DivergedError):
        dnntrain.train(SMALL, runs=tmp_path, observers=[Spoils(25, 1)])
    (path,) = tmp_path.iterdir()
    report = json.loads((path / "divergence.json").read_text())
    assert report["last_good"] == "last.pt"
    assert set(report["samples"]) <= set(range(1797))
    record = dnntrain.resume(path, overrides=["optimizer.lr=0.001", "training.clip={norm: 1.0}"])
    assert record.status == "completed"


def test_a_recorder_counts_time_over_all_restarts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    directory = stopped(tmp_path, 25)
    before = state(directory)["record"]
    assert before["samples"] == 2 * 300
    record = dnntrain.resume(directory.path)
    assert record.summary["seconds"] > before["seconds"]
    assert state(directory)["record"]["samples"] >= 4 * 300 - STEPS * 32
