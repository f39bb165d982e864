from __future__ import annotations

import json
import logging
import shutil
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import dnntrain
from dnntrain import spec
from dnntrain.checkpoints import read_checkpoint
from dnntrain.errors import DataError, DivergedError, Interrupted, LockedError, NewerError, StoreError, UsageError
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


def test_a_best_checkpoint_that_is_lost_is_written_again(tmp_path: Path) -> None:
    worst = {**SMALL["training"], "monitor": {"metric": "valid/loss", "mode": "max"}}
    directory = stopped(tmp_path, 25, training=worst)
    before = state(directory, "best.pt")
    assert before["epoch"] == 1, "no later epoch writes it"
    directory.checkpoint("best.pt").write_bytes(b"lost")
    dnntrain.resume(directory.path)
    assert not unequal(before, state(directory, "best.pt"))


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
    with pytest.raises(UsageError, match="the weights belong to another network"):
        dnntrain.resume(one.path)
    unsaid = {key: value for key, value in state(other).items() if key != "spec"}
    torch.save(unsaid, one.checkpoint("last.pt"))
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


@pytest.mark.parametrize(("step", "back_to"), [(5, "the start"), (25, "last.pt"), (20, "last.pt")])
def test_a_diverged_run_goes_back_with_a_lower_rate(step: int, back_to: str, tmp_path: Path) -> None:
    training = {**SMALL["training"], **RETRY}
    spoils = Spoils(step, 1)
    record = dnntrain.train({**SMALL, "training": training, "schedule": "constant"}, runs=tmp_path, observers=[spoils])
    assert record.status == "completed"
    assert f"going back to {back_to}, with 0.5 of the learning rate" in record.remarks[0]
    rows = RunDirectory(record.path).metrics()
    assert [row["epoch"] for row in rows] == [1, 2, 3, 4]
    good = step // STEPS if step % STEPS else step // STEPS - 1
    assert [row["lr"] for row in rows] == [0.01] * good + [0.005] * (4 - good)
    report = json.loads((record.path / "divergence.json").read_text())
    assert report["step"] == (step + 1 if step % STEPS else step)
    assert report["last_good"] == (None if back_to == "the start" else "last.pt")
    assert all(saved["step"] <= 4 * STEPS for saved in map(progress, RunDirectory(record.path).resumable()))


def test_a_state_from_which_training_diverges_at_once_is_not_tried_again(tmp_path: Path) -> None:
    class SpoilsTheStart(Hook):
        def on_epoch_start(self, run: RunView, /) -> None:
            if run.epoch == 3 and not run.retries:  # type: ignore[attr-defined]
                with torch.no_grad():
                    next(run.model.parameters()).fill_(torch.nan)

    training = {**SMALL["training"], **RETRY}
    record = dnntrain.train({**SMALL, "training": training}, runs=tmp_path, observers=[SpoilsTheStart()])
    assert "going back to previous.pt" in record.remarks[0]
    assert record.status == "completed"


def progress(path: Path) -> dict[str, Any]:
    return dict(torch.load(path, weights_only=True)["training"]["progress"])


def test_weights_that_a_last_step_spoilt_are_not_saved(tmp_path: Path) -> None:
    with pytest.raises(DivergedError, match=r"the weights of step 20 \(epoch 2\) are not finite"):
        dnntrain.train(SMALL, runs=tmp_path, observers=[Spoils(2 * STEPS, 1)])
    (path,) = tmp_path.iterdir()
    assert [progress(each)["step"] for each in RunDirectory(path).resumable()] == [STEPS]
    report = json.loads((path / "divergence.json").read_text())
    assert (report["step"], report["not_finite"], report["last_good"]) == (2 * STEPS, "weights", "last.pt")
    assert dnntrain.resume(path).status == "completed", "what was saved last is good indeed"


def test_going_back_leaves_nothing_of_what_was_given_up(tmp_path: Path) -> None:
    training = {**SMALL["training"], **RETRY}
    killed = Stop(21)
    with pytest.raises(Interrupted):
        dnntrain.train(
            {**SMALL, "training": training, "schedule": "constant"}, runs=tmp_path,
            observers=[Spoils(20, 1), SecondTime(killed)],
        )  # fmt: skip
    (path,) = tmp_path.iterdir()
    directory = RunDirectory(path)
    saved = progress(directory.resumable()[0])
    assert (saved["step"], saved["retries"]) == (STEPS, 1)
    assert [row["epoch"] for row in directory.metrics()] == [1]
    record = dnntrain.resume(path)
    assert [row["lr"] for row in directory.metrics()] == [0.01, 0.005, 0.005, 0.005]
    assert record.status == "completed"


