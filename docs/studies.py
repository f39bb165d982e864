"""The studies behind results.md: train their runs, keep what is worth publishing of them, and rebuild the tables.

    python docs/studies.py run exercise --data cifar10.npz     # hours; goes on where it stopped
    python docs/studies.py mc                                  # adds what Monte Carlo dropout makes of finished runs
    python docs/studies.py keep                                # copies their records to docs/runs/
    python docs/studies.py table                               # rewrites the tables of results.md from docs/runs/

A study is declared below: which file, with which settings, under which seeds; each was written down before its first
run. What is kept of a run is a run directory without checkpoints, event files and log, so that anybody can rebuild the
page.
"""

from __future__ import annotations

import argparse
import getpass
import json
import re
import shutil
import socket
import statistics
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Final, Literal

import dnntrain
from dnntrain import spec, trained, yamltext
from dnntrain.compare.estimates import estimate
from dnntrain.compare.statistics import compare_all
from dnntrain.compare.wording import describe_metric
from dnntrain.errors import DivergedError, DnntrainError, StoreError, UsageError
from dnntrain.store import RunDirectory, listing, write_atomic

HERE: Final = Path(__file__).parent
PAGE: Final = HERE / "results.md"
KEPT: Final = HERE / "runs"
CONFIGS: Final = HERE.parent / "configs"
RUNS: Final = HERE.parent / "runs"
MC_DROPOUT: Final = "mc_dropout.json"
NOTHING: Final = "-"
TESTED: Final = "test/accuracy"
SEEDS: Final = (42, 43, 44)


@dataclass(frozen=True)
class Entry:
    """Runs that differ only in their seed.

    Attributes:
        name: of the runs; with the seed it identifies a run of a study.
        config: the experiment's file, in configs/.
        label: what the table calls it; the name unless given.
        overrides: settings laid over the file.
        passes: how many predictions Monte Carlo dropout averages; 0 for none.
    """

    name: str
    config: str
    label: str = ""
    overrides: tuple[str, ...] = ()
    passes: int = 0


@dataclass(frozen=True)
class Study:
    """Runs that answer one question, and the table that shows them.

    Attributes:
        name: of the study, its folder and the marks of its table.
        entries: the rows.
        columns: which of `COLUMNS` the table has.
        seeds: what each entry is run with.
        sources: runs that others take layers from; they are trained first, with the first of the seeds.
        curve: whether a second table shows every epoch of the first entry's first seed.
    """

    name: str
    entries: tuple[Entry, ...]
    columns: Literal["training", "divergence", "gradients", "verdicts"] = "training"
    seeds: tuple[int, ...] = SEEDS
    sources: tuple[Entry, ...] = ()
    curve: bool = False

    @property
    def everything(self) -> tuple[Entry, ...]:
        """All that is run."""
        return (*self.sources, *self.entries)


def _clipping(name: str, label: str, *overrides: str, config: str = "digits_lstm_clipped") -> Entry:
    return Entry(name, config, label, overrides)


def _vanishing(name: str, label: str, *overrides: str) -> Entry:
    return Entry(name, "digits_sigmoid", label, overrides)


def _transfer(name: str, label: str, *overrides: str) -> Entry:
    return Entry(name, "transfer_fashion_b", label, overrides)


def _transfers(task: str, *data: str, source: str) -> tuple[Entry, ...]:
    """Return the second task of a transfer without and with the layers of the first."""
    plain = ("model.reuse=null", "data.standardize=unit", "training.stages=[{epochs: 20}]")
    gradually = "training.stages=[{epochs: 4, freeze: reused}, {epochs: 4, unfreeze: 1, lr: 0.003}, "
    gradually += "{epochs: 12, unfreeze: all, lr: 0.003, layer_decay: 0.5}]"
    begun = f"model.reuse.from={source}"
    return (
        _transfer(f"{task}_scratch", "all layers new", *data, *plain),
        _transfer(f"{task}_reused", "layers reused, 4 epochs frozen, 16 not", *data, begun),
        _transfer(
            f"{task}_frozen",
            "reused and frozen to the end",
            *data,
            begun,
            "training.stages=[{epochs: 20, freeze: reused}]",
        ),
        _transfer(f"{task}_gradual", "unfrozen from the top, lower layers slower", *data, begun, gradually),
    )


