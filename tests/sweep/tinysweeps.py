"""Short experiment files with a sweep, and their spaces."""

from __future__ import annotations

from typing import Any

from dnntrain import spec, yamltext
from dnntrain.spec import Draft
from dnntrain.sweep.space import Space

EXPERIMENT = {"data": {"dataset": "digits"}, "model": {"architecture": {"name": "mlp", "hidden": [3]}}}


def draft(space: dict[str, Any], *grids: str, **rest: Any) -> Draft:
    """Read a file that is called f.yaml, with these axes and these other keys of its sweep."""
    content = {**EXPERIMENT, "sweep": {"space": space, **rest}}
    return spec.drafts(yamltext.dump(content), source="f.yaml", grids=grids)


def space(axes: dict[str, Any], *grids: str, **rest: Any) -> Space:
    return Space(draft(axes, *grids, **{"patience": 3, **rest}).spec())
