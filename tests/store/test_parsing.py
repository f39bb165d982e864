from __future__ import annotations

import json
import math
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from dnntrain.store.parsing import parse

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters()),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(st.characters()), inner, max_size=4),
    max_leaves=12,
)


def same(one: Any, other: Any) -> bool:
    """Whether two values are equal to the last bit and of one type; a NaN is like another, and 0 is not -0."""
    if type(one) is not type(other):
        return False
    if isinstance(one, dict):
        return list(one) == list(other) and all(same(one[key], other[key]) for key in one)
    if isinstance(one, list):
        return len(one) == len(other) and all(map(same, one, other))
    if isinstance(one, float):
        return (math.isnan(one) and math.isnan(other)) or (one, math.copysign(1, one)) == (
            other,
            math.copysign(1, other),
        )
    return bool(one == other)


@settings(deadline=None)
@given(VALUES, st.booleans())
def test_it_reads_what_pythons_own_reads(value: Any, ascii_only: bool) -> None:
    content = json.dumps(value, ensure_ascii=ascii_only).encode("utf-8", "backslashreplace")
    assert same(parse(content), json.loads(content))


@settings(deadline=None, max_examples=300)
@given(st.text('{}[]",:0123456789.eE+- \\untrfalsI\ufeff\x00é', max_size=12).map(str.encode) | st.binary(max_size=12))
@example(b"-0")
@example(b"1e999")
@example(b"0.1e-400")
@example(b'{"a": 1, "a": 2}')
@example(b'"\\ud800"')
@example(b'"\\ud83d\\ude00"')
@example(b"[1,]")
@example(b"-NaN")
@example(b"-Infinity")
@example(b"01")
@example(b"1.")
@example(b"\xef\xbb\xbf{}")
@example(b"\xff\xfe1\x00")
@example(b"")
@example(b"123456789012345678901234567890")
@example(b"0.30000000000000004441")
@example(b"2.2250738585072011e-308")
@example(b'"\x01"')
@example(b'"\x7f"')
def test_it_refuses_what_pythons_own_refuses(content: bytes) -> None:
    try:
        wanted = json.loads(content)
    except ValueError as error:
        with pytest.raises(ValueError) as found:
            parse(content)
        assert str(found.value) == str(error)
    else:
        assert same(parse(content), wanted)


def test_deep_nesting() -> None:
    content = b"[" * 300 + b"]" * 300
    assert same(parse(content), json.loads(content))
    with pytest.raises(RecursionError):
        parse(b"[" * 100_000)


@settings(deadline=None)
@given(st.floats(allow_nan=False, allow_infinity=False), st.integers(0, 25))
def test_numbers_are_those_of_python_to_the_last_bit(value: float, digits: int) -> None:
    content = f"{value:.{digits}e}".encode()
    assert same(parse(content), float(content))
