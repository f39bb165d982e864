from __future__ import annotations

import copy
import math
import pickle
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dnntrain.errors import Problem, SpecError
from dnntrain.yamltext import Document, Marks, Text, read

HERE = Path("/experiments")


def parse(text: str | bytes) -> Document:
    return read(text, source="f.yaml", folder=HERE)


def value(text: str | bytes) -> object:
    document = parse(text)
    assert document.problems == ()
    return document.value


def only_problem(text: str) -> Problem:
    (problem,) = parse(text).problems
    return problem


def refusal(text: str | bytes) -> Problem:
    with pytest.raises(SpecError) as caught:
        parse(text)
    (problem,) = caught.value.problems
    assert problem.mark is not None
    return problem


def place(problem: Problem) -> tuple[int, int]:
    assert problem.mark is not None
    return problem.mark.line, problem.mark.column


def under(marks: Marks) -> str:
    mark = marks.value
    return mark.text[mark.column - 1 : mark.column - 1 + mark.width]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        *[(text, None) for text in ("", "~", "null", "Null", "NULL")],
        *[(text, True) for text in ("true", "True", "TRUE")],
        *[(text, False) for text in ("false", "False", "FALSE")],
        *[("0", 0), ("-7", -7), ("+7", 7), ("012", 12), ("0o17", 15), ("0xFf", 255)],
        *[("1e-3", 1e-3), ("7.0e-4", 7e-4), ("1E+2", 100.0), (".5", 0.5), ("-.5", -0.5), ("5.", 5.0), ("-0.0", -0.0)],
        *[(".inf", math.inf), ("+.Inf", math.inf), ("-.INF", -math.inf)],
    ],
)
def test_a_plain_scalar_follows_the_core_schema(text: str, expected: object) -> None:
    found = value(f"k: {text}")["k"]
    assert (type(found), repr(found)) == (type(expected), repr(expected))


@pytest.mark.parametrize("text", [".nan", ".NaN", ".NAN"])
def test_not_a_number_is_read(text: str) -> None:
    assert math.isnan(value(text))


@pytest.mark.parametrize(
    "text",
    """yes no on off y n Yes ON nuLL tRUE TrUe 1_000 12:30:45 2001-01-01 -0x1 +0o7 0b1 0o8 0xg 1e 1e+ . .e5
    +.nan -.nan .iNF inf nan 1.2.3 ٣ 1٣ = cuda:0 a#b none""".split(),
)
def test_what_the_core_schema_does_not_name_is_text(text: str) -> None:
    found = value(f"k: {text}")["k"]
    assert isinstance(found, Text)
    assert found == text


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("'null'", "null"),
        ('"1"', "1"),
        ("'it''s'", "it's"),
        (r'"a\tb\x41\u00e9\U0001F600\\"', "a\tbAé😀\\"),
        (r'"\ud83d\ude00"', "😀"),
        ("|\n  1\n  2\n", "1\n2\n"),
        (">-\n  1\n  2\n", "1 2"),
        ("'<<'", "<<"),
        ('""', ""),
    ],
)
def test_quoted_and_block_scalars_are_always_text(text: str, expected: str) -> None:
    assert value(text) == expected


def test_a_text_remembers_the_folder_of_its_file() -> None:
    found = value("[data/train]")[0]
    assert found.folder == HERE
    for same in (copy.deepcopy(found), pickle.loads(pickle.dumps(found))):
        assert same == found
        assert same.folder == HERE


@pytest.mark.parametrize("text", ["", "# nothing\n", "---\n", "---\n...\n", "\ufeff"])
def test_an_empty_text_is_null(text: str) -> None:
    document = parse(text)
    assert document.value is None
    assert list(document.marks) == [()]


