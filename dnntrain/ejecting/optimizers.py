"""Optimizers: PyTorch's own where dnntrain has those, otherwise the update written out."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, Final

from torch import nn

from dnntrain.ejecting.groups import decays, define_groups, has_rates
from dnntrain.ejecting.muon import MUON, define_muon
from dnntrain.ejecting.schedules import Rates
from dnntrain.ejecting.script import Code, Script, call, differing, fill, lines, signature, written
from dnntrain.parts.layers import table_weights
from dnntrain.parts.optimizers.radam import TRUSTED
from dnntrain.spec import Spec

_OPTIMIZER: Final = '''
class $name(torch.optim.Optimizer):
    """$about"""

    @torch.no_grad()
    def step(self) -> None:
        for group in self.param_groups:
            for p in group["params"]:
                self.update(p, p.grad, self.state[p], group)

    def update(self, p: Tensor, g: Tensor, state: dict, group: dict) -> None:
$body
'''

_NADAM: Final = """
if not state:
    state.update(t=0, product=1.0, m=torch.zeros_like(p), v=torch.zeros_like(p))
state["t"] += 1
t, m, v = state["t"], state["m"], state["v"]
beta1, beta2 = group["betas"]
mu = beta1 * (1.0 - 0.5 * 0.96 ** (t * $momentum_decay))
mu_next = beta1 * (1.0 - 0.5 * 0.96 ** ((t + 1) * $momentum_decay))
state["product"] *= mu
product = state["product"]
$shrink
m.lerp_(g, 1.0 - beta1)
v.mul_(beta2).addcmul_(g, g, value=1.0 - beta2)
root = v.sqrt().mul_(1.0 / math.sqrt(1.0 - beta2**t)).add_($eps)
p.addcdiv_(g, root, value=-group["lr"] * (1.0 - mu) / (1.0 - product))
p.addcdiv_(m, root, value=-group["lr"] * mu_next / (1.0 - product * mu_next))
"""

_RADAM: Final = """
if not state:
    state.update(t=0, m=torch.zeros_like(p), v=torch.zeros_like(p))
state["t"] += 1
t, m, v = state["t"], state["m"], state["v"]
beta1, beta2 = group["betas"]
$shrink
m.lerp_(g, 1.0 - beta1)
v.mul_(beta2).addcmul_(g, g, value=1.0 - beta2)
size = group["lr"] / (1.0 - beta1**t)
# How many steps the second moment has seen, at its longest and by now.
longest = 2.0 / (1.0 - beta2) - 1.0
length = longest - 2.0 * t * beta2**t / (1.0 - beta2**t)
if length <= $trusted:
    p.add_(m, alpha=-size)
    return
above = (length - 4) * (length - 2) * longest
rectified = math.sqrt(above / ((longest - 4) * (longest - 2) * length))
root = v.sqrt().add_($eps)
p.addcdiv_(m, root, value=-size * rectified * math.sqrt(1.0 - beta2**t))
"""

_RMSPROP: Final = """
if not state:
    $state
s = state["s"]
s.mul_($alpha).addcmul_(g, g, value=$rest)
$root
$move
"""

_ADADELTA: Final = """
if not state:
    state.update(s=torch.zeros_like(p), u=torch.zeros_like(p))
s, u = state["s"], state["u"]
s.mul_($rho).addcmul_(g, g, value=$rest)
d = torch.add(u, $eps).div_(torch.add(s, $eps)).sqrt_().mul_(g)
u.mul_($rho).addcmul_(d, d, value=$rest)
p.add_(d, alpha=-group["lr"])
"""

_LION: Final = """
if not state:
    state.update(m=torch.zeros_like(p))
