"""The page in a browser, as a reader meets it: by mouse, by keyboard, in the dark, on paper."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from madeupruns import make_run

from dnntrain.compare.comparison import compare_runs
from dnntrain.compare.records import collect
from dnntrain.compare.report import write_report
from dnntrain.store import RunDirectory

pytestmark = [pytest.mark.browser, pytest.mark.process]

EXERCISE = Path(__file__).parents[2] / "docs" / "runs" / "exercise"
Opened = Callable[..., Any]


def written(runs: Path, to: Path, **options: Any) -> str:
    """Write the report of a folder of runs and return its address."""
    write_report(compare_runs(collect([str(runs)]), **options), to)
    return to.as_uri()


@pytest.fixture(scope="session")
def exercise(tmp_path_factory: pytest.TempPathFactory) -> str:
    return written(EXERCISE, tmp_path_factory.mktemp("page") / "report.html", metric="test/accuracy")


def chart(page: Any) -> Any:
    """Return the chart of the learning curves, in sight."""
    place = page.locator("#curves .chart")
    place.scroll_into_view_if_needed()
    page.wait_for_selector("#curves .chart canvas")
    # What is switched on or off is drawn with the next picture.
    page.evaluate("() => new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))")
    return place


def hover(page: Any, x: float, y: float = 0.4) -> str:
    """Point at a place of the chart, given as parts of its width and height, and return what the tooltip says."""
    box = chart(page).bounding_box()
    page.mouse.move(box["x"] + 5, box["y"] + 5)
    page.mouse.move(box["x"] + x * box["width"], box["y"] + y * box["height"], steps=3)
    return str(page.locator("#curves .tip").inner_text())


def settled(page: Any) -> bytes:
    """Return a picture of the chart once it moves no more."""
    page.mouse.move(0, 0)
    pictures = [b"", chart(page).screenshot()]
    while pictures[-1] != pictures[-2]:
        page.wait_for_timeout(100)
        pictures.append(chart(page).screenshot())
    return pictures[-1]


def cells(page: Any, column: int) -> list[str]:
    return [str(row).strip() for row in page.locator(f"#table tbody tr > *:nth-child({column})").all_inner_texts()]


def tab_to(page: Any, selector: str, most: int = 80) -> None:
    """Press Tab until an element has the focus."""
    for _ in range(most):
        page.keyboard.press("Tab")
        if page.evaluate("selector => document.activeElement.matches(selector)", selector):
            return
    pytest.fail(f"Tab does not come to {selector}")


def test_the_three_answers_come_first_in_words(opened: Opened, exercise: str) -> None:
    page = opened(exercise)
    assert page.locator("h1").inner_text() == "5 groups, 15 runs"
    assert "test/accuracy (higher is better) with cifar_swish" in page.locator("#subtitle").inner_text()
    cards = page.locator(".answer")
    assert [
        title.split("\n")[0].split("Is")[0].split("Does")[0].split("What")[0].strip()
        for title in cards.locator("h3").all_inner_texts()
    ] == ["Quality", "Convergence", "Speed"]
    first = cards.nth(0).locator("li").nth(0).inner_text()
    assert "cifar_batchnorm" in first and "50.49 %" in first
    assert "not distinguishable difference +3.26 points" in first and "6 seeds a side would settle it" in first
    assert cards.nth(0).locator("li", has_text="cifar_swish").locator(".verdict").inner_text() == "baseline"


RULES = """() => ['#quality-chart', '#curves .chart'].map((selector) => {
  const chart = echarts.getInstanceByDom(document.querySelector(selector));
  const { shape } = chart.getZr().storage.getDisplayList().find(({ type, style, shape }) =>
    style.lineDash?.length === 2 && (shape.x1 === shape.x2 || shape.y1 === shape.y2) && style.lineDash[0] === 4);
  return shape.x1 === shape.x2 ? chart.convertFromPixel({ xAxisIndex: 0 }, shape.x1)
    : chart.convertFromPixel({ yAxisIndex: 0 }, shape.y1);
})"""


def test_lines_across_the_charts_stand_at_the_baselines_values(opened: Opened, exercise: str) -> None:
    page = opened(exercise)
    settled(page)
    quality, target = page.evaluate(RULES)
    data = json.loads(page.locator("#data").text_content())
    base = next(group for group in data["groups"] if group["baseline"])
    assert quality == pytest.approx(base["quality"]["value"], abs=3e-4)  # a pixel is 2e-4 or so
    assert target == pytest.approx(data["target"]["value"], abs=5e-3)


def test_hovering_shows_the_values_of_an_epoch(opened: Opened, exercise: str) -> None:
    page = opened(exercise)
    told = hover(page, 0.08)
    epoch = int(told.split("\n")[0].removeprefix("epoch "))
    rows = [
        row
        for path in sorted(EXERCISE.glob("cifar_selu-*"))
        for row in RunDirectory(path).metrics()
        if row["epoch"] == epoch
    ]
    values = [row["valid/loss"] for row in rows]
    assert len(values) == 3
    expected = f"cifar_selu\t{sum(values) / 3:#.4g}\t{min(values):#.4g} to {max(values):#.4g}"
    assert expected in told
    assert "cifar_one_cycle" in told
    assert "cifar_one_cycle" not in hover(page, 0.6)  # which has 15 epochs


def test_toggling_a_line_takes_it_out_and_brings_it_back(opened: Opened, exercise: str) -> None:
    page = opened(exercise)
    before = settled(page)
    page.get_by_role("checkbox", name="cifar_swish").click()
    assert settled(page) != before
    assert "4 of 5 groups drawn" in page.locator(".legend").inner_text()
    assert "cifar_swish" not in hover(page, 0.2)
    page.get_by_role("checkbox", name="cifar_swish").click()
    assert settled(page) == before
    page.get_by_role("button", name="None").click()
    page.get_by_text("Nothing to draw").first.wait_for()


def test_each_run_can_be_drawn_and_toggled(opened: Opened, exercise: str) -> None:
    page = opened(exercise)
    page.get_by_role("radio", name="Each run").check()
    assert "cifar_selu, seed 43" in hover(page, 0.1)
    item = page.locator(".entries > li", has_text="cifar_selu")
    item.get_by_role("checkbox", name="seed 43").click()
    told = hover(page, 0.1)
    assert "cifar_selu, seed 43" not in told and "cifar_selu, seed 42" in told


@pytest.mark.parametrize("change", ["metric", "time", "log", "smooth", "zoom"])
def test_every_control_changes_the_picture(opened: Opened, exercise: str, change: str) -> None:
    page = opened(exercise)
    before = settled(page)
    panel = page.locator("#curves")
    match change:
        case "metric":
            panel.get_by_label("Metric").select_option("train/accuracy")
            assert "train/accuracy over epochs" in panel.locator("figcaption").inner_text()
            assert " %" in hover(page, 0.2)
        case "time":
            panel.get_by_role("radio", name="Time").check()
            assert hover(page, 0.2).startswith("after ")
        case "log":
            panel.get_by_label("Log scale").check()
        case "smooth":
            panel.get_by_label("Smoothing").press("End")
            assert "smoothed by 0.95" in panel.locator("figcaption").inner_text()
        case "zoom":
            panel.get_by_role("button", name="Zoom in").click()
            zoomed = settled(page)
            panel.get_by_role("button", name="Move right").click()
            assert settled(page) not in (before, zoomed)
            epoch = int(hover(page, 0.1).split("\n")[0].removeprefix("epoch "))
            assert epoch > 10
            panel.get_by_role("button", name="All of the range").click()
            assert settled(page) == before
            return
    assert settled(page) != before


def test_sorting_by_mouse(opened: Opened, exercise: str) -> None:
    page = opened(exercise)
    head = page.locator("#table thead").get_by_role("button", name="samples/s")
    place = 1 + page.locator("#table thead th").all_inner_texts().index("samples/s")
    head.click()
    assert cells(page, place) == ["4,443", "3,860", "2,746", "1,928", "1,707"]
    assert page.locator("#table thead th", has_text="samples/s").get_attribute("aria-sort") == "descending"
    head.click()
    assert cells(page, place) == ["1,707", "1,928", "2,746", "3,860", "4,443"]
    assert page.locator("#table thead th[aria-sort]").count() == 1


def test_values_that_are_lacking_stand_last_either_way(opened: Opened, exercise: str) -> None:
    page = opened(exercise)
    head = page.locator("#table thead").get_by_role("button", name="time to target")
    place = 1 + page.locator("#table thead th").all_inner_texts().index("time to target")
    for _ in range(2):
        head.click()
        assert cells(page, place)[-1] == "–"


def test_filtering_counts_aloud(opened: Opened, exercise: str) -> None:
    page = opened(exercise)
    count = page.locator("#table-count")
    assert count.get_attribute("aria-live") == "polite"
    page.get_by_label("Filter rows").fill("selu alpha")
    assert count.inner_text() == "2 of 5 groups"
    assert cells(page, 1) == ["cifar_one_cycle", "cifar_alpha_dropout"]
    page.locator("#table").get_by_role("radio", name="Run").check()
    assert count.inner_text() == "6 of 15 runs"


def test_the_keyboard_is_enough(opened: Opened, exercise: str) -> None:
    page = opened(exercise)
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.textContent") == "Skip to the answers"
    tab_to(page, ".entries input[type=checkbox]")
    page.keyboard.press("Space")
    page.wait_for_function("() => document.querySelector('.legend').innerText.includes('4 of 5')")
    assert page.evaluate("document.activeElement.matches('.entries input')")  # the focus stays
    tab_to(page, "#table thead button")
    page.keyboard.press("Enter")
    assert cells(page, 1)[0] == "cifar_alpha_dropout"
    assert page.locator("#table thead th").nth(0).get_attribute("aria-sort") == "ascending"
    assert page.evaluate("getComputedStyle(document.activeElement).outlineStyle") == "solid"


def background(page: Any) -> int:
    """Return how light the page's ground is, from 0 to 765."""
    colour = page.evaluate("getComputedStyle(document.body).backgroundColor")
    return sum(int(part) for part in colour.strip("rgb()").split(","))


