from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch

from dnntrain import registry
from dnntrain.parts import plugins


@pytest.fixture(scope="session", autouse=True)
def own_environment(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Keep the whole suite away from the user's cache and data, and on one core."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DNNTRAIN_CACHE", str(tmp_path_factory.mktemp("cache")))
        patch.delenv("DNNTRAIN_DATA", raising=False)
        yield
    torch.set_num_threads(threads)


@pytest.fixture(autouse=True)
def own_noise() -> Iterator[None]:
    """Start every test from the same global random state, and leave none behind."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        yield


@pytest.fixture(autouse=True)
def own_plugins() -> Iterator[None]:
    """Forget after every test the plugins that it has loaded, and their parts."""
    before = plugins.loaded_files()
    yield
    if (loaded := plugins.loaded_files()) == before:
        return
    gone = {f"dnntrain_plugin_{loaded[path][:16]}" for path in loaded.keys() - before.keys()}
    for family in registry._families.values():
        for name in [entry.name for entry in family if entry.factory.__module__ in gone]:
            del family._entries[name]
    plugins._loaded.clear()
    plugins._loaded.update(before)