def _pretrained(name: str, label: str, part: str, *overrides: str) -> Entry:
    chosen = "pretraining=none" if part == "none" else f"pretraining={{{part}, epochs: 5, lr: 1.0e-3, batch_size: 256}}"
    return Entry(f"mnist200_{name}", "mnist_pretrained", label, (chosen, *overrides))


SIGMOID: Final = ("model.activation=sigmoid", "model.initializer=glorot_normal")
TEN: Final = tuple(range(42, 52))

STUDIES: Final = (
    Study(
        "transfer_fashion",
        _transfers("fashion", source="fashion_source"),
        columns="verdicts",
        seeds=TEN,
        sources=(Entry("fashion_source", "transfer_fashion_a", "the first task"),),
    ),
    Study(
        "transfer_mnist",
        _transfers("mnist", "data.dataset=mnist", "data.classes=[8, 9]", source="mnist_source"),
        columns="verdicts",
        seeds=TEN,
        sources=(
            Entry(
                "mnist_source",
                "transfer_fashion_a",
                "the first task",
                ("data.dataset=mnist", "data.classes=[0, 1, 2, 3, 4, 5, 6, 7]"),
            ),
        ),
    ),
    Study(
        "pretraining",
        (
            _pretrained("scratch", "from scratch", "none"),
            _pretrained("autoencoder", "autoencoder", "name: autoencoder"),
            _pretrained("greedy", "greedy_autoencoder", "name: greedy_autoencoder"),
            _pretrained("rotation", "rotation", "name: rotation"),
            _pretrained("masked", "masked, patches of 4 x 4", "name: masked, patch: 4"),
            _pretrained("rbm", "rbm, in a network of sigmoids", "name: rbm", *SIGMOID),
            _pretrained("sigmoid", "from scratch, in a network of sigmoids", "none", *SIGMOID),
        ),
        columns="verdicts",
        seeds=tuple(range(42, 47)),
    ),
    Study(
        "exercise",
        (
            Entry("cifar_swish", "cifar_swish"),
            Entry("cifar_batchnorm", "cifar_batchnorm"),
            Entry("cifar_selu", "cifar_selu"),
            Entry("cifar_alpha_dropout", "cifar_alpha_dropout", passes=100),
            Entry("cifar_one_cycle", "cifar_one_cycle"),
        ),
    ),
    Study("deep_best", (Entry("cifar_deep_best", "cifar_deep_best"),)),
    Study("mlp_best", (Entry("cifar_mlp_best", "cifar_mlp_best"),), seeds=(42,)),
    Study("resnet", (Entry("cifar_resnet", "cifar_resnet"),), seeds=(42,), curve=True),
    Study(
        "clipping",
        (
            _clipping("lstm_clipped", "lstm, rate 5, norm clipped to 0.1"),
            _clipping("lstm_unclipped", "lstm, rate 5, not clipped", "training.clip=null"),
            _clipping("lstm_slow", "lstm, rate 0.3, not clipped", "training.clip=null", "optimizer.lr=0.3"),
            _clipping("rnn_clipped", "relu rnn, rate 0.1, norm clipped to 1", config="digits_rnn_clipped"),
            _clipping(
                "rnn_unclipped", "relu rnn, rate 0.1, not clipped", "training.clip=null", config="digits_rnn_clipped"
            ),
        ),
        columns="divergence",
    ),
    Study(
        "vanishing",
        (
            _vanishing("sigmoid", "sigmoid, glorot: the failure itself"),
            _vanishing("relu_he", "relu, he", "model.activation=relu", "model.initializer=he_normal"),
            _vanishing("selu_lecun", "selu, lecun", "model.activation=selu", "model.initializer=lecun_normal"),
            _vanishing("tanh", "tanh, glorot", "model.activation=tanh"),
            _vanishing("sigmoid_batch", "sigmoid, batch normalization", "model.normalization=batch"),
            _vanishing("sigmoid_layer", "sigmoid, layer normalization", "model.normalization=layer"),
            _vanishing("sigmoid_adamw", "sigmoid, adamw at 0.001", "optimizer={name: adamw, lr: 1.0e-3}"),
            _vanishing("sigmoid_fast", "sigmoid, ten times the learning rate", "optimizer.lr=0.1"),
            _vanishing("sigmoid_clipped", "sigmoid, norm clipped to 1", "training.clip={norm: 1.0}"),
            _vanishing("sigmoid_noise", "sigmoid, gradient noise", "regularizers=[{name: gradient_noise, eta: 0.01}]"),
            _vanishing("sigmoid_normal", "sigmoid, normal(1)", "model.initializer={name: normal, std: 1.0}"),
            _vanishing(
                "relu_normal", "relu, normal(1)", "model.activation=relu", "model.initializer={name: normal, std: 1.0}"
            ),
        ),
        columns="gradients",
    ),
)


