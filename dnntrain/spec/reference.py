"""The reference of everything that an experiment file can say, made from the registry and the schema."""

from __future__ import annotations

import typing
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

from pydantic.fields import FieldInfo

from dnntrain.registry import AUTO, LARGEST, ByShape, Family, Options, Pick, WordOr, article, families, plain
from dnntrain.spec.forms import annotated, beneath, even, fields, flow, follow, marked, models
from dnntrain.spec.schema import OneOrMore, Spec
from dnntrain.store import flatten

_KEYS: Final = {
    "optimizer": ("training.clip", "training.accumulate"),
    "callback": ("training.max_time", "training.checkpoint", "training.on_divergence"),
}
"""Keys of a file that do what one might look for among the parts of a family."""


@dataclass(frozen=True)
class Option:
    """One key of a section or part.

    Attributes:
        name: the key.
        type: what may stand there, in words.
        default: its default as YAML; None where it is required.
        description: what it does.
        alternatives: the type once more, each alternative by itself.
    """

    name: str
    type: str
    default: str | None
    description: str
    alternatives: tuple[str, ...]

    @property
    def signature(self) -> str:
        """The key with its default, or with its type where it is required.

        Where the default is one of several alternatives, the others follow it: `gate: none | glu | geglu | swiglu`.
        """
        if self.default is None:
            return f"{self.name}: <{self.type}>"
        others = [each for each in self.alternatives if each != self.default]
        chosen_from = self.default in self.alternatives and self.alternatives != _SWITCH
        return f"{self.name}: " + " | ".join([self.default, *(others if chosen_from else ())])


_SWITCH: Final = ("true", "false")


def options(model: type[Options]) -> list[Option]:
    """Return the keys of a section or part."""
    return [_option(name, info) for name, info in fields(model)]


def _option(name: str, info: FieldInfo) -> Option:
    form = annotated(info)
    return Option(name, describe(form), _default(info), info.description or "", tuple(_alternatives(form)))


def keys_beside(family: Family) -> list[Option]:
    """Return keys of a file that do what one might look for in a family, by their whole paths."""
    found = []
    for path in _KEYS.get(family.name, ()):
        info = follow(tuple(path.split(".")), {}).info
        found += [] if info is None else [_option(path, info)]
    return found


def automatic(family: Family) -> list[tuple[str, str]]:
    """Return the keys where `auto` may stand for a part of a family, each with what it picks."""
    return list(_automatic(Spec, "", family))


def _automatic(model: type[Options], prefix: str, family: Family) -> Iterator[tuple[str, str]]:
    for key, info in fields(model):
        form = annotated(info)
        if AUTO in _alternatives(form) and any(pick.family is family for pick in marked(form, Pick)):
            yield prefix + key, (info.description or "").rpartition(f"{AUTO}: ")[2]
        if isinstance(info.annotation, type) and issubclass(info.annotation, Options):
            yield from _automatic(info.annotation, f"{prefix}{key}.", family)


def describe(form: Any) -> str:
    """Say in words what a field may hold."""
    return " | ".join(_alternatives(form))


def _alternatives(form: Any) -> list[str]:
    """Say in words what a field may hold, each alternative by itself."""
    origin, arguments = typing.get_origin(form), typing.get_args(form)
    if origin is typing.Annotated:
        return _marked_alternatives(form, arguments)
    if origin is typing.Literal:
        return [str(argument) for argument in arguments]
    if origin is tuple and ... not in arguments:
        return ["[" + ", ".join(map(describe, arguments)) + "]"]
    if origin in (tuple, list):
        return [f"list of {_one(arguments[0])}"]
    if origin is dict:
        return [f"mapping to {_one(arguments[1])}"]
    if arguments:
        return [each for argument in arguments for each in _alternatives(argument)]
    if isinstance(form, type) and issubclass(form, Options):
        return ["{" + ", ".join(name for name, _ in fields(form)) + "}"]
    if form is bool:
        return list(_SWITCH)
    words = {int: "integer", float: "number", str: "text", type(None): "null", Any: "value"}
    name = getattr(form, "__name__", form)
    return [words.get(form, "path" if name == "Path" else str(name))]


def _one(form: Any) -> str:
    """Describe an entry of a list or mapping; alternatives are held together."""
    described = describe(form)
    return f"({described})" if " | " in described else described


