"""The types of the schema, followed along the path of a value and put into words."""

from __future__ import annotations

import typing
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from pydantic.fields import FieldInfo

from dnntrain import yamltext
from dnntrain.registry import ByShape, Entry, Options, Pick, WordOr, article
from dnntrain.spec.schema import Spec
from dnntrain.yamltext import KeyPath

_Mark = typing.TypeVar("_Mark")

INTEGER: Final = "a whole number"
NUMBER: Final = "a number"
TEXT: Final = "text"
LIST: Final = "a list"
MAPPING: Final = "a mapping"
_WORDS: Final = {Any: "a value", int: INTEGER, float: NUMBER, str: TEXT, Path: "a path", list: LIST, dict: MAPPING}


@dataclass(frozen=True)
class Place:
    """What stands at a path of a file, and what may stand there.

    Attributes:
        path: keys and indices as the file has them.
        form: the type; None where the schema has none.
        value: the plain value; None where nothing was written.
        info: the field, where the place is the key of a section or part.
        within: what the field belongs to.
        guessed: whether the path named a member of a union, which a file does not know of.
    """

    path: KeyPath
    form: Any
    value: Any
    info: FieldInfo | None = None
    within: Place | None = None
    guessed: bool = False

    @property
    def model(self) -> type[Options] | None:
        """The options that may stand here, given what does."""
        return model_of(self.form, self.value)

    @property
    def entry(self) -> Entry | None:
        """The part that is named here."""
        return next((found for pick in marked(self.form, Pick) if (found := _entry(pick, self.value))), None)

    def field(self, key: str) -> FieldInfo | None:
        """The option of that name, as a file writes it."""
        return next((info for name, info in fields(self.model) if name == key), None)

    @property
    def length(self) -> int | None:
        """How many entries a list must have here; None where it may have any number."""
        forms = (typing.get_args(part) for part in _parts(self.form) if typing.get_origin(part) is tuple)
        return next((len(entries) for entries in forms if ... not in entries), None)


def follow(path: KeyPath, value: Any) -> Place:
    """Follow a path from the root of a file.

    Args:
        path: keys and indices; indices into single values or past the end of a list, and the names of a union's
            members, are passed over.
        value: the plain value of the file, which decides what a part's options are.
    """
    place = Place((), Spec, value)
    for key in path:
        here = place.value
        info = None if isinstance(key, int) else place.field(key)
        written = isinstance(here, dict) and key in here
        if isinstance(key, int) and isinstance(here, list):
            if key < len(here):
                place = Place((*place.path, key), entry_form(place.form), here[key], guessed=place.guessed)
        elif isinstance(key, int):
            place = Place(place.path, entry_form(place.form), here, guessed=place.guessed)
        elif info is not None or written:
            inside = here[key] if written else None
            form = step(place.form, here, key)
            place = Place((*place.path, key), form, inside, info, within=place, guessed=place.guessed)
        else:
            place = Place(place.path, place.form, here, place.info, place.within, guessed=True)
    return place


def step(form: Any, value: Any, key: str) -> Any:
    """Return the type of what stands under a key of a value of some type; None where that is unknown.

    Args:
        form: the type of the value.
        value: the plain value, of which the name of a part is enough.
        key: as a file writes it.
    """
    info = dict(fields(model_of(form, value))).get(key)
    return annotated(info) if info is not None else _inner(form, (dict,), 1)


def entry_form(form: Any) -> Any:
    """Return the type of a list's entries; None where there can be no list."""
    return _inner(form, (tuple, list), 0)


def annotated(info: FieldInfo) -> Any:
    """Return the whole type of a field."""
    return typing.Annotated[info.annotation, *info.metadata] if info.metadata else info.annotation


def fields(model: type[Options] | None) -> list[tuple[str, FieldInfo]]:
    """Return the options of a section or part by the names that a file writes."""
    return [] if model is None else [(info.alias or name, info) for name, info in model.model_fields.items()]