@pytest.mark.parametrize(
    "text", ["a: 1\nb: [x, y]\n", "a: 1\r\nb: [x, y]\r\n", "a: 1\rb: [x, y]", "\ufeffa: 1\nb: [x, y]"]
)
@pytest.mark.parametrize("encoding", ["str", "utf-8", "utf-16"])
def test_line_ends_byte_order_marks_and_encodings_do_not_matter(text: str, encoding: str) -> None:
    document = parse(text if encoding == "str" else text.removeprefix("\ufeff").encode(encoding))
    assert document.value == {"a": 1, "b": ["x", "y"]}
    mark = document.marks[("a",)].value
    assert (mark.line, mark.column, mark.text) == (1, 4, "a: 1")
    mark = document.marks[("b", 1)].value
    assert (mark.line, mark.column, mark.text) == (2, 8, "b: [x, y]")


def test_marks_point_at_values_and_keys() -> None:
    document = parse(
        "data: &d # comment\n  # another\n  size: &s 5\n"
        "model:\n- {name: mlp, hidden: &h [3,\n  4]}\n- *s\ntext: some\n  more\nnone:\n"
    )
    marks = document.marks
    assert document.value == {
        "data": {"size": 5},
        "model": [{"name": "mlp", "hidden": [3, 4]}, 5],
        "text": "some more",
        "none": None,
    }
    assert {path: (marks[path].value.line, marks[path].value.column, under(marks[path])) for path in marks} == {
        (): (1, 1, "d"),
        ("data",): (3, 3, "s"),
        ("data", "size"): (3, 12, "5"),
        ("model",): (5, 1, "-"),
        ("model", 0): (5, 3, "{name: mlp, hidden: &h [3,"),
        ("model", 0, "name"): (5, 10, "mlp"),
        ("model", 0, "hidden"): (5, 26, "[3,"),
        ("model", 0, "hidden", 0): (5, 27, "3"),
        ("model", 0, "hidden", 1): (6, 3, "4"),
        ("model", 1): (7, 3, "*s"),
        ("text",): (8, 7, "some"),
        ("none",): (10, 6, ""),
    }
    key = marks[("model", 0, "hidden")].key
    assert key is not None
    assert (key.line, key.column, key.width) == (5, 15, 6)
    assert marks[()].key is None
    assert marks[("model", 1)].key is None


_words = st.text("abcxyz-é_", min_size=1, max_size=6).filter(lambda word: not word.startswith("-"))
_scalars = st.one_of(_words, st.integers(-999, 999), st.floats(0.001, 10), st.booleans())


@given(st.dictionaries(_words, st.one_of(_scalars, st.lists(_scalars, max_size=4)), min_size=1))
def test_the_text_at_each_mark_is_the_scalar(values: dict[str, object]) -> None:
    def write(item: object) -> str:
        return f"[{', '.join(map(write, item))}]" if isinstance(item, list) else str(item)

    document = parse("# head\n" + "".join(f"{key}:   {write(item)}  # tail\n" for key, item in values.items()))
    for path, marks in document.marks.items():
        found = document.value
        for step in path:
            found = found[step]
        if not isinstance(found, dict):
            assert under(marks) == (write(found) if not isinstance(found, bool) else str(found))
        if marks.key is not None:
            assert marks.key.text[marks.key.column - 1 :][: marks.key.width] == path[-1]


def test_a_key_given_twice_is_a_problem_that_names_the_first() -> None:
    problem = only_problem("a: 1\nb: {c: 1}\n'a': 2\n")
    assert problem.message == "key 'a' given twice"
    assert place(problem) == (3, 1)
    assert "line 1" in problem.hint


@pytest.mark.parametrize(
    ("text", "tag", "where"),
    [
        ("k: !!python/object/apply:os.system [ls]", "!!python/object/apply:os.system", (1, 4)),
        ("k: !foo {a: 1}", "!foo", (1, 4)),
        ("k: &x !!str 1", "!!str", (1, 7)),
        ("k: ! 1", "!", (1, 4)),
        ("k: !<tag:yaml.org,2002:int> 1", "!<tag:yaml.org,2002:int>", (1, 4)),
        ("%TAG !e! tag:e,2000:\n---\n[!e!x a]", "!e!x", (3, 2)),
        ("!!set {a}", "!!set", (1, 1)),
    ],
)
def test_tags_are_refused(text: str, tag: str, where: tuple[int, int]) -> None:
    problem = only_problem(text)
    assert problem.message == f"tags are not used here: {tag}"
    assert place(problem) == where


