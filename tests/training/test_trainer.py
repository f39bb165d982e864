from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from tinyparts import make_mlp
from tinytraining import TIMES, At, Ends, assemble, fitted, through_a_file
from torch import Tensor, nn

from dnntrain.parts.callbacks import callbacks
from dnntrain.parts.schedules import Horizon, schedules
from dnntrain.training.built import Built
from dnntrain.training.hooks import Hook, Monitor, Row, RunView, TimeLimit
from dnntrain.training.state import differences
from dnntrain.training.trainer import Fit, Trainer

LR = 0.1


class Recording(Hook):
    """Writes down what it is told, and the rows."""

    def __init__(self) -> None:
        self.events: list[str] = []
        self.rows: list[Row] = []

    def on_fit_start(self, run: RunView, /) -> None:
        self.events.append(f"fit start {run.epoch}/{run.epochs}")

    def on_epoch_start(self, run: RunView, /) -> None:
        self.events.append(f"epoch start {run.epoch}")

    def on_step_end(self, run: RunView, /) -> None:
        self.events.append(f"step {run.step}: {run.epoch_step}/{run.steps_per_epoch}")

    def on_epoch_end(self, run: RunView, /) -> None:
        self.events.append(f"epoch end {run.epoch}")
        self.rows.append({key: value for key, value in run.row.items() if key not in TIMES})

    def on_epoch_left(self, run: RunView, /) -> None:
        self.events.append(f"epoch {run.epoch} left after step {run.epoch_step}")

    def on_fit_end(self, run: RunView, /) -> None:
        self.events.append("fit end")


class Noisy(Hook):
    """Draws global noise wherever it is called."""

    def _draw(self, run: RunView, /) -> None:
        torch.rand(17)

    on_fit_start = on_epoch_start = on_step_end = on_epoch_end = on_fit_end = _draw


def everything(**options: Any) -> Built:
    """An experiment with all that makes resuming hard."""
    return assemble(
        **{
            "model": make_mlp(
                (6,),
                3,
                (8, 8),
                normalization={"name": "batch", "input": True},
                dropout=({"name": "dropout", "rate": 0.3},),
            ),
            "optimizer": {"name": "nadam", "lr": LR},
            "hooks": [
                schedules.choose({"name": "performance", "factor": 0.5, "patience": 1}).build(
                    horizon=Horizon(20, 5, LR)
                ),
                callbacks.choose({"name": "early_stopping", "patience": 3}).build(),
            ],
            "epochs": 6,
            **options,
        }
    )


def weights(trainer: Trainer) -> dict[str, Tensor]:
    return {name: value.detach().clone() for name, value in trainer.model.state_dict().items()}


