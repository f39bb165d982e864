"""Curves as text: golden pictures, and what must hold for every picture."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import plotext
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from rich.cells import cell_len
from rich.text import Text

from dnntrain.compare import terminal
from dnntrain.compare.curves import LARGEST, Axis, Curve, Point
from dnntrain.compare.terminal import MOST, Looks, Panel, draw

GOLDEN = Path(__file__).parent / "golden"
AXES: tuple[Axis, ...] = ("epoch", "time")
ESCAPE = re.compile("\x1b")


def written(name: str, value: float | None) -> str:
    return "-" if value is None else f"{value:.3g}"


def curve(label: str, height: Callable[[float], float | None], epochs: int = 20, spread: float = 0.0) -> Curve:
    """Return a curve over epochs, with a range that is so much of the middle on either side."""
    points = []
    for epoch in range(1, epochs + 1):
        middle = height(epoch)
        if middle is None:
            points.append(Point(epoch))
        else:
            points.append(Point(epoch, middle, middle * (1 - spread), middle * (1 + spread), 3))
    return Curve(label, "valid/loss", tuple(points))


def sample() -> list[Panel]:
    falling = curve("falling", lambda epoch: 2 * math.exp(-epoch / 5) + 0.2, spread=0.2)
    rising = curve("rising_at_last", lambda epoch: 0.5 + (epoch - 8) ** 2 / 100, epochs=15, spread=0.1)
    return [
        Panel("valid/loss", [falling, rising], "min"),
        Panel("lr", [curve("falling", lambda epoch: 1e-3), curve("rising_at_last", lambda epoch: None)]),
    ]


def shown(panels: list[Panel], figure: Callable[[str, float | None], str] = written, **looks: Any) -> str:
    return draw(panels, Looks(**looks), figure=figure)


def frame(text: str) -> list[str]:
    """Return what is drawn inside frames."""
    return [
        line.split(line.strip(" 0123456789.e+-%")[0], 1)[1] for line in text.splitlines() if re.search("[│┤|]", line)
    ]


@pytest.mark.parametrize(
    ("name", "looks"),
    [
        ("curves_60.txt", {"width": 60}),
        ("curves_100.txt", {"width": 100}),
        ("curves_200.txt", {"width": 200}),
        ("curves_100_log.txt", {"width": 100, "log": True}),
        ("curves_60_ascii.txt", {"width": 60, "unicode": False}),
        ("curves_100_colour.txt", {"width": 100, "colour": True}),
    ],
)
def test_pictures_are_as_they_were_looked_at(name: str, looks: dict[str, Any]) -> None:
    assert shown(sample(), **looks) + "\n" == (GOLDEN / name).read_text(encoding="utf-8")


@pytest.mark.parametrize("looks", [{}, {"log": True}, {"unicode": False}])
def test_without_colour_there_is_no_escape_code(looks: dict[str, Any]) -> None:
    assert not ESCAPE.search(shown(sample(), **looks))


def test_colours_are_all_that_they_add() -> None:
    coloured = shown(sample(), colour=True)
    assert ESCAPE.search(coloured)
    plain = [line.rstrip() for line in Text.from_ansi(coloured).plain.splitlines()]
    assert plain == shown(sample()).splitlines()


def test_every_group_has_its_letter_and_its_colour_in_all_panels() -> None:
    groups = [curve(f"group {number}", lambda epoch, number=number: number + 1 / epoch) for number in range(MOST)]
    panels = [Panel("valid/loss", groups, "min"), Panel("train/loss", groups[::1], "min")]
    plain = shown(panels)
    coloured = shown(panels, colour=True)
    for number in range(MOST):
        letter = "ABCDEFGH"[number]
        assert plain.count(f"   {letter} group {number}") == 2
        assert sum(letter in line for line in frame(plain)) >= 2
        colours = set(re.findall(rf"\x1b\[38;2;(\d+;\d+;\d+)m(?:\x1b\[1m)?{letter}", coloured))
        assert len(colours) == 1
    assert len(set(re.findall(r"38;2;(\d+;\d+;\d+)m", coloured))) == MOST


def test_ascii_is_ascii_whatever_the_label() -> None:
    text = shown([Panel("größe", [curve("größe", lambda epoch: epoch, spread=0.3)], "max")], unicode=False)
    assert text.isascii()
    assert text.count("gr\\xf6\\xdfe") == 2
    assert any("." in line for line in frame(text)), "the range is shaded"
    assert any("AAA" in line for line in frame(text)), "the line is made of letters"


@pytest.mark.parametrize("width", [1, 40, 60, 100, 200])
@pytest.mark.parametrize("label", ["a" * 300, "\x1b[31mred\nnext", "名" * 40, "[bold]"])
def test_lines_are_no_wider_than_asked_and_labels_are_harmless(label: str, width: int) -> None:
    text = shown([Panel("valid/" + label, [curve(label, lambda epoch: epoch)], "max")], width=width)
    assert all(cell_len(line) <= max(40, width) for line in text.splitlines())
    assert not ESCAPE.search(text)
    assert len([line for line in text.splitlines() if line.startswith("   A ")]) == 1


def test_the_legend_tells_seeds_last_and_best() -> None:
    points = (Point(1, 3.0, 2.0, 4.0, 3), Point(2, 2.0, 1.0, 3.0, 3), Point(3, 1.0, 1.0, 1.0, 1), Point(4))
    panel = [Curve("x", "valid/loss", points), Curve("y", "valid/loss", ())]
    head, first, second = shown([Panel("valid/loss", panel, "min")]).splitlines()[-3:]
    assert head.split() == ["group", "seeds", "last", "best", "at", "epoch"]
    assert first.split() == ["A", "x", "1-3", "1", "2", "2"], "the best is where all seeds are"
    assert second.split() == ["B", "y", "-", "-", "-", "-"]
    assert shown([Panel("valid/loss", panel, "max")]).splitlines()[-2].split() == ["A", "x", "1-3", "1", "3", "1"]
    assert shown([Panel("lr", panel)]).splitlines()[-2].split() == ["A", "x", "1-3", "1"]


@pytest.mark.parametrize(
    ("last", "unit", "best"), [(90, "seconds", "90"), (600, "minutes", "10.0"), (9000, "hours", "2.5")]
)
def test_time_has_a_fitting_unit(last: float, unit: str, best: str) -> None:
    points = (Point(last / 2, 2.0, 2.0, 2.0, 1), Point(last, 1.0, 1.0, 1.0, 1))
    text = draw([Panel("valid/loss", [Curve("x", "valid/loss", points)], "min")], Looks(), axis="time", figure=written)
    assert f"{unit} of training" in text
    assert text.splitlines()[-2].split()[-1] == unit
    assert text.splitlines()[-1].split()[-1] == best


def test_gaps_part_a_line() -> None:
    def drawn(height: Callable[[float], float | None]) -> str:
        lines = frame(shown([Panel("m", [curve("x", height)])], width=60))
        return "".join(max(column).strip() or " " for column in zip(*(line.ljust(60) for line in lines), strict=True))

    whole, parted = drawn(lambda epoch: 1.0), drawn(lambda epoch: None if 9 <= epoch <= 12 else 1.0)
    assert " " not in whole.strip()
    assert re.fullmatch(r"\S+ {8,20}\S+", parted.strip())


def test_a_logarithmic_axis_leaves_out_what_has_no_place_and_says_so() -> None:
    panel = [Panel("m", [curve("x", lambda epoch: 10.0 ** (epoch - 5) if epoch != 7 else -1.0, epochs=10)])]
    text = shown(panel, log=True)
    assert "not above zero" in text
    assert "not above zero" not in shown(panel)
    rising = [Panel("m", [curve("x", lambda epoch: 10.0**epoch)])]
    assert "not above zero" not in shown(rising, log=True)
    # On this axis what grows by a factor is a straight line: a letter is as far up as it is to the right.
    places = [(line.index("A"), row) for row, line in enumerate(frame(shown(rising, log=True))) if "A" in line]
    slopes = [(b[1] - a[1]) / (b[0] - a[0]) for a, b in zip(places, places[1:], strict=False)]
    assert len(slopes) >= 2
    assert slopes == pytest.approx([slopes[0]] * len(slopes), abs=0.05)
    nothing = shown([Panel("m", [curve("x", lambda epoch: -1.0)])], log=True)
    assert "no figures to draw" in nothing


def test_remarks_about_the_frame() -> None:
    astray = Curve("x", "m", tuple(Point(i, 1.0 / i, 0.1, 1000.0 if i == 5 else 1.0 / i, 3) for i in range(1, 10)))
    assert "go beyond this frame, from 0.1 to 1e+03" in shown([Panel("m", [astray])])
    assert "--log shows more" in shown([Panel("m", [curve("x", lambda epoch: 100.0 ** (3 - epoch))])])
    assert "--log" not in shown(sample())


@pytest.mark.parametrize(
    "points",
    [(), (Point(1),), (Point(1), Point(2)), (Point(1, 2.0, 2.0, 2.0, 1),), (Point(1, 0.0, 0.0, 0.0, 1),)],
    ids=["no epochs", "one gap", "all null", "one epoch", "one zero"],
)
@pytest.mark.parametrize("log", [False, True])
def test_hardly_anything_to_draw(points: tuple[Point, ...], log: bool) -> None:
    text = shown([Panel("m", [Curve("x", "m", points)])], log=log)
    drawable = any(point.middle is not None and (point.middle > 0 or not log) for point in points)
    assert ("no figures to draw" in text) is not drawable
    assert ("A" in "".join(frame(text))) is drawable


def test_what_is_constant_lies_in_the_middle() -> None:
    for value in (3.0, -3.0, 0.0):
        lines = frame(shown([Panel("m", [curve("x", lambda epoch, value=value: value)])]))
        (row,) = [number for number, line in enumerate(lines) if "A" in line]
        assert abs(row - (len(lines) - 1) / 2) <= 1


def test_accuracies_are_in_percent() -> None:
    text = shown([Panel("valid/accuracy", [curve("x", lambda epoch: epoch / 20)], "max")])
    assert "100 %┤" in text
    assert "20 %┤" in text


PLACES = st.lists(st.floats(0, LARGEST), max_size=6, unique=True).map(sorted)
FIGURES = st.none() | st.floats(-LARGEST, LARGEST)


@settings(max_examples=40, deadline=None)
@given(PLACES, st.lists(st.lists(FIGURES, min_size=6, max_size=6), max_size=3), st.booleans(), st.sampled_from(AXES))
@example([1.0], [[5e-324]], True, "epoch")
@example([1.0, 2.0], [[5e73, 2e-309], [1e-200, 1e200]], True, "time")
@example([5e-324], [[1e200]], False, "time")
@example([1e200], [[-1e200], [1e200]], False, "epoch")
@example([1e16, 1e16 + 2], [[1.0, 1.0000000000000002]], False, "epoch")
def test_any_figures_can_be_drawn(places: list[float], groups: list[list[float | None]], log: bool, axis: Axis) -> None:
    def points(values: list[float | None]) -> tuple[Point, ...]:
        return tuple(Point(x, v, v, v, int(v is not None)) for x, v in zip(places, values, strict=False))

    curves = [Curve("x", "m", points(values)) for values in groups]
    text = draw([Panel("m", curves, "min")], Looks(60, log=log), axis=axis, figure=written)
    assert all(cell_len(line) <= 60 for line in text.splitlines())


def test_plotext_is_left_as_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    def empty() -> tuple[str, Any]:
        plotext.figure.plot_size(10_000, 8)  # as wide as the terminal, unless the limit is off
        text = plotext.figure.build().string()
        plotext.figure.clear()
        return text, plotext.figure.size()

    before = empty()
    drawn = shown(sample())
    assert empty() == before
    assert shown(sample()) == drawn, "nothing of one picture is in the next"
    monkeypatch.setattr(terminal, "_draw_band", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        shown(sample())
    assert empty() == before