def main() -> None:
    """Run, measure, keep or tabulate."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    running = commands.add_parser("run", help="train what is not there yet into DIR/STUDY")
    running.add_argument("study", choices=[study.name for study in STUDIES])
    running.add_argument("--data", type=Path, help="cifar10.npz; torchvision's CIFAR-10 unless given")
    running.add_argument("--threads", type=int, default=1)
    running.add_argument("--seeds", type=int, nargs="+", help="those of the study unless given")
    measuring = commands.add_parser("mc", help="measure Monte Carlo dropout on the finished runs that lack it")
    keeping = commands.add_parser("keep", help="copy what is worth publishing of finished runs to docs/runs/")
    tabulating = commands.add_parser("table", help="rewrite the tables of results.md")
    for command in (running, measuring, keeping):
        command.add_argument("--runs-dir", type=Path, default=RUNS, metavar="DIR")
    tabulating.add_argument("--runs-dir", type=Path, default=KEPT, metavar="DIR")
    arguments = parser.parse_args()
    try:
        if arguments.command == "run":
            study = next(study for study in STUDIES if study.name == arguments.study)
            seeds = arguments.seeds or study.seeds
            run(study, arguments.runs_dir, data=arguments.data, threads=arguments.threads, seeds=seeds)
        elif arguments.command == "mc":
            measure_dropout(arguments.runs_dir)
        elif arguments.command == "keep":
            keep(arguments.runs_dir)
        else:
            PAGE.write_text(tabulated(PAGE.read_text(encoding="utf-8"), arguments.runs_dir), encoding="utf-8")
            print(f"rewrote the tables of {PAGE.name}")
    except DnntrainError as error:
        print(error, file=sys.stderr)
        sys.exit(error.exit_code)


@dataclass(frozen=True)
class Run:
    """A run that has come to its end."""

    directory: RunDirectory

    @cached_property
    def summary(self) -> dict[str, Any]:
        """What summary.json says."""
        return self.directory.summary()

    @cached_property
    def rows(self) -> list[dict[str, Any]]:
        """The metrics of each epoch."""
        return self.directory.metrics()

    @property
    def key(self) -> tuple[str, int]:
        """Name and seed: what identifies a run of a study."""
        return self.summary["name"], self.summary["seed"]

    @property
    def ended(self) -> bool:
        """Whether it ran through, was stopped, or diverged: what is broken off or still running is no result."""
        status = self.directory.status()
        diverged = status == "failed" and str(self.summary["error"]).startswith(DivergedError.__name__)
        return status in ("completed", "stopped") or diverged

    @property
    def mc_dropout(self) -> dict[str, Any] | None:
        """What Monte Carlo dropout came to, where it was measured."""
        path = self.directory.path / MC_DROPOUT
        measured: dict[str, Any] | None = json.loads(path.read_text(encoding="utf-8")) if path.exists() else None
        return measured


Cell = Callable[[Sequence[Run]], str]
"""Makes one cell of a table from the runs of an entry."""


def finished(folder: Path) -> dict[tuple[str, int], Run]:
    """Return the runs in a folder that have ended, by name and seed.

    Raises:
        StoreError: two runs are of the same name and seed.
    """
    found: dict[tuple[str, int], Run] = {}
    for each in filter(lambda each: each.ended, map(Run, listing(folder))):
        if each.key in found:
            both = f"{found[each.key].directory.name} and {each.directory.name}"
            name, seed = each.key
            raise StoreError(f"{folder} has two runs of {name} with seed {seed}, {both}: remove one of them")
        found[each.key] = each
    return found


def run(study: Study, runs: Path, *, data: Path | None, threads: int, seeds: Sequence[int]) -> None:
    """Train what is not there yet, seed by seed, so that every row has its first figures early."""
    folder = runs / study.name
    done = set(finished(folder))
    wanted = [(entry, study.seeds[0]) for entry in study.sources]
    for seed in seeds:
        wanted += [(entry, seed) for entry in study.entries]
    for entry, seed in wanted:
        if (entry.name, seed) not in done:
            try:
                record = dnntrain.train(experiment(entry, data, threads, seed), runs=folder, test=True)
            except DivergedError as error:
                print(study.name, entry.name, seed, error, flush=True)
            else:
                print(study.name, entry.name, seed, record.status, record.path.name, flush=True)


def experiment(entry: Entry, data: Path | None, threads: int, seed: int) -> spec.Spec:
    """Return what a run of an entry is made from; only experiments on CIFAR-10 look at `data`."""
    file = CONFIGS / f"{entry.config}.yaml"
    overrides = [*entry.overrides, f"name={entry.name}", f"seed={seed}", f"training.threads={threads}"]
    if data is not None and spec.load(file, overrides).data.dataset.name == "cifar10":
        overrides.append(f"data.dataset={{name: npz, path: {json.dumps(str(data.resolve()))}}}")
    return spec.load(file, overrides)


def measure_dropout(runs: Path) -> None:
    """Measure the test part by Monte Carlo dropout, for each finished run that wants it and lacks it."""
    for study in STUDIES:
        passes = {entry.name: entry.passes for entry in study.entries if entry.passes}
        for (name, seed), each in finished(runs / study.name).items():
            if name in passes and each.mc_dropout is None:
                test = trained.evaluate(each.directory.path, mc_samples=passes[name])
                write_json(each.directory.path / MC_DROPOUT, {"passes": passes[name], "test": test})
                print(study.name, name, seed, f"{test['test/accuracy']:.4f}", flush=True)


ENVIRONMENT: Final = (
    "python packages cpu cores torch_build device device_name cuda threads precision step_strategy data"
).split()
"""What is kept of environment.json: what the numbers depend on, not where and by whom the run was made."""


def keep(runs: Path) -> None:
    """Copy the records of finished runs to docs/runs/; a run that is kept already is brought up to date.

    Raises:
        UsageError: a record would tell about the machine or its user.
        StoreError: another run of the same name and seed is kept already.
    """
    for study in STUDIES:
        names = {entry.name for entry in study.everything}
        kept = finished(KEPT / study.name)
        for key, each in finished(runs / study.name).items():
            if key[0] not in names:
                continue
            if key in kept and kept[key].directory.name != each.directory.name:
                old = kept[key].directory.path
                raise StoreError(f"{old} is kept for {key[0]} with seed {key[1]}: remove it to keep another")
            copy(each, KEPT / study.name / each.directory.name)
            print("kept", study.name, each.directory.name)


def copy(each: Run, target: Path) -> None:
    """Write the record of a run: its summary last, by which a folder is known for a run."""
    text = each.directory.spec_text()
    document = yamltext.read(text, source=RunDirectory.SPEC, folder=each.directory.path)
    environment = each.directory.environment()
    record = {
        "summary": slim(each.summary),
        "environment": {name: environment[name] for name in ENVIRONMENT},
        "spec": slim(document.value),
        "mc_dropout": slim(each.mc_dropout),
    }
    refuse_private(record, each.directory.path)
    if target.exists():
        shutil.rmtree(target)
    target.mkdir(parents=True)
    directory = RunDirectory(target)
    for row in each.rows:
        directory.append_metrics(slim(row))
    directory.close()
    directory.write_spec(yamltext.dump(record["spec"]))
    directory.write_environment(record["environment"])
    if record["mc_dropout"] is not None:
        write_json(target / MC_DROPOUT, record["mc_dropout"])
    directory.write_summary(record["summary"])


def slim(value: Any) -> Any:
    """Shorten absolute paths to file names, and numbers to the seven digits that a 32-bit float has."""
    if isinstance(value, dict):
        return {key: slim(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [slim(item) for item in value]
    if isinstance(value, str):
        return Path(value).name if Path(value).is_absolute() else str(value)
    return float(f"{value:.7g}") if isinstance(value, float) else value


def refuse_private(record: Any, path: Path) -> None:
    """Look for what belongs to a machine or a user in everything that would be published.

    Raises:
        UsageError: there is something.
    """
    # A user's bare name is not looked for: it may well be that of an optimizer, such as adam.
    host, user = re.escape(socket.gethostname()), re.escape(getpass.getuser())
    private = re.compile(rf"(?<![\w./])(?:/\w|~/|[A-Za-z]:\\)|\b{host}\b|\b{user}@")
    for text in strings(record):
        if found := private.search(text):
            raise UsageError(f"{path} cannot be kept: '{text}' tells about this machine or its user ('{found[0]}')")


def strings(value: Any) -> Iterator[str]:
    """Return all texts within a value, keys aside."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict | list):
        for item in value.values() if isinstance(value, dict) else value:
            yield from strings(item)