def test_dark_by_the_system_and_by_the_button(opened: Opened, exercise: str) -> None:
    page = opened(exercise)
    assert background(page) > 600
    light = settled(page)
    page.emulate_media(color_scheme="dark")
    page.wait_for_function("() => document.documentElement.dataset.theme === 'dark'")
    assert background(page) < 150
    assert settled(page) != light
    page.locator("#theme").click()
    assert background(page) > 600
    assert page.locator("#theme").get_attribute("aria-pressed") == "false"
    page.reload()
    assert background(page) > 600  # remembered


def test_on_paper_all_is_open_and_white(opened: Opened, exercise: str) -> None:
    page = opened(exercise, color_scheme="dark")
    page.emulate_media(media="print")
    page.wait_for_function("() => [...document.querySelectorAll('details')].every((each) => each.open)")
    assert background(page) == 765
    for hidden in (".controls", "#theme", ".skip", "input"):
        assert not any(each.is_visible() for each in page.locator(hidden).all()), hidden
    assert page.locator("#further canvas").first.is_visible()
    assert "packages.torch" in page.locator("#environment").inner_text()
    assert page.evaluate("document.querySelector('#curves .chart canvas').clientWidth") <= 700
    assert len(page.pdf(format="A4")) > 50_000


@pytest.mark.parametrize("width", [400, 1600])
def test_it_fits_its_window(opened: Opened, exercise: str, width: int) -> None:
    page = opened(exercise, viewport={"width": width, "height": 900})
    chart(page)
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    place = "at the bottom" if width < 640 else "at the right"  # lying axes, one below the other, or standing ones
    assert f"to test/accuracy {place};" in page.locator("#parallel figcaption").inner_text()


