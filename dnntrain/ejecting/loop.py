"""The function that runs everything: epochs, and stages of them; what reacts to their figures; what is written."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from torch import nn

from dnntrain.build import Data
from dnntrain.build.locating import choices, chosen, monitor_of
from dnntrain.ejecting.averages import define_copied, put_in_place
from dnntrain.ejecting.reuse import starting
from dnntrain.ejecting.schedules import Rates
from dnntrain.ejecting.script import Script, fill, lines
from dnntrain.ejecting.stages import Course
from dnntrain.spec import Spec


@dataclass(frozen=True)
class Running:
    """What the function has to know of the other pieces.

    Attributes:
        spec: the experiment.
        data: its data.
        network: as dnntrain builds it.
        rates: what the schedule does.
        course: what is trained when; None where nothing is ever frozen, nor training divided.
        threads: that one operation has.
        test: whether the test part is measured.
    """

    spec: Spec
    data: Data
    network: nn.Module
    rates: Rates
    course: Course | None
    threads: int
    test: bool

    @property
    def divided(self) -> bool:
        """Whether there are stages."""
        return self.course is not None and self.course.divided

    @property
    def fixes(self) -> bool:
        """Whether outputs of frozen layers are computed once, ever."""
        return self.course is not None and self.course.fixes

    @property
    def parts(self) -> list[str]:
        """The parts of the data that training knows."""
        return ["train", *(["valid"] if self.data.parts.valid is not None else [])]


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
$made
    best, best_epoch = $worst, 0
    best_weights = network.state_dict()$last
$start
    with (folder / "metrics.jsonl").open("w") as file:
$loop
    print(f"best: epoch {best_epoch} with $monitor {best:.4g}")
    torch.save(best_weights, folder / "best.pt")
$end
'''

_EPOCH: Final = """
started = time.perf_counter()
$train
$row
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
"""

_ROW: Final = {
    False: ['row = {"epoch": epoch, "step": trainer.steps, **figures}'],
    True: ['row = {"epoch": epoch, "step": trainer.steps, "stage": number}', "row |= figures"],
}
"""How a line of figures begins, by whether there are stages."""

_STAGES: Final = """
for number, stage in enumerate(STAGES, start=1):
$begin
$start
    before = epoch
    for epoch in range(before + 1, before + stage.epochs + 1):
$epoch
$restore
"""

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


def define_main(script: Script, running: Running) -> None:
    """Define `main`, and what it needs."""
    spec, test = running.spec, running.test
    monitor = monitor_of(spec)
    better, worst = ("<", "math.inf") if monitor.mode == "min" else (">", "-math.inf")
    waiting, react = _reactions(script, running, better, worst)
    parts = [*running.parts, *(["test"] if test else [])]
    measured = spec.data.standardize not in ("none", "unit", "pretrained")
    reading, reusing = starting(spec)
    epoch = _epoch(running, better, react)
    made = fill(
        _MAIN,
        threads=running.threads,
        folder=f"{spec.name}_ejected",
        parts=", ".join(parts) if len(parts) > 1 else "[train]",
        standardize=lines([*reading, "standardize = Standardize(train[0])" if measured else ""], 1),
        made=lines([*reusing, *_beginning(running)], 1),
        worst=worst,
        last="" if running.divided else "  # the last ones, should no epoch be the best",
        start=lines([*([] if running.divided else waiting), *_noise(spec), "epoch = 0" if running.divided else ""], 1),
        loop=lines([_stages(running, waiting, epoch) if running.divided else _LOOP + lines([epoch], 1)], 2),
        monitor=monitor.metric,
        end=lines([_TEST.strip()], 1) if test else "",
    )
    if running.divided:
        define_copied(script, running.network)
    script.define(_AS_JSON)
    script.define(made)


_LOOP: Final = "for epoch in range(1, EPOCHS + 1):\n"


def _epoch(running: Running, better: str, react: Sequence[str]) -> str:
    """Return the lines of an epoch."""
    spec, average = running.spec, running.spec.training.average
    guarded = any(each.name == "terminate_on_nan" for each in choices(spec.callbacks))
    evaluated = "network, standardize, *valid"
    if running.fixes:
        evaluated = "upper, prepare, *parts[1]" if running.divided else "upper, nn.Identity(), *valid"
    return fill(
        _EPOCH,
        train=_GUARDED.strip() if guarded else "figures = trainer.epoch()",
        row=lines(_ROW[running.divided]),
        average=lines(put_in_place(average, running.network) if average else []),
        validate=f'row |= evaluate({evaluated}, "valid")' if "valid" in running.parts else "",
        monitor=monitor_of(spec).metric,
        better=better,
        copied="copied(network)"
        if average or running.divided
        else "{k: v.clone() for k, v in network.state_dict().items()}",
        restore="network.load_state_dict(own)" if average else "",
        react=lines(react),
    )


def _beginning(running: Running) -> list[str]:
    """Return the lines that freeze layers, where there are no stages, and make the trainer."""
    if running.divided:
        return ["trainer = Trainer()"]
    if running.course is None:
        return ["trainer = Trainer(network, standardize, *train)"]
    held = bool(running.course.held)
    made = ["held = freeze(network, FROZEN)" if held else "freeze(network, FROZEN)"]
    network, standardize = "network", "standardize"
    if running.fixes:
        parts, (part,) = ", ".join(running.parts), running.course.parts
        network, standardize = "upper", "nn.Identity()"
        made.append(f"lower, upper = network[:{part.fixed}], network[{part.fixed}:]")
        outputs = "[(outputs_of(lower, standardize, x), y) for x, y in"
        made.append(f"{parts} = {outputs} ({parts})]" if "," in parts else f"[train] = {outputs} [train]]")
    return [*made, f"trainer = Trainer({network}, {standardize}, *train{', held' if held else ''})"]


_SOMETIMES: Final = """
upper, prepare, parts = network, standardize, [$parts]
if stage.fixed:
    lower, upper = network[: stage.fixed], network[stage.fixed :]
    prepare = nn.Identity()
    parts = [(outputs_of(lower, standardize, x), y) for x, y in parts]
