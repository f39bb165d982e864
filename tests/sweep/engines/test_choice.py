from __future__ import annotations

import os
from typing import Any

import pytest

from dnntrain.errors import UsageError
from dnntrain.sweep.engines import choice, local
from dnntrain.sweep.engines import ray as rays
from dnntrain.sweep.engines.inline import Inline
from dnntrain.sweep.engines.local import Local


def test_one_worker_is_inline_and_more_are_processes() -> None:
    assert isinstance(choice.choose(None, "1"), Inline)
    pool = choice.choose(None, "3")
    assert isinstance(pool, Local)
    assert pool.slots == 3
    assert isinstance(choice.choose("local", "1"), Local)


@pytest.mark.parametrize(
    ("name", "workers", "address", "cores", "wanted"),
    [
        (None, None, None, 8, False),
        (None, "1", None, 8, False),
        (None, "2", None, 1, True),
        (None, "auto", None, 8, True),
        (None, "auto", None, 1, False),
        ("local", None, None, 8, True),
        ("inline", "2", None, 8, False),
        ("ray", "2", None, 8, False),
        (None, "2", "auto", 8, False),
        (None, "0", None, 8, False),
        (None, "many", None, 8, False),
    ],
)
def test_processes_are_prepared_where_there_will_be_some(
    name: str | None,
    workers: str | None,
    address: str | None,
    cores: int,
    wanted: bool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    called: list[bool] = []
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(cores)))
    monkeypatch.setattr(local, "prepare", lambda: called.append(True))
    choice.prepare(name, workers, address)
    assert called == [True] * wanted


def test_a_cluster_is_asked_for_all_that_was_said_and_nothing_else(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Any] = []
    monkeypatch.setattr(rays, "Ray", lambda *arguments, **named: asked.append((*arguments, named)))
    choice.choose("ray", None)
    choice.choose(None, "auto", choice.Cluster("auto"))
    choice.choose("ray", "3", choice.Cluster("h:1", cpus=4, gpus=0.5, home=True))
    everything: dict[str, Any] = {"workers": None, "home": False}
    assert asked == [
        (None, everything),
        ("auto", everything),
        ("h:1", {"workers": 3, "home": True, "cpus": 4, "gpus": 0.5}),
    ]


@pytest.mark.parametrize("name", [None, "inline", "local"])
@pytest.mark.parametrize("wanted", [{"cpus": 2}, {"gpus": 0.5}, {"home": True}])
def test_what_is_asked_of_a_cluster_is_asked_of_nobody_else(name: str | None, wanted: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match="are asked of a Ray cluster: .*--engine ray"):
        choice.choose(name, None, choice.Cluster(**wanted))


def test_without_a_word_there_is_one_worker() -> None:
    assert choice.choose("local", None).slots == 1


@pytest.mark.parametrize(
    ("name", "workers", "message"),
    [("inline", "2", "choose --engine local"), ("cluster", "1", "known: inline, local, ray"), (None, "0", "or auto")],
)
def test_what_cannot_be_chosen(name: str | None, workers: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        choice.choose(name, workers)


def test_auto_is_a_worker_a_gpu_or_a_core_as_memory_allows(monkeypatch: pytest.MonkeyPatch) -> None:
    assert choice.most_workers(gpus=3) == 3
    cores = len(os.sched_getaffinity(0))
    for free, expected in ((cores * choice.MEMORY, cores), (choice.MEMORY // 2, 1), (10**15, cores)):
        monkeypatch.setattr(choice, "_free_memory", lambda free=free: free)
        assert choice.most_workers(gpus=0) == expected


def test_free_memory_is_that_of_the_machine() -> None:
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    assert 0 < choice._free_memory() <= total
