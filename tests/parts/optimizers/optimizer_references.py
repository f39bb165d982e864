"""Optimizers once more, written from their equations in NumPy: a step takes weights and gradients, and remembers.

Those that others define differently have a second form here, named for whom it follows.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

Arrays = list[np.ndarray]
Step = Callable[[Arrays, Arrays], Arrays]


def each(make: Callable[[], Callable[[np.ndarray, np.ndarray], np.ndarray]]) -> Step:
    """Apply an update of one array to several, each with a memory of its own."""
    updates: list[Callable[[np.ndarray, np.ndarray], np.ndarray]] = []

    def step(weights: Arrays, gradients: Arrays) -> Arrays:
        if not updates:
            updates.extend(make() for _ in weights)
        return [update(w, g) for update, w, g in zip(updates, weights, gradients, strict=True)]

    return step


def decaying(beta: float, history: Arrays) -> np.ndarray:
    """The decaying mean, started at zero, as the weighted sum of the whole history that it is."""
    return sum((1 - beta) * beta**age * past for age, past in enumerate(reversed(history)))


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


def sgd_keras(*, lr: Callable[[int], float], momentum: float) -> Step:
    def make():
        velocity, t = 0.0, 0

        def update(w, g):
            nonlocal velocity, t
            velocity = momentum * velocity - lr(t) * g
            t += 1
            return w + velocity

        return update

    return each(make)


def adam(*, lr: float, betas: tuple[float, float], eps: float, amsgrad: bool = False) -> Step:
    def make():
        history, largest = [], 0.0

        def update(w, g):
            nonlocal largest
            history.append(g)
            t = len(history)
            m, v = decaying(betas[0], history), decaying(betas[1], [past**2 for past in history])
            largest = np.maximum(largest, v)
            v_hat = (largest if amsgrad else v) / (1 - betas[1] ** t)
            return w - lr * m / (1 - betas[0] ** t) / (np.sqrt(v_hat) + eps)

        return update

    return each(make)


def adam_keras(*, lr: float, betas: tuple[float, float], eps: float) -> Step:
    def make():
        m = v = 0.0
        t = 0

        def update(w, g):
            nonlocal m, v, t
            t += 1
            alpha = lr * np.sqrt(1 - betas[1] ** t) / (1 - betas[0] ** t)
            m += (g - m) * (1 - betas[0])
            v += (g**2 - v) * (1 - betas[1])
            return w - m * alpha / (np.sqrt(v) + eps)

        return update

    return each(make)


def adamax(*, lr: float, betas: tuple[float, float], eps: float) -> Step:
    def make():
        history = []

        def update(w, g):
            history.append(g)
            t = len(history)
            u = np.max([betas[1] ** age * (np.abs(past) + eps) for age, past in enumerate(reversed(history))], axis=0)
            return w - lr * decaying(betas[0], history) / (1 - betas[0] ** t) / u

        return update

    return each(make)


def adamax_keras(*, lr: float, betas: tuple[float, float], eps: float) -> Step:
    def make():
        m = u = 0.0
        t = 0

        def update(w, g):
            nonlocal m, u, t
            t += 1
            m += (g - m) * (1 - betas[0])
            u = np.maximum(betas[1] * u, np.abs(g))
            return w - lr * m / ((1 - betas[0] ** t) * (u + eps))

        return update

    return each(make)


def radam(*, lr: float, betas: tuple[float, float], eps: float, weight_decay: float, trusted: float = 5.0) -> Step:
    def make():
        history = []

        def update(w, g):
            history.append(g)
            t = len(history)
            m_hat = decaying(betas[0], history) / (1 - betas[0] ** t)
            v = decaying(betas[1], [past**2 for past in history])
            rho_inf = 2 / (1 - betas[1]) - 1
            rho = rho_inf - 2 * t * betas[1] ** t / (1 - betas[1] ** t)
            move = m_hat
            if rho > trusted:
                r = np.sqrt((rho - 4) * (rho - 2) * rho_inf / ((rho_inf - 4) * (rho_inf - 2) * rho))
                move = r * m_hat * np.sqrt(1 - betas[1] ** t) / (np.sqrt(v) + eps)
            return w - lr * (move + weight_decay * w)

        return update

    return each(make)


def adagrad(*, lr: float, start: float, eps: float) -> Step:
    def make():
        history = []

        def update(w, g):
            history.append(g)
            return w - lr * g / (np.sqrt(start + sum(past**2 for past in history)) + eps)

        return update

    return each(make)


def adagrad_keras(*, lr: float, start: float, eps: float) -> Step:
    def make():
        accumulator = start

        def update(w, g):
            nonlocal accumulator
            accumulator = accumulator + g**2
            return w - lr * g / np.sqrt(accumulator + eps)

        return update

    return each(make)


def adadelta(*, lr: float, rho: float, eps: float) -> Step:
    """The paper's update, which is PyTorch's and Keras's too."""

    def make():
        gradients, moves = [], []

        def update(w, g):
            gradients.append(g)
            s = decaying(rho, [past**2 for past in gradients])
            u = decaying(rho, [past**2 for past in moves]) if moves else 0.0
            moves.append(np.sqrt((u + eps) / (s + eps)) * g)
            return w - lr * moves[-1]

        return update

    return each(make)


