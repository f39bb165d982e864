from __future__ import annotations

import io
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from dnntrain.training.batches import Batches, Examples, balanced


def numbered(n: int, index: Tensor | None = None) -> Examples:
    """Examples whose inputs and targets are the numbers of their rows."""
    x = torch.arange(n).float().unsqueeze(1)
    rows = torch.arange(n) if index is None else index
    return Examples(x, torch.arange(n), rows, nn.Identity(), torch.device("cpu"))


def batches(n: int, batch_size: int, *, accumulate: int = 1, seed: int = 0, order: Any = None) -> Batches:
    return Batches(
        numbered(n),
        batch_size=batch_size,
        accumulate=accumulate,
        generator=torch.Generator().manual_seed(seed),
        order=order,
    )


def seen(steps: Iterator[list[Any]]) -> list[list[list[int]]]:
    """The rows of each batch of each step; inputs and targets must belong together."""
    found = []
    for step in steps:
        for x, y in step:
            assert torch.equal(x[:, 0].long(), y)
        found.append([y.tolist() for _, y in step])
    return found


def flat(steps: list[list[list[int]]]) -> list[int]:
    return [row for step in steps for batch in step for row in batch]


def sizes(n: int, batch_size: int, accumulate: int = 1) -> list[list[int]]:
    return [[len(batch) for batch in step] for step in seen(batches(n, batch_size, accumulate=accumulate).epoch())]


@settings(max_examples=60, deadline=None)
@given(n=st.integers(1, 70), batch_size=st.integers(1, 40), accumulate=st.integers(1, 5))
def test_every_sample_is_seen_once_an_epoch(n: int, batch_size: int, accumulate: int) -> None:
    ours = batches(n, batch_size, accumulate=accumulate)
    for _ in range(2):
        steps = seen(ours.epoch())
        assert sorted(flat(steps)) == list(range(n))
        assert len(steps) == len(ours)
        assert all(1 <= len(step) <= accumulate for step in steps)
        if batch_size > 1 and n > 1:
            assert all(len(batch) >= 2 for step in steps for batch in step), "a batch of one sample"


@pytest.mark.parametrize(
    ("n", "batch_size", "accumulate", "expected"),
    [
        (64, 32, 1, [[32], [32]]),
        (70, 32, 1, [[32], [32], [6]]),
        (33, 32, 1, [[33]]),
        (65, 32, 1, [[32], [33]]),
        (5, 32, 1, [[5]]),
        (1, 32, 1, [[1]]),
        (3, 1, 1, [[1], [1], [1]]),
        (70, 10, 3, [[10, 10, 10], [10, 10, 10], [10]]),
        (65, 32, 2, [[32, 33]]),
        (41, 10, 3, [[10, 10, 10], [11]]),
    ],
)
def test_how_an_epoch_is_cut(n: int, batch_size: int, accumulate: int, expected: list[list[int]]) -> None:
    assert sizes(n, batch_size, accumulate) == expected


def test_each_epoch_has_an_order_of_its_own() -> None:
    ours = batches(50, 8)
    first, second = flat(seen(ours.epoch())), flat(seen(ours.epoch()))
    assert first != second
    assert first != list(range(50))


def test_the_order_depends_on_the_generator_alone() -> None:
    first = flat(seen(batches(50, 8).epoch()))
    torch.manual_seed(999)
    before = torch.get_rng_state()
    assert flat(seen(batches(50, 8).epoch())) == first
    assert flat(seen(batches(50, 16, accumulate=2).epoch())) == first, "the batch size changes the order"
    assert flat(seen(batches(50, 8, seed=1).epoch())) != first
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("taken", range(8))
def test_the_rest_of_an_epoch_comes_after_a_restart(taken: int) -> None:
    whole = batches(45, 7)
    expected = [seen(whole.epoch()) for _ in range(3)]

    first = batches(45, 7)
    seen(first.epoch())
    epoch = first.epoch()
    begun = [next(epoch) for _ in range(taken)]
    file = io.BytesIO()
    torch.save(first.state_dict(), file)
    file.seek(0)

    second = batches(45, 7, seed=77)
    second.load_state_dict(torch.load(file, weights_only=True))
    rest = seen(iter(begun)) + seen(second.epoch())
    # Once the last step is taken, what is to come is the epoch after.
    assert rest == expected[1] + (expected[2] if taken == len(first) else [])
    assert seen(second.epoch()) == (expected[2] if taken < len(first) else seen(whole.epoch()))


@pytest.mark.parametrize("taken", [1, 3, 7])
def test_an_epoch_left_in_the_middle_goes_on_in_the_same_process(taken: int) -> None:
    expected = [seen(e.epoch()) for e in [batches(45, 7)] * 2]
    ours = batches(45, 7)
    epoch = ours.epoch()
    begun = seen(next(epoch) for _ in range(taken))
    epoch.close()
    if taken < len(ours):
        assert begun + seen(ours.epoch()) == expected[0]
    assert seen(ours.epoch()) == expected[1]


def test_a_part_gathers_its_own_rows_and_prepares_them() -> None:
    index = torch.tensor([9, 3, 5])
    part = Examples(numbered(10).x, numbered(10).y, index, nn.Threshold(4.0, -1.0), torch.device("cpu"))
    x, y = part.take(torch.tensor([2, 0, 1]))
    assert (len(part), y.tolist()) == (3, [5, 9, 3])
    assert x[:, 0].tolist() == [5, 9, -1]


@pytest.mark.parametrize("size", [1, 3, 10, 64])
def test_slices_go_through_a_part_in_order(size: int) -> None:
    index = torch.tensor([8, 1, 7, 2, 0, 5, 9])
    pieces = [y for _, y in numbered(10, index).slices(size)]
    assert torch.cat(pieces).tolist() == index.tolist()
    assert all(len(piece) <= size for piece in pieces)


def test_balanced_sampling_shows_each_class_equally_often() -> None:
    labels = torch.cat([torch.zeros(900), torch.ones(90), torch.full((10,), 3)]).long()
    order = balanced(labels)
    draws = torch.Generator().manual_seed(0)
    drawn = torch.cat([labels[order(draws)] for _ in range(60)])
    counts = np.bincount(drawn.numpy(), minlength=4) / len(drawn)
    assert counts[2] == 0
    np.testing.assert_allclose(counts[[0, 1, 3]], 1 / 3, atol=5 * (2 / 9 / 60_000) ** 0.5)


def test_balanced_sampling_shows_every_sample_of_a_class() -> None:
    labels = torch.tensor([0] * 30 + [1] * 2)
    positions = torch.cat([balanced(labels)(torch.Generator().manual_seed(seed)) for seed in range(60)])
    assert set(positions.tolist()) == set(range(32))
    rare = np.bincount(positions.numpy())[30:]
    np.testing.assert_allclose(rare / len(positions), 0.25, atol=0.05)


def test_balanced_order_depends_on_the_generator_and_resumes() -> None:
    labels = torch.tensor([0] * 20 + [1] * 5)
    ours = batches(25, 4, order=balanced(labels))
    expected = seen(ours.epoch())
    first = batches(25, 4, order=balanced(labels))
    epoch = first.epoch()
    begun = seen(next(epoch) for _ in range(3))
    second = batches(25, 4, order=balanced(labels), seed=5)
    second.load_state_dict(first.state_dict())
    assert begun + seen(second.epoch()) == expected
