"""Pretraining within a run: directories of its own, weights handed over, stages after it, and exact resuming."""

from __future__ import annotations

import io
import json
import os
from pathlib import Path
from typing import Any

import pytest
import torch
from pretrainedruns import AUTOENCODER, content, hidden, made, prepared, read
from rich.console import Console
from rich.progress import Progress

import dnntrain
from dnntrain import spec
from dnntrain.checkpoints import read_best, read_checkpoint
from dnntrain.cli.live import LiveDisplay, display
from dnntrain.errors import DivergedError, Interrupted, SpecError, StoreError, UsageError
from dnntrain.parts.pretraining import pretrainings
from dnntrain.registry import Entry
from dnntrain.store import RunDirectory, listing
from dnntrain.training.hooks import Hook, RunView
from dnntrain.training.state import copied
from dnntrain.verifying import verify_resume


@pytest.fixture(autouse=True)
def no_sync(monkeypatch: pytest.MonkeyPatch) -> None:
    """No machine goes down here, and a sync takes longer than an epoch."""
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)


class Watch(Hook):
    """Remembers how the network was when training began, and what was said of pretrainings."""

    def __init__(self, stop: tuple[str, int] | None = None) -> None:
        self.first: dict[str, torch.Tensor] = {}
        self.last: dict[str, torch.Tensor] = {}
        self.told: list[str] = []
        self._stop = stop

    def of_pretraining(self, name: str, /) -> Hook | None:
        self.told.append(name)
        return StopAfter(self._stop[1]) if self._stop is not None and self._stop[0] == name else None

    def on_fit_start(self, run: RunView, /) -> None:
        self.first = self.first or copied(run.model.state_dict())

    def on_epoch_end(self, run: RunView, /) -> None:
        self.last = copied(run.model.state_dict())


class StopAfter(Hook):
    def __init__(self, step: int) -> None:
        self._step = step

    def on_step_end(self, run: RunView, /) -> None:
        if run.step == self._step:
            raise Interrupted(15)


def train(tree: dict[str, Any], runs: Path, *observers: Hook) -> RunDirectory:
    return RunDirectory(dnntrain.train(tree, runs=runs, observers=observers).path)


def test_training_begins_with_the_best_weights_of_what_was_pretrained_last(tmp_path: Path) -> None:
    watch = Watch()
    tree = content([AUTOENCODER, {"name": "rotation", "epochs": 3, "lr": 0.05, "batch_size": 64}])
    run = train({**tree, "model": {**tree["model"], "normalization": "batch"}}, tmp_path, watch)
    assert watch.told == ["1-autoencoder", "2-rotation"]
    first, second = (run.pretraining(name) for name in watch.told)
    best = read_best(second)
    assert hidden(watch.first) and all(
        torch.equal(value, best.model[name]) for name, value in hidden(watch.first).items()
    )
    rows = second.metrics()
    assert len(rows) == 3 and min(rows, key=lambda row: row["valid/loss"])["epoch"] == best.epoch
    assert not torch.equal(read_best(first).model["dense1.weight"], best.model["dense1.weight"])
    assert (first.summary()["status"], first.summary()["epochs"]) == ("completed", 2)
    assert {"train/accuracy", "valid/accuracy"} <= set(rows[0]) and "train/accuracy" not in first.metrics()[0]


def test_the_best_epoch_counts_and_not_the_last(tmp_path: Path) -> None:
    watch = Watch()
    run = train(content({**AUTOENCODER, "epochs": 8, "lr": 0.3}), tmp_path, watch)
    inner = run.pretraining("1-autoencoder")
    best = read_best(inner)
    assert best.epoch < 8, "an example of one that gets worse again"
    assert torch.equal(watch.first["dense1.weight"], best.model["dense1.weight"])
    run = train(content({"name": "gan", "epochs": 3, "batch_size": 256, "lr": 0.3}), tmp_path, watch)
    assert read_best(run.pretraining("1-gan")).epoch == 3, "whose loss says nothing"