@pytest.mark.parametrize(
    "text", ["1: a", "? [a]\n: 1", "? {a: 1}\n: 1", "true: x", "~: x", "? \n: x", "{1.5: x}", "[a, 2: b]"]
)
def test_keys_must_be_text(text: str) -> None:
    assert "key must be text" in only_problem(text).message


def test_the_mark_of_a_value_stands_behind_its_tag_and_anchor() -> None:
    assert under(parse("k: &x !!str  1").marks[("k",)]) == "1"
    assert under(parse("k: !!seq &x [1]").marks[("k",)]) == "[1]"


def test_words_of_yaml_1_1_are_fine_as_keys() -> None:
    assert value("on: 1\nyes: 2\n'3': 4\n&k no: 5\n") == {"on": 1, "yes": 2, "3": 4, "no": 5}


def test_every_problem_is_collected() -> None:
    problems = parse("a: !x 1\na: 2\n3: 4\nb: 0x" + "f" * 5000).problems
    assert [place(problem)[0] for problem in problems] == [1, 4, 2, 3]


@pytest.mark.parametrize("digits", ["9" * 5000, "-" + "1" * 5000, "0x" + "f" * 4000, "0o" + "7" * 5000])
def test_an_endless_integer_is_a_problem(digits: str) -> None:
    problem = only_problem(f"a: {digits}")
    assert "too many digits" in problem.message
    assert place(problem) == (1, 4)


def test_a_large_integer_is_exact() -> None:
    assert value("1" + "0" * 400) == 10**400


def test_an_alias_repeats_the_value_without_sharing_it() -> None:
    found = value("a: &x {p: [1]}\nb: *x\nc: &x 3\nd: *x\n")
    assert found == {"a": {"p": [1]}, "b": {"p": [1]}, "c": 3, "d": 3}
    assert found["a"] is not found["b"]
    assert found["a"]["p"] is not found["b"]["p"]


def test_what_lies_inside_an_alias_is_marked_where_it_was_written() -> None:
    marks = parse("a: &x {p: 1}\nb: *x\n").marks
    assert under(marks[("b",)]) == "*x"
    assert marks[("b", "p")] == marks[("a", "p")]


def test_an_alias_can_be_a_key() -> None:
    assert value("a: &x name\n*x : 2\n") == {"a": "name", "name": 2}


@pytest.mark.parametrize(
    ("text", "message", "where"),
    [
        ("a: *nobody", "unknown alias '*nobody'", (1, 4)),
        ("a: &x [1, *x]", "'*x' would contain itself", (1, 11)),
        ("&x\na:\n  <<: *x", "'*x' would contain itself", (3, 7)),
        ("a: 1\n---\nb: 1", "a second document starts here", (2, 1)),
        ("a: 1\n---\n", "a second document starts here", (2, 1)),
        ("a:\n  " + "[" * 60, "more than 50 levels of nesting", (2, 52)),
        ("- " * 60, "more than 50 levels of nesting", (1, 101)),
        ("[" * 100_000, "more than 50 levels of nesting", (1, 51)),
        ("{a: " * 60, "more than 50 levels of nesting", (1, 201)),
    ],
)
def test_what_cannot_be_read_is_refused_in_its_place(text: str, message: str, where: tuple[int, int]) -> None:
    problem = refusal(text)
    assert problem.message == message
    assert place(problem) == where


def test_fifty_levels_are_not_too_many() -> None:
    assert parse("[" * 50 + "1" + "]" * 50).problems == ()


