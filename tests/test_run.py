"""One experiment from its spec to its run directory, and back from there."""

from __future__ import annotations

import json
import os
import signal
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import dnntrain
from dnntrain import spec, yamltext
from dnntrain.checkpoints import read_checkpoint
from dnntrain.errors import DataError, DivergedError, SpecError, StoreError, UsageError
from dnntrain.run import latest_of
from dnntrain.store import RunDirectory
from dnntrain.training.hooks import Hook, RunView

TIMES = {"seconds", "samples_per_second"}
SMALL = {
    "name": "small",
    "seed": 7,
    "data": {"dataset": "digits", "limit": 400},
    "model": {
        "architecture": {"name": "mlp", "hidden": [16, 16]},
        "normalization": "batch",
        "dropout": {"name": "dropout", "rate": 0.2},
    },
    "optimizer": {"name": "adamw", "lr": 0.02},
    "training": {"epochs": 3, "threads": 1},
}


def rows(record: dnntrain.RunRecord) -> list[dict[str, Any]]:
    """Return the metrics of each epoch, but for the times."""
    return [{k: v for k, v in row.items() if k not in TIMES} for row in RunDirectory(record.path).metrics()]


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> dnntrain.RunRecord:
    return dnntrain.train(SMALL, runs=tmp_path_factory.mktemp("runs"), test=True)


def test_the_run_directory_holds_what_it_should(finished: dnntrain.RunRecord) -> None:
    names = {path.name for path in finished.path.iterdir()}
    assert {"spec.yaml", "environment.json", "metrics.jsonl", "summary.json", "checkpoints", "tensorboard"} <= names
    assert {path.name for path in (finished.path / "checkpoints").iterdir()} == {"last.pt", "previous.pt", "best.pt"}
    assert not [path for path in finished.path.rglob("*") if path.name.endswith((".tmp", ".partial"))]


def test_metrics_have_the_documented_keys(finished: dnntrain.RunRecord) -> None:
    found = RunDirectory(finished.path).metrics()
    assert [row["epoch"] for row in found] == [1, 2, 3]
    assert [row["step"] for row in found] == [13, 26, 39]
    assert set(found[0]) == {
        "epoch", "step", "train/loss", "train/accuracy", "valid/loss", "valid/accuracy", "lr", "grad_norm", "seconds",
        "samples_per_second",
    }  # fmt: skip


def test_the_summary_says_how_it_went(finished: dnntrain.RunRecord) -> None:
    summary = json.loads((finished.path / "summary.json").read_text())
    assert summary["status"] == "completed"
    assert summary["stop_reason"] is None
    assert summary["error"] is None
    assert summary["seed"] == 7
    assert summary["spec"]["optimizer.name"] == "adamw"
    assert summary["spec"]["model.architecture.hidden"] == [16, 16]
    assert summary["last"]["epoch"] == summary["epochs"] == 3
    best = min(RunDirectory(finished.path).metrics(), key=lambda row: row["valid/loss"])
    assert summary["best"] == {"epoch": best["epoch"], "metrics": best}
    assert summary["parameters"] == 64 * 16 + 16 * 16 + 16 * 10 + 10 + 2 * 2 * 16
    assert summary["peak_memory"] > 10_000_000
    assert 0 < summary["samples_per_second"]


def test_the_environment_records_what_numbers_depend_on(finished: dnntrain.RunRecord) -> None:
    environment = RunDirectory(finished.path).environment()
    assert environment["device"] == "cpu"
    assert environment["precision"] == "fp32"
    assert environment["threads"] == 1
    assert environment["step_strategy"] == {"parameters": "flat", "compiled": False}
    assert environment["torch_build"] == torch.__version__
    assert environment["data"]["train"] == 400
    assert len(environment["data"]["fingerprint"]) >= 16


def test_the_same_file_and_seed_give_the_same_bits(finished: dnntrain.RunRecord, tmp_path: Path) -> None:
    torch.manual_seed(99)
    again = dnntrain.train(SMALL, runs=tmp_path)
    assert rows(again) == rows(finished)
    first, second = (torch.load(r.path / "checkpoints" / "best.pt", weights_only=True) for r in (finished, again))
    assert all(torch.equal(first["model"][name], second["model"][name]) for name in first["model"])


def test_another_seed_gives_another_run(finished: dnntrain.RunRecord, tmp_path: Path) -> None:
    assert rows(dnntrain.train({**SMALL, "seed": 8}, runs=tmp_path)) != rows(finished)


