from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dnntrain import errors
from dnntrain.errors import DnntrainError, Mark, Problem, SpecError, nearest, shorten, suggest


def tree() -> dict[str, int]:
    """Return every error class and its exit code."""
    found = {}
    for name, value in vars(errors).items():
        if isinstance(value, type) and issubclass(value, DnntrainError):
            found[name] = value.exit_code
    return found


def test_exit_codes_say_whose_mistake_it_was() -> None:
    assert tree() == {
        "DnntrainError": 1,
        "SpecError": 2,
        "UsageError": 2,
        "RegistrationError": 2,
        "DataError": 1,
        "StoreError": 1,
        "LockedError": 1,
        "NewerError": 1,
        "ExportError": 1,
        "DivergedError": 1,
    }


def test_the_tree_is_drawn_as_it_is() -> None:
    drawn = {}
    for line in (errors.__doc__ or "").splitlines():
        words = line.replace("│", " ").replace("├──", " ").replace("└──", " ").split()
        if words and words[0].endswith("Error"):
            drawn[words[0]] = int(next(word for word in words if word.isdigit()))
    assert drawn == tree()
    assert issubclass(errors.LockedError, errors.StoreError)


def test_a_problem_shows_the_place_the_line_and_the_way_out() -> None:
    mark = Mark("configs/typo.yaml", 9, 15, 5, "  activation: sellu")
    shown = Problem("unknown activation 'sellu'", mark, "did you mean 'selu'?").render()
    assert shown.splitlines() == [
        "configs/typo.yaml:9:15: unknown activation 'sellu'",
        "  9 |   activation: sellu",
        "    |               ^^^^^ did you mean 'selu'?",
    ]


def test_the_gutter_is_as_wide_as_the_line_number() -> None:
    _, line, caret = Problem("wrong", Mark("f", 1234, 4, 1, "a: b")).render().splitlines()
    assert line == "  1234 | a: b"
    assert caret == "       |    ^"


def test_without_a_place_the_message_stands_alone() -> None:
    assert Problem("no place").render() == "no place"
    assert Problem("no place", hint="do this").render() == "no place\n    do this"


def test_the_caret_stands_under_its_characters_behind_tabs_and_wide_ones() -> None:
    caret = Problem("wrong", Mark("f", 1, 6, 2, "\tä: 名x9")).render().splitlines()[2]
    assert caret == "    | \t" + " " * 5 + "^^"
    under_wide = Problem("wrong", Mark("f", 1, 4, 2, "a: 名前")).render().splitlines()[2]
    assert under_wide.count("^") == 4
    combined = Problem("wrong", Mark("f", 1, 6, 1, "e\u0301: 7")).render().splitlines()[2]
    assert combined.index("^") - combined.index("|") == 2 + 4


def test_what_cannot_be_printed_stays_off_the_terminal() -> None:
    assert Problem("wrong", Mark("f", 1, 1, 3, "a\x1b[31mb")).render().splitlines()[1] == "  1 | a\ufffd[31mb"


def test_an_empty_place_still_gets_a_caret() -> None:
    assert Problem("empty", Mark("f", 2, 6, 1, "data:"), "write it").render().splitlines()[2] == "    |      ^ write it"


@given(st.integers(0, 3000), st.integers(1, 3000), st.integers(0, 3000))
def test_long_lines_are_cut_around_the_mark(before: int, width: int, after: int) -> None:
    line = "b" * before + "x" * width + "a" * after
    _, shown, caret = Problem("wrong", Mark("f", 1, before + 1, width, line)).render().splitlines()
    assert len(shown) <= 140
    start = caret.index("^")
    assert shown[start : start + caret.count("^")] == "x" * caret.count("^")
    if len(line) <= 120:
        assert shown == f"  1 | {line}"
        assert caret.count("^") == width
    else:
        assert "..." in shown


def test_a_cut_line_shows_what_stands_before_the_mark() -> None:
    line = "a" * 200 + "b" * 60 + "x" + "c" * 200
    _, shown, caret = Problem("wrong", Mark("f", 1, 261, 1, line)).render().splitlines()
    assert shown == "  1 | ..." + "b" * 60 + "x" + "c" * 59 + "..."
    assert caret.index("^") == shown.index("x")


def test_an_error_holds_all_problems_in_their_order() -> None:
    problems = [Problem("one"), Problem("two", hint="so")]
    error = SpecError(problems)
    assert error.problems == tuple(problems)
    assert str(error) == "one\ntwo\n    so"


@pytest.mark.parametrize(
    ("given", "meant"),
    [("sellu", "selu"), ("SELU", "selu"), ("leaky-relu", "leaky_relu"), ("xyz", None), ("", None)],
)
def test_nearest(given: str, meant: str | None) -> None:
    assert nearest(given, ["relu", "selu", "leaky_relu"]) == meant


def test_nearest_can_be_asked_for_more_likeness() -> None:
    assert nearest("optimizer", ["initializer"]) == "initializer"
    assert nearest("optimizer", ["initializer"], cutoff=0.8) is None


def test_suggest_names_the_nearest_then_what_is_known_sorted_and_cut() -> None:
    assert suggest("beta", ["zeta", "beta2", "alpha"]) == "did you mean 'beta2'?  known: alpha, beta2, zeta"
    assert suggest("", ["b", "a"]) == "known: a, b"
    assert suggest("", map(str, range(10, 40)), limit=3) == "known: 10, 11, 12, ..."


@given(st.text(max_size=300))
def test_shorten_keeps_to_one_printable_line(text: str) -> None:
    short = shorten(text)
    assert len(short) <= 60
    assert short.isprintable()
    assert not (text.isprintable() and len(text) <= 60) or short == text


def test_shorten_shows_what_cannot_be_seen() -> None:
    assert shorten("a\nb\x1b[31m") == "a\\nb\\x1b[31m"
    assert shorten("x" * 100, 10) == "xxxxxxx..."