def test_epochs_of_pretraining_are_told_by_name(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with display(silent=False) as observers:
        train(content(AUTOENCODER), tmp_path, *observers)
    lines = capsys.readouterr().out.splitlines()
    starts = [line.split("train:")[0].rstrip(" *") for line in lines]
    assert starts == ["1-autoencoder: epoch 1/2", "1-autoencoder: epoch 2/2", "epoch 1/2", "epoch 2/2"]


def test_a_terminal_shows_a_bar_for_each_pretraining_and_takes_it_away(tmp_path: Path) -> None:
    class Bars(Hook):
        shown: list[list[str]] = []

        def of_pretraining(self, name: str, /) -> Hook:
            return self

        def on_epoch_end(self, run: RunView, /) -> None:
            self.shown.append([task.description for task in progress.tasks])

    progress = Progress(console=Console(file=io.StringIO(), width=200))
    train(content(AUTOENCODER), tmp_path, LiveDisplay(progress), bars := Bars())
    assert [len(each) for each in bars.shown] == [1] * 4 and not progress.tasks
    assert [each[0].startswith("1-autoencoder: epoch") for each in bars.shown] == [True, True, False, False]
    assert isinstance(progress.console.file, io.StringIO)
    lines = progress.console.file.getvalue().splitlines()
    starts = [line.split("train:")[0].rstrip(" *") for line in lines if "train:" in line]
    assert starts == ["1-autoencoder: epoch 1/2", "1-autoencoder: epoch 2/2", "epoch 1/2", "epoch 2/2"]


def test_the_output_and_the_noise_of_training_are_as_without_pretraining(tmp_path: Path) -> None:
    with_it, without = Watch(), Watch()
    drop = {"model": {"dropout": {"name": "dropout", "rate": 0.4}}}
    train(content(AUTOENCODER, **drop, optimizer={"name": "sgd", "lr": 1e-30}), tmp_path / "a", with_it)
    train(
        content("none", **drop, optimizer={"name": "sgd", "lr": 1e-30}, data={"unlabeled": True}),
        tmp_path / "b",
        without,
    )
    assert torch.equal(with_it.first["output.weight"], without.first["output.weight"])
    assert torch.equal(with_it.first["dense1.weight"], without.first["dense1.weight"]), "next to nothing was learned"
    one, other = (next(path.glob("*/metrics.jsonl")).read_text() for path in (tmp_path / "a", tmp_path / "b"))
    keys = ("train/loss", "valid/loss", "train/accuracy")
    rows = [[{key: json.loads(line)[key] for key in keys} for line in text.splitlines()] for text in (one, other)]
    assert rows[0] == rows[1]


def test_the_word_reused_means_what_was_pretrained(tmp_path: Path) -> None:
    watch = Watch()
    stages = [{"epochs": 1, "freeze": "reused"}, {"epochs": 1, "unfreeze": "all"}]
    tree = content(AUTOENCODER, training={"stages": stages}, model={"normalization": "batch"})
    run = train(tree, tmp_path, watch)
    assert [row["stage"] for row in run.metrics()] == [1, 2]
    one_stage = {**tree, "training": {"threads": 1, "stages": stages[:1]}}
    frozen = Watch()
    train(one_stage, tmp_path / "frozen", frozen)
    assert all(torch.equal(value, frozen.last[name]) for name, value in hidden(frozen.first).items())
    assert not torch.equal(frozen.first["output.weight"], frozen.last["output.weight"])
    assert not torch.equal(watch.first["dense1.weight"], watch.last["dense1.weight"])


@pytest.mark.parametrize("name", ["1-greedy_autoencoder-dense1", "2-greedy_autoencoder-dense2"])
def test_another_run_reuses_what_was_pretrained(name: str, tmp_path: Path) -> None:
    source = train(content({"name": "greedy_autoencoder", "epochs": 1, "batch_size": 400}), tmp_path)
    path = source.pretraining(name).path
    keep = 1 if name.startswith("1") else "all_but_output"
    watch = Watch()
    reuse = {"reuse": {"from": str(path), "keep": keep, "freeze": "all"}}
    run = train({**content("none", model=reuse), "name": "next"}, tmp_path, watch)
    theirs = read_best(RunDirectory(path)).model
    kept = ["dense1"] if keep == 1 else ["dense1", "dense2"]
    for layer in kept:
        assert torch.equal(watch.last[f"{layer}.weight"], theirs[f"{layer}.weight"])
    prepare = read_best(run).prepare
    assert torch.equal(prepare.scale, read_best(source).prepare.scale), "standardized as the layers know it"


def test_only_runs_are_listed_and_resumed_and_loaded(tmp_path: Path) -> None:
    run = train(content(AUTOENCODER), tmp_path)
    assert [each.name for each in listing(tmp_path)] == [run.name]
    inner = run.pretraining("1-autoencoder").path
    with pytest.raises(UsageError, match=f"is a pretraining of {run.path}: resume that"):
        dnntrain.resume(inner)
    with pytest.raises(UsageError, match=f"not a whole network: name {run.path}"):
        dnntrain.load(inner)
    assert spec.loads(RunDirectory(inner).spec_text()).training.epochs == 2


@pytest.mark.parametrize(("stop", "begun"), [(("1-autoencoder", 4), 1), (("2-denoising_autoencoder", 8), 2)])
def test_what_is_done_is_not_done_again(stop: tuple[str, int], begun: int, tmp_path: Path) -> None:
    tree = content([AUTOENCODER, {**AUTOENCODER, "name": "denoising_autoencoder"}])
    with pytest.raises(Interrupted):
        train(tree, tmp_path, Watch(stop))
    (run,) = listing(tmp_path)
    assert run.summary()["status"] == "interrupted" and not run.checkpoint(run.LAST).exists()
    assert run.pretraining(stop[0]).summary()["status"] == "interrupted"
    first = run.pretraining("1-autoencoder")
    before = first.checkpoint(first.LAST).stat().st_mtime_ns
    watch = Watch()
    record = dnntrain.resume(run.path, observers=[watch])
    assert record.status == "completed"
    assert watch.told == ["1-autoencoder", "2-denoising_autoencoder"][begun - 1 :]
    assert any("pretraining goes on, then training begins" in remark for remark in record.remarks)
    if begun == 2:
        assert first.checkpoint(first.LAST).stat().st_mtime_ns == before
    dnntrain.resume(run.path, overrides=["training.epochs=3"], observers=[watch])
    assert len(watch.told) == 3 - begun, "training has begun: pretraining is over"


@pytest.mark.parametrize(("step", "best"), [(2, None), (6, 1)])
def test_a_pretraining_that_a_hook_stops_is_over_and_what_it_learned_stays(
    step: int, best: int | None, tmp_path: Path
) -> None:
    class Enough(Watch):
        def of_pretraining(self, name: str, /) -> Hook:
            return Stop()

    class Stop(Hook):
        def on_step_end(self, run: RunView, /) -> None:
            if run.step == step:
                run.stop("enough")

    watch = Enough()
    run = train(content({**AUTOENCODER, "batch_size": 400}), tmp_path, watch)
    inner = run.pretraining("1-autoencoder")
    summary = inner.summary()
    assert (summary["status"], summary["stop_reason"], summary["best"]["epoch"]) == ("stopped", "enough", best)
    assert run.summary()["status"] == "completed"
    last = read_checkpoint(inner.checkpoint(inner.LAST), torch.device("cpu"))["training"]["model"]
    kept = last if best is None else read_best(inner).model
    fresh, _ = prepared(content({**AUTOENCODER, "batch_size": 400}))
    start = fresh.tasks[0].task.model.state_dict()
    assert torch.equal(watch.first["dense1.weight"], kept["dense1.weight"])
    assert not torch.equal(watch.first["dense1.weight"], start["dense1.weight"])


def test_a_pretraining_that_diverges_says_so_and_leaves_its_report(tmp_path: Path) -> None:
    with pytest.raises(DivergedError, match="pretraining 1-autoencoder: training diverged"):
        train(content({**AUTOENCODER, "lr": 1e18}, optimizer={"name": "sgd"}), tmp_path)
    (run,) = listing(tmp_path)
    inner = run.pretraining("1-autoencoder")
    assert (run.summary()["status"], inner.summary()["status"]) == ("failed", "failed")
    assert (inner.path / inner.DIVERGENCE).exists()


def test_going_back_to_the_start_leads_to_pretrained_weights(tmp_path: Path) -> None:
    class Spoil(Hook):
        """Makes the second step diverge, once."""

        done = False

        def on_step_end(self, run: RunView, /) -> None:
            if run.step == 1 and not self.done:
                self.done = True
                with torch.no_grad():
                    run.model.output.weight.fill_(torch.nan)  # type: ignore[operator, union-attr]

    class Restarts(Watch):
        weights: list[torch.Tensor] = []

        def on_epoch_start(self, run: RunView, /) -> None:
            self.weights.append(copied(run.model.state_dict())["dense1.weight"])

    watch = Restarts()
    tree = content(AUTOENCODER, training={"epochs": 1, "on_divergence": {"retry": 1}})
    train(tree, tmp_path, Spoil(), watch)
    assert len(watch.weights) == 2 and torch.equal(*watch.weights)
    (run,) = listing(tmp_path)
    assert torch.equal(watch.weights[0], read_best(run.pretraining("1-autoencoder")).model["dense1.weight"])


@pytest.mark.parametrize("change", ["pretraining.0.epochs=3", "data.unlabeled=false", "pretraining=none"])
def test_pretraining_cannot_change_afterwards(change: str, tmp_path: Path) -> None:
    run = train(content([AUTOENCODER]), tmp_path)
    with pytest.raises(UsageError, match="training began with layers that were pretrained so"):
        dnntrain.resume(run.path, overrides=[change, "training.epochs=3"])


def test_a_rate_may_change_while_it_goes_on(tmp_path: Path) -> None:
    with pytest.raises(Interrupted):
        train(content(AUTOENCODER), tmp_path, Watch(("1-autoencoder", 3)))
    (run,) = listing(tmp_path)
    assert dnntrain.resume(run.path, overrides=["optimizer.name=sgd"]).status == "completed"
    assert run.pretraining("1-autoencoder").summary()["epochs"] == 2


def test_a_checkpoint_that_is_lost_is_missed(tmp_path: Path) -> None:
    tree = content(AUTOENCODER)
    with pytest.raises(Interrupted):
        train(tree, tmp_path, Watch(("1-autoencoder", 8)))
    (run,) = listing(tmp_path)
    inner = run.pretraining("1-autoencoder")
    for path in (inner.path / inner.CHECKPOINTS).glob("*.pt"):
        path.write_bytes(b"damaged")
    with pytest.raises(StoreError, match="can be read"):
        dnntrain.resume(run.path)


@pytest.mark.parametrize("entry", list(pretrainings), ids=lambda entry: entry.name)
def test_every_part_survives_a_stop_in_the_middle_of_each_task(entry: Entry) -> None:
    tree = made(entry)
    tree["training"]["epochs"] = 1
    tree["model"]["dropout"] = {"name": "dropout", "rate": 0.2}
    verdict = verify_resume(read(tree))
    assert verdict.identical, verdict.first
    tasks = 2 if entry.name in ("greedy_autoencoder", "rbm") else 1
    assert len(verdict.stops) >= tasks + 1 and verdict.rows == 2 * tasks + 1


def test_each_task_and_training_draw_noise_of_their_own(tmp_path: Path) -> None:
    class Seeds(Hook):
        seeds: list[int] = []

        def of_pretraining(self, name: str, /) -> Hook:
            return self

        def on_fit_start(self, run: RunView, /) -> None:
            self.seeds.append(torch.initial_seed())

    seeds = Seeds()
    train(content([AUTOENCODER, AUTOENCODER]), tmp_path, seeds)
    assert len(set(seeds.seeds)) == len(seeds.seeds) == 3


MISFITS: list[tuple[dict[str, Any], str]] = [
    (content("rbm", model={"architecture": {"name": "cnn", "widths": [4]}}), "rbm is made of dense layers"),
    (content("rbm"), "write model.activation: sigmoid"),
    (content("rbm", model={"activation": "sigmoid", "normalization": "batch"}), "rbm has no place for normalization"),
    (content("rbm", model={"activation": "sigmoid"}), "rbm takes inputs for probabilities, and these go from"),
    (content("rotation", data={"dataset": "diabetes", "limit": None}), "rotation turns square pictures"),
    (
        content("masked", data={"dataset": "digits"}) | {"pretraining": {"name": "masked", "patch": 3}},
        "possible: 1, 2, 4, 8",
    ),
    (content("contrastive"), "data.augment has none that leaves targets alone"),
    (content("contrastive", data={"augment": {"name": "mixup", "alpha": 0.2}}), "data.augment has none"),
    (
        content("autoencoder", model={"architecture": {"name": "gru", "units": 4}}),
        "cannot do so with layer last (LastState)",
    ),
    (content("autoencoder", model={"architecture": {"name": "mlp", "hidden": []}}), "has no hidden layer to pretrain"),
    (content({"name": "denoising_autoencoder", "amount": 1.5}), "the share 'amount' of the values: it is 1.5"),
]


@pytest.mark.parametrize(("tree", "said"), MISFITS, ids=lambda value: value if isinstance(value, str) else "")
def test_what_does_not_fit_is_told_before_anything_is_made(tree: dict[str, Any], said: str, tmp_path: Path) -> None:
    with pytest.raises(SpecError) as raised:
        train(tree, tmp_path)
    (problem,) = raised.value.problems
    assert said in problem.message and problem.mark is not None
    assert problem.mark.text.startswith("pretraining") or "pretraining" in str(raised.value)
    assert not list(tmp_path.iterdir())


def test_the_state_of_training_does_not_know_of_pretraining(tmp_path: Path) -> None:
    run = train(content(AUTOENCODER), tmp_path)
    best = read_checkpoint(run.checkpoint(run.BEST), torch.device("cpu"))
    assert not [name for name in best["model"] if name.startswith("decoder")]
