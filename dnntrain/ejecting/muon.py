"""Muon, the one optimizer that looks at whole matrices: it goes without the vector that holds all parameters."""

from __future__ import annotations

from typing import Any, Final

from dnntrain.ejecting.script import Code, Script, call, fill, lines
from dnntrain.parts.optimizers.muon import COEFFICIENTS, SMALLEST_NORM

MUON: Final = "muon"

_ORTHOGONALIZE: Final = '''
def orthogonalize(matrices: Tensor) -> Tensor:
    """Bring the singular values of each matrix near one; keep its singular vectors.

    This is the iteration of Newton and Schulz.
    """
    tall = matrices.size(-2) > matrices.size(-1)
    x = matrices.mT if tall else matrices
    x = x / torch.linalg.matrix_norm(x, keepdim=True).clamp(min=$smallest)
    for _ in range($steps):
        gram = x @ x.mT
        x = $a * x + ($b * gram + $c * gram @ gram) @ x
    return x.mT if tall else x
'''

_MUON: Final = '''
class Muon(torch.optim.Optimizer):
    """Moves matrices along their momentum, made orthogonal."""

    @torch.no_grad()
    def step(self) -> None:
        for group in self.param_groups:
            alike = {}
            for p in group["params"]:
                alike.setdefault(p.shape, []).append(p)
            for matrices in alike.values():
                self.update(matrices, group)

    def update(self, matrices: list[Tensor], group: dict) -> None:
        """Move matrices of one shape, all at once."""
        moments = []
        for p in matrices:
            if not self.state[p]:
                self.state[p].update(m=torch.zeros_like(p))
            m = self.state[p]["m"].lerp_(p.grad, 1.0 - group["momentum"])
            moments.append($moment.flatten(1))
        stacked = torch.stack(moments)
        scale = math.sqrt(max(1.0, stacked.size(-2) / stacked.size(-1)))
        for p, update in zip(matrices, orthogonalize(stacked), strict=True):
            $shrink
            p.add_(update.view(p.shape), alpha=-group["lr"] * scale)
'''

NORM: Final = """
norms = torch.stack([torch.linalg.vector_norm(p.grad) for p in self.parameters])
norm = torch.linalg.vector_norm(norms)
"""

MOVE: Final = "self.optimizer.step()\nself.adamw.step()"

CLIPPING: Final = {
    "norm": """
factor = ($size / (norm + 1e-6)).clamp(max=1.0)
for p in self.parameters:
    p.grad.mul_(factor)
""",
    "value": """
for p in self.parameters:
    p.grad.clamp_(-$size, $size)
""",
    "parameter_norm": """
for p in self.parameters:
    own = torch.linalg.vector_norm(p.grad)
    p.grad.mul_(($size / (own + 1e-6)).clamp(max=1.0))
""",
}


def define_muon(script: Script, options: Any) -> None:
    """Define `Muon`, and what it orthogonalizes with."""
    # As the rate of each step is made of it there.
    script.constants(ADAMW_LR=options.adamw_lr * options.lr / options.lr)
    if options.adamw_betas != (0.9, 0.999):
        script.constants(ADAMW_BETAS=Code(repr(options.adamw_betas)))
    a, b, c = map(repr, COEFFICIENTS)
    script.define(fill(_ORTHOGONALIZE, smallest=repr(SMALLEST_NORM), steps=options.ns_steps, a=a, b=b, c=c))
    shrink = f'p.mul_(1.0 - group["lr"] * {options.weight_decay!r})' if options.weight_decay else ""
    moment = 'torch.lerp(p.grad, m, group["momentum"])' if options.nesterov else "m"
    script.define(fill(_MUON, moment=moment, shrink=shrink))


def begin_muon(options: Any) -> list[str]:
    """Return the lines that make both optimizers, of `kernels` and of `others`."""
    betas = {"betas": Code("ADAMW_BETAS")} if options.adamw_betas != (0.9, 0.999) else {}
    adamw = call("torch.optim.AdamW", Code("others"), lr=Code("ADAMW_LR"), **betas, weight_decay=0.0, fused=True)
    return [
        f'self.optimizer = Muon(kernels, {{"lr": LR, "momentum": {options.momentum!r}}})',
        f"self.adamw = {adamw}",
    ]


def muon_rates(options: Any, rate: str, *, momentum: bool) -> list[str]:
    """Return the lines that set the rates of a step, of which `rate` is that of what has `lr` at first."""
    made = [
        "for optimizer, lr in ((self.optimizer, LR), (self.adamw, ADAMW_LR)):",
        lines(["(group,) = optimizer.param_groups", f'group["lr"] = {rate}'], 1),
    ]
    if momentum:
        made.append('self.optimizer.param_groups[0]["momentum"] = momentum(self.steps)')
        betas = f"(momentum(self.steps), {options.adamw_betas[1]!r})"
        made.append(f'self.adamw.param_groups[0]["betas"] = {betas}')
    return made
