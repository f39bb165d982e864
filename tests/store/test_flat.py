from __future__ import annotations

from typing import Any

import pytest

from dnntrain.store import flatten


@pytest.mark.parametrize(
    ("nested", "flat"),
    [
        ({}, {}),
        ({"a": {"b": {"c": 1}}, "d": None}, {"a.b.c": 1, "d": None}),
        ({"hidden": [300, 100]}, {"hidden": [300, 100]}),
        ({"c": [{"name": "x", "p": [1]}, "y"]}, {"c.0.name": "x", "c.0.p": [1], "c.1": "y"}),
        ({"c": [[1], [{"a": 2}]]}, {"c.0": [1], "c.1.0.a": 2}),
        ({"a": {}, "b": [], "c": [{}]}, {"a": {}, "b": [], "c.0": {}}),
        ({"a": ({"b": 1},)}, {"a.0.b": 1}),
    ],
)
def test_flatten(nested: dict[str, Any], flat: dict[str, Any]) -> None:
    assert flatten(nested) == flat
