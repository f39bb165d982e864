from __future__ import annotations

import pytest

from dnntrain.units import count, span, volume


@pytest.mark.parametrize(
    ("size", "text"), [(0, "0 B"), (999, "999 B"), (1000, "1.0 KB"), (2_500_000, "2.5 MB"), (3e12, "3.0 TB")]
)
def test_volume(size: float, text: str) -> None:
    assert volume(size) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0.0 s"), (9.96, "10.0 s"), (40, "40 s"), (91, "2 min"), (3570, "1 h 00 min"), (11_100, "3 h 05 min"),
     (47.9 * 3600, "47 h 54 min"), (52 * 3600, "2 d 4 h")],
)  # fmt: skip
def test_span(seconds: float, text: str) -> None:
    assert span(seconds) == text


def test_count() -> None:
    assert [count(number, "seed") for number in (0, 1, 2000)] == ["0 seeds", "1 seed", "2,000 seeds"]