m, (beta1, beta2) = state["m"], group["betas"]
$shrink
p.add_(torch.lerp(m, g, 1.0 - beta1).sign_(), alpha=-group["lr"])
m.lerp_(g, 1.0 - beta2)
"""

_SHRINK: Final = 'p.mul_(1.0 - group["lr"] * group["weight_decay"])'


_RATE: Final = Code("LR")

Write = Callable[[Script, Any, Rates], str]


def _torch(name: str, *, fused: bool = True, **usual: Any) -> Write:
    """Return what writes an optimizer of PyTorch, with those options that are not PyTorch's own defaults."""

    def write(script: Script, options: Any, rates: Rates) -> str:
        in_one_kernel = fused and not getattr(options, "dampening", 0.0)
        given = {**differing(options, usual), **({"fused": True} if in_one_kernel else {})}
        return call(f"torch.optim.{name}", Code("weights"), lr=_RATE, **given)

    return write


def _own(name: str, about: str, body: str) -> Write:
    """Return what writes an optimizer of our own, its update written out."""

    def write(script: Script, options: Any, rates: Rates) -> str:
        values: dict[str, Any] = {"shrink": _SHRINK if decays(options) else "", "trusted": TRUSTED}
        for key in ("eps", "rho", "momentum_decay"):
            values[key] = repr(getattr(options, key, None))
        values["rest"] = repr(1.0 - getattr(options, "rho", 0.0))
        script.define(_optimizer(name, about, fill(body, **values)))
        defaults = {"lr": _RATE, **({"betas": options.betas} if hasattr(options, "betas") else {})}
        return _made(name, defaults)

    return write


def _rmsprop(script: Script, options: Any, rates: Rates) -> str:
    moves = bool(options.momentum) or rates.momentum
    kept = ["s", *(["c"] if options.centered else []), *(["velocity"] if moves else [])]
    state = f"state.update({', '.join(f'{name}=torch.zeros_like(p)' for name in kept)})"
    if len(kept) > 2:
        state = 'state.update({k: torch.zeros_like(p) for k in ("s", "c", "velocity")})'
    values = {
        "state": state,
        "alpha": repr(options.alpha),
        "rest": repr(1.0 - options.alpha),
        "root": fill(_CENTERED if options.centered else _PLAIN_ROOT, rest=1.0 - options.alpha, eps=options.eps),
        "move": (_WITH_VELOCITY if moves else _PLAIN_MOVE).strip(),
    }
    about = "Divides each gradient by the root of a decaying mean of its squares."
    script.define(_optimizer("RMSprop", about, fill(_RMSPROP, **values)))
    defaults: dict[str, Any] = {"lr": _RATE, **({"momentum": options.momentum} if moves else {})}
    return _made("RMSprop", defaults)


_PLAIN_ROOT: Final = "root = s.sqrt().add_($eps)"
_CENTERED: Final = """
c = state["c"].lerp_(g, $rest)
root = torch.addcmul(s, c, c, value=-1.0).clamp_(min=0.0).sqrt_().add_($eps)
"""
_PLAIN_MOVE: Final = 'p.addcdiv_(g, root, value=-group["lr"])'
_WITH_VELOCITY: Final = """
velocity = state["velocity"].mul_(group["momentum"]).addcdiv_(g, root)
p.add_(velocity, alpha=-group["lr"])
"""


def _optimizer(name: str, about: str, body: str) -> str:
    return fill(_OPTIMIZER, name=name, about=about, body=lines(body.splitlines(), 2))


def _made(name: str, defaults: dict[str, Any]) -> str:
    inside = ", ".join(f'"{key}": {written(value)}' for key, value in defaults.items())
    return f"{name}(weights, {{{inside}}})"


_BETAS: Final = (0.9, 0.999)

OPTIMIZERS: Final[dict[str, Write]] = {
    "sgd": _torch("SGD", momentum=0.0, dampening=0.0, nesterov=False),
    "adam": _torch("Adam", betas=_BETAS, eps=1e-8, amsgrad=False),
    "adamw": _torch("AdamW", betas=_BETAS, eps=1e-8),
    "adamax": _torch("Adamax", fused=False, betas=_BETAS, eps=1e-8),
    "adagrad": _torch("Adagrad", initial_accumulator_value=0.0, eps=1e-10),
    "adadelta": _own("Adadelta", "Takes steps as long as past steps were.", _ADADELTA),
    "rmsprop": _rmsprop,
    "nadam": _own("NAdam", "Adam with Nesterov momentum.", _NADAM),
    "radam": _own("RAdam", "Adam whose first steps do without its second moment.", _RADAM),
    "lion": _own("Lion", "Takes steps along the sign of the momentum.", _LION),
}
"""From the options to the expression that makes the optimizer of `weights`."""

