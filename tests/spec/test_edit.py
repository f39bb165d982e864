from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from dnntrain import spec
from dnntrain.errors import SpecError, UsageError
from dnntrain.registry import plain
from dnntrain.spec.edit import set_value

HEAD = "data: {dataset: digits}\nmodel: {architecture: {name: mlp, hidden: [8]}}\n"

# What is written, the key, the value, and what is written then.
CASES: list[tuple[str, str, Any, str]] = [
    ("optimizer:\n  name: adam\n  lr: 0.1  # found by hand\n", "optimizer.lr", 0.01,
     "optimizer:\n  name: adam\n  lr: 0.01  # found by hand\n"),
    ("optimizer:\n  # which\n  name: adam   # good\n\n# next\nseed: 1\n", "optimizer.lr", 0.01,
     "optimizer:\n  # which\n  name: adam   # good\n  lr: 0.01\n\n# next\nseed: 1\n"),
    ("optimizer:\n    name: adam", "optimizer.lr", 0.01, "optimizer:\n    name: adam\n    lr: 0.01"),
    ("optimizer: {name: adam, lr: 1e-1}  # why\n", "optimizer.lr", 0.01, "optimizer: {name: adam, lr: 0.01}  # why\n"),
    ("optimizer: { lr : 0.1 , name: adam }\n", "optimizer.lr", 0.01, "optimizer: { lr : 0.01 , name: adam }\n"),
    ("optimizer: {name: adam}\n", "optimizer.lr", 0.01, "optimizer: {name: adam, lr: 0.01}\n"),
    ("optimizer: {name: adam,}\n", "optimizer.lr", 0.01, "optimizer: {name: adam, lr: 0.01,}\n"),
    ("optimizer: {}\n", "optimizer.lr", 0.01, "optimizer: {lr: 0.01}\n"),
    ("optimizer: {\n  name: adam,  # a\n  beta1: 0.8  # b\n}\n", "optimizer.lr", 0.01,
     "optimizer: {\n  name: adam,  # a\n  beta1: 0.8, lr: 0.01  # b\n}\n"),
    ("optimizer: adam   # fast\n", "optimizer.lr", 0.01, "optimizer: {name: adam, lr: 0.01}   # fast\n"),
    ('optimizer: "adam"\n', "optimizer.lr", 0.01, "optimizer: {name: adam, lr: 0.01}\n"),
    ("optimizer:\n  adam\nseed: 1\n", "optimizer.lr", 0.01, "optimizer:\n  {name: adam, lr: 0.01}\nseed: 1\n"),
    ("optimizer:   # later\nseed: 1\n", "optimizer.lr", 0.01, "optimizer: {lr: 0.01}   # later\nseed: 1\n"),
    ("optimizer: null\n", "optimizer.lr", 0.01, "optimizer: {lr: 0.01}\n"),
    ("seed: 1  # odd\n", "optimizer.lr", 0.01, "seed: 1  # odd\noptimizer: {lr: 0.01}\n"),
    ("{seed: 1}\n", "optimizer.lr", 0.01, "{seed: 1, optimizer: {lr: 0.01}}\n"),
    ("", "optimizer.lr", 0.01, "optimizer: {lr: 0.01}\n"),
    ("# nothing yet", "optimizer.lr", 0.01, "# nothing yet\noptimizer: {lr: 0.01}\n"),
    ("---\nseed: 1\n...\n", "seed", 2, "---\nseed: 2\n...\n"),
    ("seed: 1\nname: a\n", "seed", 2, "seed: 2\nname: a\n"),
    ("training:\n  clip:\n    norm: 1.0\n  epochs: 3\n", "training.clip.norm", 0.5,
     "training:\n  clip:\n    norm: 0.5\n  epochs: 3\n"),
    ("training:\n  clip: {norm: 1.0}  # tried\n", "training.clip.value", 0.5,
     "training:\n  clip: {value: 0.5}  # tried\n"),
    ("training:\n  monitor: valid/loss\n", "training.monitor.mode", "max",
     "training:\n  monitor: {metric: valid/loss, mode: max}\n"),
    ("optimizer: {name: adam, amsgrad: true}  # c\n", "optimizer.name", "sgd", "optimizer: {name: sgd}  # c\n"),
    ("optimizer: adam\n", "optimizer", "sgd", "optimizer: sgd\n"),
    ("model:\n  architecture:\n    name: mlp\n    hidden:\n      - 300\n      - 100\n  activation: relu\n",
     "model.architecture.hidden", [10, 20],
     "model:\n  architecture:\n    name: mlp\n    hidden:\n      [10, 20]\n  activation: relu\n"),
    ("model:\n  architecture: {name: mlp, hidden: [300, 100]}\n", "model.architecture.hidden.1", 50,
     "model:\n  architecture: {name: mlp, hidden: [300, 50]}\n"),
    ("callbacks:\n  - name: early_stopping\n    patience: 3   # few\n  - terminate_on_nan\n", "callbacks.0.patience", 9,
     "callbacks:\n  - name: early_stopping\n    patience: 9   # few\n  - terminate_on_nan\n"),
    ("callbacks:\n  - name: early_stopping   # x\n  - terminate_on_nan\n", "callbacks.0.patience", 9,
     "callbacks:\n  - name: early_stopping   # x\n    patience: 9\n  - terminate_on_nan\n"),
    ("callbacks: early_stopping\n", "callbacks.0.patience", 9,
     "callbacks: [{name: early_stopping, patience: 9}]\n"),
    ("name: |\n  text\n  more\n\nseed: 1\n", "name", "short", "name: short\n\nseed: 1\n"),
    ("seed: 1\nname: >-\n  text\n", "optimizer.lr", 0.01, "seed: 1\nname: >-\n  text\noptimizer: {lr: 0.01}\n"),
    ("name: 'on: # {'\noptimizer: {name: \"adam\", lr: 0.1}\n", "optimizer.lr", 0.01,
     "name: 'on: # {'\noptimizer: {name: \"adam\", lr: 0.01}\n"),
    ("name: x\n", "name", "no", 'name: "no"\n'),
    ("base: &b {lr: 1}\nother: *b\noptimizer: {name: adam}\n", "optimizer.lr", 0.01,
     "base: &b {lr: 1}\nother: *b\noptimizer: {name: adam, lr: 0.01}\n"),
    ("base: &b 3\noptimizer: {beta1: *b}\nlast: *b\n", "optimizer.lr", 0.01,
     "base: &b 3\noptimizer: {beta1: *b, lr: 0.01}\nlast: *b\n"),
    ("base: &b 3\nlast: *b  # end\n", "seed", 4, "base: &b 3\nlast: *b  # end\nseed: 4\n"),
    ("extends: base.yaml\noptimizer: adam\n", "optimizer.lr", 0.01,
     "extends: base.yaml\noptimizer: {name: adam, lr: 0.01}\n"),
    ("name: gr\u00fc\u00dfe\noptimizer: {name: adam, lr: 0.1}  # \u00e4\n", "optimizer.lr", 1e-5,
     "name: gr\u00fc\u00dfe\noptimizer: {name: adam, lr: 1.0e-5}  # \u00e4\n"),
]  # fmt: skip


