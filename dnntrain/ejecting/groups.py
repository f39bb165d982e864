"""Layers with a learning rate or a weight decay of their own: the groups of parameters that an optimizer takes."""

from __future__ import annotations

from typing import Any, Final

from torch import nn

from dnntrain.ejecting.script import WIDTH, Script, fill, lines
from dnntrain.parts.layers import matches
from dnntrain.parts.optimizers.grouping import grouped

_MATCHES: Final = '''
def matches(layer: str, patterns: list[str]) -> bool:
    """Whether the name of a layer matches one of some patterns."""
    return any(fnmatchcase(layer, pattern) for pattern in patterns)
'''

_KERNELS: Final = '''
def kernels(parameters: list[nn.Parameter]) -> list[nn.Parameter]:
    """Return those that inputs are multiplied by, which decay."""
    return [p for p in parameters if p.ndim > 1]


def others(parameters: list[nn.Parameter]) -> list[nn.Parameter]:
    """Return biases and the parameters of normalization, which do not."""
    return [p for p in parameters if p.ndim <= 1]
'''

_GROUPS: Final = '''
def parameter_groups(network: nn.Module) -> list[dict]:
    """Divide the parameters by layer into groups with options of their own."""
    $names = $lists
    for name, p in network.named_parameters():
        layer = name.rpartition(".")[0]
$choices
    return [
$groups
    ]
'''


def has_rates(options: Any) -> bool:
    """Whether some parameters have a learning rate of their own, from the options of an optimizer."""
    return hasattr(options, "adamw_lr") or any(group.lr is not None for group in options.groups)


def decays(options: Any) -> bool:
    """Whether some weights decay, from the options of an optimizer."""
    return bool(getattr(options, "weight_decay", 0.0)) or any(group.weight_decay for group in options.groups)


def define_groups(script: Script, options: Any, network: nn.Module) -> None:
    """Define `parameter_groups`.

    Args:
        script: what takes definitions.
        options: of the optimizer.
        network: as dnntrain builds it.
    """
    layers = {p: name.rpartition(".")[0] for name, p in network.named_parameters()}
    divided = grouped(network, options.groups, decay=getattr(options, "weight_decay", None))
    # Which of the file's groups the parameters belong to, from 1; 0 for what is in none.
    numbers = [
        next((i for i, each in enumerate(options.groups, 1) if matches(layers[group["params"][0]], each.layers)), 0)
        for group in divided
    ]
    used = sorted(set(numbers))
    if len(numbers) > len(used):
        script.define(_KERNELS)
    script.define(_MATCHES)
    choices: list[str] = []
    for number in filter(None, used):
        patterns = options.groups[number - 1].layers
        script.constants(**{_name(number).upper(): [patterns] if isinstance(patterns, str) else list(patterns)})
        choices += [f"{'elif' if choices else 'if'} matches(layer, {_name(number).upper()}):"]
        choices += [f"    {_name(number)}.append(p)"]
    choices += ["else:", "    rest.append(p)"] if 0 in used else []
    entries = []
    for place, (group, number) in enumerate(zip(divided, numbers, strict=True)):
        chosen = _name(number)
        if numbers.count(number) > 1:
            # Those that do not decay come behind those that do.
            chosen = f"{'kernels' if numbers.index(number) == place else 'others'}({chosen})"
        entries.append(_entry(options, group, chosen))
    names, lists = ", ".join(map(_name, used)), ", ".join(["[]"] * len(used))
    script.define(fill(_GROUPS, names=names, lists=lists, choices=lines(choices, 2), groups=lines(entries, 2)))


def _name(number: int) -> str:
    return f"group_{number}" if number else "rest"


def _entry(options: Any, group: dict[str, Any], parameters: str) -> str:
    """Return a group, on one line or, where that is too long, on several."""
    items = [f'"params": {parameters}']
    if has_rates(options):
        items.append(f'"lr": {group["lr"]!r}' if "lr" in group else '"lr": LR')
    if decays(options):
        items.append(f'"weight_decay": {group.get("weight_decay", options.weight_decay)!r}')
    line = f"{{{', '.join(items)}}},"
    if len(line) + 8 <= WIDTH:
        return line
    return "{\n" + "".join(f"    {item},\n" for item in items) + "},"
