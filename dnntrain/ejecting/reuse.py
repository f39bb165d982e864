"""Layers that come from elsewhere: the file that they lie in, and taking them over."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import torch

from dnntrain import build
from dnntrain.ejecting.script import Code, Script, fill, lines, quoted
from dnntrain.ejecting.stages import Course, covering
from dnntrain.parts.weights.tensors import PREFIXES, WRAPPERS
from dnntrain.spec import Spec
from dnntrain.spec.reusing import ReuseSpec
from dnntrain.store import RunDirectory

_TORCH: Final = (".pt", ".pth")
_SAFETENSORS: Final = ".safetensors"

_READ: Final = '''
def read_source() -> $returned:
    """Return $what.

    It must be the same file as in the run.
    """
    if not SOURCE.exists():
        sys.exit(f"{SOURCE} is not there: it holds the layers that are reused")
    if hashlib.sha256(SOURCE.read_bytes()).hexdigest() != SOURCE_SHA256:
        sys.exit(f"{SOURCE} has changed: other layers would be reused than in the run")
$body
'''

_REUSE: Final = '''
def reuse_layers(network: nn.Module, weights: dict[str, Tensor]) -> None:
    """Copy layers that were trained elsewhere; all others keep their first weights."""
    names = tuple(f"{layer}." for layer in REUSED)
    reused = {k: v for k, v in weights.items() if k.startswith(names)}
    network.load_state_dict(reused, strict=False)
'''

_STANDARDIZE: Final = '''
class Standardize:
    """Shifts and scales samples as those that the reused layers have learned from.

    Args:
        scale: what each value is multiplied by.
        shift: what is added then.
    """

    def __init__(self, scale: Tensor, shift: Tensor) -> None:
        self.scale, self.shift = scale, shift

    def __call__(self, x: Tensor) -> Tensor:
        return torch.addcmul(self.shift, x.float(), self.scale)
'''


@dataclass(frozen=True)
class _Form:
    """In which form a file holds weights.

    Attributes:
        read: the expression that reads them.
        prefix: what stands before all names.
    """

    read: str
    prefix: str


def unreadable(reuse: ReuseSpec) -> str | None:
    """Return what a source of layers is that no script is written for; None where there is nothing to object to."""
    source = Path(reuse.from_)
    known = source.suffix.lower() in (*_TORCH, _SAFETENSORS) or not source.suffix or source.is_dir()
    return None if known else f"{source.suffix.lower()} files"


def is_safetensors(spec: Spec) -> bool:
    """Whether layers come from a file of safetensors."""
    return spec.model.reuse is not None and Path(spec.model.reuse.from_).suffix.lower() == _SAFETENSORS


def define_pretrained(script: Script) -> None:
    """Define what standardizes samples as for the reused layers."""
    script.define(_STANDARDIZE)


def define_reuse(script: Script, spec: Spec, reuse: ReuseSpec, course: Course) -> None:
    """Define `read_source` and `reuse_layers`."""
    script.heading("The layers that are reused")
    source = Path(reuse.from_)
    of_run = source.is_dir()
    path = RunDirectory(source).checkpoint(RunDirectory.BEST) if of_run else source
    script.constants(SOURCE=Code(f"Path({quoted(str(path))})"), SOURCE_SHA256=build.digest(spec))
    script.constants(REUSED=list(covering(course.network, build.reused_layers(spec, course.network))))
    if of_run:
        what, body = "the checkpoint of another run's best epoch", 'return torch.load(SOURCE, "cpu", weights_only=True)'
    else:
        what, body = "weights that were trained elsewhere, by their names", _body(script, path, reuse.names)
    returned = "dict" if of_run else "dict[str, Tensor]"
    script.define(fill(_READ, returned=returned, what=what, body=lines([body], 1)))
    script.define(_REUSE)


_BY_LAYER: Final = """
weights = $read
return {
    ours + name.removeprefix(theirs): value
    for ours, theirs in NAMES.items()
    for name, value in weights.items()
    if name.startswith(f"{theirs}.")
}
"""

_BY_TENSOR: Final = """
weights = $read
return {ours: weights[theirs] for ours, theirs in NAMES.items()}
"""

_WITHOUT_PREFIX: Final = """
weights = $read
return {name.removeprefix($prefix): value for name, value in weights.items()}
"""


def _body(script: Script, path: Path, names: Mapping[str, str] | None) -> str:
    """Return the lines that read a file of weights under the names that layers have here."""
    form, stored = _form(path)
    if names is not None:
        by_layer = not any(theirs in stored for theirs in names.values())
        named = names if by_layer else _renamed(stored, names)
        script.constants(NAMES={ours: f"{form.prefix}{theirs}" for ours, theirs in named.items()})
        return fill(_BY_LAYER if by_layer else _BY_TENSOR, read=form.read)
    if form.prefix:
        return fill(_WITHOUT_PREFIX, read=form.read, prefix=quoted(form.prefix))
    return f"return {form.read}"


def _form(path: Path) -> tuple[_Form, list[str]]:
    """Return the form of a file, which has been read before, and the names in it."""
    if path.suffix.lower() == _SAFETENSORS:
        from safetensors.torch import load_file

        read, loaded = "load_file(SOURCE)", load_file(path)
    else:
        read, loaded = 'torch.load(SOURCE, "cpu", weights_only=True)', torch.load(path, "cpu", weights_only=True)
        for key in WRAPPERS:
            if isinstance(loaded.get(key), dict):
                read, loaded = f'{read}["{key}"]', loaded[key]
                break
    names = [name for name, value in loaded.items() if isinstance(name, str) and isinstance(value, torch.Tensor)]
    prefix = ""
    for each in PREFIXES:
        if all(name.startswith(each) for name in names):
            prefix, names = prefix + each, [name.removeprefix(each) for name in names]
    return _Form(read, prefix), names


def _renamed(stored: list[str], names: Mapping[str, str]) -> dict[str, str]:
    """Return what each tensor of ours is called in a file, from names of tensors and of layers."""
    found: dict[str, str] = {}
    for ours, theirs in names.items():
        if theirs in stored:
            found[ours] = theirs
        else:
            inside = [name for name in stored if name.startswith(f"{theirs}.")]
            found |= {ours + name.removeprefix(theirs): name for name in inside}
    return found


def starting(spec: Spec) -> tuple[list[str], list[str]]:
    """Return the lines of `main` that read the source and standardize as it did, and those that take layers over."""
    reuse: Any = spec.model.reuse
    if reuse is None:
        return [], []
    weights = 'source["model"]' if Path(reuse.from_).is_dir() else "source"
    pretrained = spec.data.standardize == "pretrained"
    standardize = ['standardize = Standardize(**source["prepare"])'] if pretrained else []
    return ["source = read_source()", *standardize], [f"reuse_layers(network, {weights})"]