def test_each_chart_has_its_figures_as_text(opened: Opened, exercise: str) -> None:
    page = opened(exercise)
    assert "5 lines" in page.locator("#curves .chart").get_attribute("aria-label")
    page.locator("#curves summary").click()
    rows = page.locator("#curves .alternative tbody tr").all_inner_texts()
    assert len(rows) == 5 and rows[0].startswith("cifar_batchnorm")


def test_parallel_coordinates_and_what_mattered(opened: Opened, exercise: str) -> None:
    page = opened(exercise)
    place = page.locator("#parallel .chart")
    place.scroll_into_view_if_needed()
    assert "8 of 11 settings" in page.locator("#parallel figcaption").inner_text()
    box = place.bounding_box()
    found = ""
    for step in range(40):  # down the last axis, until a line is met
        page.mouse.move(box["x"] + box["width"] - 111, box["y"] + 44 + step * (box["height"] - 68) / 40)
        if page.locator("#parallel .tip:visible").count():
            found = page.locator("#parallel .tip").inner_text()
            break
    assert "test/accuracy" in found and "optimizer" in found
    told = page.locator("#importance").inner_text()
    assert "optimizer.lr" in told and "always together" in told


def test_gradient_norms_and_whatever_else_is_recorded(opened: Opened, tmp_path: Path) -> None:
    directory = make_run(tmp_path / "runs", losses=[])
    for epoch in (1, 2, 3):
        directory.append_metrics(
            {"epoch": epoch, "valid/loss": 1.0, "grad_norm": 0.5, "activations/1/mean": epoch / 10}
        )
    directory.close()
    page = opened(written(tmp_path / "runs", tmp_path / "page.html"))
    offered = page.locator("#further select option").all_inner_texts()
    assert offered == ["grad_norm", "activations/1/mean"]
    page.locator("#further select").select_option("activations/1/mean")
    assert "activations/1/mean over epochs" in page.locator("#further figcaption").inner_text()


