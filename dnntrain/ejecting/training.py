"""The training itself: a class that takes steps and epochs of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

from torch import nn

from dnntrain import build
from dnntrain.build import Data
from dnntrain.build.locating import choices
from dnntrain.ejecting.augmentations import mixes
from dnntrain.ejecting.averages import begin_averaging, define_average, statistics_of, updating
from dnntrain.ejecting.groups import decays, has_rates
from dnntrain.ejecting.muon import CLIPPING, MOVE, MUON, NORM, begin_muon, muon_rates
from dnntrain.ejecting.objective import measure_while_training
from dnntrain.ejecting.optimizers import table_of
from dnntrain.ejecting.regularizers import constrain, covers_all, penalize, shake
from dnntrain.ejecting.resizing import resized
from dnntrain.ejecting.schedules import Rates
from dnntrain.ejecting.script import Script, fill, lines, method
from dnntrain.ejecting.stages import Course
from dnntrain.spec import Spec
from dnntrain.training.built import EVALUATION_BATCH


@dataclass(frozen=True)
class Setting:
    """What the loop has to know of the other pieces.

    Attributes:
        spec: the experiment.
        data: its data.
        network: as dnntrain builds it, for the names of its layers.
        rates: what the schedule does.
        waiting: whether metrics are measured so many batches at a time.
        taking: the lines that take the samples at `batch` and change them at random; none where nothing changes them.
        course: what is trained when; None where nothing is ever frozen, nor training divided.
    """

    spec: Spec
    data: Data
    network: nn.Module
    rates: Rates
    waiting: bool
    taking: list[str]
    course: Course | None

    @property
    def divided(self) -> bool:
        """Whether there are stages."""
        return self.course is not None and self.course.divided

    @property
    def freezes(self) -> bool:
        """Whether layers stay as they are, ever."""
        return self.course is not None and self.course.freezes

    @property
    def holds(self) -> bool:
        """Whether frozen layers have statistics that are held."""
        return self.course is not None and bool(self.course.held)

    @property
    def layered(self) -> bool:
        """Whether layers have a lower rate than those above them."""
        return self.course is not None and self.course.decays

    @property
    def lr(self) -> str:
        """How the learning rate is called from which schedules start."""
        return "self.stage.lr" if self.divided else "LR"


_JOINING: Final = '''
def cut(positions: Tensor, size: int) -> list[Tensor]:
    """Cut positions into batches; a last one of one sample joins the one before."""
    batches = list(positions.split(size))
    if len(batches) > 1 and len(batches[-1]) == 1:
        batches[-2:] = [torch.cat(batches[-2:])]
    return batches
'''

_BALANCED: Final = '''
def balanced(y: Tensor, order: Generator) -> Tensor:
    """Draw as many samples as there are, each class equally often, with replacement."""
    edges = (1.0 / torch.bincount(y).double()[y]).cumsum(0)
    draws = torch.rand(len(y), dtype=torch.float64, generator=order) * edges[-1]
    return torch.searchsorted(edges, draws, right=True).clamp_(max=len(y) - 1)
'''

_TRAINER: Final = '''
class Trainer:
    """Trains a network, an epoch at a time.

    Args:
        network: changed in place.
        standardize: applied to each batch.
        x: the samples of the training part.
        y: their targets.
        $held
    """

    def __init__(
        self,
        network: nn.Module,
        standardize: Callable[[Tensor], Tensor],
        x: Tensor,
        y: Tensor,
        $held_argument
    ) -> None:
        self.network = network
        self.standardize = standardize
        self.x, self.y = x, y
        $held_kept
$start
$kept
'''

_STAGED: Final = '''
class Trainer:
    """Trains a network stage by stage, an epoch at a time."""

    def __init__(self) -> None:
$kept

    def begin(
        self,
        stage: Stage,
        network: nn.Module,
        standardize: Callable[[Tensor], Tensor],
        x: Tensor,
        y: Tensor,
        $held_argument
    ) -> None:
        """Begin a stage.

        Args:
            stage: which one.
            network: changed in place, but for what is frozen.
            standardize: applied to each batch.
            x: the samples of the training part.
            y: their targets.
            $held
        """
        self.stage = stage
        self.network = network
        self.standardize = standardize
        self.x, self.y = x, y
        $held_kept
$start
'''

_EPOCH: Final = '''
    def epoch(self) -> dict[str, float]:
        """Train on all samples in a new random order; return the mean figures."""
        self.network.train()
$hold
        figures = Figures()
$sums
        positions = $positions
$loop
$last
        return {
            **figures.means("train"),
$row
        }
'''

_STEP: Final = '''
    def step(self, batch: Tensor, figures: Figures) -> $returned:
        """Take one step on a batch; return $what."""
$rates
        self.network.zero_grad()
$take
        loss = loss_of(outputs, y)
        loss.backward()
        figures.add(outputs.detach(), $labels, loss.item())
$rest
'''

_ACCUMULATED: Final = '''
    def step(self, batches: list[Tensor], figures: Figures) -> $returned:
        """Take a step on some batches; return $what."""
$rates
        self.network.zero_grad()
        total = sum(map(len, batches))
        for batch in batches:
$take
            loss = loss_of(outputs, y)
            (loss * (len(y) / total)).backward()
            figures.add(outputs.detach(), $labels, loss.item())
$rest
'''

_REST: Final = """
$norm
$clip
$move
$constrain
self.steps += 1
$average
if not (math.isfinite(figures.loss) and math.isfinite(norm)):
    raise FloatingPointError(f"step {self.steps} is not finite any more")