def write_json(path: Path, content: dict[str, Any]) -> None:
    """Write an object as a whole."""
    write_atomic(path, lambda file: file.write((json.dumps(content, indent=2) + "\n").encode()))


def tabulated(text: str, runs: Path) -> str:
    """Return the page with each study's table made anew, between its marks."""
    for study in STUDIES:
        ended = finished(runs / study.name)
        rows = [(entry, [ended[key] for key in sorted(ended) if key[0] == entry.name]) for entry in study.entries]
        rows = [(entry, own) for entry, own in rows if own]
        columns = COLUMNS[study.columns]
        cells = [[entry.label or entry.name, *(cell(own) for cell in columns.values())] for entry, own in rows]
        heads = ["variant", *columns]
        if study.columns == "verdicts" and rows:
            heads.append("beside the first row")
            cells = [[*own, word] for own, word in zip(cells, verdicts([own for _, own in rows]), strict=True)]
        text = filled(text, study.name, table(heads, cells))
        if study.curve:
            epochs = rows[0][1][0].rows if rows else []
            curve = [[figure(row[name], form) for name, form in CURVE.values()] for row in epochs]
            text = filled(text, f"{study.name} curve", table(list(CURVE), curve))
    return text


def verdicts(rows: Sequence[Sequence[Run]]) -> list[str]:
    """Compare the test accuracies of each row with those of the first, corrected for the number of comparisons."""

    def figures(runs: Sequence[Run]) -> dict[int, float | None]:
        return {run.summary["seed"]: (run.summary["test"] or {}).get(TESTED) for run in runs}

    others = {str(i): figures(runs) for i, runs in enumerate(rows[1:], start=1)}
    found = compare_all(others, figures(rows[0]), better="max")
    return ["baseline", *(describe_metric(difference, TESTED) for difference in found.values())]


