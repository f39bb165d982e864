from __future__ import annotations

from dnntrain.compare.settings import telling, written


def test_options_that_follow_from_a_part_are_left_out() -> None:
    with_dropout = {
        "model.dropout": "x",
        "model.dropout.0.rate": 0.1,
        "optimizer.name": "sgd",
        "optimizer.momentum": 0.9,
    }
    without = {"model.dropout": [], "optimizer.name": "adam"}
    keys = ["model.dropout", "model.dropout.0.rate", "optimizer.name", "optimizer.momentum"]
    assert telling(keys, [with_dropout, without]) == ["model.dropout", "optimizer.name"]


def test_an_option_that_all_have_tells_them_apart() -> None:
    both = [{"optimizer.name": name, "optimizer.lr": lr} for name, lr in (("sgd", 0.1), ("adam", 0.01))]
    assert telling(["optimizer.name", "optimizer.lr"], both) == ["optimizer.name", "optimizer.lr"]


def test_a_key_that_is_lacking_for_no_other_reason_stays() -> None:
    assert telling(["training.clip"], [{"training.clip": 1.0}, {}]) == ["training.clip"]


def test_cells_are_numbers_and_texts() -> None:
    configuration = {
        "a": 1,
        "b": 0.5,
        "c": True,
        "d": None,
        "e": [],
        "f": [0.9, 0.99],
        "callbacks.0.name": "ema",
        "g": "selu",
    }
    assert [written(configuration, key) for key in "abcdefg"] == [1, 0.5, "true", "none", "none", "[0.9, 0.99]", "selu"]
    assert written(configuration, "callbacks") == "ema"
    assert written(configuration, "missing") is None