def same(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def without_times(fit: Fit) -> dict[str, Any]:
    def clean(row: Row) -> Row:
        return {key: value for key, value in row.items() if key not in TIMES}

    return {**vars(fit), "best_row": clean(fit.best_row), "last_row": clean(fit.last_row)}


def test_training_learns_and_tells_what_it_measured() -> None:
    ends = Ends()
    trainer, fit = fitted(assemble(epochs=15), ends)
    assert (fit.epochs, fit.step, fit.stop_reason) == (15, 75, None)
    assert [row["epoch"] for row in ends.rows] == list(range(1, 16))
    assert [row["step"] for row in ends.rows] == list(range(5, 76, 5))
    names = ["epoch", "step", "train/loss", "train/accuracy", "lr", "grad_norm", "valid/loss", "valid/accuracy"]
    assert set(ends.rows[0]) == set(names)
    assert ends.rows[-1]["train/loss"] < 0.6 * ends.rows[0]["train/loss"]
    assert ends.rows[-1]["train/accuracy"] > 0.7
    assert fit.last_row["seconds"] > 0
    assert fit.last_row["samples_per_second"] > 0
    assert trainer.train_loss == ends.rows[-1]["train/loss"]


def test_an_epoch_is_the_straight_computation() -> None:
    ends, built = Ends(), assemble(epochs=1)
    reference = make_mlp((6,), 3)
    order = torch.randperm(40, generator=built.train._generator.clone_state())
    fitted(built, ends)

    x, y = built.train.examples.x, built.train.examples.y
    losses, right, norms = [], 0, []
    for rows in order.split(8):
        outputs = reference(x[rows])
        loss = nn.functional.cross_entropy(outputs, y[rows])
        gradients = torch.autograd.grad(loss, list(reference.parameters()))
        norms.append(math.sqrt(sum(g.double().square().sum().item() for g in gradients)))
        losses.append(loss.item())
        right += int((outputs.argmax(1) == y[rows]).sum())
        with torch.no_grad():
            for p, g in zip(reference.parameters(), gradients, strict=True):
                p -= 0.1 * g
    (row,) = ends.rows
    assert row["train/loss"] == pytest.approx(sum(losses) / 5, rel=1e-5)
    assert row["train/accuracy"] == pytest.approx(right / 40)
    assert row["grad_norm"] == pytest.approx(sum(norms) / 5, rel=1e-5)
    assert row["lr"] == 0.1
    assert built.valid is not None
    expected = nn.functional.cross_entropy(reference(built.valid.x), built.valid.y)
    assert row["valid/loss"] == pytest.approx(expected.item(), rel=1e-5)


def test_the_same_seeds_give_the_same_numbers_to_the_last_bit() -> None:
    first, second, other = Ends(), Ends(), Ends()
    one, fit = fitted(everything(), first)
    two, again = fitted(everything(), second)
    assert first.rows == second.rows
    assert same(weights(one), weights(two))
    assert without_times(fit) == without_times(again)
    fitted(everything(seed=1), other)
    assert other.rows != first.rows


def interrupted(built: Built, *observers: Hook, epoch: int | None = None, step: int | None = None) -> Any:
    """Train, save the state after a step or an epoch, and break off; return the state."""
    saved: list[Any] = []

    def save_and_break(run: RunView) -> None:
        saved.append(through_a_file(run.state_dict()))
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fitted(built, *observers, At(save_and_break, epoch=epoch, step=step))
    return saved[0]


@pytest.mark.parametrize(
    "cut", [{"epoch": e} for e in (1, 2, 3, 4)] + [{"step": s} for s in (1, 3, 4, 5, 6, 13)], ids=str
)
@pytest.mark.parametrize("precision", ["fp32", "bf16", "fp16"])
def test_a_restart_goes_on_exactly_where_it_stopped(cut: dict[str, int], precision: str) -> None:
    expected = Ends()
    whole, fit = fitted(everything(precision=precision), expected)

    seen = Ends()
    state = interrupted(everything(precision=precision), seen, **cut)
    torch.manual_seed(12345)
    built = everything(precision=precision, seed=8)
    second = Trainer(built, seen)
    second.load_state_dict(state)
    resumed = second.fit()

    assert seen.rows == expected.rows
    assert without_times(resumed) == without_times(fit)
    assert same(weights(second), weights(whole))
    left = {"tally"}  # what it holds of an epoch that is over is of no use any more
    states = [trainer.state_dict() for trainer in (second, whole)]
    assert [
        path for path in differences(*states) if path.split(".")[0] not in left and path.split(".")[-1] not in TIMES
    ] == []


def test_a_restart_without_early_stopping_trains_what_is_left() -> None:
    expected, seen = Ends(), Ends()
    whole, _ = fitted(everything(hooks=[], epochs=4), expected)
    first, _ = fitted(everything(hooks=[], epochs=2), seen)
    state = through_a_file(first.state_dict())
    second = Trainer(everything(hooks=[], epochs=4, seed=8), seen)
    second.load_state_dict(state)
    second.fit()
    assert seen.rows == expected.rows
    assert same(weights(second), weights(whole))


def test_the_restarts_have_something_to_get_wrong() -> None:
    trainer, fit = fitted(everything())
    assert trainer.lr_scale < 1, "the performance schedule should have acted"
    assert fit.best_epoch == 1, "the best weights should be older than any restart"
    assert fit.epochs < 6, "early stopping should have acted"


def test_a_state_saved_by_a_hook_does_not_see_the_noise_of_the_others() -> None:
    expected, rest = Ends(), Ends()
    whole, _ = fitted(everything(), expected)
    state = interrupted(everything(), Noisy(), epoch=2)
    second = Trainer(everything(), rest)
    second.load_state_dict(state)
    second.fit()
    assert rest.rows == expected.rows[2:]
    assert same(weights(second), weights(whole))


def test_a_restart_of_what_was_stopped_trains_no_more() -> None:
    trainer, fit = fitted(assemble(epochs=5, hooks=[At(lambda run: run.stop("enough"), epoch=2)]))
    assert (fit.epochs, fit.stop_reason) == (2, "enough")
    second = Trainer(assemble(epochs=5, hooks=[At(lambda run: None)]))
    second.load_state_dict(through_a_file(trainer.state_dict()))
    again = second.fit()
    assert (again.epochs, again.step, again.stop_reason) == (2, 10, "enough")


def test_noise_drawn_by_hooks_and_by_an_evaluation_leaves_training_alone() -> None:
    class NoisyInEvaluation(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            if not self.training:
                torch.rand(7)
            return x

    def built() -> Built:
        made = everything()
        made.model.add_module("noisy", NoisyInEvaluation())
        return made

    expected, seen = Ends(), Ends()
    quiet, _ = fitted(everything(), expected)
    noisy, _ = fitted(built(), Noisy(), seen)
    assert seen.rows == expected.rows
    assert same(weights(noisy), weights(quiet))


def test_a_hook_that_leaves_the_model_in_evaluation_mode_changes_nothing() -> None:
    expected, seen = Ends(), Ends()
    fitted(everything(), expected)
    watch = [At(lambda run: run.model.eval(), epoch=epoch) for epoch in (1, 2)]
    fitted(everything(), *watch, seen)
    assert seen.rows == expected.rows


def test_without_validation_training_comes_out_the_same() -> None:
    with_it, without = Ends(), Ends()
    one, _ = fitted(assemble(), with_it)
    two, fit = fitted(assemble(valid=None), without)
    assert same(weights(one), weights(two))
    assert not any(name.startswith("valid/") for name in without.rows[0])
    assert fit.best_epoch == 2


def test_hooks_are_called_in_order() -> None:
    hook = Recording()
    fitted(assemble(n=24), hook)
    assert hook.events == [
        "fit start 0/2",
        "epoch start 1",
        *("step 1: 1/3", "step 2: 2/3", "step 3: 3/3"),
        "epoch end 1",
        "epoch start 2",
        *("step 4: 1/3", "step 5: 2/3", "step 6: 3/3"),
        "epoch end 2",
        "fit end",
    ]


def test_observers_come_after_the_experiments_own_hooks() -> None:
    called: list[str] = []
    own, observer = At(lambda run: called.append("own"), epoch=1), At(lambda run: called.append("observer"), epoch=1)
    trainer, _ = fitted(assemble(hooks=[own]), observer)
    assert called == ["own", "observer"]
    assert trainer.components()["0"] is own
    assert observer not in trainer.components().values()


def test_only_hooks_that_look_at_steps_are_called_at_steps() -> None:
    trainer = Trainer(assemble(hooks=[Hook(), Ends()]), Recording())
    assert [type(hook) for hook in trainer._step_hooks] == [Recording]
    called: list[int] = []
    plain = Ends()
    plain.on_step_end = lambda run, /: called.append(run.step)  # type: ignore[method-assign]
    fitted(assemble(), plain)
    assert called == []


@pytest.mark.parametrize(
    ("where", "steps", "epochs", "last"),
    [
        ({"step": 7}, 7, 1, "epoch 2 left after step 2"),
        ({"step": 10}, 10, 2, "epoch end 2"),
        ({"epoch": 1}, 5, 1, "epoch end 1"),
    ],
    ids=str,
)
def test_a_hook_can_end_training(where: dict[str, int], steps: int, epochs: int, last: str) -> None:
    hook = Recording()
    _, fit = fitted(assemble(epochs=6), At(lambda run: run.stop("enough"), **where), hook)
    assert (fit.step, fit.epochs, fit.stop_reason) == (steps, epochs, "enough")
    assert hook.events[-2:] == [last, "fit end"]
    assert [row["epoch"] for row in hook.rows] == list(range(1, epochs + 1))
    assert without_times(fit)["last_row"] == hook.rows[-1]


def test_the_first_reason_to_stop_counts() -> None:
    reasons = [At(lambda run, r=r: run.stop(r), epoch=1) for r in ("first", "second")]
    assert fitted(assemble(), *reasons)[1].stop_reason == "first"


def test_a_time_limit_ends_training() -> None:
    now = [0.0]

    def clock() -> float:
        now[0] += 1.0
        return now[0]

    _, fit = fitted(assemble(epochs=100, hooks=[TimeLimit(12, clock)]))
    assert fit.step == 12
    assert fit.stop_reason == "time limit of 12 s"


class Script:
    """A metric whose value of each epoch is written beforehand."""

    def __init__(self, values: list[float]) -> None:
        self.values = list(values)

    def sums(self, outputs: Tensor, targets: Tensor, /) -> Tensor:
        return torch.zeros(1)

    def value(self, sums: Tensor, count: int, /) -> float:
        return self.values.pop(0)


def scripted(values: list[float], *, mode: Any = "max", **options: Any) -> Built:
    """An experiment whose monitored metric is written beforehand; `train/score` and `valid/score` take turns."""
    both = [value for value in values for _ in range(2)]
    return assemble(
        metrics={"score": Script(both)}, monitor=Monitor("valid/score", mode), epochs=len(values), **options
    )


@pytest.mark.parametrize(
    ("values", "mode", "best"),
    [
        ([0.1, 0.5, 0.3], "max", 2),
        ([0.1, 0.5, 0.3], "min", 1),
        ([math.nan, 0.5, 0.5], "max", 2),
        ([0.5, math.nan, 0.4], "max", 1),
        ([math.inf, 0.1], "max", 2),
        ([-math.inf, 0.1], "min", 2),
        ([math.nan, math.nan], "min", None),
    ],
)
def test_the_best_epoch(values: list[float], mode: str, best: int | None) -> None:
    improved: list[int] = []
    watch = [At(lambda run: improved.append(run.epoch) if run.improved else None, epoch=e + 1) for e in range(3)]
    _, fit = fitted(scripted(values, mode=mode), *watch)
    assert fit.best_epoch == best
    assert fit.best_row.get("epoch") == best
    assert (improved[-1] if improved else None) == best


def test_the_best_weights_are_put_back() -> None:
    kept: dict[int, dict[str, Tensor]] = {}

    def keep(run: RunView) -> None:
        kept[run.epoch] = {name: value.clone() for name, value in run.model.state_dict().items()}

    stopping = callbacks.choose({"name": "early_stopping", "patience": 9}).build()
    watch = [At(keep, epoch=e) for e in (1, 2, 3)]
    trainer, fit = fitted(scripted([0.1, 0.9, 0.5], hooks=[stopping]), *watch)
    assert fit.best_epoch == 2
    assert same(weights(trainer), kept[2])
    assert not same(kept[2], kept[3])
    flat = torch.cat([p.detach().flatten() for p in trainer.model.parameters()])
    assert torch.equal(flat, trainer.built.parameters.groups[0]["params"][0]), "the optimizer lost sight of the weights"


def test_without_a_best_epoch_the_last_weights_stay() -> None:
    stopping = callbacks.choose({"name": "early_stopping", "patience": 9}).build()
    trainer, fit = fitted(scripted([math.nan, math.nan], hooks=[stopping]))
    plain, _ = fitted(assemble(epochs=2))
    assert fit.best_epoch is None
    assert same(weights(trainer), weights(plain))


def test_a_schedule_sees_the_steps_taken_before() -> None:
    asked: list[int] = []

    def schedule(step: int) -> tuple[float, float | None]:
        asked.append(step)
        return 1 / (1 + step), None

    ends = Ends()
    fitted(assemble(schedule=schedule, epochs=2), ends)
    assert sorted(set(asked)) == list(range(10))
    assert [row["lr"] for row in ends.rows] == pytest.approx([0.1 / 5, 0.1 / 10])


def test_a_hooks_factor_lasts() -> None:
    ends = Ends()
    fitted(assemble(epochs=3), At(lambda run: run.scale_lr(0.5), epoch=1), ends)
    assert [row["lr"] for row in ends.rows] == pytest.approx([0.1, 0.05, 0.05])


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize("precision", ["fp32", "tf32", "bf16", "fp16"])
def test_training_on_a_gpu_is_deterministic_and_resumes(precision: str) -> None:
    expected, seen = Ends(), Ends()
    fitted(everything(device="cuda", precision=precision), expected)
    state = interrupted(everything(device="cuda", precision=precision), seen, step=7)
    second = Trainer(everything(device="cuda", precision=precision, seed=4), seen)
    second.load_state_dict(state)
    second.fit()
    assert seen.rows == expected.rows
