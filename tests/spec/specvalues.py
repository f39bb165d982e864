"""Values of every kind that the schema allows, drawn by its own types."""

from __future__ import annotations

import typing
from pathlib import Path
from typing import Any

from hypothesis import strategies as st
from pydantic import ValidationError

from dnntrain.registry import ByShape, Entry, Options, Pick, WordOr, families
from dnntrain.spec.forms import annotated, fields
from dnntrain.spec.schema import OneOrMore
from dnntrain.spec.sweeping import SweepSpec

# Texts that have a form of their own, which a type does not tell.
TEXTS = {
    "name": ["run", "a-b_C9"],
    "device": ["auto", "cpu", "cuda:1"],
    "max_time": ["90s", "1.5d"],
    "every": ["epoch", 100, "10m"],
    "metric": ["valid/loss", "train/accuracy"],
    "monitor": ["valid/loss"],
    "delimiter": [",", ";"],
}
RANGES = st.sampled_from(
    [{"log": [1e-4, 1]}, {"uniform": [-0.5, 2.0]}, {"int": [1, 9], "step": 2}, {"choice": [1, 2.5]}]
)
# Its keys have to go together with each other and with the rest of the file.
SWEEPS = st.fixed_dictionaries(
    {"trials": st.integers(1, 99)},
    optional={
        "space": st.fixed_dictionaries(
            {},
            optional={
                "model.activation": st.sampled_from([["relu"], ["selu", {"name": "swish", "beta": 2.0}]]),
                "optimizer.lr": RANGES,
                "model.dropout.rate": RANGES.map(lambda axis: {**axis, "unless": {"model.dropout": "none"}}),
                "kind": st.just({"variants": {"a": {"training": {"epochs": 3}}, "b": {}}}),
            },
        ),
        "exclude": st.sampled_from([[], [{"loss": ["mse", "auto"]}]]),
        "search": st.sampled_from(["auto", "random", "qmc", "tpe", "gp"]),
        "seeds": st.integers(1, 5),
        "folds": st.none() | st.integers(2, 9),
        "metric": st.sampled_from(["auto", "valid/loss", {"metric": "train/loss", "mode": "max"}]),
        "timeout": st.none() | st.just("2h"),
        "patience": st.none() | st.integers(1, 9),
        "budget": st.none() | st.just("90s"),
        "seed": st.integers(0, 2**63),
        "retries": st.integers(0, 3),
    },
)
WORDS = st.sampled_from(["cat", "on", "1", "a b", "é: #", "null"])


def values(form: Any, key: str = "") -> st.SearchStrategy[Any]:
    """Draw a plain value of a type; `key` is where it stands."""
    origin, arguments = typing.get_origin(form), typing.get_args(form)
    if form is SweepSpec:
        return SWEEPS
    if isinstance(form, type) and issubclass(form, Options):
        return mappings(form)
    if origin is typing.Annotated:
        return marked(form, arguments[0], key)
    if origin is typing.Literal:
        return st.sampled_from(arguments)
    if origin is tuple and ... not in arguments:
        return st.tuples(*(values(each) for each in arguments)).map(list)
    if origin in (tuple, list):
        return st.lists(values(arguments[0]), min_size=1, max_size=3)
    if origin is dict:
        return st.dictionaries(WORDS, values(arguments[1]), max_size=3)
    if arguments:
        return st.one_of([values(each, key) for each in arguments])
    return scalars(form, key, {})


def marked(form: Any, inner: Any, key: str) -> st.SearchStrategy[Any]:
    bounds: dict[str, float] = {}
    for mark in form.__metadata__:
        if isinstance(mark, Pick):
            parts = st.sampled_from([*mark.family]).flatmap(written)
            return st.just("auto") | parts if mark.auto else parts
        if isinstance(mark, WordOr):
            return st.sampled_from(mark.words) | values(mark.form, key)
        if isinstance(mark, ByShape):
            forms = (mark.scalar, mark.sequence, mark.mapping)
            return st.one_of([values(each, key) for each in forms if each is not None])
        if isinstance(mark, OneOrMore):
            part = values(typing.get_args(inner)[0])
            return st.none() | st.just("none") | part | st.lists(part, max_size=2)
        for each in (mark, *getattr(mark, "metadata", ())):
            bounds |= {sign: getattr(each, sign) for sign in ("gt", "ge", "lt", "le") if hasattr(each, sign)}
    return scalars(inner, key, bounds) if inner in (int, float) else values(inner, key)


def scalars(form: Any, key: str, bounds: dict[str, float]) -> st.SearchStrategy[Any]:
    low, high = bounds.get("gt", bounds.get("ge")), bounds.get("lt", bounds.get("le"))
    if form is int:
        start = None if low is None else int(low) + ("gt" in bounds)
        return st.integers(start, None if high is None else int(high) - ("lt" in bounds))
    if form is float:
        return st.floats(
            low,
            high,
            exclude_min="gt" in bounds,
            exclude_max="lt" in bounds,
            allow_nan=False,
            allow_infinity=False,
        )
    if form is Path:
        return st.sampled_from(["/data/x.npz", "sub/../x", "~/x: y"])
    return {bool: st.booleans(), type(None): st.none()}.get(
        form, st.sampled_from(TEXTS[key]) if key in TEXTS else WORDS
    )


def written(entry: Entry) -> st.SearchStrategy[Any]:
    """Draw what a file may write for a part; its example where what was drawn does not go together."""

    def sound(options: dict[str, Any]) -> Any:
        try:
            families()[entry.family].choose({"name": entry.name, **options})
        except ValidationError:
            return entry.example
        return {"name": entry.name, **options}

    return mappings(entry.options).map(sound)


@st.composite
def mappings(draw: st.DrawFn, model: type[Options]) -> dict[str, Any]:
    """Draw the options of a section or part, any of them left out that may be."""
    found: dict[str, Any] = {}
    chosen = draw(st.sampled_from(model.alternatives)) if model.alternatives else ()
    excluded = {key for group in model.alternatives if group != chosen for key in group}
    for key, info in fields(model):
        wanted = info.is_required() or key in chosen
        if key not in excluded and (wanted or draw(st.booleans())):
            drawn = values(annotated(info), key)
            found[key] = draw(drawn.filter(lambda value: value is not None) if key in chosen else drawn)
    if found.get("stages"):
        found.pop("epochs", None)  # they have a sum of their own
    if "folds" in chosen:
        found |= {"folds": 5, "fold": draw(st.integers(0, 4))}
    return found