return $returned
"""

_NORM: Final = """
gradients = [p.grad.flatten() for p in self.parameters]
torch.cat(gradients, out=self.gradient)
norm = torch.linalg.vector_norm(self.gradient)
"""


def define_training(script: Script, setting: Setting) -> None:
    """Define `Trainer`."""
    script.heading("The training")
    spec = setting.spec
    average, remeasured = spec.training.average, False
    if average is not None:
        remeasured = average.name == "swa" and bool(statistics_of(setting.network))
    if _joins(setting) or (remeasured and _joins(setting, EVALUATION_BATCH)):
        script.define(_JOINING)
    if average is not None:
        define_average(
            script,
            average,
            setting.network,
            joins=_joins(setting, EVALUATION_BATCH),
            samples=resized(setting.data, "x[rows]"),
        )
    if spec.data.sampling == "balanced":
        script.define(_BALANCED)
    penalizing = penalize(script, spec, setting.network)
    shaking, constraining = shake(spec, setting.network), constrain(spec, setting.network)
    taking = lines([_TAKE.strip("\n"), lines(setting.taking, 2)]) if setting.taking else ""
    updated = ""
    if average is not None:
        updated = method("update_average", "None", *updating(script, average, setting.network))
    penalized = bool(penalizing)
    made = fill(
        _EPOCH,
        hold=lines(["for norm in self.held:", "    norm.eval()"] if setting.holds else [], 2),
        sums=lines(["norms = penalties = 0.0" if penalized else "norms = 0.0"], 2),
        positions="balanced(self.y, self.order)"
        if spec.data.sampling == "balanced"
        else "torch.randperm(len(self.y), generator=self.order)",
        loop=lines(_loop(setting, penalized=penalized), 2),
        last=lines(["last = self.steps - 1 - self.begun" if setting.divided and setting.rates.changes else ""], 2),
        row=lines(_row(setting, penalized=penalized), 3),
    )
    step = _step(setting, penalized=penalized, noisy=bool(shaking), constrained=bool(constraining))
    methods = [_head(setting), made, step, taking, penalizing, shaking, updated, constraining]
    script.define("\n\n".join(filter(None, methods)))


def _head(setting: Setting) -> str:
    """Return how `Trainer` begins."""
    return fill(
        _STAGED if setting.divided else _TRAINER,
        held="held: normalizations that keep their statistics." if setting.holds else "",
        held_argument="held: list[nn.Module]," if setting.holds else "",
        held_kept="self.held = held" if setting.holds else "",
        start=lines(_start(setting), 2),
        kept=lines(_kept(setting), 2),
    )


def _kept(setting: Setting) -> list[str]:
    """Return the lines that make what lasts for all stages, where there are any."""
    draws = ['self.draws = generator("augmentation")'] if setting.taking else []
    return ['self.order = generator("order")', "self.steps = 0", *draws]


def _joins(setting: Setting, size: int | None = None) -> bool:
    """Whether a last batch of a single sample joins the one before it, in batches of training or of some size."""
    size, count = size or setting.spec.data.batch_size, len(setting.data.parts.train)
    return count > size > 1 and count % size == 1


def _start(setting: Setting) -> list[str]:
    spec, table = setting.spec, table_of(setting.network)
    options: Any = spec.optimizer.options
    muon, splits = spec.optimizer.name == MUON, decays(options) and not (options.groups or setting.layered)
    parameters, everything = "network.parameters()", "list(network.parameters())"
    if setting.freezes:
        parameters, everything = "trained", "[p for p in network.parameters() if p.requires_grad]"
    kernels_of, made = f"[p for p in {parameters} if p.ndim > 1]", [f"self.parameters = {everything}"]
    if options.groups or setting.layered:
        groups = "parameter_groups(network, stage)" if setting.layered else "parameter_groups(network)"
        made = [f"groups = {groups}", 'self.parameters = [p for group in groups for p in group["params"]]']
    elif table:
        made = _with_table(options, table)
        kernels_of = "[p for p in others if p.ndim > 1]"
    elif splits or muon:
        made = [
            f"kernels = {kernels_of}",
            f"others = [p for p in {parameters} if p.ndim <= 1]",
            "self.parameters = kernels + others" if splits else made[0],
        ]
        made = [f"trained = {everything}", *made] if setting.freezes else made
    if any(covers_all(setting.network, each) for each in choices(spec.regularizers)):
        kernels_of = kernels_of.replace("trained", "self.parameters")
        made.append(f"self.kernels = {'kernels' if splits or muon else kernels_of}")
    grouped = bool(options.groups or table or setting.layered)
    made += begin_muon(options) if muon else _laid_out(setting, splits=splits and not table, grouped=grouped)
    if spec.training.average is not None:
        made += begin_averaging(spec.training.average)
    made += ["self.begun = self.steps"] if setting.divided and setting.rates.changes else []
    return [*made, "self.lr_scale = 1.0"] if setting.rates.reacts else made


def _laid_out(setting: Setting, *, splits: bool, grouped: bool) -> list[str]:
    """Return the lines that lay the parameters into one vector, and make the optimizer of it."""
    third = ", groups" if grouped else ", decayed" if splits else ""
    third += ", stage.lr" if setting.divided else ""
    return [
        "values, self.gradient = flatten(self.parameters)",
        *(["decayed = sum(p.numel() for p in kernels)"] if splits else []),
        f"self.optimizer = make_optimizer(values, self.gradient{third})",
    ]


def _with_table(options: Any, table: str) -> list[str]:
    """Return the lines that divide the weights of a network with vectors that are looked up or added as they are."""
    made = [f"table = network.{table}  # no kernel: nothing is multiplied by it"]
    if decays(options):
        made += [
            "kernels = [p for p in network.parameters() if p.ndim > 1 and p is not table]",
            "others = [p for p in network.parameters() if p.ndim <= 1]",
            "groups = [",
            f'    {{"params": kernels, "weight_decay": {options.weight_decay!r}}},',
            '    {"params": others, "weight_decay": 0.0},',
            '    {"params": [table], "weight_decay": 0.0},',
            "]",
        ]
    else:
        made.append("others = [p for p in network.parameters() if p is not table]")
        made.append('groups = [{"params": others}, {"params": [table]}]')
    return [*made, 'self.parameters = [p for group in groups for p in group["params"]]']


def _loop(setting: Setting, *, penalized: bool) -> list[str]:
    batches = "cut(positions, BATCH_SIZE)" if _joins(setting) else "positions.split(BATCH_SIZE)"
    one, head = "batch", "for batch in batches:"
    before = [f"batches = {batches}"]
    if setting.spec.training.accumulate > 1:
        one, head = "batches[first : first + ACCUMULATE]", "for first in starts:"
        before.append("starts = range(0, len(batches), ACCUMULATE)")
    if penalized:
        inside = [f"norm, penalty = self.step({one}, figures)", "norms += norm", "penalties += penalty"]
    else:
        inside = [f"norms += self.step({one}, figures)"]
    if setting.waiting:
        inside.append(measure_while_training())
    return [*before, head, lines(inside, 1)]


def _rate(setting: Setting, step: str, initial: str = "") -> str:
    """Return the learning rate of a step; where layers have their own, of those whose rate is `initial` at first."""
    own = setting.layered or has_rates(setting.spec.optimizer.options)
    initial = initial or setting.lr
    given = f"{step}{f', {initial}' if own else ''}"
    function = "self.stage.learning_rate" if setting.divided else "learning_rate"
    rate = f"{function}({given})" if setting.rates.changes else initial
    return f"{rate} * self.lr_scale" if setting.rates.reacts else rate


def _row(setting: Setting, *, penalized: bool) -> list[str]:
    count = "len(starts)" if setting.spec.training.accumulate > 1 else "len(batches)"
    penalty = [f'"train/penalty": penalties / {count},'] if penalized else []
    return [
        *penalty,
        f'"lr": {_rate(setting, "last" if setting.divided else "self.steps - 1")},',
        f'"grad_norm": norms / {count},',
    ]


def _step(setting: Setting, *, penalized: bool, noisy: bool, constrained: bool) -> str:
    spec, clip = setting.spec, setting.spec.training.clip
    clipping, muon = "", spec.optimizer.name == MUON
    if clip is not None:
        size = clip.norm or clip.value or clip.parameter_norm
        clippings = CLIPPING if muon else _CLIPPING
        clipping = clippings["norm" if clip.norm else "value" if clip.value else "parameter_norm"]
        clipping = clipping.strip().replace("$size", repr(size))
    returned = "norm.item(), penalty" if penalized else "norm.item()"
    rest = fill(
        _REST,
        norm=(NORM if muon else _NORM).strip(),
        clip=clipping,
        move=MOVE if muon else "self.optimizer.step()",
        constrain="self.constrain()" if constrained else "",
        average="self.update_average()" if spec.training.average and spec.training.average.name == "ema" else "",
        returned=returned,
    )
    before = ["penalty = self.penalize()" if penalized else "", "self.shake()" if noisy else ""]
    accumulated = spec.training.accumulate > 1
    take = ["x, y = self.take(batch)", "outputs = self.network(x)"]
    if not setting.taking:
        x = resized(setting.data, "self.x[batch]")
        take = ["y = self.y[batch]", f"outputs = self.network(self.standardize({x}))"]
    return fill(
        _ACCUMULATED if accumulated else _STEP,
        returned="tuple[float, float]" if penalized else "float",
        what="the gradient's norm and the penalty" if penalized else "the gradient's norm",
        rates=lines(_set_rates(setting), 2),
        take=lines(take, 3 if accumulated else 2),
        labels="y.argmax(dim=1)" if mixes(spec) and build.targets(spec) != "values" else "y",
        rest=lines([*before, rest], 2),
    )


_CLIPPING: Final = {
    "norm": "self.gradient.mul_(($size / (norm + 1e-6)).clamp(max=1.0))",
    "value": "self.gradient.clamp_(-$size, $size)",
    "parameter_norm": """
