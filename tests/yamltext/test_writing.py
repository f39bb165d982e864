from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import example, given
from hypothesis import strategies as st

from dnntrain.errors import UsageError
from dnntrain.yamltext import dump, read


def back(text: str) -> Any:
    document = read(text, source="f.yaml", folder=Path())
    assert document.problems == ()
    return document.value


_strange = st.sampled_from(
    """null ~ yes on no y N true 1 012 0x1f 1e3 1_000 .5 .inf 12:30 190:20:30 2001-01-01 << = - ?
    : -- --- ... # %a @b `c
    !d &e *f [ ] { } , ' " \\ |x >x a: a:b a#b a,b x- -x ~/data ./a ../b C:\\x""".split()
)
_texts = st.one_of(
    st.text(), _strange, st.sampled_from(["", " ", "a ", " a", "a: b", "a #b", "a  b", "\n", "a\nb", "\t", "0 "])
)
_scalars = st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), _texts)
_values = st.recursive(
    _scalars,
    lambda inner: st.one_of(st.lists(inner, max_size=5), st.dictionaries(_texts, inner, max_size=6)),
    max_leaves=25,
)


@given(_values)
@example({"k" * 2000: [{"k" * 2000: {"a": {}}}, []]})
@example([[[]], [{}], {"a": [[{"b": {"c": [{}]}}]]}])
@example([math.nan, math.inf, -math.inf])
@example({"a": "\x85\u2028\ufeff\x7f\x00\ufffe😀"})
def test_what_is_dumped_reads_back(value: Any) -> None:
    assert repr(back(dump(value))) == repr(value)


@given(st.one_of(_scalars, st.lists(_scalars), st.dictionaries(_texts, _scalars)))
def test_readers_of_yaml_1_1_see_the_same(value: Any) -> None:
    assert repr(yaml.safe_load(dump(value))) == repr(value)


@given(st.floats(allow_nan=False))
def test_a_float_stays_the_same_float(number: float) -> None:
    found = back(dump(number))
    assert type(found) is float
    assert found == number
    assert math.copysign(1, found) == math.copysign(1, number)


def test_the_layout_is_what_a_person_would_write() -> None:
    text = """\
name: cifar_selu
data:
  dataset: cifar10
  validation: {size: 5000, from: first}
  augment:
    - {name: random_crop, padding: 4}
    - horizontal_flip
  limit: null
  root: /data/my pictures/v1.0
model:
  architecture:
    name: mlp
    hidden: {layers: 20, units: [300, 100]}
  activation: "on"
optimizer: {name: nadam, lr: 0.0007, eps: 1.0e-8}
training:
  device: cuda:0
  max_time: 30m
  clip: {}
  stages: []
  epochs: 20
callbacks:
  - name: several
    deep:
      deeper: {deepest: 1}
"""
    assert dump(back(text)) == text


def test_long_lists_stand_in_block_style() -> None:
    assert dump({"a": ["word" * 5] * 6}).count("\n") == 7
    assert max(len(line) for line in dump({"a": [["word"] * 5] * 30}).splitlines()) <= 100


@pytest.mark.parametrize(
    "word", ["y", "N", "yes", "off", "null", "1e3", "1_000", "12:30:45", "2001-01-01", "<<", "", " a"]
)
def test_words_that_some_reader_takes_for_something_else_are_quoted(word: str) -> None:
    assert dump(word) == f'"{word}"\n'


@pytest.mark.parametrize(
    "word", ["none", "cuda:0", "data/train", "../x", "~/x", "1.2.3", "a-b_c", "two words", "valid/loss"]
)
def test_ordinary_words_are_not_quoted(word: str) -> None:
    assert dump([word]) == f"[{word}]\n"


def test_tuples_are_lists() -> None:
    assert back(dump((1, (2, 3)))) == [1, [2, 3]]


@pytest.mark.parametrize("value", ["bad\udcffname", {"\ud800": 1}, [10**5000]])
def test_what_cannot_be_written_is_said(value: object) -> None:
    with pytest.raises(UsageError, match="written"):
        dump(value)


@pytest.mark.parametrize("value", [{1: 2}, {"a": object()}, [Path("x")], {"a": {1}}])
def test_only_plain_values_are_written(value: object) -> None:
    with pytest.raises(TypeError):
        dump(value)
