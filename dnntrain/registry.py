"""The registry: one typed registration feeds the schema, `list`, the docs, error messages and tests.

A *family* (activations, optimizers, ...) holds *entries*. An entry is a function or class whose arguments are split by
Python's own markers: what stands before `/` is a run-time value that the program passes in, what stands after `*` is an
option that a YAML file may set. The keyword-only arguments, with their annotations and defaults, become a frozen
pydantic model, so a file is checked against the very signature that will be called.

In a specification, a field that names a part is written `Annotated[Choice, Pick(family)]`.
"""

from __future__ import annotations

import inspect
import os
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, is_dataclass
from pathlib import Path
from typing import Annotated, Any, ClassVar, Final, TypeVar, get_args, get_origin, get_type_hints

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    GetCoreSchemaHandler,
    GetJsonSchemaHandler,
    PydanticSchemaGenerationError,
    TypeAdapter,
    ValidationInfo,
    create_model,
)
from pydantic_core import CoreSchema, PydanticCustomError, core_schema

from dnntrain.errors import RegistrationError, shorten, suggest

LARGEST = 1e18  # squared it is still a number in single precision, which ends at 3e38
Positive = Annotated[float, Field(gt=0, le=LARGEST)]
NonNegative = Annotated[float, Field(ge=0, le=LARGEST)]
Fraction = Annotated[float, Field(ge=0, lt=1)]
Unit = Annotated[float, Field(ge=0, le=1)]
PositiveInt = Annotated[int, Field(gt=0)]
NonNegativeInt = Annotated[int, Field(ge=0)]

AUTO: Final = "auto"

_STRICT = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False, validate_default=True)
_Factory = TypeVar("_Factory", bound=Callable[..., Any])


class Options(BaseModel):
    """What a YAML file may set for one part or section: frozen, strict, no unknown keys.

    Attributes:
        alternatives: groups of options that exclude each other, so that only those that are given are written down,
            and a later file or setting that gives one takes the others away.
        shorthand: the option that a single value stands for, where one may stand for them all.
        left_out: options that are not written down where they are null.
    """

    model_config = _STRICT
    alternatives: ClassVar[tuple[tuple[str, ...], ...]] = ()
    shorthand: ClassVar[str | None] = None
    left_out: ClassVar[tuple[str, ...]] = ()


@dataclass(frozen=True)
class Entry:
    """One registered part.

    Attributes:
        family: the family's name, in the singular.
        name: what a YAML file writes.
        factory: what is called to build the part.
        runtime: names of the arguments before `/`, which the program passes in.
        options: the model made of the keyword-only arguments.
        equation: the part's definition in one line.
        cite: where it comes from.
        example: a value as a YAML file would write it.
        traits: what the family wants to know of each part beyond its options.
        shared: names of the options that every part of the family has, which are not the factory's.
    """

    family: str
    name: str
    factory: Callable[..., Any]
    runtime: tuple[str, ...]
    options: type[Options]
    equation: str
    cite: str
    example: Any
    traits: Mapping[str, Any] = field(default_factory=dict)
    shared: frozenset[str] = frozenset()

    @property
    def summary(self) -> str:
        """The first line of the factory's docstring."""
        return (inspect.getdoc(self.factory) or "").split("\n")[0]

    @property
    def required(self) -> list[str]:
        """Names of the options that have no default."""
        return [name for name, info in self.options.model_fields.items() if info.is_required()]

    def build(self, options: Options, /, **runtime: Any) -> Any:
        """Call the factory with the run-time values that it asks for and with its options.

        Raises:
            TypeError: a run-time value that the factory needs was not passed.
        """
        missing = [name for name in self.runtime if name not in runtime]
        if missing:
            raise TypeError(f"{self.family} '{self.name}' needs {', '.join(missing)} at run time")
        own = [name for name in type(options).model_fields if name not in self.shared]
        keywords = {name: getattr(options, name) for name in own}
        return self.factory(*(runtime[name] for name in self.runtime), **keywords)


@dataclass(frozen=True)
class Choice:
    """A part picked by a file: the entry, and its options with every default filled in."""

    entry: Entry
    options: Options

    @property
    def name(self) -> str:
        """The entry's name."""
        return self.entry.name

    def build(self, **runtime: Any) -> Any:
        """Build the part; see `Entry.build`."""
        return self.entry.build(self.options, **runtime)

    def plain(self) -> Any:
        """Return what a YAML file would write, with every option spelled out."""
        options = plain(self.options)
        return {"name": self.name, **options} if options else self.name


