"""The whole script of an experiment, and what of an experiment no script is written for."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from string import Template
from typing import Any, Final

from torch import nn

from dnntrain import build
from dnntrain.build import Data
from dnntrain.build.locating import choices, chosen, monitor_of
from dnntrain.ejecting.augmentations import AUGMENTATIONS, define_augmentation
from dnntrain.ejecting.averages import AVERAGES, put_in_place
from dnntrain.ejecting.data import DATASETS, define_data
from dnntrain.ejecting.layers import ACTIVATIONS, DROPOUTS, INITIALIZERS, NORMALIZATIONS
from dnntrain.ejecting.muon import MUON
from dnntrain.ejecting.network import ARCHITECTURES, define_network, title_of
from dnntrain.ejecting.objective import LOSSES, METRICS, define_evaluation, define_objective
from dnntrain.ejecting.optimizers import OPTIMIZERS, define_optimizer
from dnntrain.ejecting.schedules import SCHEDULES, Rates, define_schedule
from dnntrain.ejecting.script import Script, fill, lines, listed, wrapped
from dnntrain.ejecting.training import REGULARIZERS, Setting, define_training
from dnntrain.registry import Choice
from dnntrain.spec import Spec
from dnntrain.spec.fit import vocabulary
from dnntrain.training.batches import steps_in

PARTS: Final[dict[str, frozenset[str]]] = {
    "architecture": frozenset(ARCHITECTURES),
    "activation": frozenset(ACTIVATIONS),
    "initializer": frozenset(INITIALIZERS),
    "normalization": frozenset(NORMALIZATIONS),
    "dropout": frozenset(DROPOUTS),
    "dataset": frozenset(DATASETS),
    "augmentation": frozenset(AUGMENTATIONS),
    "pretraining": frozenset(),
    "loss": frozenset(LOSSES),
    "metric": frozenset(METRICS) | {"confusion"},
    "optimizer": frozenset(OPTIMIZERS) | {MUON},
    "schedule": frozenset(SCHEDULES),
    "regularizer": frozenset(REGULARIZERS),
    "average": frozenset(AVERAGES),
    "callback": frozenset({"early_stopping", "terminate_on_nan"}),
}
"""The parts of each family that can be ejected; `confusion` is not measured over epochs: nothing is written for it."""


def objections(spec: Spec) -> list[str]:
    """Return what keeps a resolved experiment from being ejected, each with its key in the file."""
    found = [f"{key}: {part.name}" for key, family, part in parts_of(spec) if part.name not in PARTS[family]]
    options: Any = spec.optimizer.options
    muon = spec.optimizer.name == MUON
    # Vectors that are looked up or added have two dimensions, and are yet no kernels.
    tables = spec.model.architecture.name == "vit" or vocabulary(spec) is not None
    lacking = {
        "data.unlabeled": spec.data.unlabeled is True,
        "data.standardize: pretrained": spec.data.standardize == "pretrained",
        "model.reuse": spec.model.reuse is not None,
        "optimizer: muon in a network with vectors of positions or tokens": muon and tables,
        "optimizer.groups in a network with vectors of positions or tokens": bool(options.groups) and tables,
        "optimizer.groups of muon": bool(options.groups) and muon,
        "training.stages": bool(spec.training.stages),
    }
    return [*found, *(key for key, there in lacking.items() if there)]


def parts_of(spec: Spec) -> Iterator[tuple[str, str, Choice]]:
    """Walk through the parts of an experiment: where each stands, its family, and itself."""
    yield "data.dataset", "dataset", spec.data.dataset
    yield "model.architecture", "architecture", spec.model.architecture
    own = spec.model.architecture.entry.traits["own_parts"]
    for key in ("output_initializer",) if own else ("activation", "initializer", "output_initializer", "normalization"):
        yield f"model.{key}", key.removeprefix("output_"), chosen(getattr(spec.model, key))
    yield "optimizer", "optimizer", spec.optimizer
    yield "schedule", "schedule", spec.schedule
    yield "loss", "loss", chosen(spec.loss)
    if spec.training.average is not None:
        yield "training.average", "average", spec.training.average
    for key, family, several in (
        ("data.augment", "augmentation", spec.data.augment),
        ("model.dropout", "dropout", spec.model.dropout),
        ("regularizers", "regularizer", spec.regularizers),
        ("metrics", "metric", choices(spec.metrics)),
        ("callbacks", "callback", choices(spec.callbacks)),
        ("pretraining", "pretraining", spec.pretraining),
    ):
        for part in several:
            yield key, family, part


@dataclass(frozen=True)
class Facts:
    """What a script has to know beside the experiment.

    Attributes:
        run: how the run is called.
        script: how the script is called.
        threads: that one operation had.
        test: whether the test part was measured.
        versions: of what the run was trained with: `dnntrain`, `python`, `torch` and `numpy`.
    """

    run: str
    script: str
    threads: int
    test: bool
    versions: Mapping[str, str]


_ABOUT: Final = (
    "$title, in plain PyTorch: what dnntrain $dnntrain did in the run $run.",
    "    python $script [FOLDER]",
    "writes metrics.jsonl, a line an epoch, and best.pt, the weights of the best epoch, into FOLDER, or $folder. "
    "It needs $needs.",
    "With the versions of the run (Python $python, PyTorch $torch, NumPy $numpy), on the same kind of CPU, the figures "
    "are those of the run to the last bit.",
)

_STREAMS: Final = '''
def derive(stream: str) -> int:
    """Return the seed of a stream of random numbers; each purpose has its own."""
    digest = hashlib.blake2b(f"{SEED}:{stream}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") >> 1


def generator(stream: str) -> Generator:
    """Return what draws the random numbers of a stream."""
    return Generator().manual_seed(derive(stream))
'''


def script_of(spec: Spec, data: Data, facts: Facts) -> str:
    """Return the script of a resolved experiment that there are no objections to."""
    script = Script(_about(spec, facts))
    script.constants(SEED=spec.seed, EPOCHS=spec.training.epochs, BATCH_SIZE=spec.data.batch_size)
    accumulate = spec.training.accumulate
    script.constants(LR=vars(spec.optimizer.options)["lr"], **({"ACCUMULATE": accumulate} if accumulate > 1 else {}))
    script.heading("Random numbers")
    script.define(_STREAMS)
    define_data(script, spec, data, test=facts.test)
    define_network(script, spec, data)
    waiting = define_objective(script, spec, data)
    if data.parts.valid is not None or facts.test:
        define_evaluation(script, data, waiting=waiting)
    steps = steps_in(len(data.parts.train), batch_size=spec.data.batch_size, accumulate=accumulate)
    rates = define_schedule(script, spec, steps_per_epoch=len(steps))
    network = build.build_model(spec, data.shape, build.outputs(spec, data))
    define_optimizer(script, spec, network, rates)
    taking = define_augmentation(script, spec, data)
    define_training(script, Setting(spec, data, network, rates, waiting=waiting, taking=taking))
    _define_main(script, spec, data, network, rates, facts)
    return script.text()


def _about(spec: Spec, facts: Facts) -> str:
    dataset = spec.data.dataset.name
    needs = ["torch", "numpy"]
    needs += ["scikit-learn"] if dataset in ("digits", "diabetes") else []
    needs += ["torchvision"] if dataset in ("cifar10", "cifar100") else []
    if dataset == "npz":
        dataset = _word(vars(spec.data.dataset.options)["path"].name)
    values = {
        "title": f"A {title_of(spec)} on {dataset}",
        "run": _word(facts.run),
        "script": _word(facts.script),
        "folder": f"{spec.name}_ejected",
        "needs": listed(needs),
        **{name: _word(version) for name, version in facts.versions.items()},
    }
    filled = [Template(each).substitute(values) for each in _ABOUT]
    # The quotes before the first line are as much a part of its width.
    quotes = '"' * 3
    filled[0] = quotes + filled[0]
    return "\n\n".join(each if each.startswith(" ") else wrapped(each) for each in filled).removeprefix(quotes) + "\n"


def _word(name: str) -> str:
    """Return a name for a docstring, which nothing in it may end."""
    return re.sub(r"[^\w.+-]", "_", name)


_PATIENCE: Final = '''
class Patience:
    """Counts the epochs in a row that did not better a figure."""

    def __init__(self, epochs: int$argument) -> None:
        self.epochs = epochs
        $kept
        self.best = $worst
        self.waited = 0

    def runs_out(self, value: float) -> bool:
        """Take in the figure of an epoch; return whether it was one too many."""
        if value $better self.best$margin:
            self.best, self.waited = value, 0
        else:
            self.waited += 1
        return self.waited >= self.epochs
'''

_AS_JSON: Final = '''
def as_json(figures: dict[str, float]) -> str:
    """Return a line of JSON, which has no NaN: null is for what is not finite."""
    told = {k: v if math.isfinite(v) else None for k, v in figures.items()}
    return json.dumps(told) + "\\n"
'''

_MAIN: Final = '''
def main() -> None:
    """Train, and write what comes of it."""
    torch.set_num_threads($threads)
    folder = Path(sys.argv[1] if len(sys.argv) > 1 else "$folder")
    folder.mkdir(parents=True, exist_ok=True)
    $parts = load()
    $standardize
    network = make_network()
    trainer = Trainer(network, standardize, *train)
    best, best_epoch = $worst, 0
    best_weights = network.state_dict()  # the last ones, should no epoch be the best
$start
    with (folder / "metrics.jsonl").open("w") as file:
        for epoch in range(1, EPOCHS + 1):
            started = time.perf_counter()
$train
            row = {"epoch": epoch, "step": trainer.steps, **figures}
$average
            $validate
            row["seconds"] = time.perf_counter() - started
            file.write(as_json(row))
            print("  ".join(f"{key} {value:.4g}" for key, value in row.items()))
            value = row["$monitor"]
            if value $better best:
                best, best_epoch = value, epoch
                best_weights = $copied
            $restore
$react
    print(f"best: epoch {best_epoch} with $monitor {best:.4g}")
    torch.save(best_weights, folder / "best.pt")
$end
'''

_TEST: Final = """
network.load_state_dict(best_weights)
figures = evaluate(network, standardize, *test, "test")
(folder / "test.json").write_text(as_json(figures))
print("  ".join(f"{key} {value:.4g}" for key, value in figures.items()))
"""

_GUARDED: Final = """
try:
    figures = trainer.epoch()
