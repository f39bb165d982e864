from __future__ import annotations

import itertools
import json
import logging
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

import dnntrain
from dnntrain.errors import Interrupted, StoreError
from dnntrain.recording import StepCheckpoints
from dnntrain.store import RunDirectory
from dnntrain.training.hooks import Hook, RunView

SMALL: dict[str, Any] = {
    "name": "small",
    "data": {"dataset": "digits", "limit": 200},
    "model": {"architecture": {"name": "mlp", "hidden": [8]}},
}
STEPS = 7  # in an epoch


@pytest.fixture(autouse=True)
def any_share(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let histograms take any part of so short a training."""
    monkeypatch.setattr("dnntrain.tracking.tensorboard.SHARE", 1e9)


def trained(runs: Path, *observers: Hook, epochs: int = 3, **training: Any) -> dnntrain.RunRecord:
    return dnntrain.train(
        {**SMALL, "training": {"epochs": epochs, "threads": 1, **training}}, runs=runs, observers=observers
    )


class Watch(Hook):
    """Reads at each step of which step the last checkpoint is."""

    def __init__(self, runs: Path) -> None:
        self.runs = runs
        self.seen: list[int] = []

    def on_step_end(self, run: RunView, /) -> None:
        (directory,) = self.runs.iterdir()
        path = directory / "checkpoints" / "last.pt"
        saved = torch.load(path, weights_only=True)["training"]["progress"]["step"] if path.exists() else 0
        self.seen.append(saved)


@pytest.mark.parametrize(
    ("every", "expected"),
    [
        ("epoch", [0] * 7 + [7] * 7 + [14] * 7),
        (5, [0] * 4 + [5] * 5 + [10] * 5 + [15] * 5 + [20] * 2),
        (100, [0] * 21),
    ],
)
def test_the_state_is_saved_as_often_as_was_asked_for(every: Any, expected: list[int], tmp_path: Path) -> None:
    watch = Watch(tmp_path)
    record = trained(tmp_path, watch, checkpoint={"every": every})
    assert watch.seen == expected
    last = torch.load(record.path / "checkpoints" / "last.pt", weights_only=True)
    assert last["training"]["progress"]["step"] == 21, "the end is always saved"


def test_the_state_is_saved_after_so_much_time(monkeypatch: pytest.MonkeyPatch) -> None:
    now = itertools.count()
    monkeypatch.setattr("time.monotonic", lambda: float(next(now)))
    saved = []

    class Recorder:
        def save(self, run: Any) -> None:
            saved.append(run.step)

    class Run:
        step = 0

    hook = StepCheckpoints(Recorder(), seconds=4.0)  # type: ignore[arg-type]
    for step in range(1, 13):
        Run.step = step
        hook.on_step_end(Run())  # type: ignore[arg-type]
    assert saved == [4, 8, 12]


def test_so_many_checkpoints_are_kept(tmp_path: Path) -> None:
    record = trained(tmp_path, checkpoint={"every": 4, "keep": 2})
    directory = RunDirectory(record.path)
    assert [path.name for path in directory.step_checkpoints()] == ["step-00000020.pt", "step-00000021.pt"]
    (older,) = [path for path in directory.step_checkpoints() if "20" in path.name]
    assert torch.load(older, weights_only=True)["training"]["progress"]["step"] == 20
    assert [path.name for path in directory.resumable()] == [
        "last.pt",
        "previous.pt",
        "step-00000021.pt",
        "step-00000020.pt",
    ]


@pytest.mark.parametrize("method", ["log", "sync_log"])
def test_training_goes_on_without_its_log(
    method: str, tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any) -> None:
        raise StoreError("cannot write log.txt: No space left on device")

    monkeypatch.setattr(RunDirectory, method, full)
    with caplog.at_level(logging.WARNING, "dnntrain"):
        record = trained(tmp_path)
    assert record.status == "completed"
    assert record.remarks == ("not everything was written: cannot write log.txt: No space left on device",)
    assert caplog.text.count("training goes on without it") == 1


def test_training_goes_on_without_event_files(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    class Spoil(Hook):
        """Puts something in the way before the first event is written."""

        def on_fit_start(self, run: RunView, /) -> None:
            (directory,) = tmp_path.iterdir()
            shutil.rmtree(directory / "tensorboard")
            (directory / "tensorboard").write_text("in the way")

    with caplog.at_level(logging.WARNING, "dnntrain"):
        record = trained(tmp_path, Spoil())
    assert record.status == "completed"
    assert len(RunDirectory(record.path).metrics()) == 3
    assert ["tensorboard" in remark for remark in record.remarks] == [True]
    assert caplog.text.count("training goes on without it") == 1


def test_training_ends_where_its_state_cannot_be_saved(tmp_path: Path) -> None:
    class Spoil(Hook):
        def on_epoch_start(self, run: RunView, /) -> None:
            (directory,) = tmp_path.iterdir()
            if run.epoch == 2:
                (directory / "checkpoints" / "last.pt").unlink()
                (directory / "checkpoints" / "last.pt").mkdir()

    with pytest.raises(StoreError, match=r"cannot write .*last\.pt") as caught:
        trained(tmp_path, Spoil())
    (path,) = tmp_path.iterdir()
    assert RunDirectory(path).status() == "failed"
    assert caught.value.__notes__ == [f"what was recorded until then: {path}"]
    assert dnntrain.load(path).epoch >= 1


def test_event_files_tell_each_epoch_once_after_a_restart(tmp_path: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    class Stop(Hook):
        def on_step_end(self, run: RunView, /) -> None:
            if run.step == 16:
                raise Interrupted(2)

    with pytest.raises(Interrupted):
        trained(tmp_path, Stop(), checkpoint={"every": 5})
    (path,) = tmp_path.iterdir()
    (path / "checkpoints" / "previous.pt").replace(path / "checkpoints" / "last.pt")  # of step 15: epochs 1 and 2
    record = dnntrain.resume(path)
    events = EventAccumulator(str(path / "tensorboard"), size_guidance={"histograms": 0})
    events.Reload()
    assert [event.step for event in events.Scalars("valid/loss")] == [1, 2, 3]
    assert [event.step for event in events.Histograms("weights/output.weight")] == [1, 2, 3]
    assert record.status == "completed"


def test_a_summary_is_there_from_the_start(tmp_path: Path) -> None:
    class Look(Hook):
        def on_epoch_start(self, run: RunView, /) -> None:
            if run.epoch == 1:
                (directory,) = tmp_path.iterdir()
                self.status = json.loads((directory / "summary.json").read_text())["status"]

    look = Look()
    trained(tmp_path, look, epochs=1)
    assert look.status == "running"


def served(runs: Path) -> Any:
    """Return what `tensorboard --logdir RUNS` would show: its reader of folders, and its hyperparameters plugin."""
    from tensorboard.backend.event_processing.data_provider import MultiplexerDataProvider
    from tensorboard.backend.event_processing.plugin_event_multiplexer import EventMultiplexer
    from tensorboard.context import RequestContext
    from tensorboard.plugins.base_plugin import TBContext
    from tensorboard.plugins.hparams import api_pb2, list_session_groups
    from tensorboard.plugins.hparams.backend_context import Context

    multiplexer = EventMultiplexer().AddRunsFromDirectory(str(runs)).Reload()
    provider = MultiplexerDataProvider(multiplexer, str(runs))
    context, request = Context(TBContext(data_provider=provider, logdir=str(runs))), RequestContext()
    experiment = context.experiment_from_metadata(request, "", True, context.hparams_metadata(request, ""), [])
    wanted = api_pb2.ListSessionGroupsRequest(
        slice_size=10,
        col_params=[api_pb2.ColParams(metric=metric.name) for metric in experiment.metric_infos],
        allowed_statuses=[
            api_pb2.STATUS_UNKNOWN,
            api_pb2.STATUS_SUCCESS,
            api_pb2.STATUS_FAILURE,
            api_pb2.STATUS_RUNNING,
        ],
    )
    groups = list_session_groups.Handler(request, context, "", wanted).run().session_groups
    return multiplexer, experiment, groups


def test_tensorboard_shows_hyperparameters_beside_what_they_led_to(tmp_path: Path) -> None:
    from tensorboard.plugins.hparams import api_pb2

    def train(lr: float, seed: int) -> dnntrain.RunRecord:
        spec = {**SMALL, "seed": seed, "optimizer": {"name": "sgd", "lr": lr}, "training": {"epochs": 2, "threads": 1}}
        return dnntrain.train(spec, runs=tmp_path, test=True)

    records = [train(0.1, 0), train(0.01, 1)]
    multiplexer, experiment, groups = served(tmp_path)
    infos = {info.name: info for info in experiment.hparam_infos}
    assert {name for name, info in infos.items() if info.differs} == {"optimizer.lr", "seed"}
    assert list(infos["model.activation"].domain_discrete) == ["relu"]
    found = {group.hparams["optimizer.lr"].number_value: group for group in groups}
    for lr, record in zip((0.1, 0.01), records, strict=True):
        (session,) = found[lr].sessions
        assert session.status == api_pb2.STATUS_SUCCESS
        assert session.end_time_secs >= session.start_time_secs
        values = {
            f"{metric.name.group}/{metric.name.tag}".lstrip("/"): metric.value for metric in session.metric_values
        }
        told = {name.replace(f"{record.path.name}/", ""): value for name, value in values.items()}
        for name, value in {
            **{f"best/{k}": v for k, v in record.best.items() if "/" in k},
            **(record.test or {}),
        }.items():
            assert told[name] == pytest.approx(value), (name, sorted(told))
    runs = multiplexer.Runs()
    assert set(runs) == {f"{record.path.name}/tensorboard" for record in records}
    for run in runs:
        assert [event.step for event in multiplexer.Tensors(run, "weights/dense1.weight")] == [1, 2]
