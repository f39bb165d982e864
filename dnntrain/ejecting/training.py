"""The training itself: steps, epochs, and the function that puts everything together."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
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
from dnntrain.ejecting.resizing import resized
from dnntrain.ejecting.schedules import Rates
from dnntrain.ejecting.script import Script, assignment, fill, lines
from dnntrain.parts.layers import kernels
from dnntrain.registry import Choice
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
    """

    spec: Spec
    data: Data
    network: nn.Module
    rates: Rates
    waiting: bool
    taking: list[str]


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
    """

    def __init__(
        self,
        network: nn.Module,
        standardize: Callable[[Tensor], Tensor],
        x: Tensor,
        y: Tensor,
    ) -> None:
        self.network = network
        self.standardize = standardize
        self.x, self.y = x, y
$start

    def epoch(self) -> dict[str, float]:
        """Train on all samples in a new random order; return the mean figures."""
        self.network.train()
        figures = Figures()
$sums
        positions = $positions
$loop
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
    penalties, noises, constraints = (_regularizers(spec, kinds) for kinds in (_PENALTIES, _NOISES, _CONSTRAINTS))
    methods = []
    if setting.taking:
        methods.append(lines([_TAKE.strip("\n"), lines(setting.taking, 2)]))
    if penalties:
        script.define(_NORMS)
        methods.append(_method("penalize", "float", _PENALIZE, _penalize(setting, penalties)))
    if noises:
        methods.append(_method("shake", "None", _SHAKE, [_noise(setting, each) for each in noises]))
    if average is not None:
        methods.append(_method("update_average", "None", *updating(script, average, setting.network)))
    if constraints:
        methods.append(_method("constrain", "None", _CONSTRAIN, [_constraint(setting, each) for each in constraints]))
    made = fill(
        _TRAINER,
        start=lines(_start(setting), 2),
        sums=lines(["norms = penalties = 0.0" if penalties else "norms = 0.0"], 2),
        positions="balanced(self.y, self.order)"
        if spec.data.sampling == "balanced"
        else "torch.randperm(len(self.y), generator=self.order)",
        loop=lines(_loop(setting, penalized=bool(penalties)), 2),
        row=lines(_row(setting, penalized=bool(penalties)), 3),
    )
    step = _step(setting, penalized=bool(penalties), noisy=bool(noises), constrained=bool(constraints))
    script.define("\n\n".join([made, step, *methods]))


def _joins(setting: Setting, size: int | None = None) -> bool:
    """Whether a last batch of a single sample joins the one before it, in batches of training or of some size."""
    size, count = size or setting.spec.data.batch_size, len(setting.data.parts.train)
    return count > size > 1 and count % size == 1


def _start(setting: Setting) -> list[str]:
    spec, table = setting.spec, table_of(setting.network)
    options: Any = spec.optimizer.options
    muon, splits = spec.optimizer.name == MUON, decays(options) and not options.groups
    made = ["self.parameters = list(network.parameters())"]
    kernels_of = "[p for p in network.parameters() if p.ndim > 1]"
    if options.groups:
        made = [
            "groups = parameter_groups(network)",
            'self.parameters = [p for group in groups for p in group["params"]]',
        ]
    if table:
        made = _with_table(options, table)
        kernels_of = "[p for p in others if p.ndim > 1]"
    elif splits or muon:
        made = [
            f"kernels = {kernels_of}",
            "others = [p for p in network.parameters() if p.ndim <= 1]",
            "self.parameters = kernels + others" if splits else made[0],
        ]
    if any(_covers_all(setting, each) for each in choices(spec.regularizers)):
        made.append(f"self.kernels = {'kernels' if splits or muon else kernels_of}")
    grouped = bool(options.groups or table)
    made += begin_muon(options) if muon else _laid_out(splits=splits and not table, grouped=grouped)
    if spec.training.average is not None:
        made += begin_averaging(spec.training.average)
    made += ['self.order = generator("order")', "self.steps = 0"]
    made += ['self.draws = generator("augmentation")'] if setting.taking else []
    return [*made, "self.lr_scale = 1.0"] if setting.rates.reacts else made


def _laid_out(*, splits: bool, grouped: bool) -> list[str]:
    """Return the lines that lay the parameters into one vector, and make the optimizer of it."""
    third = ", groups" if grouped else ", decayed" if splits else ""
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


def _rate(setting: Setting, step: str, initial: str = "LR") -> str:
    """Return the learning rate of a step; where layers have their own, of those whose rate is `initial` at first."""
    own = has_rates(setting.spec.optimizer.options)
    rate = f"learning_rate({step}{f', {initial}' if own else ''})" if setting.rates.changes else initial
    return f"{rate} * self.lr_scale" if setting.rates.reacts else rate


def _row(setting: Setting, *, penalized: bool) -> list[str]:
    count = "len(starts)" if setting.spec.training.accumulate > 1 else "len(batches)"
    penalty = [f'"train/penalty": penalties / {count},'] if penalized else []
    return [*penalty, f'"lr": {_rate(setting, "self.steps - 1")},', f'"grad_norm": norms / {count},']


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
    initial = 'group["initial_lr"]' if has_rates(options) else "LR"
    inside = [f'group["lr"] = {_rate(setting, "self.steps", initial)}']
    if setting.rates.momentum and hasattr(options, "betas"):
        inside.append(f'group["betas"] = (momentum(self.steps), {options.betas[1]!r})')
    elif setting.rates.momentum:
        inside.append('group["momentum"] = momentum(self.steps)')
    return ["for group in self.optimizer.param_groups:", lines(inside, 1)]


_TAKE: Final = '''
    def take(self, batch: Tensor) -> tuple[Tensor, Tensor]:
        """Return the samples of a batch, changed at random and standardized."""
'''

_NORMS: Final = '''
def norms_of(weights: list[Tensor], power: int) -> Tensor:
    """Return the norm of each of these weights."""
    return torch.stack([torch.linalg.vector_norm(w, power) for w in weights])
'''

_PENALIZE: Final = "Add the gradient of the penalty to that of the loss; return the penalty."
_SHAKE: Final = "Add noise to the gradients, less and less."
_CONSTRAIN: Final = "Bring the weights to where they have to be."


def _method(name: str, returned: str, about: str, body: list[str]) -> str:
    made = ["@torch.no_grad()", f"def {name}(self) -> {returned}:", f'    """{about}"""', lines(body, 1)]
    return lines(made, 1)


def _regularizers(spec: Spec, kinds: Sequence[str]) -> list[Choice]:
    return [each for each in choices(spec.regularizers) if each.name in kinds]


_PENALTIES: Final = ("l1", "l2", "l1_l2")
_NOISES: Final = ("gradient_noise",)
_CONSTRAINTS: Final = ("max_norm", "unit_norm", "non_negative")
REGULARIZERS: Final = (*_PENALTIES, *_NOISES, *_CONSTRAINTS)


def _names(setting: Setting, choice: Choice) -> list[str]:
    """Return the names of the layers whose kernels a regularizer is for."""
    patterns = vars(choice.options)["layers"]
    several = (patterns,) if isinstance(patterns, str) else patterns
    return [name for name in kernels(setting.network) if any(fnmatchcase(name, each) for each in several)]


def _covers_all(setting: Setting, choice: Choice) -> bool:
    return len(_names(setting, choice)) == len(kernels(setting.network))


def _weights(setting: Setting, choice: Choice) -> tuple[list[str], str]:
    """Return the lines that pick the weights of a regularizer, and how they are called then."""
    if _covers_all(setting, choice):
        return [], "self.kernels"
    # A kernel that is called `weight` has the name of its layer.
    parameters = dict(setting.network.named_parameters())
    names = [name if name in parameters else f"{name}.weight" for name in _names(setting, choice)]
    picked = "weights = [self.network.get_parameter(name) for name in names]"
    return [assignment("names", names), picked], "weights"


def _penalize(setting: Setting, penalties: list[Choice]) -> list[str]:
    made: list[str] = ["penalties = []"] if len(penalties) > 1 else []
    for choice in penalties:
        options = vars(choice.options)
        strengths = {
            "l1": options["strength"] if choice.name == "l1" else options.get("l1"),
            "l2": options["strength"] if choice.name == "l2" else options.get("l2"),
        }
        picked, weights = _weights(setting, choice)
        terms, inside = [], []
        if strengths["l1"]:
            terms.append(f"{strengths['l1']!r} * norms_of({weights}, 1).sum()")
            inside.append(f"weight.grad.add_(weight.sign(), alpha={strengths['l1']!r})")
        if strengths["l2"]:
            terms.append(f"{strengths['l2']!r} * norms_of({weights}, 2).square().sum()")
            inside.append(f"weight.grad.add_(weight, alpha={2.0 * strengths['l2']!r})")
        made += picked
        if len(penalties) > 1:
            made.append(f"penalties.append({terms[0]})" if len(terms) == 1 else _appended(terms))
        else:
            made.append(f"penalty = {terms[0]}")
            made += [f"penalty += {term}" for term in terms[1:]]
        made += [f"for weight in {weights}:", lines(inside, 1)]
    return [*made, "return torch.stack(penalties).sum().item()" if len(penalties) > 1 else "return penalty.item()"]


def _appended(terms: list[str]) -> str:
    return f"penalty = {terms[0]}\npenalty += {terms[1]}\npenalties.append(penalty)"


def _noise(setting: Setting, choice: Choice) -> str:
    options = vars(choice.options)
    picked, weights = _weights(setting, choice)
    return lines(
        [
            *picked,
            f"deviation = ({options['eta']!r} / (1.0 + self.steps) ** {options['gamma']!r}) ** 0.5",
            f"for weight in {weights}:",
            "    weight.grad.add_(torch.randn_like(weight), alpha=deviation)",
        ]
    )


_RESCALE: Final = """
for weight in $weights:
    inputs = tuple(range(1, weight.ndim))
    norms = torch.linalg.vector_norm(weight, dim=inputs, keepdim=True)
    weight.mul_($factor)
"""


def _constraint(setting: Setting, choice: Choice) -> str:
    picked, weights = _weights(setting, choice)
    if choice.name == "non_negative":
        return lines([*picked, f"for weight in {weights}:", "    weight.clamp_(min=0.0)"])
    factor = "1.0 / norms.clamp(min=1e-12)"
    if choice.name == "max_norm":
        factor = f"({vars(choice.options)['max']!r} / norms.clamp(min=1e-12)).clamp(max=1.0)"
    return lines([*picked, fill(_RESCALE, weights=weights, factor=factor)])