def filled(text: str, mark: str, lines: list[str]) -> str:
    """Return the page with these lines between two marks.

    Raises:
        UsageError: the page lacks them.
    """
    begin, end = f"<!-- {mark}: begin -->", f"<!-- {mark}: end -->"
    before, opened, rest = text.partition(begin)
    _, closed, after = rest.partition(end)
    if not opened or not closed:
        raise UsageError(f"{PAGE.name} lacks the lines {begin} and {end}")
    return "\n".join([f"{before}{begin}", *lines, f"{end}{after}"])


def table(heads: list[str], rows: list[list[str]]) -> list[str]:
    """Return the lines of a table; a sentence where it would be empty."""
    if not rows:
        return ["No run has ended yet."]
    return ["| " + " | ".join(cells) + " |" for cells in [heads, ["---"] * len(heads), *rows]]


def each_seed(show: Callable[[Run], str], unit: str = "") -> Cell:
    """Return a cell with one figure a seed, in the order of the seeds; a dash where no seed has one."""

    def cell(runs: Sequence[Run]) -> str:
        shown = [show(run) for run in runs]
        return NOTHING if set(shown) == {NOTHING} else " / ".join(shown) + unit

    return cell


def best(name: str, form: str, unit: str = "") -> Cell:
    """Return a cell that shows a metric of the best epoch."""
    return each_seed(lambda run: figure(run.summary["best"]["metrics"].get(name), form), unit)