def _marked_alternatives(form: Any, arguments: tuple[Any, ...]) -> list[str]:
    for mark in form.__metadata__:
        if isinstance(mark, OneOrMore):
            return ["none", *_alternatives(typing.get_args(arguments[0])[0]), "list of them"]
        if isinstance(mark, Pick):
            return [f"{article(mark.family.name)} {mark.family.name}", *([AUTO] if mark.auto else [])]
        if isinstance(mark, WordOr):
            return [*mark.words, *_alternatives(mark.form)]
        if isinstance(mark, ByShape):
            forms = (mark.scalar, mark.sequence, mark.mapping)
            return [words for each in forms if each is not None for words in _alternatives(each)]
    *most, last = _alternatives(arguments[0])
    return [*most, last + _bounds(form.__metadata__)]


def _bounds(metadata: tuple[Any, ...]) -> str:
    symbols = {"gt": ">", "ge": ">=", "lt": "<", "le": "<="}
    found = []
    for mark in metadata:
        for part in (mark, *getattr(mark, "metadata", ())):
            bounds = {sign: getattr(part, key) for key, sign in symbols.items() if hasattr(part, key)}
            # The end of what a number format holds tells a reader nothing.
            found += [f"{sign} {flow(even(bound))}" for sign, bound in bounds.items() if bound != LARGEST]
    return f" ({', '.join(found)})" if found else ""


def _default(info: FieldInfo) -> str | None:
    return None if info.is_required() else flow(plain(info.get_default(call_default_factory=True, validated_data={})))


def defaults() -> dict[str, Any]:
    """Return what a run that does not mention a key had, as plain values.

    Returns:
        `keys`: default by dotted key, for keys that are not options of a part; `options`: of each part's name, default
        by option, where that is required of none of the parts of that name.
    """
    minimal = {"data": {"dataset": "digits"}, "model": {"architecture": {"name": "mlp", "hidden": [1]}}}
    keys = {
        key: value
        for key, value in flatten(plain(Spec.model_validate(minimal))).items()
        if not key.startswith(("data.dataset", "model.architecture", "optimizer", "schedule", "name", "seed"))
    }
    options: dict[str, dict[str, Any]] = {}
    for family in families().values():
        for entry in family:
            for name, info in entry.options.model_fields.items():
                if not info.is_required():
                    value = plain(info.get_default(call_default_factory=True, validated_data={}))
                    options.setdefault(entry.name, {}).setdefault(info.alias or name, value)
    return {"keys": keys, "options": options}


def markdown() -> str:
    """Return the reference as a Markdown page."""
    return "\n".join([*_head(), *_sections(), *_families()]) + "\n"


def _head() -> Iterator[str]:
    yield "# Reference"
    yield ""
    yield "Everything that an experiment file can say. This page is generated by `make docs`; do not edit it."
    yield ""
    yield "A part is written by its name, `selu`, or as a mapping with its options, `{name: swish, beta: 1.5}`."
    yield ""


def _sections() -> Iterator[str]:
    yield "## Sections"
    yield ""
    yield "| key | value | default | |"
    yield "|---|---|---|---|"
    yield "| `extends` | path | | start from another file, relative to this one |"
    for key, info in fields(Spec):
        section = _section(info.annotation)
        if section is not None:
            yield f"| **`{key}`** | | | {(section.__doc__ or '').splitlines()[0]} |"
            yield from _rows(section, key)
        else:
            yield _row(key, info)
    yield ""


def _section(form: Any) -> type[Options] | None:
    """Return the options that a whole section holds, whether or not it may be left out."""
    return next((each for each in (form, *typing.get_args(form)) if each in set(models(each))), None)


def _rows(model: type[Options], path: str = "") -> Iterator[str]:
    """Yield a row for each key, and for the keys of what may stand there as a mapping."""
    for key, info in fields(model):
        yield _row(f"{path}.{key}".lstrip("."), info)
        for inner in models(annotated(info)):
            yield from _rows(inner, beneath(path, key, info))


def _row(name: str, info: FieldInfo) -> str:
    option = _option(name, info)
    default = "required" if option.default is None else f"`{option.default}`"
    cells = (f"`{name}`", option.type, default, option.description)
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def _families() -> Iterator[str]:
    for family in families().values():
        yield f"## {family.name[0].upper()}{family.name[1:]}"
        yield ""
        yield family.summary
        yield ""
        for entry in family:
            yield f"### `{entry.name}`"
            yield ""
            yield entry.summary
            yield ""
            yield f"    {entry.equation}"
            yield ""
            yield f"Source: {entry.cite}. Example: `{family.name}: {flow(entry.example)}`"
            yield ""
            if entry.options.model_fields:
                yield "| option | value | default | |"
                yield "|---|---|---|---|"
                yield from _rows(entry.options)
                yield ""