@pytest.mark.parametrize(("before", "key", "value", "after"), CASES, ids=lambda value: repr(value)[:40])
def test_one_value_changes_and_all_else_stays(before: str, key: str, value: Any, after: str) -> None:
    assert set_value(before, key, value) == after
    assert set_value(after, key, value) == after, "setting it again changes something"


@pytest.mark.parametrize("end", ["\r\n", "\n"], ids=repr)
@pytest.mark.parametrize("bom", ["\ufeff", ""], ids=repr)
def test_line_ends_and_the_byte_order_mark_are_kept(end: str, bom: str) -> None:
    before = bom + end.join(["optimizer:", "  name: adam", "seed: 1", ""])
    after = bom + end.join(["optimizer:", "  name: adam", "  lr: 0.01", "seed: 1", ""])
    assert set_value(before, "optimizer.lr", 0.01) == after


REFUSED: list[tuple[str, str, str]] = [
    ("extends: base.yaml\nseed: 1\n", "optimizer.lr",
     r"says nothing of optimizer, which may come from base\.yaml.*write 'optimizer: \{lr: 0\.01\}' here"),
    ("a: &rate 0.1\noptimizer: {name: adam, lr: *rate}\n", "optimizer.lr",
     r"^f\.yaml:2:29: optimizer\.lr comes from the anchor '&rate'"),
    ("a: &o {name: adam, lr: 0.1}\noptimizer: *o\n", "optimizer.lr",
     r"f\.yaml:2:12: optimizer comes from the anchor '&o'"),
    ("optimizer: {name: adam, lr: &rate 0.1}\na: *rate\n", "optimizer.lr",
     r"optimizer\.lr is shared .* anchor '&rate'"),
    ("optimizer: &o\n  name: adam\n  lr: 0.1\na: *o\n", "optimizer.lr", r"f\.yaml:1:12: optimizer is shared"),
    ("optimizer: &o adam\na: *o\n", "optimizer.lr", "optimizer is shared"),
    ("a: &o {lr: 0.1}\noptimizer:\n  <<: *o\n  name: adam\n", "optimizer.lr",
     r"optimizer\.lr comes from a merge key '<<'"),
    ("seed: 1\n", "seed.deep", "cannot set seed.deep: 'deep' is set inside a single value; what stands there is 1"),
    ("callbacks: [early_stopping]\n", "callbacks.3.patience", "'3' is no entry of this list; its entries are 0 to 0"),
    ("seed: 1\n", "", "'' is no key"),
    ("seed: 1\n", "optimizer..lr", "'optimizer..lr' is no key"),
    ("training:\n  clip:\n    norm: 1.0  # tried\n", "training.clip.value",
     "cannot be changed here without touching more"),
]  # fmt: skip


