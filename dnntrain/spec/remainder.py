"""What remains of a file without its mistakes, so that the rest can still be checked in the same go."""

from __future__ import annotations

import functools
import typing
from collections.abc import Collection
from typing import Any

from pydantic import TypeAdapter

from dnntrain.registry import Options, strict_adapter
from dnntrain.spec.forms import annotated, fields
from dnntrain.spec.schema import Spec
from dnntrain.yamltext import KeyPath


def remainder(value: dict[str, Any], wrong: Collection[KeyPath]) -> Spec:
    """Return the spec that is made of the sound values of a file.

    What is wrong is at its default; what is required and is wrong or lacking has no attribute.

    Args:
        value: the plain value of the file.
        wrong: paths of all that was found wrong with it.
    """
    return Spec.model_construct(**_sound(Spec, value, wrong, ()))


def _sound(model: type[Options], value: dict[str, Any], wrong: Collection[KeyPath], path: KeyPath) -> dict[str, Any]:
    kept: dict[str, Any] = {}
    for key, info in fields(model):
        here = (*path, key)
        inside = value.get(key)
        section = _section(info.annotation, inside)
        if section is not None:
            kept[key] = section.model_construct(
                **_sound(section, inside if isinstance(inside, dict) else {}, wrong, here)
            )
        elif key in value and not any(each[: len(here)] == here for each in wrong):
            kept[key] = _checker(model, key).validate_python(value[key])
    return kept


def _section(form: Any, inside: Any) -> type[Options] | None:
    """Return the section that a field holds.

    One that may be left out counts where something stands there, if it is whole with each of its keys left out.
    """
    if typing.get_origin(form) in (tuple, list, dict):
        return None
    for each in (form, *typing.get_args(form)):
        if isinstance(each, type) and issubclass(each, Options):
            return each if each is form or (isinstance(inside, dict) and not each.alternatives) else None
    return None


@functools.cache
def _checker(model: type[Options], key: str) -> TypeAdapter[Any]:
    return strict_adapter(annotated(dict(fields(model))[key]))
