from __future__ import annotations

from pathlib import Path

import pytest

from dnntrain.errors import SpecError
from dnntrain.yamltext import read


def refusal(text: str | bytes) -> tuple[str, str, tuple[int, int]]:
    with pytest.raises(SpecError) as caught:
        read(text, source="f.yaml", folder=Path())
    (problem,) = caught.value.problems
    assert problem.mark is not None
    return problem.message, problem.hint, (problem.mark.line, problem.mark.column)


@pytest.mark.parametrize(
    ("text", "message", "hint", "where"),
    [
        ("a:\n\tb: 1", "a tab stands where only spaces may", "spaces", (2, 1)),
        ("a: 1\t# why", "a tab stands", "spaces", (1, 5)),
        ("a: @x", "plain text cannot start with '@'", "quotes", (1, 4)),
        ("a: %x", "plain text cannot start with '%'", "quotes", (1, 4)),
        ("a: *", "'*' starts an alias or an anchor", "quotes", (1, 4)),
        ("a: *.py", "'*' starts an alias or an anchor", "quotes", (1, 4)),
        ("a: ? b", "'?' has a meaning of its own here", "quotes", (1, 4)),
        ("a:\n  b: 1\n c: 2", "this does not line up with what stands above", "column 1, like line 1", (3, 2)),
        (" a: 1\nb: 2", "this does not line up with what stands above", "one column", (2, 1)),
        ("- a\nb: 1", "a list and a mapping cannot share a column", "indent", (2, 1)),
        ("b: 1\n- a", "a list and a mapping cannot share a column", "indent", (2, 1)),
        ("a: - b", "a list cannot start here", "next line", (1, 4)),
        ("a: 1\n  b: 2", "goes on with the text of line 1", "indentation", (2, 4)),
        ("key\n\nother: 1", "goes on with the text of line 1", "end line 1 with ':'", (3, 6)),
        ("key\n# c\nother: 1", "this does not line up with what stands above", "end a key with ':'", (3, 1)),
        (": x", "a key is missing before this ':'", "key: value", (1, 1)),
        ("a: b: c", "a second key on the same line", "quote the text", (1, 5)),
        ("a:\n  lr:0.1 \n  m: 1", "a space is missing after the colon", "write 'lr: 0.1'", (2, 3)),
        ("m: 1\nlr:0.1\nb: 2", "a space is missing after the colon", "write 'lr: 0.1'", (2, 1)),
        ("a: 1\nfoo\nb: 2", "a ':' is missing here", "key: value", (2, 1)),
        ("a: [1, 2\nb: 3", "a ',' or ']' is missing before this", "line 1", (2, 2)),
        ("a: {x: 1\nb: 3", "a ',' or '}' is missing before this", "line 1", (2, 2)),
        ("a: [1, 2", "this bracket is never closed", "missing ']'", (1, 4)),
        ("a:\n  {x: 1", "this bracket is never closed", "missing '}'", (2, 3)),
        ("a: ]", "a value is missing before this", "quote it", (1, 4)),
        ("a: [1 2]\n]", "a stray ']'", "remove it", (2, 1)),
        ("a: 'x\nb: 2", "this quote is never closed", "end the text with '", (1, 4)),
        ('a: "x\n---\n', "this quote is never closed", 'end the text with "', (1, 4)),
        ('a: "C:\\data"', "'\\' starts an unknown escape", "write '\\\\', or use single quotes", (1, 8)),
        ('a: "\\xzz"', "'\\' starts an unknown escape", "single quotes", (1, 7)),
        ('a: "x" y', "something is left over after the value", "quote the whole value", (1, 8)),
        ("a: [1], b: 2", "something is left over after the value", "new line", (1, 7)),
        ("[1] 2", "something is left over after the value", "quote", (1, 5)),
        ("a: |x", "a text block starts on the line after", "quotes", (1, 5)),
        ("a: !e!x 1", "tags are not used here", "plain value", (1, 4)),
        ("a: !<x", "tags are not used here", "plain value", (1, 7)),
        ("%YAML 2.0\n---\n1", "this is not a directive of YAML", "quote", (1, 1)),
        ("%x", "this is not a directive of YAML", "quote", (1, 3)),
        ('a: "\\UFFFFFFFF"', "this number is too large here", "U0010FFFF", (1, 7)),
        ("%YAML 1." + "9" * 5000, "this number is too large here", "", (1, 9)),
    ],
)
def test_syntax_errors_say_what_and_how_to_mend(text: str, message: str, hint: str, where: tuple[int, int]) -> None:
    found = refusal(text)
    assert message in found[0]
    assert hint in found[1]
    assert found[2] == where


def test_a_windows_path_is_not_taken_for_a_missing_space() -> None:
    assert "space" not in refusal("a: 1\nC:\\data\nb: 2")[0]
    assert "space" not in refusal("a: 1\nhttp://host\nb: 2")[0]


@pytest.mark.parametrize(
    ("text", "message", "where"),
    [
        (b"a: 1\nb: \xff", "this byte is not UTF-8: 0xff", (2, 4)),
        ("é: 1\nb: ü".encode("latin-1"), "this byte is not UTF-8: 0xe9", (1, 1)),
        (b"\xff\xfea", "this byte is not UTF-16: 0x61", (1, 1)),
        ("a: \x07", "the character U+0007 cannot be shown", (1, 4)),
        ("a: x\x00", "the character U+0000 cannot be shown", (1, 5)),
        ("a: x\u2028b", "the character U+2028 cannot be shown", (1, 5)),
        ("a: \udcff", "the character U+DCFF cannot be shown", (1, 4)),
        ("#" * 1_000_001, "the limit is 1,000,000", (1, 1)),
    ],
)
def test_a_text_of_the_wrong_kind_is_refused(text: str | bytes, message: str, where: tuple[int, int]) -> None:
    found = refusal(text)
    assert message in found[0]
    assert found[2] == where


def test_half_a_surrogate_pair_is_a_problem() -> None:
    document = read(r'a: ["\ud83d"]', source="f.yaml", folder=Path())
    (problem,) = document.problems
    assert "surrogate" in problem.message
    document.value["a"][0].encode()