def test_two_runs_side_by_side(opened: Opened, exercise: str) -> None:
    page = opened(exercise)
    panel = page.locator("#differences")
    panel.get_by_label("One").select_option(label="cifar_selu")
    panel.get_by_label("Another").select_option(label="cifar_alpha_dropout")
    told = panel.inner_text()
    assert "model.dropout.0.rate\t–\t0.1" in told and "seed" not in told
    runs = panel.get_by_label("One").locator("optgroup[label=Runs] option").all_inner_texts()
    panel.get_by_label("One").select_option(label=runs[0])
    panel.get_by_label("Another").select_option(label=runs[1])
    assert panel.locator("tbody tr").all_inner_texts() == ["seed\t42\t43"]


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing_serious(
    opened: Opened, exercise: str, accessible: Callable[[Any], None], scheme: str
) -> None:
    page = opened(exercise, color_scheme=scheme)
    for details in page.locator("summary").all():
        details.click()
    page.get_by_role("radio", name="Each run").check()
    accessible(page)


def test_hostile_names_stay_text(opened: Opened, tmp_path: Path) -> None:
    evil = "</script><img src=x onerror=\"document.title='owned'\"><script>document.title='owned'</script>"
    for place, lr in enumerate((0.1, 0.2, 0.3)):
        directory = make_run(
            tmp_path / "runs", spec={"optimizer.lr": lr, "model.activation": evil * (place + 1)}, tags=[evil]
        )
        directory.write_summary({**directory.summary(), "name": evil + str(place), "error": evil})
        directory.append_metrics({"epoch": 4, evil: 1.0, "valid/" + evil: 2.0})
        directory.close()
    page = opened(written(tmp_path / "runs", tmp_path / "page.html"))
    page.locator("#table").get_by_role("radio", name="Run").check()
    for select in page.locator("select").all()[:2]:
        select.select_option(index=select.locator("option").count() - 1)
    page.locator("#curves select").select_option("valid/loss")
    assert evil[:14] in hover(page, 0.2)
    assert page.title() != "owned"
    assert page.locator("img").count() == 0