def test_a_run_repeats_from_its_own_spec(finished: dnntrain.RunRecord, tmp_path: Path) -> None:
    again = dnntrain.train(finished.path / "spec.yaml", runs=tmp_path)
    assert rows(again) == rows(finished)
    assert (again.path / "spec.yaml").read_text() == (finished.path / "spec.yaml").read_text()


def test_training_leaves_the_process_as_it_was(tmp_path: Path) -> None:
    torch.manual_seed(5)
    state, threads = torch.get_rng_state(), torch.get_num_threads()
    dnntrain.train({**SMALL, "training": {"epochs": 1, "threads": threads + 1}}, runs=tmp_path)
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.get_num_threads() == threads


def test_test_metrics_are_those_of_the_best_weights(finished: dnntrain.RunRecord) -> None:
    assert dnntrain.evaluate(finished.path, split="test") == finished.test
    measured = dnntrain.evaluate(finished.path, split="valid")
    assert measured["valid/accuracy"] == finished.best["valid/accuracy"]
    assert measured["valid/loss"] == pytest.approx(finished.best["valid/loss"], rel=1e-6)


def test_the_best_checkpoint_is_of_the_best_epoch_and_not_of_the_last(tmp_path: Path) -> None:
    worst_is_best = {"epochs": 3, "monitor": {"metric": "valid/loss", "mode": "max"}}
    record = dnntrain.train({**SMALL, "training": worst_is_best, "callbacks": []}, runs=tmp_path, test=True)
    found = RunDirectory(record.path).metrics()
    assert record.summary["best"]["epoch"] == 1 < found[-1]["epoch"]
    assert dnntrain.load(record.path).epoch == 1
    assert dnntrain.evaluate(record.path, split="valid")["valid/accuracy"] == found[0]["valid/accuracy"]
    assert dnntrain.evaluate(record.path, split="test") == record.test
    last = torch.load(record.path / "checkpoints" / "last.pt", weights_only=True)
    assert last["training"]["progress"]["epoch"] == 3


def test_evaluate_says_what_there_is_not(finished: dnntrain.RunRecord, tmp_path: Path) -> None:
    record = dnntrain.train(
        {**SMALL, "data": {"dataset": "digits", "limit": 64, "validation": "none"}, "training": {"epochs": 1}},
        runs=tmp_path,
    )
    with pytest.raises(UsageError, match=r"data\.validation is none"):
        dnntrain.evaluate(record.path, split="valid")


def test_a_loaded_network_predicts_from_raw_samples(finished: dnntrain.RunRecord) -> None:
    from sklearn.datasets import load_digits

    trained = dnntrain.load(finished.path)
    assert trained.classes == tuple("0123456789")
    pictures, labels = load_digits(return_X_y=True)
    raw = torch.from_numpy(pictures.astype(np.uint8)).reshape(-1, 1, 8, 8)
    with torch.inference_mode():
        right = (trained(raw).argmax(1).numpy() == labels).mean()
    assert right > 0.7
    assert not trained.training


def test_a_moved_run_still_loads(finished: dnntrain.RunRecord, tmp_path: Path) -> None:
    import shutil

    moved = tmp_path / "elsewhere"
    shutil.copytree(finished.path, moved)
    a, b = dnntrain.load(finished.path), dnntrain.load(moved)
    x = torch.randint(0, 17, (4, 1, 8, 8), dtype=torch.uint8)
    assert torch.equal(a(x), b(x))


