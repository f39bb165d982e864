from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch


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
