"""The JSON Schema of experiment files, by which editors complete and check them."""

from __future__ import annotations

from typing import Any

from pydantic.json_schema import models_json_schema

from dnntrain.registry import Entry, Family, Options, families
from dnntrain.spec.schema import Spec


def json_schema() -> dict[str, Any]:
    """Return the JSON Schema of experiment files."""
    parts = [entry for family in families().values() for entry in family]
    models: list[type[Options]] = [Spec, *(part.options for part in parts)]
    names, made = models_json_schema([(model, "validation") for model in models])
    definitions = made["$defs"]
    root = definitions.pop(_name(names[Spec, "validation"]))
    options = {part.options: definitions[_name(names[part.options, "validation"])] for part in parts}
    for name, family in families().items():
        definitions[f"family_{name}"] = _family(family, {entry.name: options[entry.options] for entry in family})
    schema = {
        **root,
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "dnntrain experiment",
        "properties": {"extends": {"type": "string", "description": "start from another file"}, **root["properties"]},
        "$defs": definitions,
    }
    # A file that extends another one may leave to it what is required.
    for section in (schema, *(definitions[name] for name in _sections(root))):
        section.pop("required", None)
    linked: dict[str, Any] = _linked(schema)
    return linked


def _sections(root: dict[str, Any]) -> list[str]:
    """Return the names under which the sections of a file are defined."""
    return [_name(field) for field in root["properties"].values() if "$ref" in field]


def _name(reference: dict[str, Any]) -> str:
    return str(reference["$ref"]).removeprefix("#/$defs/")


def _family(family: Family, options: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """Describe what may stand where a part of a family is named: its name, or a mapping with its options."""
    short: list[str | None] = [entry.name for entry in family if not entry.required]
    if "none" in family:
        short.append(None)
    named = [_part(entry, options[entry.name]) for entry in family]
    return {"title": family.name, "anyOf": [{"enum": short}, *named] if short else named}


def _part(entry: Entry, options: dict[str, Any]) -> dict[str, Any]:
    return {
        "type": "object",
        "title": entry.name,
        "description": f"{entry.summary} {entry.equation}",
        "properties": {"name": {"const": entry.name}, **options["properties"]},
        "required": ["name", *entry.required],
        "additionalProperties": False,
    }


def _linked(schema: Any) -> Any:
    """Point each place that names a part to the one definition of its family."""
    if isinstance(schema, list):
        return [_linked(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    linked = {key: _linked(item) for key, item in schema.items() if key != "x-family"}
    if "x-family" in schema:
        linked["$ref"] = f"#/$defs/family_{schema['x-family']}"
    return linked