def test_damaged_and_newer_checkpoints_are_refused(finished: dnntrain.RunRecord, tmp_path: Path) -> None:
    whole = (finished.path / "checkpoints" / "best.pt").read_bytes()
    cut = tmp_path / "best.pt"
    for content in (whole[: len(whole) // 2], b"", bytes(len(whole)), b"not a checkpoint"):
        cut.write_bytes(content)
        with pytest.raises(StoreError, match=r"best\.pt"):
            read_checkpoint(cut, torch.device("cpu"))
    torch.save({"schema": 99}, cut)
    with pytest.raises(StoreError, match="newer dnntrain"):
        read_checkpoint(cut, torch.device("cpu"))


def test_checkpoints_hold_tensors_and_plain_values(finished: dnntrain.RunRecord) -> None:
    for name in ("last.pt", "previous.pt", "best.pt"):
        torch.load(finished.path / "checkpoints" / name, weights_only=True)


def test_a_sweep_in_the_file_is_passed_over_and_said_so(finished: dnntrain.RunRecord, tmp_path: Path) -> None:
    swept = {**SMALL, "sweep": {"space": {"optimizer.lr": [0.1, 1]}}}
    record = dnntrain.train(swept, runs=tmp_path, test=True)
    assert rows(record) == rows(finished)
    assert RunDirectory(record.path).spec_text() == RunDirectory(finished.path).spec_text()
    assert not [key for key in record.summary["spec"] if key.startswith("sweep")]
    assert ["dnntrain sweep FILE" in remark for remark in record.remarks] == [True]
    assert not finished.remarks
    assert (found := latest_of(spec.loads(yamltext.dump(swept)), runs=tmp_path)) is not None
    assert found.path == record.path
    again = dnntrain.resume(record.path, overrides=["sweep.trials=3", "training.epochs=4"])
    assert "sweep" not in RunDirectory(again.path).spec_text()


def test_mistakes_leave_nothing_behind(tmp_path: Path) -> None:
    runs = tmp_path / "runs"
    wrong: list[tuple[dict[str, Any], type[Exception]]] = [
        ({**SMALL, "loss": "mse"}, SpecError),
        ({**SMALL, "data": {"dataset": {"name": "npz", "path": "missing.npz"}}}, DataError),
        ({**SMALL, "data": {"dataset": "digits", "validation": {"size": 5000}}}, SpecError),
        ({**SMALL, "training": {"precision": "tf32", "device": "cpu"}}, UsageError),
        ({**SMALL, "loss": {"name": "cross_entropy", "class_weights": [1.0, 2.0]}}, SpecError),
    ]
    for mapping, kind in wrong:
        with pytest.raises(kind):
            dnntrain.train(mapping, runs=runs)
    assert not runs.exists()


def test_a_missing_test_split_is_said_before_training(tmp_path: Path) -> None:
    path = tmp_path / "data.npz"
    np.savez(path, x_train=np.eye(40, dtype="float32"), y_train=np.arange(40) % 2)
    with pytest.raises(UsageError, match="no test samples"):
        dnntrain.train({**SMALL, "data": {"dataset": {"name": "npz", "path": str(path)}}}, runs=tmp_path, test=True)
    assert list(tmp_path.iterdir()) == [path]


def test_divergence_is_recorded(tmp_path: Path) -> None:
    mapping = {
        **SMALL,
        "model": {"architecture": {"name": "mlp", "hidden": [16]}, "activation": "identity"},
        "optimizer": {"name": "sgd", "lr": 1e18},
    }
    with pytest.raises(DivergedError, match="not finite"):
        dnntrain.train(mapping, runs=tmp_path)
    (run,) = tmp_path.iterdir()
    summary = json.loads((run / "summary.json").read_text())
    assert summary["status"] == "failed"
    assert "not finite" in summary["error"]


class Raising(Hook):
    """Raises at the end of the second epoch."""

    def __init__(self, error: BaseException) -> None:
        self.error = error

    def on_epoch_end(self, run: RunView, /) -> None:
        if run.epoch == 2:
            raise self.error


@pytest.mark.parametrize(
    ("error", "status"), [(KeyboardInterrupt(), "interrupted"), (RuntimeError("a bug"), "failed")], ids=str
)
def test_what_was_computed_is_kept(error: BaseException, status: str, tmp_path: Path) -> None:
    with pytest.raises(type(error)):
        dnntrain.train(SMALL, runs=tmp_path, observers=[Raising(error)])
    (run,) = tmp_path.iterdir()
    directory = RunDirectory(run)
    assert directory.status() == status
    assert len(directory.metrics()) == 2
    assert directory.summary()["epochs"] == 2
    assert directory.checkpoint("last.pt").exists()


def test_early_stopping_is_a_status_and_not_a_failure(tmp_path: Path) -> None:
    mapping = {
        **SMALL,
        "optimizer": {"name": "sgd", "lr": 1e-9},
        "schedule": "constant",
        "training": {"epochs": 50},
        "callbacks": [{"name": "early_stopping", "patience": 2, "min_delta": 1.0}],
    }
    record = dnntrain.train(mapping, runs=tmp_path)
    assert record.status == "stopped"
    assert record.summary["epochs"] == 3
    assert "valid/loss did not improve" in record.summary["stop_reason"]


def test_a_time_limit_stops(tmp_path: Path) -> None:
    record = dnntrain.train(
        {**SMALL, "training": {"epochs": 100_000, "max_time": "1s"}, "callbacks": []}, runs=tmp_path
    )
    assert record.status == "stopped"
    assert "time limit" in record.summary["stop_reason"]


def test_tensorboard_can_read_the_events(finished: dnntrain.RunRecord) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(finished.path / "tensorboard"))
    events.Reload()
    scalars = events.Scalars("valid/loss")
    assert [event.step for event in scalars] == [1, 2, 3]
    expected = [row["valid/loss"] for row in RunDirectory(finished.path).metrics()]
    assert [event.value for event in scalars] == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_mixed_precision_on_the_cpu(precision: str, tmp_path: Path) -> None:
    record = dnntrain.train({**SMALL, "training": {"epochs": 4, "precision": precision}}, runs=tmp_path, test=True)
    assert record.best["valid/accuracy"] > 0.4
    assert RunDirectory(record.path).environment()["precision"] == precision
    assert dnntrain.evaluate(record.path) == record.test
    rounded = dnntrain.train({**SMALL, "training": {"epochs": 4, "precision": "fp32"}}, runs=tmp_path, test=True)
    assert rounded.test != record.test


def test_regression_learns(tmp_path: Path) -> None:
    mapping = {
        "data": {"dataset": "diabetes"},
        "model": {"architecture": {"name": "mlp", "hidden": [32]}},
        "optimizer": {"name": "adamw", "lr": 0.05},
        "training": {"epochs": 30},
    }
    record = dnntrain.train(mapping, runs=tmp_path, test=True)
    assert record.best["valid/r2"] > 0.3
    assert record.test is not None
    assert record.test["test/r2"] > 0.2


def test_accumulated_batches_make_one_step(tmp_path: Path) -> None:
    record = dnntrain.train({**SMALL, "training": {"epochs": 1, "accumulate": 5}}, runs=tmp_path)
    assert RunDirectory(record.path).metrics()[0]["step"] == 3  # 13 batches in groups of 5


def test_a_spec_a_path_and_a_mapping_are_all_taken(tmp_path: Path) -> None:
    path = tmp_path / "small.yaml"
    path.write_text(
        spec.dump(spec.loads("{data: {dataset: digits, limit: 64}, model: {architecture: {name: mlp, hidden: []}}}"))
    )
    first = dnntrain.train(path, runs=tmp_path / "a")
    second = dnntrain.train(spec.load(path), runs=tmp_path / "b")
    assert rows(first) == rows(second)


def test_another_kind_of_checkpoint_is_refused(finished: dnntrain.RunRecord, tmp_path: Path) -> None:
    import shutil

    copy = tmp_path / "copy"
    shutil.copytree(finished.path, copy)
    shutil.copy(copy / "checkpoints" / "last.pt", copy / "checkpoints" / "best.pt")
    with pytest.raises(StoreError, match="is no checkpoint of a best epoch: it lacks classes"):
        dnntrain.load(copy)


def test_other_data_than_the_training_had_is_warned_of(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "data.npz"
    rng = np.random.default_rng(0)
    arrays = {"x_train": rng.normal(size=(60, 3)), "x_test": rng.normal(size=(20, 3))}
    labels = {"y_train": np.arange(60) % 2, "y_test": np.arange(20) % 2}
    np.savez(path, **arrays, **labels)
    mapping = {**SMALL, "data": {"dataset": {"name": "npz", "path": str(path)}}}
    record = dnntrain.train(mapping, runs=tmp_path / "runs")
    dnntrain.evaluate(record.path)
    assert not caplog.records
    np.savez(path, **{k: v + 1 for k, v in arrays.items()}, **labels)
    dnntrain.evaluate(record.path)
    assert "fingerprint differs" in caplog.text


def test_one_class_is_nothing_to_learn(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match="there is only one class"):
        dnntrain.train({**SMALL, "data": {"dataset": "digits", "classes": [3]}}, runs=tmp_path / "runs")
    assert not (tmp_path / "runs").exists()


class Presses(Hook):
    """Presses Ctrl-C in the middle of the second epoch."""

    def on_step_end(self, run: RunView, /) -> None:
        if run.epoch == 2 and run.epoch_step == 3:
            os.kill(os.getpid(), signal.SIGINT)


def test_ctrl_c_ends_training_at_the_next_step_and_puts_the_handler_back(tmp_path: Path) -> None:
    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        dnntrain.train(SMALL, runs=tmp_path, observers=[Presses()])
    assert signal.getsignal(signal.SIGINT) is before
    (run,) = tmp_path.iterdir()
    assert RunDirectory(run).status() == "interrupted"
    assert len(RunDirectory(run).metrics()) == 1
    record = dnntrain.resume(run)
    assert record.status == "completed"


def test_training_works_in_another_thread(tmp_path: Path) -> None:
    with ThreadPoolExecutor(1) as pool:
        record = pool.submit(dnntrain.train, SMALL, runs=tmp_path).result()
    assert record.status == "completed"