def rmsprop(*, lr: float, alpha: float, eps: float, momentum: float = 0.0, centered: bool = False) -> Step:
    def make():
        history, velocity = [], 0.0

        def update(w, g):
            nonlocal velocity
            history.append(g)
            s = decaying(alpha, [past**2 for past in history])
            if centered:
                s = s - decaying(alpha, history) ** 2
            velocity = momentum * velocity + g / (np.sqrt(s) + eps)
            return w - lr * velocity

        return update

    return each(make)


def rmsprop_keras(*, lr: Callable[[int], float], rho: float, eps: float, momentum: float, centered: bool) -> Step:
    def make():
        velocity = average = moment = 0.0
        t = 0

        def update(w, g):
            nonlocal velocity, average, moment, t
            velocity = rho * velocity + (1 - rho) * g**2
            denominator = velocity + eps
            if centered:
                average = rho * average + (1 - rho) * g
                denominator = velocity - average**2 + eps
            moment = momentum * moment + lr(t) * g / np.sqrt(denominator)
            t += 1
            return w - moment

        return update

    return each(make)


def lion(*, lr: float, betas: tuple[float, float], weight_decay: float) -> Step:
    def make():
        history = []

        def update(w, g):
            m = decaying(betas[1], history) if history else np.zeros_like(w)
            history.append(g)
            return w - lr * (np.sign(betas[0] * m + (1 - betas[0]) * g) + weight_decay * w)

        return update

    return each(make)


def near_one(singular: np.ndarray, steps: int) -> np.ndarray:
    """What the Newton-Schulz iteration makes of singular values: a polynomial of each, since it keeps the vectors."""
    x = singular / np.linalg.norm(singular)
    for _ in range(steps):
        x = 3.4445 * x - 4.7750 * x**3 + 2.0315 * x**5
    return x


def muon(
    *,
    lr: float,
    momentum: float,
    nesterov: bool,
    ns_steps: int,
    weight_decay: float,
    adamw_lr: float,
    adamw_betas: tuple[float, float],
) -> Step:
    rest = each(lambda: _one(adamw(lr=adamw_lr, betas=adamw_betas, eps=1e-8, weight_decay=weight_decay)))

    def make():
        history = []

        def update(w, g):
            history.append(g)
            m = decaying(momentum, history)
            u = (1 - momentum) * g + momentum * m if nesterov else m
            left, singular, right = np.linalg.svd(u.reshape(len(u), -1), full_matrices=False)
            turned = (left * near_one(singular, ns_steps)) @ right
            scale = np.sqrt(max(1.0, turned.shape[0] / turned.shape[1]))
            return w - lr * (scale * turned.reshape(w.shape) + weight_decay * w)

        return update

    matrices = each(make)

    def step(weights: Arrays, gradients: Arrays) -> Arrays:
        is_matrix = [w.ndim > 1 for w in weights]

        def those(arrays: Arrays, kind: bool) -> Arrays:
            return [a for a, m in zip(arrays, is_matrix, strict=True) if m == kind]

        moved = {
            kind: iter(by(those(weights, kind), those(gradients, kind)))
            for kind, by in ((True, matrices), (False, rest))
        }
        return [next(moved[kind]) for kind in is_matrix]

    return step


def _one(step: Step) -> Callable[[np.ndarray, np.ndarray], np.ndarray]:
    return lambda w, g: step([w], [g])[0]