_FLATTEN: Final = '''
def flatten(parameters: list[nn.Parameter]) -> tuple[Tensor, Tensor]:
    """Move parameters into one vector, so that an update is one operation.

    Each parameter becomes a view of its stretch. Returns the vector and one for the
    gradient.
    """
    values = torch.cat([p.detach().flatten() for p in parameters])
    start = 0
    for p in parameters:
        p.data = values[start : start + p.numel()].view_as(p)
        start += p.numel()
    return values, torch.zeros_like(values)
'''

_ONE_GROUP: Final = '''
$head
    """Return the optimizer of a vector of weights, which reads their gradient."""
    vector = nn.Parameter(values)
    vector.grad = gradient
    weights = [vector]
    return $made
'''

_TWO_GROUPS: Final = '''
$head
    """Return the optimizer of a vector of weights, the first of which decay."""
    weights = []
    for part, decay in ((slice(decayed), $decay), (slice(decayed, None), 0.0)):
        vector = nn.Parameter(values[part])
        vector.grad = gradient[part]
        weights.append({"params": [vector], "weight_decay": decay})
    return $made
'''

_GROUPS: Final = '''
$head
    """Return the optimizer of a vector of weights; each group is a stretch of it."""
    weights, start = [], 0
    for group in groups:
        stop = start + sum(p.numel() for p in group["params"])
        vector = nn.Parameter(values[start:stop])
        vector.grad = gradient[start:stop]
        weights.append({**group, "params": [vector]$initial})
        start = stop
    return $made
'''

_THIRD: Final = {_ONE_GROUP: [], _TWO_GROUPS: ["decayed: int"], _GROUPS: ["groups: list[dict]"]}
"""What a function takes beside the vectors of weights and of their gradient."""


def define_optimizer(
    script: Script, spec: Spec, network: nn.Module, rates: Rates, *, staged: bool = False, layered: bool = False
) -> None:
    """Define `flatten` and `make_optimizer`, and `parameter_groups` where the file has groups; or `Muon`.

    Args:
        script: what takes definitions.
        spec: the experiment.
        network: as dnntrain builds it.
        rates: what the schedule does.
        staged: whether each stage has a learning rate of its own.
        layered: whether layers have a lower rate than those above them; then groups are defined elsewhere.
    """
    script.heading("The optimizer")
    options: Any = spec.optimizer.options
    if spec.optimizer.name == MUON:
        define_muon(script, options)
        return
    made = OPTIMIZERS[spec.optimizer.name](script, options, rates)
    if spec.optimizer.name == "adamw" and not decays(options):
        made = made.replace("lr=LR", "lr=LR, weight_decay=0.0")
    script.define(_FLATTEN)
    if options.groups:
        define_groups(script, options, network)
    grouped = bool(options.groups or layered)
    moves = (layered or has_rates(options)) and (rates.changes or rates.reacts is not None)
    decay = getattr(options, "weight_decay", 0.0)
    template = _GROUPS if grouped or table_of(network) else _TWO_GROUPS if decay else _ONE_GROUP
    taken = ["values: Tensor", "gradient: Tensor", *_THIRD[template], *(["lr: float"] if staged else [])]
    pieces = {
        "head": signature("make_optimizer", taken, "torch.optim.Optimizer"),
        "made": re.sub(r"\bLR\b", "lr", made) if staged else made,
        "initial": ', "initial_lr": group["lr"]' if grouped and moves else "",
        "decay": repr(decay),
    }
    script.define(fill(template, **pieces))


def table_of(network: nn.Module) -> str:
    """Return the name of the vectors that a network adds or looks up as they are, if it has any.

    They are a group of their own, and do not decay.
    """
    tables = table_weights(network)
    return "".join(name for name, p in network.named_parameters() if p in tables)
