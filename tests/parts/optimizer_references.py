"""Optimizers once more, written from their equations in NumPy: one function of the gradient history per step."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

Arrays = list[np.ndarray]
Step = Callable[[Arrays, Arrays], Arrays]


def sgd(*, lr: float, momentum: float = 0.0, dampening: float = 0.0, nesterov: bool = False) -> Step:
    velocity: Arrays = []

    def step(weights: Arrays, gradients: Arrays) -> Arrays:
        if velocity:
            velocity[:] = [momentum * b + (1 - dampening) * g for b, g in zip(velocity, gradients, strict=True)]
        else:
            velocity[:] = [g.copy() for g in gradients]  # the first gradient is not dampened
        moves = [g + momentum * b for g, b in zip(gradients, velocity, strict=True)] if nesterov else velocity
        return [w - lr * d for w, d in zip(weights, moves, strict=True)]

    return step


def adamw(*, lr: float, betas: tuple[float, float], eps: float, weight_decay: float) -> Step:
    history: list[Arrays] = []

    def step(weights: Arrays, gradients: Arrays) -> Arrays:
        history.append([g.copy() for g in gradients])
        t = len(history)
        moved = []
        for i, w in enumerate(weights):
            # The decaying means as the weighted averages of the whole history that they are.
            ages = np.arange(t - 1, -1, -1)
            m, v = np.zeros_like(w), np.zeros_like(w)
            for age, past in zip(ages, history, strict=True):
                m += (1 - betas[0]) * betas[0] ** age * past[i]
                v += (1 - betas[1]) * betas[1] ** age * past[i] ** 2
            m_hat, v_hat = m / (1 - betas[0] ** t), v / (1 - betas[1] ** t)
            moved.append(w - lr * (m_hat / (np.sqrt(v_hat) + eps) + weight_decay * w))
        return moved

    return step


def nadam(*, lr: float, betas: tuple[float, float], eps: float, weight_decay: float, momentum_decay: float) -> Step:
    state: dict[str, Arrays] = {}
    mus: list[float] = []

    def mu(t: int) -> float:
        return betas[0] * (1 - 0.5 * 0.96 ** (t * momentum_decay))

    def step(weights: Arrays, gradients: Arrays) -> Arrays:
        if not state:
            state["m"], state["v"] = ([np.zeros_like(w) for w in weights] for _ in range(2))
        t = len(mus) + 1
        mus.append(mu(t))
        so_far, ahead = np.prod(mus), np.prod([*mus, mu(t + 1)])
        moved = []
        for i, (w, g) in enumerate(zip(weights, gradients, strict=True)):
            state["m"][i] = betas[0] * state["m"][i] + (1 - betas[0]) * g
            state["v"][i] = betas[1] * state["v"][i] + (1 - betas[1]) * g**2
            looked_ahead = mu(t + 1) * state["m"][i] / (1 - ahead) + (1 - mus[-1]) * g / (1 - so_far)
            v_hat = state["v"][i] / (1 - betas[1] ** t)
            moved.append(w * (1 - lr * weight_decay) - lr * looked_ahead / (np.sqrt(v_hat) + eps))
        return moved

    return step