def _bomb(opening: str, closing: str) -> str:
    lines = [f"a0: &a0 {opening}x: 1{closing}"]
    lines += [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]" for i in range(1, 12)]
    return "\n".join(lines)


@pytest.mark.parametrize(
    "text",
    [
        _bomb("[", "]"),
        _bomb("{", "}"),
        "a: &a {" + ", ".join(f"k{i}: 1" for i in range(400)) + "}\nb:\n  <<: [" + ", ".join(["*a"] * 30) + "]",
        "a: &a {x: [" + ", ".join("1" * 1000) + "]}\nb:\n" + "  - <<: *a\n" * 20,
        "a0: &a0 {x: 1}\n" + "\n".join(f"a{i}: &a{i}\n  <<: [*a{i - 1}, *a{i - 1}]\n  k{i}: 1" for i in range(1, 300)),
    ],
)
def test_an_alias_bomb_is_refused(text: str) -> None:
    assert "aliases repeat more than 10,000 values" in refusal(text).message


def test_ten_thousand_aliases_are_not_a_bomb() -> None:
    assert len(value("a: &a 1\nb: [" + ", ".join(["*a"] * 10_000) + "]")["b"]) == 10_000


def test_nesting_by_aliases_is_limited_too() -> None:
    chain = "a0: &a0 [1]\n" + "\n".join(f"a{i}: &a{i} [*a{i - 1}]" for i in range(1, 60))
    assert "levels of nesting" in refusal(chain).message


@pytest.mark.parametrize(
    ("merge", "expected"),
    [
        ("<<: *a", {"x": 9, "y": 2}),
        ("<<: [*a, *b]", {"x": 9, "y": 2, "z": 5}),
        ("<<: [*b, *a]", {"x": 9, "y": 4, "z": 5}),
        ("<<: [{y: 7}, *b]", {"x": 9, "y": 7, "z": 5}),
        ("<<: *c", {"x": 9, "y": 2, "z": 3}),
        ("'<<': 1", {"x": 9, "<<": 1}),
    ],
)
def test_merge_keys(merge: str, expected: dict[str, int]) -> None:
    base = "a: &a {x: 1, y: 2}\nb: &b {y: 4, z: 5}\nc: &c {z: 3, <<: *a}\n"
    assert value(f"{base}d:\n  x: 9\n  {merge}\n")["d"] == expected


def test_merged_values_are_marked_where_they_were_written() -> None:
    marks = parse("a: &a {x: 1, y: [2]}\nb:\n  <<: *a\n").marks
    for path in [("x",), ("y",), ("y", 0)]:
        assert marks[("b", *path)] == marks[("a", *path)]


@pytest.mark.parametrize("text", ["<<: 1", "<<: [1]", "a: &a [1]\n<<: *a", "<<:"])
def test_only_mappings_can_be_merged(text: str) -> None:
    assert "'<<' takes a mapping" in only_problem(text).message


def test_a_second_merge_key_is_a_problem() -> None:
    problem = only_problem("a: &a {x: 1}\nb:\n  <<: *a\n  <<: *a\n")
    assert problem.message == "key '<<' given twice"
    assert place(problem) == (4, 3)


_SNIPPETS = (
    """a|b: |- |[|]|{|}|,|:| |\\n|\\t|#|&a |*a|!|!!str |<<: |'|"|\\\\|>|%YAML 1.|%|---|...|?|0x|1e|\\\\U|~|@|`|=|9|é"""
)
_soup = st.lists(st.sampled_from([*_SNIPPETS.replace("\\n", "\n").split("|"), "|", "\t", "\ufeff", "\r\n"])).map(
    "".join
)


@given(st.one_of(st.text(), _soup, st.binary()))
def test_any_text_is_read_or_refused(text: str | bytes) -> None:
    try:
        document = parse(text)
    except SpecError as error:
        assert len(error.problems) == 1
        assert str(error).startswith("f.yaml:")
    else:
        assert all(problem.render().startswith("f.yaml:") for problem in document.problems)
