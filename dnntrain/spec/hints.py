"""How to mend a mistake: the key or the value that was probably meant, and examples from the registry."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from pydantic.fields import FieldInfo

from dnntrain.errors import nearest
from dnntrain.registry import Options, Pick, plain
from dnntrain.spec.forms import (
    INTEGER,
    LIST,
    MAPPING,
    NUMBER,
    TEXT,
    Place,
    annotated,
    entry_form,
    fields,
    flow,
    follow,
    homes,
    marked,
    wanted,
)
from dnntrain.yamltext.core import resolve

# Keys that people bring along from other tools, and what they are called here.
_RENAMED: Final = {
    "accumulate_grad_batches": "accumulate",
    "batchsize": "batch_size",
    "criterion": "loss",
    "dropout_rate": "rate",
    "early_stopping": "callbacks",
    "grad_clip": "clip",
    "gradient_accumulation_steps": "accumulate",
    "gradient_clip_val": "clip",
    "gradient_clipping": "clip",
    "kernel_initializer": "initializer",
    "learning_rate": "lr",
    "lr_schedule": "schedule",
    "lr_scheduler": "schedule",
    "max_epochs": "epochs",
    "max_grad_norm": "clip",
    "n_epochs": "epochs",
    "num_epochs": "epochs",
    "random_state": "seed",
    "scheduler": "schedule",
    "validation_split": "validation",
}

# And what has no name here, with the reason.
_LOGITS: Final = "models give logits; the loss applies softmax or sigmoid itself"
_BIASES: Final = "biases follow from the normalization: one is left out where it has no effect"
_ABSENT: Final = {"output_activation": _LOGITS, "softmax": _LOGITS, "bias": _BIASES, "use_bias": _BIASES}

_MOST_KNOWN: Final = 20

_TRUE: Final = ("yes", "on", "y", "true")
_FALSE: Final = ("no", "off", "n", "false")


def key_hint(key: str, section: Place, here: Sequence[str] | None = None) -> str:
    """Say which key was meant instead of an unknown one: of this section, of another, or of another tool.

    Args:
        key: the unknown one.
        section: where it stands.
        here: the keys that may stand there, unless those that the section has.
    """
    here = [name for name, _ in fields(section.model)] if here is None else here
    shown = [*here[:_MOST_KNOWN], *(["..."] if len(here) > _MOST_KNOWN else [])]
    known = f"known: {', '.join(shown)}" if here else "there are no options here"
    habit = key.lower().replace("-", "_").strip()
    if key == "extends" and not section.path:
        return "a file says what it extends; a setting cannot"
    if habit in _ABSENT:
        return _ABSENT[habit]
    if meant := _RENAMED.get(habit):
        return f"called {meant} here" + ("" if meant in here else f", {_home(meant)}")
    if near := nearest(key, here, cutoff=0.8):
        return f"did you mean '{near}'?  {known}"
    if home := _home(key):
        return f"it belongs {home}"
    if near := nearest(key, here):
        return f"did you mean '{near}'?  {known}"
    elsewhere = nearest(key, sorted({name for name, _, _ in homes()}), cutoff=0.8)
    return f"did you mean '{elsewhere}'?  it belongs {_home(elsewhere)}" if elsewhere else known


def value_hint(place: Place) -> str:
    """Say how to write what was probably meant by a value of the wrong type."""
    given, allowed = place.value, wanted(place.form)
    if (given is None or given is False) and "none" in allowed:
        return "write none"
    if given is None and place.info is not None and not place.info.is_required():
        default = _default(place.info)
        return "leave it out" if isinstance(default, dict) else f"leave it out for its default, {flow(default)}"
    if isinstance(given, str) and (hint := _text_hint(str(given), allowed)):
        return hint
    if isinstance(given, str) and given.isidentifier() and LIST in allowed and TEXT in wanted(entry_form(place.form)):
        return f"write [{given}]"
    if isinstance(given, float) and INTEGER in allowed and given.is_integer() and abs(given) < 1e15:
        return f"write {int(given)}"
    if isinstance(given, bool | int | float) and TEXT in allowed:
        return f'write "{flow(given)}" in quotes if it is text'
    shown = example(place)
    if LIST in allowed or (MAPPING in allowed and not isinstance(given, dict)):
        keys = [name for name, _ in fields(place.model)]
        return f"such as {flow(shown)}" if shown else f"its keys are {', '.join(keys)}" if keys else ""
    return ""


def example(place: Place) -> Any:
    """Return a plain value that could stand at a place; None where none is known."""
    info, within = place.info, place.within
    if info is not None and info.examples:
        return info.examples[0]
    whole = within.entry.example if within is not None and within.entry is not None else None
    if isinstance(whole, dict) and place.path[-1] in whole:
        return whole[place.path[-1]]
    if info is not None and not info.is_required() and (default := _default(info)):
        return default
    return _form_example(place.form)


def _form_example(form: Any) -> Any:
    if isinstance(form, type) and issubclass(form, Options):
        required = {key: info for key, info in fields(form) if info.is_required()}
        return {
            k: info.examples[0] if info.examples else _form_example(annotated(info)) for k, info in required.items()
        }
    for pick in marked(form, Pick):
        return next((entry.example for entry in pick.family), None)
    return {INTEGER: 10, NUMBER: 0.1, "true": True}.get((wanted(form) or [""])[0])


def _home(key: str) -> str:
    """Say where a key may stand; an empty text where none is called so."""
    found: dict[str, set[str]] = {}
    for name, path, part in homes():
        if name == key:
            found.setdefault(path, set()).update([part] if part else [])
    if "" in found:
        return "at the top of the file"
    # What stands higher up is meant more often: the optimizer's rate, not that of a stage.
    height = min((path.count(".") for path in found), default=0)
    found = {path: parts for path, parts in found.items() if path.count(".") == height}
    sections = {path: parts for path, parts in found.items() if not parts}
    places = []
    for path, having in (sections or found).items():
        family = {part.name for pick in marked(follow(tuple(path.split(".")), {}).form, Pick) for part in pick.family}
        places.append(path + (f" ({', '.join(sorted(having))})" if having < family else ""))
    return f"under {' or '.join(places[:3])}" if places else ""


def _default(info: FieldInfo) -> Any:
    return plain(info.get_default(call_default_factory=True, validated_data={}))


def _text_hint(given: str, allowed: list[str]) -> str:
    number = _number(given)
    if number is not None and (NUMBER in allowed or (INTEGER in allowed and float(number).is_integer())):
        meant = int(number) if INTEGER in allowed else number
        return f"write {given} without quotes" if resolve(given) == meant else f"write {flow(meant)}"
    lowered = given.lower()
    if "true" in allowed and lowered in (*_TRUE, *_FALSE):
        return f"write {'true' if lowered in _TRUE else 'false'}"
    if "none" in allowed and lowered in (*_FALSE, "null"):
        return "write none"
    near = nearest(given, [word for word in allowed if " " not in word and word != TEXT])
    return f"did you mean '{near}'?" if near else ""


def _number(text: str) -> int | float | None:
    """Return the number that a quoted or unusually written one stands for: '3', 1_000, 10%."""
    compact = text.strip().replace("_", "").replace(",", "")
    try:
        number = resolve(compact.removesuffix("%"))
    except ValueError:
        return None
    if isinstance(number, bool | str) or number is None or not abs(number) < 1e15:
        return None
    return round(number / 100, 10) if compact.endswith("%") else number
