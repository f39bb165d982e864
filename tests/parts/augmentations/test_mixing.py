from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import stats
from tinypictures import draws, made, pictures
from torch import Tensor

N = 400


def mixed(written: object, x: Tensor, y: Tensor, classes: int = N) -> tuple[Tensor, Tensor]:
    return made(written, classes=classes)(x, y, draws(5))


def numbered(count: int = N, height: int = 8, width: int = 6) -> tuple[Tensor, Tensor]:
    """Pictures each of one number all over, and that number as the label."""
    y = torch.arange(count)
    return y.float().view(-1, 1, 1, 1).expand(-1, 2, height, width).contiguous(), y


def shares_of(q: Tensor) -> tuple[list[int], list[float]]:
    """Read from mixed labels of unique classes: each sample's partner and its own share."""
    partners, shares = [], []
    for i, row in enumerate(q.double().numpy()):
        others = [j for j in np.flatnonzero(row) if j != i]
        assert len(others) <= 1
        assert row.sum() == pytest.approx(1.0, abs=1e-6)
        partners.append(int(others[0]) if others else i)
        shares.append(float(row[i]) if others else 1.0)
    return partners, shares


@pytest.mark.parametrize("alpha", [0.3, 1.0, 4.0])
def test_mixup_blends_samples_and_labels_by_one_share(alpha: float) -> None:
    x = torch.randn(N, 5, 3, generator=draws())
    after, q = mixed({"name": "mixup", "alpha": alpha}, x, torch.arange(N))
    assert (after.shape, after.dtype, q.dtype) == (x.shape, x.dtype, torch.float32)
    partners, shares = shares_of(q)
    for i, (j, share) in enumerate(zip(partners, shares, strict=True)):
        torch.testing.assert_close(after[i], share * x[i] + (1 - share) * x[j], rtol=0.0, atol=1e-5)
    # Where a sample is its own partner its share cannot be read; that is one in N.
    read = [share for i, (j, share) in enumerate(zip(partners, shares, strict=True)) if i != j and share < 1]
    assert len(read) > 0.9 * N
    assert stats.kstest(read, stats.beta(alpha, alpha).cdf).pvalue > 0.01


def test_mixup_takes_each_sample_as_a_partner_once() -> None:
    _, q = mixed({"name": "mixup", "alpha": 50.0}, torch.zeros(N, 2), torch.arange(N))
    partners, _ = shares_of(q)
    assert sorted(partners) == list(range(N))


@pytest.mark.parametrize("name", ["mixup", "cutmix"])
@pytest.mark.parametrize("probability", [0.0, 0.4, 1.0])
def test_its_share_of_the_samples_is_mixed(name: str, probability: float) -> None:
    x, y = numbered()
    # With so large an alpha every share is close to one half, so that whoever is mixed can be told.
    after, q = mixed({"name": name, "alpha": 500.0, "probability": probability}, x, y)
    touched = (after != x).flatten(1).any(dim=1)
    assert torch.equal(touched, q.max(dim=1).values < 1)
    assert touched.float().mean().item() == pytest.approx(probability, abs=0.08)
    assert torch.equal(after[~touched], x[~touched])


def test_cutmix_pastes_one_rectangle_and_mixes_labels_by_its_area() -> None:
    x, y = numbered(height=20, width=30)
    after, q = mixed("cutmix", x, y)
    assert (after.shape, after.dtype, q.dtype) == (x.shape, x.dtype, torch.float32)
    partners, shares = shares_of(q)
    middles = []
    for i, (j, share) in enumerate(zip(partners, shares, strict=True)):
        pasted = (after[i] != i).numpy()
        assert (pasted == pasted[:1]).all(), "the channels differ"
        assert set(after[i].unique().tolist()) <= {i, j}
        if pasted.any():
            rows, columns = np.flatnonzero(pasted[0].any(axis=1)), np.flatnonzero(pasted[0].any(axis=0))
            tall, wide = rows[-1] - rows[0] + 1, columns[-1] - columns[0] + 1
            assert pasted[0].sum() == tall * wide, "not a full rectangle"
            middles.append((rows.mean(), columns.mean()))
            if 0 < rows[0] and rows[-1] < 19 and 0 < columns[0] and columns[-1] < 29:
                assert abs(tall / 20 - wide / 30) < 0.06, "the rectangle has not the picture's shape"
        assert share == pytest.approx(1 - pasted[0].mean(), abs=1e-6)
    assert np.mean(middles, axis=0) == pytest.approx([9.5, 14.5], abs=1.0)


def test_cutmix_areas_follow_the_beta_distribution() -> None:
    # What the border cuts off makes areas smaller, so the sides of rectangles that touch no border are compared with
    # what the share asked for; with alpha = 500 that is one half for all.
    x, y = numbered(height=100, width=100)
    after, _ = mixed({"name": "cutmix", "alpha": 500.0}, x[:100], y[:100])
    sides = []
    for i in range(100):
        pasted = (after[i, 0] != i).numpy()
        rows, columns = np.flatnonzero(pasted.any(axis=1)), np.flatnonzero(pasted.any(axis=0))
        if len(rows) and 0 < rows[0] and rows[-1] < 99 and 0 < columns[0] and columns[-1] < 99:
            sides += [len(rows), len(columns)]
    assert len(sides) > 10
    assert np.mean(sides) == pytest.approx(100 * np.sqrt(0.5), abs=1.5)


@pytest.mark.parametrize("name", ["mixup", "cutmix"])
def test_targets_that_are_floats_are_mixed_as_they_are(name: str) -> None:
    x, _ = numbered()
    values = torch.randn(N, 1, generator=draws(2))
    after, y = mixed(name, x, values)
    _, q = mixed(name, x, torch.arange(N))
    torch.testing.assert_close(y, q @ values, rtol=0.0, atol=1e-5)
    assert y.shape == values.shape
    assert torch.equal(after, mixed(name, x, torch.arange(N))[0])


def test_one_after_the_other_keeps_probabilities() -> None:
    x, y = numbered()
    generator = draws()
    once, q = made("mixup", classes=N)(x, y, generator)
    twice, q = made("cutmix", classes=N)(once, q, generator)
    torch.testing.assert_close(q.sum(dim=1), torch.ones(N))
    assert (q > 0).sum(dim=1).max() > 2


def test_mixing_bytes_gives_floats() -> None:
    x = pictures(8)
    after, _ = mixed("mixup", x, torch.arange(8), classes=8)
    assert after.dtype == torch.float32
    assert made("cutmix", classes=8)(x, torch.arange(8), draws())[0].dtype == torch.uint8
