from __future__ import annotations

import re
from typing import Annotated, Any, Literal

import pytest
from pydantic import Field

from dnntrain.registry import ByShape, Choice, Options, Pick, Positive, ReadPath, WordOr, families
from dnntrain.spec import Spec
from dnntrain.spec.forms import homes
from dnntrain.spec.reference import describe, markdown, options

PAGE = markdown()


class Inner(Options):
    """Inside."""

    a: int = 1
    from_: Annotated[float, Field(gt=0, le=0.5, description="where from")] = Field(0.1, alias="from")


@pytest.mark.parametrize(
    ("form", "words"),
    [
        (int, "integer"),
        (float, "number"),
        (bool, "true | false"),
        (str, "text"),
        (int | None, "integer | null"),
        (ReadPath, "path"),
        (Positive, "number (> 0)"),
        (Annotated[int, Field(ge=2, lt=10)], "integer (>= 2, < 10)"),
        (Annotated[float, Field(ge=-0.5)], "number (>= -0.5)"),
        (Literal["a", "b"], "a | b"),
        (list[str], "list of text"),
        (tuple[int | str, ...], "list of (integer | text)"),
        (tuple[int, float], "[integer, number]"),
        (dict[str, int], "mapping to integer"),
        (Inner, "{a, from}"),
        (Annotated[Choice, Pick(families()["activation"])], "an activation"),
        (Annotated[Choice, Pick(families()["loss"], auto=True)], "a loss | auto"),
        (Annotated[Any, WordOr(("auto",), int)], "auto | integer"),
        (Annotated[Any, ByShape(sequence=list[int], mapping=Inner)], "list of integer | {a, from}"),
    ],
)
def test_types_in_words(form: Any, words: str) -> None:
    assert describe(form) == words


def test_options_have_their_names_defaults_and_signatures() -> None:
    class Holder(Options):
        needed: Positive
        pair: tuple[float, float] = (0.9, 1e-8)
        inner: Inner = Inner()
        maybe: int | None = None
        word: Literal["a", "b", "c"] = "b"
        switch: bool = False

    assert [(each.name, each.default, each.signature) for each in options(Holder)] == [
        ("needed", None, "needed: <number (> 0)>"),
        ("pair", "[0.9, 1.0e-8]", "pair: [0.9, 1.0e-8]"),
        ("inner", "{a: 1, from: 0.1}", "inner: {a: 1, from: 0.1}"),
        ("maybe", "null", "maybe: null | integer"),
        ("word", "b", "word: b | a | c"),
        ("switch", "false", "switch: false"),
    ]
    assert options(Inner)[1].name == "from"


def test_every_family_entry_and_option_is_there() -> None:
    for family in families().values():
        start = PAGE.index(f"\n## {family.name.capitalize()}\n")
        section = PAGE[start : PAGE.find("\n## ", start + 1) if PAGE.find("\n## ", start + 1) > 0 else None]
        assert family.summary in section
        for entry in family:
            own = section[section.index(f"### `{entry.name}`") :].split("\n### ")[0]
            for text in (entry.summary, entry.equation, entry.cite):
                assert text in own
            for option in options(entry.options):
                assert f"\n| `{option.name}` |" in own


def test_every_key_of_every_section_is_there() -> None:
    table = PAGE.split("\n## ")[1]
    for key, path, part in homes():
        if part is None:
            assert f"`{path}.{key}`".replace("`.", "`") in table


def test_required_keys_and_defaults_are_told() -> None:
    assert re.search(r"\| `data.dataset` \| a dataset \| required \|", PAGE)
    assert "| `training.epochs` | integer (> 0) | `20` |" in PAGE
    assert "| `data.validation.size` | integer (> 0) \\| null |" in PAGE


def test_no_class_or_python_word_shows_through() -> None:
    for word in (
        "tuple",
        "Tuple",
        "<class",
        "typing",
        "Annotated",
        "Literal",
        "NoneType",
        "None |",
        "pydantic",
        "Spec",
    ):
        assert word not in PAGE, word
    for model in Options.__subclasses__():
        assert model.__name__ not in PAGE.split("\n## ")[1], model


def test_tables_are_well_formed() -> None:
    rows = [line for line in PAGE.splitlines() if line.startswith("|")]
    assert len(rows) > len(Spec.model_fields)
    for row in rows:
        assert len(re.findall(r"(?<!\\)\|", row)) == 5, row