"""

_ALWAYS: Final = """
lower, upper = network[: stage.fixed], network[stage.fixed :]
prepare = nn.Identity()
parts = [(outputs_of(lower, standardize, x), y) for x, y in [$parts]]
"""


def _stages(running: Running, waiting: Sequence[str], epoch: str) -> str:
    """Return the loop over stages."""
    course = running.course
    begin, given = [], "network, standardize, *train"
    if course is not None and course.freezes:
        begin.append("held = freeze(network, stage.frozen)" if course.held else "freeze(network, stage.frozen)")
        given += ", held" if course.held else ""
    if course is not None and course.fixes:
        always = all(part.fixed for part in course.parts)
        begin.append(fill(_ALWAYS if always else _SOMETIMES, parts=", ".join(running.parts)))
        given = given.replace("network, standardize, *train", "upper, prepare, *parts[0]")
    stopping = [each.options for each in choices(running.spec.callbacks) if each.name == "early_stopping"]
    several = course is not None and len(course.parts) > 1
    restored = several and any(vars(options)["restore_best"] for options in stopping)
    return fill(
        _STAGES,
        begin=lines([*begin, f"trainer.begin(stage, {given})"], 1),
        start=lines(waiting, 1),
        epoch=lines([epoch], 2),
        restore=lines(["network.load_state_dict(best_weights)" if restored else ""], 1),
    )


def _noise(spec: Spec) -> list[str]:
    """Return the lines that seed PyTorch's own generator, where training draws numbers beside the order of samples."""
    gated = getattr(spec.model.architecture.options, "gate", "none") != "none"  # then there is no activation
    draws = (
        spec.model.dropout
        or (chosen(spec.model.activation).name == "rrelu" and not gated)
        or any(each.name == "gradient_noise" for each in choices(spec.regularizers))
    )
    if not draws:
        return []
    about = "# What is drawn in training comes from PyTorch's own generator."
    return [about, 'torch.manual_seed(derive("noise"))']


def _reactions(script: Script, running: Running, better: str, worst: str) -> tuple[list[str], list[str]]:
    """Return the lines before the first epoch and after each one of what reacts to the monitored metric."""
    rates, callbacks = running.rates, choices(running.spec.callbacks)
    stopping = [each.options for each in callbacks if each.name == "early_stopping"]
    waiting: list[Any] = [*([rates.reacts] if rates.reacts else []), *stopping]
    # What is waited for at first is counted in each stage anew.
    steps, epochs = (
        ("trainer.steps - trainer.begun", "epoch - before") if running.divided else ("trainer.steps", "epoch")
    )
    start, react = [], []
    if rates.reacts:
        warm = f"{steps} > {rates.warmup} and " if rates.warmup else ""
        start.append(f"plateau = Patience({_patience(rates.reacts)})")
        react += [f"if {warm}plateau.runs_out(value):", f"    trainer.lr_scale *= {rates.reacts.factor!r}"]
        react.append("    plateau.waited = 0")
    for number, options in enumerate(stopping, start=1):
        name = "stopping" if number == 1 else f"stopping_{number}"
        warm = f"{epochs} > {vars(options)['warmup']} and " if vars(options)["warmup"] else ""
        start.append(f"{name} = Patience({_patience(options)})")
        react += [f"if {warm}{name}.runs_out(value):", f'    print("stopped: no better for {_epochs(options)}")']
        react.append("    break")
    if any(each.name == "terminate_on_nan" for each in callbacks):
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
