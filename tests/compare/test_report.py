from __future__ import annotations

import hashlib
import json
import re
from datetime import datetime
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from madeupruns import make_run

from dnntrain.compare.comparison import compare_runs
from dnntrain.compare.payload import nothing, payload
from dnntrain.compare.records import collect
from dnntrain.compare.report import LIVE_POLICY, PAGE, POLICY, SCRIPTS, as_text, embedded, render, write_report
from dnntrain.errors import StoreError

HOSTILE = "</script><script>alert(1)</script><!-- & \u2028 \u2029 \ud800"


class Reader(HTMLParser):
    """Takes a page apart as a browser would: the content of each script, and every address in it."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.scripts: list[tuple[dict[str, str | None], str]] = []
        self.addresses: list[str] = []
        self._inside: dict[str, str | None] | None = None
        self.feed(page)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self._inside = dict(attrs) if tag == "script" else None
        self.addresses += [value or "" for name, value in attrs if name in ("src", "href", "action")]

    def handle_endtag(self, tag: str) -> None:
        self._inside = None

    def handle_data(self, data: str) -> None:
        if self._inside is not None:
            self.scripts.append((self._inside, data))


@pytest.fixture
def data(tmp_path: Path) -> dict[str, Any]:
    make_run(tmp_path, "run")
    return payload(compare_runs(collect([str(tmp_path)])))


def test_one_file_that_asks_for_nothing(data: dict[str, Any]) -> None:
    page = Reader(render(data))
    assert page.addresses == ["data:,", "#main"]
    assert len(page.scripts) == len(SCRIPTS) + 1
    assert f'content="{POLICY}"' in render(data) and "connect-src" not in render(data)
    assert f'content="{LIVE_POLICY}"' in render(data, live=True)
    style = (PAGE / "page.css").read_text()
    assert "@import" not in style and "url(" not in style


def test_the_data_comes_back_as_it_went_in(data: dict[str, Any]) -> None:
    data["groups"][0]["label"] = HOSTILE
    page = Reader(render(data).encode().decode())
    attributes, text = page.scripts[0]
    assert attributes == {"type": "application/json", "id": "data"}
    assert not re.search("[<>&\u2028\u2029]", text)
    assert json.loads(text)["groups"][0]["label"] == HOSTILE
    assert len(page.scripts) == len(SCRIPTS) + 1


def test_a_hostile_metric_cannot_leave_the_title(data: dict[str, Any]) -> None:
    data["metric"] = "</title><script>alert(1)</script>"
    assert "<script>alert" not in render(data)


def test_text_that_looks_like_a_field_is_not_filled_in(data: dict[str, Any]) -> None:
    data["remarks"] = ["{{scripts}}"]
    assert json.loads(Reader(render(data)).scripts[0][1])["remarks"] == ["{{scripts}}"]


def test_nan_cannot_slip_through() -> None:
    with pytest.raises(ValueError, match="JSON"):
        as_text({"value": float("nan")})
    assert embedded({"a": "<"}) == '{"a":"\\u003c"}'


def test_the_page_of_nothing_says_so() -> None:
    assert "no runs yet" in render(nothing("wait"))


def test_the_time_is_said_where_it_is_known(data: dict[str, Any]) -> None:
    assert "on 2026-01-02 at 03:04" in render(data, made=datetime(2026, 1, 2, 3, 4))
    assert render(data) == render(data)


@pytest.mark.parametrize("name", [name for name in SCRIPTS if "/" not in name])
def test_scripts_are_short_strict_and_can_be_inlined(name: str) -> None:
    text = (PAGE / name).read_text()
    assert len(text.splitlines()) <= 320
    assert "'use strict';" in text
    assert not re.search("</script|<!--|innerHTML|insertAdjacentHTML|document.write|eval\\(|new Function", text)
    assert text.startswith("// ")


def test_every_script_is_used() -> None:
    assert sorted(path.relative_to(PAGE).as_posix() for path in PAGE.rglob("*.js")) == sorted(SCRIPTS)


def test_the_chart_library_is_the_one_that_was_released() -> None:
    code = (PAGE / "vendor" / "echarts.min.js").read_bytes()
    assert hashlib.sha256(code).hexdigest() in (PAGE / "vendor" / "README.md").read_text()
    assert b"Licensed to the Apache Software Foundation" in code[:1000]
    assert b"</script" not in code.lower()
    for name in ("LICENSE", "NOTICE", "LICENSE-d3"):
        assert (PAGE / "vendor" / name).stat().st_size > 100


def test_a_report_is_written_whole_or_not_at_all(tmp_path: Path) -> None:
    make_run(tmp_path / "runs")
    made = compare_runs(collect([str(tmp_path / "runs")]))
    write_report(made, tmp_path / "report.html")
    write_report(made, tmp_path / "report.html")
    assert [path.name for path in tmp_path.iterdir() if path.is_file()] == ["report.html"]
    assert (tmp_path / "report.html").read_text().startswith("<!DOCTYPE html>")
    with pytest.raises(StoreError, match="cannot write"):
        write_report(made, tmp_path / "nowhere" / "report.html")