class Family:
    """A named set of parts that can stand in the same place of an experiment file.

    Args:
        name: singular, as error messages say it ("activation").
        summary: one sentence for the docs.
        traits: what each entry may declare beyond its options, with defaults.
        synonyms: names used elsewhere and the name used here; they are pointed out, never accepted.
        shared: a function whose keyword-only arguments are options of every part, for whoever uses the family to read:
            they are not passed to the factory.
    """

    def __init__(
        self,
        name: str,
        /,
        *,
        summary: str,
        traits: Mapping[str, Any] | None = None,
        synonyms: Mapping[str, str] | None = None,
        shared: Callable[..., None] | None = None,
    ) -> None:
        if name in _families:
            raise RegistrationError(f"there is a family named '{name}' already")
        self.name = name
        self.summary = summary
        self._traits = dict(traits or {})
        self._synonyms = dict(synonyms or {})
        self._shared = {} if shared is None else _options(shared, name)[1]
        self._entries: dict[str, Entry] = {}
        _families[name] = self

    def register(
        self, name: str, /, *, equation: str, cite: str, example: Any = None, **traits: Any
    ) -> Callable[[_Factory], _Factory]:
        """Add a function or class to the family.

        Args:
            name: what a YAML file writes: lower case letters, digits and underscores.
            equation: the part's definition in one line.
            cite: where it comes from.
            example: a value as a YAML file would write it; needed where an option has no default.
            traits: values for the family's traits.

        Raises:
            RegistrationError: the name is taken or malformed, something is missing, or the signature mixes
                run-time values and options.
        """

        def decorator(factory: _Factory) -> _Factory:
            self._add(name, factory, equation=equation, cite=cite, example=example, traits=traits)
            return factory

        return decorator

    def _add(
        self, name: str, factory: Callable[..., Any], *, equation: str, cite: str, example: Any, traits: dict[str, Any]
    ) -> None:
        where = f"{self.name} '{name}'"
        if not re.fullmatch(r"[a-z][a-z0-9_]*", name):
            raise RegistrationError(f"{where}: a name is lower case letters, digits and underscores")
        if name in self._entries:
            raise RegistrationError(f"{where} is registered twice")
        if not equation or not cite or not inspect.getdoc(factory):
            raise RegistrationError(f"{where} needs an equation, a source and a docstring")
        if unknown := set(traits) - set(self._traits):
            raise RegistrationError(f"{where}: unknown traits {sorted(unknown)}; {suggest('', self._traits)}")
        runtime, fields = _options(factory, where)
        options = _model(f"{self.name}_{name}", fields | self._shared, where)
        entry = Entry(
            family=self.name,
            name=name,
            factory=factory,
            runtime=runtime,
            options=options,
            equation=equation,
            cite=cite,
            example=name if example is None else example,
            traits={**self._traits, **traits},
            shared=frozenset(self._shared),
        )
        if example is None and entry.required:
            raise RegistrationError(f"{where} has options without defaults and so needs an example")
        self._entries[name] = entry

    def names(self) -> list[str]:
        """All names, sorted."""
        return sorted(self._entries)

    def __getitem__(self, name: str) -> Entry:
        """Return the entry of that name; KeyError if there is none."""
        return self._entries[name]

    def __contains__(self, name: object) -> bool:
        return name in self._entries

    def __iter__(self) -> Iterator[Entry]:
        return (self._entries[name] for name in self.names())

    def choose(self, value: Any, /, *, context: Any = None) -> Choice:
        """Turn `selu`, or `{name: selu, ...}`, into a `Choice`.

        Raises:
            pydantic.ValidationError: an option is wrong.
            pydantic_core.PydanticCustomError: there is no such part.
        """
        if isinstance(value, Choice) and value.entry.family == self.name:
            return value
        if value is None and "none" in self:
            value = "none"
        name, options = self._parted(value)
        if name not in self:
            raise PydanticCustomError(
                "part_unknown",
                "unknown {family} '{given}'",
                {"family": self.name, "given": shorten(name), "hint": self._hint(name)},
            )
        entry = self[name]
        return Choice(entry, entry.options.model_validate(options, context=context))

    def _parted(self, value: Any) -> tuple[str, dict[str, Any]]:
        """Part what a file wrote into a name and options."""
        if isinstance(value, str):
            return value, {}
        known = suggest("", self.names())
        if isinstance(value, dict) and isinstance(value.get("name"), str):
            return value["name"], {key: item for key, item in value.items() if key != "name"}
        if isinstance(value, dict) and "name" not in value:
            nested = next((key for key in value if key in self), None)
            hint = f"write {{name: {nested}, ...}}" if nested else known
            raise PydanticCustomError(
                "part_unnamed", "this {family} lacks its name", {"family": self.name, "hint": hint}
            )
        if (value is None or value is False) and "none" in self._synonyms:
            known = f"write {self._synonyms['none']} for none"
        raise PydanticCustomError(
            "part_type",
            "must be the name of {article} {family}"
            + ("" if isinstance(value, dict) else ", or a mapping with a name"),
            {"family": self.name, "article": article(self.name), "hint": known},
        )

    def _hint(self, name: str) -> str:
        synonym = self._synonyms.get(name.lower())
        return f"called {synonym} here" if synonym else suggest(name, self.names())