def at(epoch: int, name: str, form: str, unit: str = "") -> Cell:
    """Return a cell that shows a metric of an epoch, counted as a list does: 0 is the first, -1 the last."""
    return each_seed(lambda run: figure(run.rows[epoch].get(name) if run.rows else None, form), unit)


def figure(value: float | None, form: str) -> str:
    """Write a number, a share in percent where the form is `%`; what is not finite was recorded as nothing."""
    if value is None:
        return NOTHING
    return f"{100 * value:.1f}" if form == "%" else format(value, form)


def seconds(runs: Sequence[Run]) -> str:
    """Show the median length of an epoch over all seeds."""
    lengths = [row["seconds"] for run in runs for row in run.rows]
    return figure(statistics.median(lengths) if lengths else None, ".1f")


def highest(run: Run) -> str:
    """Show the highest validation accuracy of any epoch."""
    return figure(max((row["valid/accuracy"] for row in run.rows), default=None), "%")


def best_accuracy(run: Run) -> float:
    """Return the validation accuracy of the best epoch."""
    return float(run.summary["best"]["metrics"]["valid/accuracy"])


def tested(run: Run) -> str:
    """Show the test accuracy of the best epoch's weights."""
    return figure((run.summary["test"] or {}).get(TESTED), "%")


def sampled(runs: Sequence[Run]) -> str:
    """Show the test accuracy of the mean over passes with dropout; nothing where it was not asked for."""
    measured = [run.mc_dropout for run in runs]
    if not any(measured):
        return ""
    return " / ".join(figure(each["test"]["test/accuracy"], "%") if each else "-" for each in measured) + " %"


def mean_tested(runs: Sequence[Run]) -> str:
    """Show the mean test accuracy and its interval at 95 %."""
    found = estimate((run.summary["test"] or {}).get(TESTED) for run in runs)
    if found.value is None or found.low is None or found.high is None:
        return figure(found.value, "%")
    return f"{figure(found.value, '%')} % ({figure(found.low, '%')} to {figure(found.high, '%')})"


def ending(run: Run) -> str:
    """Show after how many epochs training ended, or in which one it met a number that is not finite."""
    failed, stopped = run.summary["error"], run.summary["stop_reason"]
    # An epoch that ends in an error has no row.
    last = len(run.rows) + bool(failed)
    return f"not finite in {last}" if "not finite" in (failed or stopped or "") else str(last)


SEED: Final[dict[str, Cell]] = {"seeds": each_seed(lambda run: str(run.summary["seed"]))}
NORM: Final[dict[str, Cell]] = {"gradient norm, first epoch": at(0, "grad_norm", ".2g")}
LAST: Final[dict[str, Cell]] = {
    "training loss, last epoch": at(-1, "train/loss", ".3g"),
    "valid accuracy, last epoch": at(-1, "valid/accuracy", "%", " %"),
}
COLUMNS: Final[dict[str, dict[str, Cell]]] = {
    "training": {
        **SEED,
        "best epoch": best("epoch", "d"),
        "best valid loss": best("valid/loss", ".3f"),
        "valid accuracy there": best("valid/accuracy", "%", " %"),
        "highest valid accuracy": each_seed(highest, " %"),
        "test accuracy": each_seed(tested, " %"),
        "the same by MC dropout": sampled,
        "s/epoch": seconds,
    },
    "divergence": {**SEED, "epochs": each_seed(ending), **NORM, "last epoch": at(-1, "grad_norm", ".2g"), **LAST},
    "verdicts": {
        "seeds": lambda runs: str(len(runs)),
        "valid accuracy": lambda runs: f"{figure(statistics.fmean(best_accuracy(run) for run in runs), '%')} %",
        "test accuracy": mean_tested,
    },
    "gradients": {**SEED, "epochs": each_seed(ending), **NORM, **LAST, "test accuracy": each_seed(tested, " %")},
}
CURVE: Final[dict[str, tuple[str, str]]] = {
    "epoch": ("epoch", "d"),
    "learning rate": ("lr", ".3g"),
    "train loss": ("train/loss", ".3f"),
    "train accuracy, %": ("train/accuracy", "%"),
    "valid loss": ("valid/loss", ".3f"),
    "valid accuracy, %": ("valid/accuracy", "%"),
}


if __name__ == "__main__":
    main()
