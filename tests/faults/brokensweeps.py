"""Broken sections `sweep`: axes by themselves, and how they go together."""

from __future__ import annotations

from broken import MINIMAL, Broken


def axes(written: str, rest: str = "") -> str:
    """Return a file with these axes, which stand from 3:17 on."""
    return f"{MINIMAL}sweep: {{space: {{{written}}}{rest}}}\n"


BROKEN_SWEEPS: dict[str, list[Broken]] = {
    "axes": [
        Broken("sweep-of-a-number", MINIMAL + "sweep: 3\n", "3:8: 'sweep' must be a mapping, not 3"),
        Broken("axis-of-a-number", axes("seed: 3"), "3:23: 'seed' must be a list or a mapping, not 3"),
        Broken("axis-without-values", axes("optimizer.lr: []"), "3:31: 'optimizer.lr' must have at least 1 entry"),
        Broken("axis-said-twice", axes("optimizer.lr: [1, 1.0]"), "3:31: entry 1 says the same as entry 0"),
        Broken("range-downwards", axes("optimizer.lr: {uniform: [1, 0]}"), "3:41: a range goes from its lower end"),
        Broken("log-from-zero", axes("optimizer.lr: {log: [0, 1]}"), "3:38: entry 0 of 'log' must be greater than 0"),
        Broken(
            "axis-of-two-kinds", axes("optimizer.lr: {choice: [1], log: [1, 2]}"), "3:31: an axis has exactly one of"
        ),
        Broken("step-of-a-list", axes("optimizer.lr: {choice: [1], step: 1}"), "3:31: step belongs to int"),
        Broken(
            "variants-alike",
            axes("v: {variants: {a: {loss: mse}, b: {loss: mse}}}"),
            "3:31: the variants a and b are the same",
        ),
    ],
    "how axes go together": [
        Broken("axis-misspelt", axes("optimizer.rl: [1]"), "3:17: unknown key 'optimizer.rl': there is no 'rl'"),
        Broken("axis-of-seeds", axes("seed: [1, 2]"), "3:17: 'seed' is not searched"),
        Broken("variants-called-as-a-key", axes("loss: {variants: {a: {}}}"), "3:17: 'loss' is a key of the file"),
        Broken(
            "key-of-two-axes",
            axes("loss: [mse], v: {variants: {a: {loss: mse}}}"),
            "3:49: 'loss' is set by the axis 'loss' already",
        ),
        Broken(
            "condition-on-itself",
            axes("loss: {choice: [mse], when: {loss: mse}}"),
            "3:46: 'loss' depends on itself",
        ),
        Broken(
            "condition-on-what-comes-later",
            axes("loss: {choice: [mse], when: {optimizer: sgd}}, optimizer: [sgd]"),
            "3:46: 'loss' depends on 'optimizer', which stands below it",
        ),
        Broken(
            "condition-misspelt", axes("loss: {choice: [mse], unless: {optimzer: sgd}}"), "3:48: unknown key 'optimzer'"
        ),
        Broken("never-so", axes("loss: [mse]", ", exclude: [{loss: huber}]"), "3:48: 'loss' is never huber"),
        Broken(
            "exclusion-within-a-range",
            axes("optimizer.lr: {log: [1, 2]}", ", trials: 3, exclude: [{optimizer.lr: 1}]"),
            "3:69: 'optimizer.lr' is a range, whose values are never met exactly",
        ),
        Broken(
            "grid-of-a-range",
            axes("optimizer.lr: {log: [1, 2]}", ", search: grid"),
            "3:31: 'optimizer.lr' is a range, and a grid is made of single values",
        ),
        Broken(
            "grid-of-some-trials",
            axes("optimizer.lr: [1, 2]", ", search: grid, trials: 1"),
            "3:62: a grid tries all of its configurations",
        ),
        Broken(
            "search-without-end",
            axes("optimizer.lr: {log: [1, 2]}", ", search: tpe"),
            "3:55: nothing says when the search, tpe, shall end",
        ),
        Broken(
            "validation-beside-folds",
            axes("data.validation: [none]", ", folds: 3"),
            "3:17: folds set 'data.validation' already",
        ),
    ],
}