for part in self.gradient.split([p.numel() for p in self.parameters]):
    own = torch.linalg.vector_norm(part)
    part.mul_(($size / (own + 1e-6)).clamp(max=1.0))
""",
}


def _set_rates(setting: Setting) -> list[str]:
    """Return the lines that set the rates of a step."""
    if not setting.rates.changes and not setting.rates.reacts:
        return []
    options: Any = setting.spec.optimizer.options
    if setting.spec.optimizer.name == MUON:
        return muon_rates(options, _rate(setting, "self.steps", "lr"), momentum=setting.rates.momentum)
    initial = 'group["initial_lr"]' if setting.layered or has_rates(options) else setting.lr
    # Each stage counts its own steps.
    counted = setting.divided and setting.rates.changes
    step = "step" if counted else "self.steps"
    rate, inside = _rate(setting, step, initial), []
    if len(rate) > _LONGEST:
        rate, _, scale = rate.rpartition(" * ")
        inside, rate = [f"rate = {rate}"], f"rate * {scale}"
    inside.append(f'group["lr"] = {rate}')
    momentum = f"{'self.stage.' if setting.divided else ''}momentum({step})"
    if setting.rates.momentum and hasattr(options, "betas"):
        inside.append(f'group["betas"] = ({momentum}, {options.betas[1]!r})')
    elif setting.rates.momentum:
        inside.append(f'group["momentum"] = {momentum}')
    before = ["step = self.steps - self.begun"] if counted else []
    return [*before, "for group in self.optimizer.param_groups:", lines(inside, 1)]


_LONGEST: Final = 62
"""Above this width, a rate is multiplied on a line of its own."""

_TAKE: Final = '''
    def take(self, batch: Tensor) -> tuple[Tensor, Tensor]:
        """Return the samples of a batch, changed at random and standardized."""
'''