@pytest.mark.parametrize(("text", "key", "message"), REFUSED, ids=lambda value: repr(value)[:40])
def test_what_is_written_elsewhere_is_refused(text: str, key: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        set_value(text, key, 0.01, source="f.yaml")


@pytest.mark.parametrize("text", ["a: [1\n", "a: 1\na: 2\n", "a: !!python/object:x 1\n"], ids=repr)
def test_a_text_that_cannot_be_read_is_refused(text: str) -> None:
    with pytest.raises(SpecError, match=r"f\.yaml:"):
        set_value(text, "optimizer.lr", 0.01, source="f.yaml")


@pytest.mark.parametrize(
    "written",
    [
        "",
        "optimizer: sgd\n",
        "optimizer: {momentum: 0.9, name: sgd}\n",
        "optimizer:\n  name: sgd\n  lr: 3\n",
        "optimizer: {lr: 3}\n",
        "schedule: constant\n",
    ],
    ids=repr,
)
@pytest.mark.parametrize(("key", "value"), [("optimizer.lr", 0.02), ("training.clip.norm", 0.5), ("seed", 7)])
def test_the_edited_file_means_what_set_means(written: str, key: str, value: Any) -> None:
    before = HEAD + written
    after = set_value(before, key, value)
    assert plain(spec.loads(after)) == plain(spec.loads(before, overrides=[f"{key}={value}"]))


CONFIGS = sorted((Path(__file__).parents[2] / "configs").glob("*.yaml"))


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_the_rate_of_the_shipped_experiments_can_be_written(path: Path) -> None:
    before = path.read_text()
    try:
        after = set_value(before, "optimizer.lr", 0.0123)
    except UsageError as error:
        assert "extends" in before
        assert "may come from" in str(error)
        return
    changed = [(a, b) for a, b in zip(before.splitlines(), after.splitlines(), strict=False) if a != b]
    assert len(changed) <= 1
    written = spec.loads(after, folder=path.parent)
    assert plain(written)["optimizer"]["lr"] == 0.0123
