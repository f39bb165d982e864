"""Training in stages: what is frozen stays, what ends a stage does not end training, and a stage goes on exactly."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

import dnntrain
from dnntrain import build, spec, yamltext
from dnntrain.checkpoints import read_checkpoint
from dnntrain.errors import DivergedError, Interrupted, SpecError, UsageError
from dnntrain.placement import place
from dnntrain.store import RunDirectory
from dnntrain.training.features import Features
from dnntrain.training.hooks import Hook, RunView
from dnntrain.training.state import copied, differences
from dnntrain.verifying import verify_resume

FREEZE_ALL = {"freeze": "all_but_output"}


def staged(*stages: dict[str, Any], callbacks: Any = "none", **sections: dict[str, Any]) -> dict[str, Any]:
    content: dict[str, Any] = {
        "name": "staged",
        "data": {"dataset": "digits", "limit": 100},
        "model": {"architecture": {"name": "mlp", "hidden": [12, 10]}, "normalization": "batch"},
        "optimizer": {"name": "sgd", "lr": 0.05},
        "schedule": "constant",
        "training": {"threads": 1, "stages": list(stages)},
        "callbacks": callbacks,
    }
    for section, options in sections.items():
        content[section] = {**content[section], **options} if isinstance(options, dict) else options
    return content


class Watch(Hook):
    """Remembers the weights at the ends of epochs, and what the trainer was asked to train on."""

    def __init__(self) -> None:
        self.weights: list[dict[str, torch.Tensor]] = []
        self.cached: list[bool] = []

    def on_epoch_end(self, run: RunView, /) -> None:
        self.weights.append(copied(run.model.state_dict()))
        self.cached.append(isinstance(run.built.train.examples, Features))  # type: ignore[attr-defined]


def train(content: dict[str, Any], runs: Path, *observers: Hook) -> RunDirectory:
    return RunDirectory(dnntrain.train(content, runs=runs, observers=observers).path)


def moved(before: dict[str, torch.Tensor], after: dict[str, torch.Tensor]) -> set[str]:
    return {name.split(".")[0] for name in before if not torch.equal(before[name], after[name])}


@pytest.mark.parametrize("cache", ["auto", False])
def test_frozen_layers_keep_every_bit_statistics_included(cache: Any, tmp_path: Path) -> None:
    watch = Watch()
    content = staged(
        {"epochs": 2, **FREEZE_ALL},
        {"epochs": 2, "unfreeze": 1},
        {"epochs": 1, "freeze": ["output"]},
        {"epochs": 1, "unfreeze": "all"},
        training={"cache_frozen": cache, "average": "swa"},
        regularizers=[{"name": "l2", "strength": 0.01}, {"name": "max_norm", "max": 0.1}],
        optimizer={"name": "adamw", "lr": 0.01, "weight_decay": 0.1},
    )
    run = train(content, tmp_path, watch)
    w = watch.weights
    assert moved(w[0], w[1]) == {"output"}
    assert moved(w[1], w[3]) == {"dense2", "norm2", "output"}
    assert moved(w[3], w[4]) == {"dense2", "norm2"}
    assert moved(w[4], w[5]) == {"dense1", "norm1", "dense2", "norm2", "output"}
    assert [row["stage"] for row in run.metrics()] == [1, 1, 2, 2, 3, 4]
    assert watch.cached == [cache == "auto"] * 5 + [False]


def test_what_frozen_layers_give_may_be_kept_without_changing_the_figures(tmp_path: Path) -> None:
    stages = [{"epochs": 3, "freeze": 1}, {"epochs": 2, **FREEZE_ALL}, {"epochs": 1, "unfreeze": "all"}]
    kept, anew = (
        train(staged(*stages, training={"cache_frozen": cache}), tmp_path / str(cache)) for cache in (True, False)
    )
    for one, other in zip(kept.metrics(), anew.metrics(), strict=True):
        for key in ("train/loss", "valid/loss", "train/accuracy", "valid/accuracy", "grad_norm"):
            assert one[key] == pytest.approx(other[key], rel=1e-5), key


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"data": {"augment": {"name": "random_crop", "padding": 1}}}, "augmentation changes the samples"),
        ({"model": {"dropout": {"name": "dropout", "rate": 0.1, "layers": "input"}}}, "the lowest layer is trained"),
    ],
)
def test_what_is_random_is_not_kept(changes: dict[str, Any], why: str, tmp_path: Path) -> None:
    watch = Watch()
    train(staged({"epochs": 1, **FREEZE_ALL}, **changes), tmp_path, watch)
    assert watch.cached == [False]
    with pytest.raises(SpecError, match=why):
        train(staged({"epochs": 1, **FREEZE_ALL}, **changes, training={"cache_frozen": True}), tmp_path)


def test_what_takes_too_much_memory_is_not_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dnntrain.build.staging._memory", lambda device: 40 * 1000)
    watch = Watch()
    train(staged({"epochs": 1, **FREEZE_ALL}), tmp_path, watch)
    assert watch.cached == [True], "100 x 10 numbers of 4 bytes are a tenth"
    monkeypatch.setattr("dnntrain.build.staging._memory", lambda device: 15 * 1000)
    train(staged({"epochs": 1, **FREEZE_ALL}), tmp_path, watch)
    assert watch.cached == [True, False]


def test_a_stage_has_rates_and_a_schedule_of_its_own(tmp_path: Path) -> None:
    power = {"name": "exponential", "s": 1, "unit": "epoch"}
    run = train(staged({"epochs": 2, "lr": 0.5}, {"epochs": 2}, {"epochs": 3, "lr": 0.1, "schedule": power}), tmp_path)
    per_epoch = [row["lr"] for row in run.metrics()]
    assert per_epoch[:4] == pytest.approx([0.5, 0.5, 0.05, 0.05])
    last = per_epoch[4:]
    assert last[1] / last[0] == pytest.approx(0.1) and last[2] / last[1] == pytest.approx(0.1)
    assert 0.01 < last[0] <= 0.1, "the schedule begins anew"


def test_lower_layers_learn_more_slowly_with_layer_decay() -> None:
    content = staged({"epochs": 1, "freeze": 1, "lr": 0.4, "layer_decay": 0.5}, {"epochs": 1, "unfreeze": "all"})
    content["optimizer"] = {"name": "sgd", "lr": 0.05, "groups": [{"layers": "dense2", "lr": 2.0}]}
    made = spec.loads(yamltext.dump(content))
    data = build.open_data(made)
    made = build.resolve(made, data)
    built = build.build(made, data, place(made))
    rates = {sum(p.numel() for p in group["params"]): group["lr"] for group in built.optimizer.param_groups}
    assert rates == {10 * 12: 1.0, 2 * 10: 0.2, 10 * 10 + 10: 0.4}


def test_early_stopping_ends_its_stage_with_the_best_weights(tmp_path: Path) -> None:
    watch = Watch()
    stop = {"name": "early_stopping", "patience": 1}
    run = train(
        staged({"epochs": 9, **FREEZE_ALL, "lr": 60.0}, {"epochs": 2, "unfreeze": "all", "lr": 1e-9}, callbacks=[stop]),
        tmp_path,
        watch,
    )
    rows = run.metrics()
    first = [row for row in rows if row["stage"] == 1]
    assert 2 <= len(first) < 9 and [row["stage"] for row in rows[len(first) :]] == [2, 2]
    best = min(first, key=lambda row: row["valid/loss"])
    # A rate next to nothing moves next to nothing: the second stage began with the best weights of the first.
    assert rows[len(first)]["valid/loss"] == pytest.approx(best["valid/loss"], rel=0.5)
    torch.testing.assert_close(
        watch.weights[len(first)]["output.weight"], watch.weights[best["epoch"] - 1]["output.weight"], rtol=0, atol=1e-6
    )
    summary = run.summary()
    assert (summary["status"], summary["stop_reason"], summary["epochs"]) == ("completed", None, len(rows))
    assert "stage 1 ends with epoch" in run.path.joinpath("log.txt").read_text()


def test_the_time_limit_counts_over_stages_and_ends_them_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter(range(10**6))
    monkeypatch.setattr("dnntrain.build.training.time.monotonic", lambda: float(next(clock)))
    run = train(staged({"epochs": 2}, {"epochs": 50}, training={"max_time": "20s"}), tmp_path)
    summary = run.summary()
    assert summary["status"] == "stopped" and summary["stop_reason"].startswith("time limit")
    steps = [row["step"] for row in run.metrics()]
    assert steps[-1] < 20, "some ticks of the clock per step, in both stages"
    assert [row["stage"] for row in run.metrics()][-1] == 2


class Stop(Hook):
    """Asks for the end as a signal would, where a condition holds."""

    def __init__(self, event: str, epoch: int) -> None:
        self.event, self.epoch = event, epoch

    def on_fit_end(self, run: RunView, /) -> None:
        if self.event == "stage end" and run.epoch == self.epoch:
            raise Interrupted(15)

    def on_fit_start(self, run: RunView, /) -> None:
        if self.event == "stage start" and run.epoch == self.epoch:
            raise Interrupted(15)

    def on_epoch_end(self, run: RunView, /) -> None:
        if self.event == "epoch end" and run.epoch == self.epoch:
            raise Interrupted(15)

    def on_step_end(self, run: RunView, /) -> None:
        if self.event == "step end" and run.step == self.epoch:
            raise Interrupted(15)


TWO = [{"epochs": 5, **FREEZE_ALL, "lr": 60.0}, {"epochs": 2, "unfreeze": "all"}]


@pytest.mark.parametrize("event", ["stage end", "stage start"])
def test_a_process_that_ends_between_stages_goes_on_as_if_it_had_not(event: str, tmp_path: Path) -> None:
    content = staged(*TWO, callbacks=[{"name": "early_stopping", "patience": 1}])
    whole = train(content, tmp_path / "whole")
    switch = max(row["epoch"] for row in whole.metrics() if row["stage"] == 1)
    with pytest.raises(Interrupted):
        train(content, tmp_path / "pieces", Stop(event, switch))
    (path,) = (tmp_path / "pieces").iterdir()
    pieces = RunDirectory(dnntrain.resume(path).path)
    for name in ("last.pt", "best.pt"):
        states = [read_checkpoint(run.checkpoint(name), torch.device("cpu")) for run in (whole, pieces)]
        one, other = (state.get("training", state) for state in states)
        unlike = [each for each in differences(one, other) if each.rsplit(".", 1)[-1] not in TIMES]
        assert not unlike
    assert [row["valid/loss"] for row in whole.metrics()] == [row["valid/loss"] for row in pieces.metrics()]


TIMES = ("seconds", "samples_per_second", "training_seconds")


def test_a_diverging_stage_goes_back_to_its_beginning_and_no_further(tmp_path: Path) -> None:
    content = staged(
        {"epochs": 2},
        {"epochs": 2, "lr": 1e18},
        training={"on_divergence": {"retry": 1, "lr_factor": 1e-20}},
    )
    record = dnntrain.train(content, runs=tmp_path)
    rows = RunDirectory(record.path).metrics()
    assert [row["stage"] for row in rows] == [1, 1, 2, 2]
    assert rows[-1]["lr"] == pytest.approx(1e-2)
    assert any("going back to" in remark for remark in record.remarks)


def test_a_later_stage_that_diverges_is_reported_where_that_is_no_error(tmp_path: Path) -> None:
    content = staged({"epochs": 1}, {"epochs": 2, "lr": 1e18}, callbacks=["terminate_on_nan"])
    run = train(content, tmp_path)
    assert (run.summary()["status"], [row["stage"] for row in run.metrics()]) == ("stopped", [1])
    report = json.loads((run.path / run.DIVERGENCE).read_text())
    assert report["epoch"] == 2 and report["lr"] == 1e18


def test_fewer_epochs_cut_the_last_stages_off(tmp_path: Path) -> None:
    run = train(staged({"epochs": 2}, {"epochs": 2}, training={"epochs": 3}), tmp_path)
    assert [row["stage"] for row in run.metrics()] == [1, 1, 2]
    assert run.summary()["status"] == "completed"


def test_a_run_that_has_ended_goes_on_with_another_stage(tmp_path: Path) -> None:
    run = train(staged({"epochs": 2, **FREEZE_ALL}), tmp_path)
    record = dnntrain.resume(run.path, overrides=["training.stages=[{epochs: 2, freeze: all_but_output}, {epochs: 1}]"])
    assert [row["stage"] for row in RunDirectory(record.path).metrics()] == [1, 1, 2]
    record = dnntrain.resume(run.path, overrides=["training.stages.1.epochs=3"])
    assert [row["stage"] for row in RunDirectory(record.path).metrics()] == [1, 1, 2, 2, 2]
    assert record.summary["spec"]["training.epochs"] == 5


@pytest.mark.parametrize(
    "override",
    [
        "training.stages.1.unfreeze=1",
        "training.stages.0.freeze=1",
        "training.stages.1.layer_decay=0.5",
    ],
)
@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
def test_a_stage_that_trains_other_layers_from_here_on_remembers_nothing(
    override: str, optimizer: str, tmp_path: Path
) -> None:
    content = staged(
        {"epochs": 1, **FREEZE_ALL},
        {"epochs": 2, "unfreeze": 2},
    )
    with pytest.raises(Interrupted):
        train({**content, "optimizer": {"name": optimizer, "lr": 0.01}}, tmp_path, Stop("epoch end", 2))
    (path,) = tmp_path.iterdir()
    watch = Watch()
    record = dnntrain.resume(path, overrides=[override], observers=[watch])
    assert record.status == "completed" and len(watch.weights) == 1
    assert any("what the optimizer remembers" in remark for remark in record.remarks)


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("training.epochs=2", "was left in stage 2, which training.epochs: 2 cuts off"),
        ("training.stages=[{epochs: 9, freeze: all_but_output}]", "training has come to this stage already"),
        ("training.stages=[]", "training has stages from its beginning, or not at all"),
    ],
)
def test_a_stage_that_has_begun_cannot_be_taken_away(override: str, said: str, tmp_path: Path) -> None:
    run = train(staged({"epochs": 2, **FREEZE_ALL}, {"epochs": 1}), tmp_path)
    with pytest.raises(UsageError, match=said):
        dnntrain.resume(run.path, overrides=[override])


def test_a_run_out_of_time_goes_on_through_all_its_stages(tmp_path: Path) -> None:
    content = staged({"epochs": 2, **FREEZE_ALL}, {"epochs": 1}, training={"max_time": "1s"})

    class Late(Hook):
        def on_step_end(self, run: RunView, /) -> None:
            run.stop("time limit of 1 s")

    run = train(content, tmp_path, Late())
    assert run.summary()["status"] == "stopped"
    record = dnntrain.resume(run.path, overrides=["training.max_time=1h"])
    assert (record.status, [row["stage"] for row in run.metrics()]) == ("completed", [1, 1, 2])


class Spoil(Hook):
    """Spoils the output layer once, before anything is trained."""

    def __init__(self) -> None:
        self.done = False

    def on_fit_start(self, run: RunView, /) -> None:
        if not self.done:
            self.done = True
            with torch.no_grad():
                list(run.model.parameters())[-1].fill_(float("nan"))


def test_a_retry_never_begins_with_other_layers_than_those_reused(tmp_path: Path) -> None:
    source = dnntrain.train({**staged({"epochs": 1}), "name": "source"}, runs=tmp_path / "sources")
    content = staged(
        {"epochs": 2},
        model={"reuse": {"from": str(source.path), "freeze": "all"}},
        training={"on_divergence": {"retry": 2}},
    )
    kept = read_checkpoint(source.path / "checkpoints" / "best.pt", torch.device("cpu"))["model"]
    watch = Watch()
    dnntrain.train(content, runs=tmp_path / "whole", observers=[Spoil(), watch])
    assert moved(kept, watch.weights[-1]) == {"output"}, "at first the start is known"
    with pytest.raises(Interrupted):
        dnntrain.train(content, runs=tmp_path / "runs", observers=[Stop("step end", 1)])
    (path,) = (tmp_path / "runs").iterdir()
    # The one checkpoint is the step before the divergence, and the start was not built again.
    with pytest.raises(DivergedError):
        dnntrain.resume(path, observers=[Spoil()])


@pytest.mark.parametrize(
    ("stages", "said"),
    [
        ([{"epochs": 1, "freeze": "all"}], "all layers are frozen, so there is nothing to train"),
        ([{"epochs": 1, "freeze": 4}], "there are 3 layers to pick from, not 4"),
        (
            [{"epochs": 1}, {"epochs": 1, "unfreeze": "conv*"}],
            "no layer matches 'conv*'; there are dense1, dense2, output",
        ),
    ],
)
def test_stages_that_cannot_be_are_told_before_anything_trains(
    stages: list[dict[str, Any]], said: str, tmp_path: Path
) -> None:
    with pytest.raises(SpecError) as raised:
        train(staged(*stages), tmp_path)
    assert said in str(raised.value) and raised.value.problems[0].mark is not None
    assert not list(tmp_path.iterdir())


def test_reuse_and_stages_go_on_exactly(tmp_path: Path) -> None:
    source = dnntrain.train({**staged({"epochs": 1}), "name": "source"}, runs=tmp_path)
    assert source.path.parent == tmp_path
    reuse = {"reuse": {"from": "source", "freeze": "all"}}
    content = staged({"epochs": 1}, {"epochs": 2, "unfreeze": "all", "lr": 0.01}, model=reuse)
    verdict = verify_resume(spec.loads(yamltext.dump(content)), stops=[2, 4, 5, 8], runs=tmp_path)
    assert verdict.identical, verdict.first