except FloatingPointError as error:
    print(f"stopped: {error}")
    break
"""


def _define_main(script: Script, spec: Spec, data: Data, network: nn.Module, rates: Rates, facts: Facts) -> None:
    average = spec.training.average
    monitor, validated = monitor_of(spec), data.parts.valid is not None
    better, worst = ("<", "math.inf") if monitor.mode == "min" else (">", "-math.inf")
    start, react = _reactions(script, spec, rates, better, worst)
    if _draws(spec):
        start.append("# What is drawn in training comes from PyTorch's own generator.")
        start.append('torch.manual_seed(derive("noise"))')
    parts = ["train", *(["valid"] if validated else []), *(["test"] if facts.test else [])]
    guarded = any(each.name == "terminate_on_nan" for each in choices(spec.callbacks))
    made = fill(
        _MAIN,
        threads=facts.threads,
        folder=f"{spec.name}_ejected",
        parts=", ".join(parts) if len(parts) > 1 else "[train]",
        standardize="" if spec.data.standardize in ("none", "unit") else "standardize = Standardize(train[0])",
        worst=worst,
        start=lines(start, 1),
        train=lines([_GUARDED.strip() if guarded else "figures = trainer.epoch()"], 3),
        validate='row |= evaluate(network, standardize, *valid, "valid")' if validated else "",
        average=lines(put_in_place(average, network) if average else [], 3),
        copied="copied(network)" if average else "{k: v.clone() for k, v in network.state_dict().items()}",
        restore="network.load_state_dict(own)" if average else "",
        monitor=monitor.metric,
        better=better,
        react=lines(react, 3),
        end=lines([_TEST.strip()], 1) if facts.test else "",
    )
    script.define(_AS_JSON)
    script.define(made)


def _draws(spec: Spec) -> bool:
    """Whether training draws random numbers beside the order of the samples."""
    gated = getattr(spec.model.architecture.options, "gate", "none") != "none"  # then there is no activation
    return bool(
        spec.model.dropout
        or (chosen(spec.model.activation).name == "rrelu" and not gated)
        or any(each.name == "gradient_noise" for each in choices(spec.regularizers))
    )


def _reactions(script: Script, spec: Spec, rates: Rates, better: str, worst: str) -> tuple[list[str], list[str]]:
    """Return the lines before the first epoch and after each one of what reacts to the monitored metric."""
    stopping = [each.options for each in choices(spec.callbacks) if each.name == "early_stopping"]
    waiting: list[Any] = [*([rates.reacts] if rates.reacts else []), *stopping]
    start, react = [], []
    if rates.reacts:
        warm = f"trainer.steps > {rates.warmup} and " if rates.warmup else ""
        start.append(f"plateau = Patience({_patience(rates.reacts)})")
        react += [f"if {warm}plateau.runs_out(value):", f"    trainer.lr_scale *= {rates.reacts.factor!r}"]
        react.append("    plateau.waited = 0")
    for number, options in enumerate(stopping, start=1):
        name = "stopping" if number == 1 else f"stopping_{number}"
        warm = f"epoch > {vars(options)['warmup']} and " if vars(options)["warmup"] else ""
        start.append(f"{name} = Patience({_patience(options)})")
        react += [f"if {warm}{name}.runs_out(value):", f'    print("stopped: no better for {_epochs(options)}")']
        react.append("    break")
    if any(each.name == "terminate_on_nan" for each in choices(spec.callbacks)):
        react += ["if not math.isfinite(value):", "    break"]
    if waiting:
        _define_patience(script, waiting, better, worst)
    return start, react


def _epochs(options: Any) -> str:
    return f"{options.patience} epochs" if options.patience > 1 else "an epoch"


def _patience(options: Any) -> str:
    delta = f", min_delta={options.min_delta!r}" if options.min_delta else ""
    return f"epochs={options.patience}{delta}"


def _define_patience(script: Script, waiting: list[Any], better: str, worst: str) -> None:
    wanted = any(options.min_delta for options in waiting)
    sign = "-" if better == "<" else "+"
    made = fill(
        _PATIENCE,
        argument=", min_delta: float = 0.0" if wanted else "",
        kept="self.min_delta = min_delta" if wanted else "",
        margin=f" {sign} self.min_delta" if wanted else "",
        better=better,
        worst=worst,
    )
    script.define(made)
