"""Whatever stands in a file or a setting, nothing but a SpecError may come of it."""

from __future__ import annotations

from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tinyspecs import MINIMAL, check_located, read

from dnntrain import spec, yamltext
from dnntrain.errors import SpecError
from dnntrain.spec import Spec

quick = settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.too_slow])

SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(10**30), 10**30),
    st.floats(),
    st.text(st.characters(exclude_categories=["Cs"]), max_size=8),
    st.sampled_from(["auto", "none", "mlp", "selu", "adamw", "1", "-1", "yes", "~x/y", "../x", "*a", "a\0b", ""]),
)
KNOWN = st.sampled_from(sorted({name for name, _, _ in spec.forms.homes()} | {"name", "extends", "str", "int", "0"}))
VALUES_OF_ALL_KINDS = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KNOWN, inner, max_size=4), max_leaves=10
)
PATHS = sorted({(*path.split("."), name) if path else (name,) for name, path, _ in spec.forms.homes()} - {("extends",)})


def check_load(text: str, *overrides: str) -> None:
    try:
        found = read(text, *overrides)
    except SpecError as error:
        assert error.problems
        places = [(p.mark.source, p.mark.line, p.mark.column) for p in error.problems if p.mark is not None]
        assert places == sorted(places)
        for problem in error.problems:
            check_located(problem)
    else:
        assert isinstance(found, Spec)


@quick
@given(st.dictionaries(KNOWN, VALUES_OF_ALL_KINDS, max_size=5))
def test_arbitrary_files(content: dict[str, Any]) -> None:
    check_load(yamltext.dump(content))


@quick
@given(st.sampled_from(PATHS), VALUES_OF_ALL_KINDS)
def test_an_arbitrary_value_under_a_known_key(path: tuple[str, ...], value: Any) -> None:
    whole: dict[str, Any] = {"data": {"dataset": "digits"}, "model": {"architecture": {"name": "mlp", "hidden": [3]}}}
    here = whole
    for key in path[:-1]:
        below = here.get(key)
        here[key] = below if isinstance(below, dict) else {"name": below} if isinstance(below, str) else {}
        here = here[key]
    here[path[-1]] = value
    check_load(yamltext.dump(whole))


@quick
@given(st.text(max_size=30))
def test_an_arbitrary_setting(override: str) -> None:
    check_load(MINIMAL, override)


@quick
@given(st.sampled_from(PATHS), st.sampled_from(["", ".0", ".name", ".x.y"]), VALUES_OF_ALL_KINDS)
def test_an_arbitrary_setting_of_a_known_key(path: tuple[str, ...], below: str, value: Any) -> None:
    written = yamltext.dump([value]).strip().removeprefix("[").removesuffix("]")
    check_load(MINIMAL, f"{'.'.join(path)}{below}={written}")


def test_there_is_something_to_draw_from() -> None:
    assert {"lr", "rate", "epochs"} <= {path[-1] for path in PATHS}
