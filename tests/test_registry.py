"""The registry. Families made here live in a copy of it and are gone after each test."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Annotated, Any, Literal

import pytest
from pydantic import Field, TypeAdapter, ValidationError
from pydantic_core import PydanticCustomError

import dnntrain.spec  # noqa: F401 - fills the registry
from dnntrain import registry
from dnntrain.errors import RegistrationError
from dnntrain.registry import (
    AUTO,
    ByShape,
    Choice,
    Entry,
    Family,
    Options,
    Pick,
    Positive,
    PositiveInt,
    ReadPath,
    WordOr,
    families,
    option_docs,
    plain,
)
from dnntrain.spec.forms import homes
from dnntrain.yamltext import Text

KEYS = {f"{path}.{key}" for key, path, _ in homes()}
ALL = [pytest.param(entry, id=f"{family.name}-{entry.name}") for family in families().values() for entry in family]


@pytest.fixture(autouse=True)
def own_registry(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    before = {name: family.names() for name, family in families().items()}
    with monkeypatch.context() as patch:
        patch.setattr(registry, "_families", families())
        yield
    assert {name: family.names() for name, family in families().items()} == before


@pytest.fixture
def tools() -> Family:
    family = Family(
        "tool", summary="Tools.", traits={"weight": 1, "sharp": False}, synonyms={"axe": "hatchet", "none": "hand"}
    )

    @family.register("hammer", equation="F = m a", cite="none", weight=2)
    def hammer(arm: str, /, *, force: Positive = 1.0, twice: bool = False) -> tuple[Any, ...]:
        """Hit.

        Args:
            arm: whose.
            force: how hard,
                in newtons.
            twice: once more.
        """
        return (arm, force, twice)

    @family.register("saw", equation="x", cite="none", example={"name": "saw", "teeth": 20})
    def saw(*, teeth: PositiveInt) -> int:
        """Cut."""
        return teeth

    @family.register("hand", equation="0", cite="none")
    def hand() -> str:
        """Use no tool."""
        return "hand"

    return family


def register(family: Family, factory: Callable[..., Any], name: str = "thing", **keywords: Any) -> Entry:
    factory.__doc__ = factory.__doc__ or "Do it."
    family.register(name, **{"equation": "x", "cite": "none", **keywords})(factory)
    return family[name]


def failure(call: Callable[[], Any]) -> dict[str, Any]:
    """Return the kind, the message and the hint of what a value is refused with."""
    with pytest.raises((PydanticCustomError, ValidationError)) as caught:
        call()
    if isinstance(caught.value, PydanticCustomError):
        return {"type": caught.value.type, "msg": caught.value.message(), "hint": (caught.value.context or {})["hint"]}
    return dict(caught.value.errors()[0])


def test_a_signature_splits_into_run_time_values_and_options(tools: Family) -> None:
    entry = tools["hammer"]
    assert entry.runtime == ("arm",)
    assert list(entry.options.model_fields) == ["force", "twice"]
    assert entry.required == []
    assert entry.options().model_dump() == {"force": 1.0, "twice": False}
    assert {name: info.description for name, info in entry.options.model_fields.items()} == {
        "force": "how hard, in newtons.",
        "twice": "once more.",
    }
    assert entry.summary == "Hit."
    assert tools["saw"].required == ["teeth"]


def test_a_class_is_an_entry_too(tools: Family) -> None:
    class Plane:
        """Smooth."""

        def __init__(self, wood: str, /, *, depth: Positive = 0.5) -> None:
            self.made = (wood, depth)

    class Bare:
        """Nothing to set."""

    plane = register(tools, Plane, "plane")
    assert (plane.runtime, list(plane.options.model_fields)) == (("wood",), ["depth"])
    assert tools.choose({"name": "plane", "depth": 2}).build(wood="oak").made == ("oak", 2.0)
    assert isinstance(register(tools, Bare, "bare").build(Options()), Bare)


def test_traits_are_the_family_s_with_what_the_entry_says(tools: Family) -> None:
    assert tools["hammer"].traits == {"weight": 2, "sharp": False}
    assert tools["saw"].traits == {"weight": 1, "sharp": False}


def test_build_passes_what_the_factory_asks_for_and_no_more(tools: Family) -> None:
    choice = tools.choose({"name": "hammer", "force": 3})
    assert choice.build(arm="left", moon="full") == ("left", 3.0, False)
    with pytest.raises(TypeError, match="tool 'hammer' needs arm at run time"):
        choice.build()


def test_entries_are_sorted_by_name(tools: Family) -> None:
    assert tools.names() == [entry.name for entry in tools] == ["hammer", "hand", "saw"]
    assert "saw" in tools
    assert "sow" not in tools
    with pytest.raises(KeyError):
        tools["sow"]


def mixed(a: int, *, b: int = 0) -> None:
    """Do it."""


def variadic(*things: int, b: int = 0) -> None:
    """Do it."""


def untyped(*, b=0) -> None:  # type: ignore[no-untyped-def]
    """Do it."""


def called_name(*, name: str = "x") -> None:
    """Do it."""


def shadows(*, model_fields: int = 0) -> None:
    """Do it."""


def hidden(*, _b: int = 0) -> None:
    """Do it."""


def unknown_type(*, b: Missing = 0) -> None:  # type: ignore[name-defined]  # noqa: F821
    """Do it."""


def unholdable(*, b: Callable[[int], object] | Iterator[object] | Foreign) -> None:
    """Do it."""


class Foreign:
    pass


def required(*, b: int) -> None:
    """Do it."""


@pytest.mark.parametrize(
    ("factory", "told"),
    [
        (mixed, "argument 'a' must stand before '/' (a run-time value) or after '*' (an option)"),
        (variadic, "argument 'things' must stand before '/'"),
        (untyped, "option 'b' has no type"),
        (called_name, "an option cannot be called 'name', which picks the part"),
        (shadows, "an option cannot be called 'model_fields'"),
        (hidden, "an option cannot be called '_b'"),
        (unknown_type, "a type cannot be looked up: name 'Missing' is not defined"),
        (unholdable, "a file cannot hold such an option"),
        (required, "has options without defaults and so needs an example"),
    ],
)
def test_what_cannot_work_is_refused_at_once(tools: Family, factory: Callable[..., Any], told: str) -> None:
    with pytest.raises(RegistrationError) as caught:
        register(tools, factory)
    assert str(caught.value).startswith("tool 'thing'")
    assert told in str(caught.value)
    assert "thing" not in tools


@pytest.mark.parametrize(
    ("keywords", "told"),
    [
        ({"name": "hammer"}, "tool 'hammer' is registered twice"),
        ({"name": "Big-One"}, "a name is lower case letters, digits and underscores"),
        ({"equation": ""}, "needs an equation, a source and a docstring"),
        ({"cite": ""}, "needs an equation, a source and a docstring"),
        ({"colour": "red"}, "unknown traits ['colour']; known: sharp, weight"),
    ],
)
def test_what_is_missing_or_taken_is_refused(tools: Family, keywords: dict[str, Any], told: str) -> None:
    with pytest.raises(RegistrationError) as caught:
        register(tools, lambda: None, **keywords)
    assert told in str(caught.value)


def test_a_factory_needs_a_docstring_and_a_family_a_name_of_its_own(tools: Family) -> None:
    with pytest.raises(RegistrationError, match="a docstring"):
        tools.register("thing", equation="x", cite="none")(lambda: None)
    with pytest.raises(RegistrationError, match="there is a family named 'tool' already"):
        Family("tool", summary="Again.")


def test_shorthand_and_mapping_choose_the_same_part(tools: Family) -> None:
    short = tools.choose("hammer")
    assert short == tools.choose({"name": "hammer"}) == tools.choose({"name": "hammer", "force": 1})
    assert short != tools.choose({"name": "hammer", "force": 2.0})
    assert tools.choose(short) is short
    assert short.name == "hammer"
    assert short.entry is tools["hammer"]


def test_a_choice_goes_to_plain_values_and_back(tools: Family) -> None:
    for written in ("hand", "hammer", {"name": "hammer", "force": 0.1, "twice": True}, {"name": "saw", "teeth": 3}):
        choice = tools.choose(written)
        assert tools.choose(choice.plain()) == choice
        assert plain([choice]) == [choice.plain()]
    assert tools.choose("hand").plain() == "hand"
    assert tools.choose("hammer").plain() == {"name": "hammer", "force": 1.0, "twice": False}


def test_a_choice_cannot_be_changed(tools: Family) -> None:
    choice: Any = tools.choose("hammer")
    with pytest.raises(dataclasses.FrozenInstanceError):
        choice.options = None
    with pytest.raises(ValidationError, match="frozen"):
        choice.options.force = 2.0


@pytest.mark.parametrize(
    ("written", "kind", "message", "hint"),
    [
        ("hamer", "part_unknown", "unknown tool 'hamer'", "did you mean 'hammer'?  known: hammer, hand, saw"),
        ("AXE", "part_unknown", "unknown tool 'AXE'", "called hatchet here"),
        ({"teeth": 3}, "part_unnamed", "this tool lacks its name", "known: hammer, hand, saw"),
        ({"saw": {"teeth": 3}}, "part_unnamed", "this tool lacks its name", "write {name: saw, ...}"),
        ({"name": 3}, "part_type", "must be the name of a tool", "known: hammer, hand, saw"),
        (["saw"], "part_type", "must be the name of a tool, or a mapping with a name", "known: hammer, hand, saw"),
        (None, "part_type", "must be the name of a tool, or a mapping with a name", "write hand for none"),
        (False, "part_type", "must be the name of a tool, or a mapping with a name", "write hand for none"),
    ],
)
def test_what_is_no_part_is_explained(tools: Family, written: Any, kind: str, message: str, hint: str) -> None:
    assert failure(lambda: tools.choose(written)) == {"type": kind, "msg": message, "hint": hint}


def test_nothing_means_none_where_there_is_such_a_part(tools: Family) -> None:
    register(tools, lambda: None, "none")
    assert tools.choose(None).name == "none"


def test_options_are_strict() -> None:
    class Holder(Options):
        number: float = 1.0
        count: int = 1

    assert Holder.model_validate({"number": 2}).number == 2.0
    for wrong in ({"number": "2"}, {"number": True}, {"count": 2.0}, {"number": float("inf")}, {"other": 1}):
        with pytest.raises(ValidationError):
            Holder.model_validate(wrong)


def test_pick_reads_a_part_with_its_default_and_auto(tools: Family) -> None:
    class Holder(Options):
        one: Annotated[Choice, Pick(tools)]
        usual: Annotated[Choice, Pick(tools, default="hammer")] = Field(default_factory=lambda: tools.choose("saw"))
        free: Annotated[Choice | str, Pick(tools, auto=True)] = AUTO

    held = Holder.model_validate({"one": "hand", "usual": {"force": 3}})
    assert (held.one, held.usual) == (tools.choose("hand"), tools.choose({"name": "hammer", "force": 3}))
    assert held.free == AUTO
    assert Holder.model_validate({"one": "hand", "usual": "hammer", "free": {"name": "auto"}}).free == AUTO
    assert Holder.model_validate({"one": "hand", "usual": "hammer", "free": "hand"}).free == tools.choose("hand")
    assert failure(lambda: Holder.model_validate({"one": "auto", "usual": "hand"}))["type"] == "part_unknown"
    assert failure(
        lambda: Holder.model_validate({"one": "hand", "usual": "hand", "free": {"name": "auto", "force": 1}})
    )["msg"].startswith("auto picks the tool")
    wrong = failure(lambda: Holder.model_validate({"one": "hand", "usual": {"force": -1}}))
    assert wrong["loc"] == ("usual", "force")


def test_a_part_may_hold_a_part_of_another_family(tools: Family) -> None:
    boxes = Family("box", summary="Boxes.")

    def case(*, tool, spare="hand"):  # type: ignore[no-untyped-def]
        """Hold two."""
        return (tool.name, spare.build())

    # The family is this test's own, so that a written annotation could not be looked up.
    case.__annotations__.update(tool=Annotated[Choice, Pick(tools)], spare=Annotated[Choice, Pick(tools)])
    register(boxes, case, "case", example={"name": "case", "tool": "hand"})
    choice = boxes.choose({"name": "case", "tool": {"name": "saw", "teeth": 9}})
    assert choice.build() == ("saw", "hand")
    assert choice.plain() == {"name": "case", "tool": {"name": "saw", "teeth": 9}, "spare": "hand"}
    assert boxes.choose(choice.plain()) == choice
    wrong = failure(lambda: boxes.choose({"name": "case", "tool": {"name": "saw", "teeth": 0}}))
    assert wrong["loc"] == ("tool", "teeth")


class Stack(Options):
    layers: PositiveInt


Hidden = Annotated[
    Any,
    ByShape(sequence=Annotated[tuple[PositiveInt, ...], Field(strict=False)], mapping=Stack, scalar=Literal["wide"]),
]


def test_by_shape_checks_the_form_that_was_meant_and_only_that() -> None:
    check = TypeAdapter(Hidden).validate_python
    assert check([1, 2]) == (1, 2)
    assert check({"layers": 3}) == Stack(layers=3)
    assert check(Stack(layers=3)) == Stack(layers=3)
    assert check("wide") == "wide"
    for wrong, places in (([1, 0, "2"], [(1,), (2,)]), ({"layers": "3"}, [("layers",)]), ("slim", [()]), (None, [()])):
        with pytest.raises(ValidationError) as caught:
            check(wrong)
        assert [each["loc"] for each in caught.value.errors()] == places


def test_by_shape_is_as_strict_as_options() -> None:
    check = TypeAdapter(Annotated[Any, ByShape(sequence=tuple[float, ...], scalar=int)]).validate_python
    assert check(3) == 3
    for wrong in ("3", True, 3.0):
        with pytest.raises(ValidationError):
            check(wrong)
    numbers = TypeAdapter(Annotated[Any, ByShape(sequence=list[float])]).validate_python
    assert numbers([1, 0.5]) == [1.0, 0.5]
    for wrong in (["1"], [True], [float("nan")], [float("inf")]):
        with pytest.raises(ValidationError):
            numbers(wrong)


def test_by_shape_refuses_a_form_it_does_not_have() -> None:
    check = TypeAdapter(Annotated[Any, ByShape(sequence=list[int], mapping=Stack)]).validate_python
    with pytest.raises(ValidationError, match="must be a list or a mapping"):
        check(3)


def test_word_or_takes_its_words_or_else_checks_the_other_form() -> None:
    check = TypeAdapter(Annotated[Any, WordOr(("auto", "none"), PositiveInt)]).validate_python
    assert [check("auto"), check("none"), check(4)] == ["auto", "none", 4]
    assert type(check(Text("auto"))) is str
    for wrong in ("many", "4", 0, 4.0, None, True):
        with pytest.raises(ValidationError) as caught:
            check(wrong)
        assert len(caught.value.errors()) == 1


PATHS = TypeAdapter(ReadPath).validate_python


def test_a_path_is_read_beside_the_file_that_wrote_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert PATHS(Text("a/../data.npz", tmp_path / "configs")) == tmp_path / "configs" / "data.npz"
    assert PATHS(Text("data.npz", Path("configs"))) == tmp_path / "configs" / "data.npz"
    assert PATHS("data.npz") == tmp_path / "data.npz"
    assert PATHS(tmp_path / "x") == tmp_path / "x"
    assert PATHS(Text("/abs/data.npz", tmp_path)) == Path("/abs/data.npz")


def test_a_path_that_is_not_there_is_looked_for_in_the_data_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data, configs = tmp_path / "data", tmp_path / "configs"
    for folder in (data, configs):
        folder.mkdir()
    (data / "x.npz").touch()
    written = Text("x.npz", configs)
    assert PATHS(written) == configs / "x.npz"
    monkeypatch.setenv("DNNTRAIN_DATA", str(data))
    assert PATHS(written) == data / "x.npz"
    assert PATHS(Text("y.npz", configs)) == configs / "y.npz"
    (configs / "x.npz").touch()
    assert PATHS(written) == configs / "x.npz"


def test_a_home_folder_is_expanded_and_an_unknown_user_s_is_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    assert PATHS("~/x.npz") == tmp_path / "x.npz"
    assert PATHS(Text("~nobody-of-that-name/x", tmp_path)) == tmp_path / "~nobody-of-that-name" / "x"


@pytest.mark.parametrize("wrong", [3, "", None, ["x"], "a\0b"])
def test_what_is_no_path_is_refused(wrong: Any) -> None:
    with pytest.raises(ValidationError, match="must be a path"):
        PATHS(wrong)


def test_a_path_too_long_to_exist_is_no_crash(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DNNTRAIN_DATA", "/nowhere")
    assert PATHS("x" * 5000).name == "x" * 5000


def test_plain_writes_what_a_file_would_hold() -> None:
    class Inner(Options):
        alternatives = (("a",), ("b",))
        a: int | None = None
        b: int | None = None

    class Outer(Options):
        inner: Inner = Inner(b=2)
        from_: str = Field("x", alias="from")
        paths: tuple[Path, ...] = (Path("/a"),)
        nothing: int | None = None

    written = {"inner": {"b": 2}, "from": "x", "paths": ["/a"], "nothing": None}
    assert plain(Outer()) == written
    assert plain({"k": (1, 2.5, "x", None, True)}) == {"k": [1, 2.5, "x", None, True]}


def test_option_docs_reads_the_args_section_alone() -> None:
    def documented() -> None:
        """Do it.

        note: not an option.

        Args:
            first: one line.
            second: two
                lines: with a colon.

            third: after a gap.

        Raises:
            ValueError: never.
        """

    assert option_docs(documented) == {
        "first": "one line.",
        "second": "two lines: with a colon.",
        "third": "after a gap.",
    }
    assert option_docs(lambda: None) == {}


@pytest.mark.parametrize("entry", ALL)
def test_the_example_of_every_part_can_be_chosen(entry: Entry) -> None:
    family = families()[entry.family]
    choice = family.choose(entry.example)
    assert choice.name == entry.name
    assert family.choose(choice.plain()) == choice
    if not entry.required:
        assert family.choose(entry.name).options == entry.options()


@pytest.mark.parametrize("entry", ALL)
def test_every_option_is_described(entry: Entry) -> None:
    for name, info in entry.options.model_fields.items():
        assert info.description, f"{entry.family} {entry.name}: the docstring does not describe '{name}'"
    assert entry.summary.endswith(".")


@pytest.mark.parametrize("family", families().values(), ids=lambda family: family.name)
def test_synonyms_are_not_names_and_lead_to_one(family: Family) -> None:
    for synonym, meant in family._synonyms.items():
        assert synonym == synonym.lower()
        assert synonym not in family
        # To a name of the family, or to the key of a file that does such work.
        to_key = re.split("[= ]", meant)[0] in KEYS
        assert to_key or any(word.strip(":,") in family for word in meant.split()), f"{synonym}: {meant}"