_families: dict[str, Family] = {}


def families() -> dict[str, Family]:
    """All families by name, in the order of their making."""
    return dict(_families)


@dataclass(frozen=True)
class Pick:
    """Marks a field whose value names a part: `Annotated[Choice, Pick(optimizers, default="adamw")]`.

    Args:
        family: where the name is looked up.
        default: the name that options without a name belong to, so that `optimizer: {lr: 0.1}` can be said.
        auto: whether the word `auto` may stand there too; it is left as it is.
    """

    family: Family
    default: str | None = None
    auto: bool = False

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.with_info_plain_validator_function(self._validate)

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        forms: list[dict[str, Any]] = [{"x-family": self.family.name}]
        if self.auto:
            forms.insert(0, {"const": AUTO})
        if self.default is not None:
            forms.append(_json_union(handler, [self.family[self.default].options.__pydantic_core_schema__]))
        return {"anyOf": forms} if len(forms) > 1 else forms[0]

    def _validate(self, value: Any, info: ValidationInfo) -> Choice | str:
        if self.auto and value in (AUTO, {"name": AUTO}):
            return AUTO
        if self.auto and isinstance(value, dict) and value.get("name") == AUTO:
            raise PydanticCustomError(
                "part_auto",
                "auto picks the {family}, so there is nothing to set beside it",
                {"family": self.family.name, "hint": f"name the {self.family.name} that these options belong to"},
            )
        if self.default is not None and isinstance(value, dict) and "name" not in value:
            value = {"name": self.default, **value}
        return self.family.choose(value, context=info.context)


@dataclass(frozen=True)
class ByShape:
    """Marks a field whose type follows from what the file wrote there: a list, a mapping or a scalar.

    A plain union would try every form and report the failures of all of them; here only the form that was
    meant is checked, so its mistakes are the ones that are reported.
    """

    sequence: Any = None
    mapping: Any = None
    scalar: Any = None

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        forms = {"list": self.sequence, "mapping": self.mapping, "single value": self.scalar}
        adapters = {kind: strict_adapter(form) for kind, form in forms.items() if form is not None}

        def validate(value: Any, info: ValidationInfo) -> Any:
            if isinstance(value, list | tuple):
                kind = "list"
            else:
                kind = "mapping" if isinstance(value, dict | BaseModel) else "single value"
            if isinstance(value, Choice) and kind not in adapters:
                kind = "mapping"
            if kind not in adapters:
                raise PydanticCustomError("shape", "must be a {kinds}", {"kinds": " or a ".join(adapters)})
            return adapters[kind].validate_python(value, context=info.context)

        return core_schema.with_info_plain_validator_function(validate)

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        forms = (self.sequence, self.mapping, self.scalar)
        return _json_union(handler, [strict_adapter(form).core_schema for form in forms if form is not None])


@dataclass(frozen=True)
class WordOr:
    """Marks a field that holds one of a few words, or else a value of another type: `auto`, or a number.

    As with `ByShape`, a mistake is reported against what was meant, which a union could not do.
    """

    words: tuple[str, ...]
    form: Any

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        adapter = strict_adapter(self.form)

        def validate(value: Any, info: ValidationInfo) -> Any:
            if isinstance(value, str) and value in self.words:
                return str(value)
            return adapter.validate_python(value, context=info.context)

        return core_schema.with_info_plain_validator_function(validate)

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        words = core_schema.literal_schema(list(self.words))
        return _json_union(handler, [words, strict_adapter(self.form).core_schema])


def strict_adapter(form: Any) -> TypeAdapter[Any]:
    """Return what checks a type as strictly as `Options` checks its fields."""
    bare = get_args(form)[0] if get_origin(form) is Annotated else form
    if isinstance(bare, type) and (issubclass(bare, BaseModel) or is_dataclass(bare)):
        return TypeAdapter(form)
    return TypeAdapter(form, config=ConfigDict(strict=True, allow_inf_nan=False))