def odd_runs(runs: Path, case: str) -> dict[str, Any]:
    """Leave runs of a kind that a page may stumble over; returns how to compare them."""
    match case:
        case "one run":
            make_run(runs)
        case "no epochs":
            make_run(runs, losses=[], status="running")
            make_run(runs, "other", losses=[], spec={"optimizer.lr": 1.0})
        case "one epoch":
            make_run(runs, losses=[1.0])
            make_run(runs, "other", losses=[2.0], spec={"optimizer.lr": 1.0})
        case "all failed":
            for seed, lr in ((0, 0.1), (1, 0.1), (0, 0.2)):
                make_run(runs, losses=[3.0, None], seed=seed, status="failed", spec={"optimizer.lr": lr})
        case "nothing but nulls":
            make_run(runs, losses=[None, None])
        case "missing metrics":
            make_run(runs, test={"test/loss": 1.0})
            make_run(runs, "other", spec={"optimizer.lr": 1.0})
            return {"metric": "test/loss"}
        case "long names":
            for place in range(4):
                directory = make_run(runs, spec={"optimizer.lr": place, "model.activation": "x" * 300 + str(place % 2)})
                directory.write_summary({**directory.summary(), "name": "very_long_name_" * 20 + str(place)})
        case "negative and zero":
            make_run(runs, losses=[1.0, 0.0, -1.0])
    return {}


@pytest.mark.parametrize(
    "case",
    [
        "one run",
        "no epochs",
        "one epoch",
        "all failed",
        "nothing but nulls",
        "missing metrics",
        "long names",
        "negative and zero",
    ],
)
def test_odd_cases(opened: Opened, tmp_path: Path, case: str) -> None:
    options = odd_runs(tmp_path / "runs", case)
    page = opened(written(tmp_path / "runs", tmp_path / "page.html", **options), viewport={"width": 400, "height": 900})
    if page.locator("#curves").is_visible():
        page.get_by_role("radio", name="Each run").check()
        page.locator("#curves").get_by_label("Log scale").check()
    for part in page.locator("section:visible").all():
        part.scroll_into_view_if_needed()
        page.wait_for_timeout(50)
    assert page.evaluate("document.documentElement.scrollWidth") <= 400
    assert page.locator("#table tbody tr").count() >= 1
    if case == "one epoch":
        page.mouse.wheel(0, -10_000)
        assert "epoch 1" in hover(page, 0.5)


def test_500_runs(opened: Opened, tmp_path: Path) -> None:
    for place in range(500):
        losses = [2 * math.exp(-epoch / 5) + place % 100 / 100 for epoch in range(20)]
        spec = {"optimizer.lr": (place % 100 + 1) / 1000, "model.activation": "abc"[place % 3]}
        make_run(tmp_path / "runs", seed=place, losses=losses, spec=spec, minutes=place)
    page = opened(written(tmp_path / "runs", tmp_path / "page.html"))
    assert "300 groups, 500 runs" in page.locator("h1").inner_text()
    assert "11 of 300 groups drawn" in page.locator(".legend").inner_text()
    page.locator(".legend").get_by_role("button", name="All").click()
    page.get_by_role("radio", name="Each run").check()
    assert "further from the pointer" in hover(page, 0.3)
    page.locator("#table").get_by_role("radio", name="Run").check()
    assert page.locator("#table tbody tr").count() == 500
    page.get_by_label("Find a group").fill("no such group")
    assert not page.locator(".entries > li:visible").count()


def test_the_data_can_be_read_from_the_page(opened: Opened, exercise: str) -> None:
    data = json.loads(opened(exercise).locator("#data").text_content())
    assert data["schema"] == 1 and len(data["runs"]) == 15
