from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from dnntrain import build, spec
from dnntrain.errors import Problem, SpecError


@pytest.fixture
def tokens(tmp_path: Path) -> Path:
    """An npz file of forty sequences of six tokens each, 0 to 16, in two classes."""
    path = tmp_path / "tokens.npz"
    np.savez(path, x_train=(np.arange(240) % 17).reshape(40, 6), y_train=np.arange(40) % 2)
    return path


def misfits(text: str) -> list[Problem]:
    read = spec.loads(text, source="t.yaml")
    with pytest.raises(SpecError) as caught:
        build.resolve(read, build.open_data(read))
    return list(caught.value.problems)


def on_tokens(path: Path, architecture: str) -> str:
    return (
        f"data:\n  dataset: {{name: npz, path: {path}}}\n  augment: [{{name: mixup, alpha: 0.4}}]\n"
        f"model: {{architecture: {architecture}}}\n"
    )


def test_tokens_are_not_blended(tokens: Path) -> None:
    (problem,) = misfits(on_tokens(tokens, "{name: lstm, units: 4, embedding: {vocabulary: 17}}"))
    assert problem.message.startswith("mixup blends samples, and a blend of two tokens is another token")
    assert problem.mark is not None
    assert (problem.mark.line, problem.mark.column) == (3, 13)


def test_the_same_numbers_are_blended_where_they_are_no_tokens(tokens: Path) -> None:
    read = spec.loads(on_tokens(tokens, "{name: mlp, hidden: [4]}"))
    assert build.resolve(read, build.open_data(read)).data.augment[0].name == "mixup"


def test_cutmix_of_tokens_is_refused_once(tokens: Path) -> None:
    text = on_tokens(tokens, "{name: lstm, units: 4, embedding: {vocabulary: 17}}").replace("mixup", "cutmix")
    (problem,) = misfits(text)
    assert problem.message.startswith("cutmix changes pictures")


DIGITS = "data: {dataset: digits, classes: [1, 2, 3]}\nmodel: {architecture: {name: mlp, hidden: [4]}}\n"


@pytest.mark.parametrize(
    ("metrics", "column", "message"),
    [
        ("[accuracy, {name: top_k, k: 4}]", 21, "counts the 4 most likely classes, but there are 3; set a smaller k"),
        ("[{name: precision, average: binary}]", 11, "average: binary, but there are 3 classes"),
        ("{name: recall, average: binary}", 10, "average: binary, but there are 3 classes"),
        ("[{name: f1, average: binary}]", 11, "average: binary, but there are 3 classes"),
    ],
)
def test_a_metric_that_asks_for_other_classes_is_located(metrics: str, column: int, message: str) -> None:
    (problem,) = misfits(f"{DIGITS}metrics: {metrics}\n")
    assert message in problem.message
    assert problem.mark is not None
    assert (problem.mark.line, problem.mark.column) == (3, column)


def test_all_misfits_are_told_at_once() -> None:
    found = misfits(f"{DIGITS}loss: binary_cross_entropy\nmetrics: [{{name: top_k, k: 4}}, {{name: top_k, k: 9}}]\n")
    assert [problem.mark and problem.mark.line for problem in found] == [3, 4, 4]