def _json_union(handler: GetJsonSchemaHandler, forms: list[CoreSchema]) -> dict[str, Any]:
    """Describe alternatives; the handler lets types within a union describe themselves, but not what it is given."""
    union: dict[str, Any] = handler(core_schema.union_schema(list(forms)))
    return union


def read_path(value: Any) -> Path:
    """Resolve a path that is read: beside the file that wrote it, then under DNNTRAIN_DATA."""
    if not isinstance(value, str | Path) or not str(value) or "\0" in str(value):
        raise PydanticCustomError("path", "must be a path")
    folder = Path(getattr(value, "folder", None) or Path.cwd())
    # os.path leaves alone what pathlib raises for: an unknown user after '~', a name too long to exist.
    path = Path(os.path.expanduser(str(value)))
    beside = Path(os.path.abspath(folder / path))
    root = os.environ.get("DNNTRAIN_DATA")
    if root and not path.is_absolute() and not os.path.exists(beside):
        under = Path(os.path.abspath(Path(root) / path))
        if os.path.exists(under):
            return under
    return beside


class _ReadPath:
    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_plain_validator_function(read_path)

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        return {"type": "string", "format": "path"}


ReadPath = Annotated[Path, _ReadPath()]


def plain(value: Any) -> Any:
    """Turn validated values back into what a YAML file would hold: mappings, lists and scalars."""
    if isinstance(value, Choice):
        return value.plain()
    if isinstance(value, BaseModel):
        written = {info.alias or name: plain(getattr(value, name)) for name, info in type(value).model_fields.items()}
        everything = not (isinstance(value, Options) and value.alternatives)
        left_out = value.left_out if isinstance(value, Options) else ()
        return {k: item for k, item in written.items() if item is not None or (everything and k not in left_out)}
    if isinstance(value, Mapping):
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if isinstance(value, Path):
        return str(value)
    return value


def option_docs(factory: Callable[..., Any]) -> dict[str, str]:
    """Read the descriptions of options from the `Args:` section of a docstring."""
    section = re.search(r"^Args:\n((?:[ ]{4}.*\n?|\n)+)", (inspect.getdoc(factory) or "") + "\n", re.MULTILINE)
    if section is None:
        return {}
    found = re.findall(r"^ {4}(\w+): (.*(?:\n {8,}.*)*)", section.group(1), re.MULTILINE)
    return {name: " ".join(text.split()) for name, text in found}


def _options(factory: Callable[..., Any], where: str) -> tuple[tuple[str, ...], dict[str, Any]]:
    """Split a signature into the names of its run-time values and the fields of its options."""
    target = factory.__init__ if inspect.isclass(factory) else factory
    try:
        hints = get_type_hints(target, include_extras=True)
    except NameError as error:
        raise RegistrationError(f"{where}: a type cannot be looked up: {error}") from error
    docs = option_docs(factory)
    runtime: list[str] = []
    fields: dict[str, Any] = {}
    for name, parameter in inspect.signature(factory).parameters.items():
        if parameter.kind is parameter.POSITIONAL_ONLY:
            runtime.append(name)
        elif parameter.kind is parameter.KEYWORD_ONLY:
            if name not in hints:
                raise RegistrationError(f"{where}: option '{name}' has no type")
            default = ... if parameter.default is parameter.empty else parameter.default
            fields[name] = (hints[name], Field(default, description=docs.get(name)))
        else:
            raise RegistrationError(
                f"{where}: argument '{name}' must stand before '/' (a run-time value) or after '*' (an option)"
            )
    return tuple(runtime), fields


def _model(title: str, fields: dict[str, Any], where: str) -> type[Options]:
    """Make the model of a part's options."""
    if "name" in fields:
        raise RegistrationError(f"{where}: an option cannot be called 'name', which picks the part")
    if taken := [name for name in fields if name.startswith("_") or hasattr(Options, name)]:
        raise RegistrationError(f"{where}: an option cannot be called '{taken[0]}', which options have a use for")
    try:
        return create_model(title, __base__=Options, **fields)
    except PydanticSchemaGenerationError as error:
        raise RegistrationError(f"{where}: a file cannot hold such an option: {error.message}") from error


def article(noun: str) -> str:
    """Return the article of a noun: an activation, a loss."""
    return "an" if noun[0] in "aeiou" else "a"