class SecondTime(Hook):
    """Ends at once, as kill -9 would, when training starts anew."""

    def __init__(self, stop: Stop) -> None:
        self.stop, self.starts = stop, 0

    def on_fit_start(self, run: RunView, /) -> None:
        self.starts += 1
        if self.starts == 2:
            raise Interrupted(self.stop.number, at_once=True)


@pytest.mark.parametrize(("step", "back_to"), [(24, "previous.pt"), (14, "the start")])
def test_going_back_passes_over_a_damaged_checkpoint(step: int, back_to: str, tmp_path: Path) -> None:
    class Damages(Hook):
        def on_step_end(self, run: RunView, /) -> None:
            if run.step == step and not run.retries:  # type: ignore[attr-defined]
                (path,) = tmp_path.iterdir()
                (path / "checkpoints" / "last.pt").write_bytes(b"cut")

    training = {**SMALL["training"], **RETRY}
    record = dnntrain.train({**SMALL, "training": training}, runs=tmp_path, observers=[Damages(), Spoils(step + 1, 1)])
    assert record.status == "completed"
    assert f"going back to {back_to}" in record.remarks[0]


class AtOnce(Hook):
    """Ends at once after a step, as kill -9 would: nothing is saved."""

    def __init__(self, step: int) -> None:
        self.step = step

    def on_step_end(self, run: RunView, /) -> None:
        if run.step == self.step:
            raise Interrupted(15, at_once=True)


@pytest.mark.parametrize("override", ["optimizer={name: sgd, lr: 0.1, momentum: 0.9}", "seed=9", "data.batch_size=64"])
def test_a_change_outlives_a_process_that_dies_before_it_saves(override: str, tmp_path: Path) -> None:
    directory = stopped(tmp_path / "a")
    twin = tmp_path / "b" / directory.name
    shutil.copytree(directory.path, twin)
    straight = dnntrain.resume(twin, overrides=[override])
    with pytest.raises(Interrupted):
        dnntrain.resume(directory.path, overrides=[override], observers=[AtOnce(18)])
    record = dnntrain.resume(directory.path)
    assert any(remark.startswith("from here on ") for remark in record.remarks)
    assert same(straight, record)


def test_more_to_do_outlives_a_process_that_dies_before_it_saves(tmp_path: Path) -> None:
    stopping = [{"name": "early_stopping", "patience": 1, "min_delta": 1e9}]
    record = dnntrain.train({**SMALL, "callbacks": stopping}, runs=tmp_path)
    assert record.status == "stopped"
    step = record.summary["epochs"] * STEPS
    with pytest.raises(Interrupted):
        dnntrain.resume(record.path, overrides=["callbacks=none"], observers=[AtOnce(step + 2)])
    assert dnntrain.resume(record.path).summary["epochs"] == 4


def test_a_signal_at_the_end_of_an_epoch_loses_nothing(whole: dnntrain.RunRecord, tmp_path: Path) -> None:
    class Presses(Hook):
        def on_epoch_end(self, run: RunView, /) -> None:
            if run.epoch == 2:
                signal.raise_signal(signal.SIGTERM)

    training = {**SMALL["training"], "checkpoint": {"every": "10m"}}
    with pytest.raises(Interrupted):
        dnntrain.train({**SMALL, "training": training}, runs=tmp_path, test=True, observers=[Presses()])
    (path,) = tmp_path.iterdir()
    assert progress(RunDirectory(path).resumable()[0])["epoch"] == 2
    assert same(whole, dnntrain.resume(path))


def test_a_damaged_checkpoint_never_takes_the_place_of_a_good_one(tmp_path: Path) -> None:
    directory = stopped(tmp_path, 25)
    directory.checkpoint("last.pt").write_bytes(b"cut")
    with pytest.raises(Interrupted):
        dnntrain.resume(directory.path, observers=[AtOnce(24)])
    assert [path.name for path in directory.resumable()] == ["previous.pt"]
    with pytest.raises(Interrupted):
        dnntrain.resume(directory.path, observers=[Stop(28)])
    assert [progress(path)["step"] for path in directory.resumable()] == [28, 20]


def test_a_newer_checkpoint_is_not_overwritten_by_going_on_from_an_older_one(tmp_path: Path) -> None:
    directory = stopped(tmp_path, 25)
    newer = {**state(directory), "schema": 99}
    torch.save(newer, directory.checkpoint("last.pt"))
    with pytest.raises(NewerError, match="upgrade to read it"):
        dnntrain.resume(directory.path)
    assert state(directory)["schema"] == 99


@pytest.mark.parametrize("content", [torch.ones(3), [1, 2], {"schema": "1"}, {}, 7], ids=repr)
def test_what_is_no_checkpoint_is_said_to_be_none(content: Any, tmp_path: Path) -> None:
    torch.save(content, tmp_path / "x.pt")
    with pytest.raises(StoreError, match=r"x\.pt is damaged: it has no schema number"):
        read_checkpoint(tmp_path / "x.pt", CPU)


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