def wanted(form: Any) -> list[str]:
    """Say in words what may stand at a place, one alternative each; words to be written are among them as they are."""
    if isinstance(form, type) and issubclass(form, Options):
        return [MAPPING]
    if form is bool:
        return ["true", "false"]
    if form in _WORDS:
        return [_WORDS[form]]
    origin, arguments = typing.get_origin(form), typing.get_args(form)
    if origin is typing.Literal:
        return [str(argument) for argument in arguments]
    if origin in (tuple, list, dict):
        return [MAPPING if origin is dict else LIST]
    if origin is typing.Annotated:
        for mark in form.__metadata__:
            if isinstance(mark, Pick):
                name = mark.family.name
                return [
                    *(["auto"] if mark.auto else []),
                    f"the name of {article(name)} {name}",
                    "a mapping with a name",
                ]
            if isinstance(mark, WordOr):
                return [*mark.words, *wanted(mark.form)]
            if isinstance(mark, ByShape):
                arguments = (mark.scalar, mark.sequence, mark.mapping)
                return [words for each in arguments if each is not None for words in wanted(each)]
        return wanted(arguments[0])
    return list(dict.fromkeys(words for argument in arguments for words in wanted(argument)))


def marked(form: Any, kind: type[_Mark]) -> Iterator[_Mark]:
    """Yield the marks of a kind that a type holds, those of its parts included."""
    for part in _parts(form):
        for mark in getattr(part, "__metadata__", ()):
            if isinstance(mark, kind):
                yield mark


def models(form: Any) -> Iterator[type[Options]]:
    """Yield the options that a type holds."""
    for part in _parts(form):
        if isinstance(part, type) and issubclass(part, Options):
            yield part


def homes() -> Iterator[tuple[str, str, str | None]]:
    """Yield each key of an experiment file, the path it stands under, and the part that it is an option of."""
    yield "extends", "", None
    yield from _homes(Spec, "", None)


def _homes(model: type[Options], path: str, part: str | None) -> Iterator[tuple[str, str, str | None]]:
    for key, info in fields(model):
        yield key, path, part
        below = beneath(path, key, info)
        for section in models(annotated(info)):
            yield from _homes(section, below, part)
        for pick in marked(annotated(info), Pick) if part is None else ():
            for entry in pick.family:
                yield from _homes(entry.options, below, entry.name)


def beneath(path: str, key: str, info: FieldInfo) -> str:
    """Return the path under which the keys of a field's options stand; KEY where the file names them itself."""
    named = any(typing.get_origin(part) is dict for part in _parts(annotated(info)))
    return ".".join(filter(None, (path, key, "KEY" if named else "")))


def _parts(form: Any) -> Iterator[Any]:
    """Yield a type and the types that it is made of, but not the parts of a family nor the fields of options."""
    yield form
    inner = list(typing.get_args(form)) if typing.get_origin(form) is not typing.Literal else []
    for mark in getattr(form, "__metadata__", ()):
        if isinstance(mark, WordOr):
            inner = [mark.form]
        elif isinstance(mark, ByShape):
            inner = [each for each in (mark.scalar, mark.sequence, mark.mapping) if each is not None]
    for each in inner:
        yield from _parts(each)


def _entry(pick: Pick, value: Any) -> Entry | None:
    name = value.get("name", pick.default) if isinstance(value, dict) else value
    return pick.family[name] if isinstance(name, str) and name in pick.family else None


def model_of(form: Any, value: Any) -> type[Options] | None:
    """Return the model of a type, given what was written there."""
    if isinstance(form, type) and issubclass(form, Options):
        return form
    if typing.get_origin(form) in (tuple, list, dict):
        # A single part may stand for a list of one; otherwise the entries have models of their own.
        return None if isinstance(value, list) else model_of(typing.get_args(form)[0], value)
    for mark in getattr(form, "__metadata__", ()):
        if isinstance(mark, Pick):
            entry = _entry(mark, value)
            return None if entry is None else entry.options
        if isinstance(mark, WordOr | ByShape):
            return model_of(mark.form if isinstance(mark, WordOr) else mark.mapping, value)
    return next((found for inner in typing.get_args(form) if (found := model_of(inner, value)) is not None), None)


def _inner(form: Any, origins: tuple[type, ...], index: int) -> Any:
    """Return the type of a list's entries, or of a mapping's values, wherever in a type that list or mapping is."""
    return next((typing.get_args(part)[index] for part in _parts(form) if typing.get_origin(part) in origins), None)


def flow(value: Any) -> str:
    """Write a plain value as YAML on one line."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key}: {flow(item)}" for key, item in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(flow, value)) + "]"
    return yamltext.dump(value).strip()


def even(bound: float) -> float:
    """Return a bound as people write it: 1 rather than 1.0."""
    return int(bound) if float(bound).is_integer() else bound
