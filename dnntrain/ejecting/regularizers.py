"""Regularizers: penalties and noise on gradients, and constraints on weights, as methods of `Trainer`."""

from __future__ import annotations

from collections.abc import Sequence
from fnmatch import fnmatchcase
from typing import Final

from torch import nn

from dnntrain.build.locating import choices
from dnntrain.ejecting.script import Script, assignment, fill, lines, method
from dnntrain.parts.layers import kernels
from dnntrain.registry import Choice
from dnntrain.spec import Spec

_NORMS: Final = '''
def norms_of(weights: list[Tensor], power: int) -> Tensor:
    """Return the norm of each of these weights."""
    return torch.stack([torch.linalg.vector_norm(w, power) for w in weights])
'''

PENALTIES: Final = ("l1", "l2", "l1_l2")
NOISES: Final = ("gradient_noise",)
CONSTRAINTS: Final = ("max_norm", "unit_norm", "non_negative")
REGULARIZERS: Final = (*PENALTIES, *NOISES, *CONSTRAINTS)


def penalize(script: Script, spec: Spec, network: nn.Module) -> str:
    """Return the method of `Trainer` that adds penalties; nothing where there are none."""
    penalties = _of(spec, PENALTIES)
    if not penalties:
        return ""
    script.define(_NORMS)
    about = "Add the gradient of the penalty to that of the loss; return the penalty."
    return method("penalize", "float", about, _penalize(network, penalties))


def shake(spec: Spec, network: nn.Module) -> str:
    """Return the method of `Trainer` that adds noise; nothing where there is none."""
    body = [_noise(network, each) for each in _of(spec, NOISES)]
    return method("shake", "None", "Add noise to the gradients, less and less.", body) if body else ""


def constrain(spec: Spec, network: nn.Module) -> str:
    """Return the method of `Trainer` that constrains weights; nothing where they are free."""
    body = [_constraint(network, each) for each in _of(spec, CONSTRAINTS)]
    return method("constrain", "None", "Bring the weights to where they have to be.", body) if body else ""


def covers_all(network: nn.Module, choice: Choice) -> bool:
    """Whether a regularizer is for all kernels of a network."""
    return len(_names(network, choice)) == len(kernels(network))


def _of(spec: Spec, kinds: Sequence[str]) -> list[Choice]:
    return [each for each in choices(spec.regularizers) if each.name in kinds]


def _names(network: nn.Module, choice: Choice) -> list[str]:
    """Return the names of the layers whose kernels a regularizer is for."""
    patterns = vars(choice.options)["layers"]
    several = (patterns,) if isinstance(patterns, str) else patterns
    return [name for name in kernels(network) if any(fnmatchcase(name, each) for each in several)]


def _weights(network: nn.Module, choice: Choice) -> tuple[list[str], str]:
    """Return the lines that pick the weights of a regularizer, and how they are called then."""
    if covers_all(network, choice):
        return [], "self.kernels"
    # A kernel that is called `weight` has the name of its layer.
    parameters = dict(network.named_parameters())
    names = [name if name in parameters else f"{name}.weight" for name in _names(network, choice)]
    picked = "weights = [self.network.get_parameter(name) for name in names]"
    return [assignment("names", names), picked], "weights"


def _penalize(network: nn.Module, penalties: list[Choice]) -> list[str]:
    made: list[str] = ["penalties = []"] if len(penalties) > 1 else []
    for choice in penalties:
        options = vars(choice.options)
        strengths = {
            "l1": options["strength"] if choice.name == "l1" else options.get("l1"),
            "l2": options["strength"] if choice.name == "l2" else options.get("l2"),
        }
        picked, weights = _weights(network, choice)
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


def _noise(network: nn.Module, choice: Choice) -> str:
    options = vars(choice.options)
    picked, weights = _weights(network, choice)
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


def _constraint(network: nn.Module, choice: Choice) -> str:
    picked, weights = _weights(network, choice)
    if choice.name == "non_negative":
        return lines([*picked, f"for weight in {weights}:", "    weight.clamp_(min=0.0)"])
    factor = "1.0 / norms.clamp(min=1e-12)"
    if choice.name == "max_norm":
        factor = f"({vars(choice.options)['max']!r} / norms.clamp(min=1e-12)).clamp(max=1.0)"
    return lines([*picked, fill(_RESCALE, weights=weights, factor=factor)])
