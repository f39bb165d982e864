from __future__ import annotations

from typing import Annotated, Literal

import pytest
from pydantic import AfterValidator, Field
from pydantic_core import PydanticCustomError
from tinyspecs import DATA, MINIMAL, MODEL, marked, messages, only, told

from dnntrain.parts.activations import activations

# What is written below the minimal file; what is said; the characters underlined; how it is mended.
VALUES = [
    # Numbers, and texts that look like numbers.
    (
        "training: {epochs: '32'}",
        "'epochs' must be a whole number, not the text '32'",
        "'32'",
        "write 32 without quotes",
    ),
    ('optimizer: {lr: "1e-3"}', "'lr' must be a number, not the text '1e-3'", '"1e-3"', "write 1e-3 without quotes"),
    ("optimizer: {lr: 1_000}", "'lr' must be a number, not the text '1_000'", "1_000", "write 1000"),
    ("training: {epochs: '2.5'}", "'epochs' must be a whole number, not the text '2.5'", "'2.5'", ""),
    ("training: {epochs: 2.5}", "'epochs' must be a whole number, not 2.5", "2.5", ""),
    ("training: {epochs: 1e3}", "'epochs' must be a whole number, not 1000.0", "1e3", "write 1000"),
    ("training: {epochs: ten}", "'epochs' must be a whole number, not the text 'ten'", "ten", ""),
    ("training: {epochs: nan}", "'epochs' must be a whole number, not the text 'nan'", "nan", ""),
    ("training: {epochs: true}", "'epochs' must be a whole number, not true", "true", ""),
    ("optimizer: {lr: .inf}", "'lr' must be a finite number, not .inf", ".inf", ""),
    ("optimizer: {lr: .nan}", "'lr' must be a finite number, not .nan", ".nan", ""),
    ("optimizer: {lr: [1]}", "'lr' must be a number, not a list", "[1]", ""),
    # Bounds.
    ("optimizer: {lr: 0}", "'lr' must be greater than 0, not 0", "0", ""),
    ("optimizer: {lr: -1e-3}", "'lr' must be greater than 0, not -0.001", "-1e-3", ""),
    ("optimizer: {name: sgd, momentum: 1}", "'momentum' must be less than 1, not 1", "1", ""),
    ("optimizer: {weight_decay: -0.5}", "'weight_decay' must be at least 0, not -0.5", "-0.5", ""),
    (f"seed: {2**63}", f"'seed' must be less than {2**63}, not {2**63}", str(2**63), ""),
    # Truth values.
    (
        "callbacks: [{name: early_stopping, restore_best: yes}]",
        "'restore_best' must be true or false, not the text 'yes'",
        "yes",
        "write true",
    ),
    (
        "callbacks: {name: early_stopping, restore_best: Off}",
        "'restore_best' must be true or false, not the text 'Off'",
        "Off",
        "write false",
    ),
    ("training: {compile: on}", "'compile' must be auto, true or false, not the text 'on'", "on", "write true"),
    ("training: {compile: 1}", "'compile' must be auto, true or false, not 1", "1", ""),
    # Words.
    (
        "training: {precision: fp23}",
        "'precision' must be auto, fp32, tf32, bf16 or fp16, not the text 'fp23'",
        "fp23",
        "did you mean 'fp32'?",
    ),
    (
        "training: {threads: aut}",
        "'threads' must be auto or a whole number, not the text 'aut'",
        "aut",
        "did you mean 'auto'?",
    ),
    (
        "training: {device: gpu}",
        "'device' must be auto, cpu, cuda, cuda:N or mps, not the text 'gpu'",
        "gpu",
        "called cuda here",
    ),
    ("training: {device: 0}", "'device' must be auto, cpu, cuda, cuda:N or mps, not 0", "0", ""),
    (
        "training: {max_time: 10}",
        "'max_time' must be a duration such as '90s', '30m', '2h' or '1.5d', not 10",
        "10",
        "",
    ),
    (
        "training: {monitor: loss}",
        "'monitor' must be a metric such as valid/loss or train/accuracy, not the text 'loss'",
        "loss",
        "write valid/loss",
    ),
    ("name: a b", "'name' must be letters, digits, '-' and '_', at most 100 of them, not the text 'a b'", "a b", ""),
    # Nothing, where something is needed.
    ("training: {epochs: }", "'epochs' must be a whole number, but is empty", " ", "leave it out for its default, 20"),
    (
        "training: {epochs: null}",
        "'epochs' must be a whole number, but is empty",
        "null",
        "leave it out for its default, 20",
    ),
    ("training: ~", "'training' must be a mapping, but is empty", "~", "leave it out"),
    ("loss: null", "'loss' must be the name of a loss, or a mapping with a name, but is empty", "null", None),
    (
        "schedule: null",
        "'schedule' must be the name of a schedule, or a mapping with a name, but is empty",
        "null",
        "write constant for none",
    ),
    # The wrong kind of thing.
    ("training: {clip: 1.0}", "'clip' must be a mapping, not 1.0", "1.0", "such as {norm: 1.0}"),
    ("training: [1]", "'training' must be a mapping, not a list", "[1]", None),
    (
        "optimizer: [sgd]",
        "'optimizer' must be the name of an optimizer, or a mapping with a name, not a list",
        "[sgd]",
        None,
    ),
    ("optimizer: {name: {sgd: 1}}", "'name' must be the name of an optimizer, not a mapping", "{sgd: 1}", None),
    ("optimizer: {betas: 0.9}", "'betas' must be a list, not 0.9", "0.9", "such as [0.9, 0.999]"),
    ("optimizer: {betas: [0.9]}", "'betas' must have 2 entries, not 1", "[0.9]", ""),
    ("optimizer: {betas: []}", "'betas' must have 2 entries, not 0", "[]", ""),
    ("optimizer: {betas: [0, 0, 0]}", "'betas' must have 2 entries, not 3", "[0, 0, 0]", ""),
    (
        "optimizer: {betas: [0.9, '0']}",
        "entry 1 of 'betas' must be a number, not the text '0'",
        "'0'",
        "write 0 without quotes",
    ),
    (
        "training: {monitor: [valid/loss]}",
        "'monitor' must be auto, text or a mapping, not a list",
        "[valid/loss]",
        "such as valid/loss",
    ),
    # Parts.
    ("loss: mze", "unknown loss 'mze'", "mze", None),
    ("loss: {name: mze}", "unknown loss 'mze'", "mze", None),
    ("metrics: acc", "unknown metric 'acc'", "acc", "called accuracy here"),
    ("metrics: [acc]", "unknown metric 'acc'", "acc", "called accuracy here"),
    ("metrics: {accuracy: true}", "this metric lacks its name", "{accuracy: true}", "write {name: accuracy, ...}"),
    ("loss: {name: auto, x: 1}", "auto picks the loss, so there is nothing to set beside it", "auto", None),
    # What only goes together, or does not.
    (
        "training: {clip: {norm: 1, value: 2}}",
        "clip needs exactly one of norm, value and parameter_norm",
        "{norm: 1, value: 2}",
        "such as {norm: 1.0}",
    ),
    ("training: {clip: {}}", "clip needs exactly one of norm, value and parameter_norm", "{}", "such as {norm: 1.0}"),
]

VALIDATIONS = [
    ("0.1", "'validation' must be none or a mapping, not 0.1", "such as {fraction: 0.1}"),
    ("no", "'validation' must be none or a mapping, not the text 'no'", "write none"),
    ("false", "'validation' must be none or a mapping, not false", "write none"),
    ("null", "'validation' must be none or a mapping, but is empty", "write none"),
    ("{size: 9, fraction: 0.1}", "size and fraction exclude each other", "keep one of them"),
    ("{size: 9, folds: 5, fold: 0}", "size and folds exclude each other", "keep one of them"),
    ("{folds: 5, fold: 5}", "there is no fold 5 among 5", "folds count from 0 to 4"),
    ("{folds: 5}", "folds and fold belong together", "such as {folds: 5, fold: 0}"),
    ("{fold: 1}", "folds and fold belong together", "such as {folds: 5, fold: 0}"),
]

CLASSES = [
    ("[]", "'classes' must have at least 1 entry, not 0", "[]"),
    ("3", "'classes' must be a list or a mapping, not 3", "3"),
    ("[1, true]", "entry 1 of 'classes' must be the name of a class, or its number counted from 0, not true", "true"),
    ("[-1]", "entry 0 of 'classes' must be the name of a class, or its number counted from 0, not -1", "-1"),
    ("{a: [x, 2.5]}", "entry 1 of 'a' must be the name of a class, or its number counted from 0, not 2.5", "2.5"),
    ("{a: rset}", "'a' must be rest or a list, not the text 'rset'", "rset"),
    ("{a: {b: 1}}", "'a' must be rest or a list, not a mapping", "{b: 1}"),
]

KEYS = [
    # Misspelt, here or elsewhere.
    ("seeed: 3", "seeed", "did you mean 'seed'?  known: name, seed, data"),
    ("training: {epoch: 3}", "epoch", "did you mean 'epochs'?  known: epochs, stages, cache_frozen, monitor"),
    ("callbacks: [{name: early_stopping, patienc: 3}]", "patienc", "did you mean 'patience'?  known: patience"),
    ("batch_sise: 3", "batch_sise", "did you mean 'batch_size'?  it belongs under data"),
    # In the wrong place.
    ("epochs: 3", "epochs", "it belongs under training"),
    ("training: {seed: 3}", "seed", "it belongs at the top of the file"),
    ("training: {optimizer: sgd}", "optimizer", "it belongs at the top of the file"),
    ("training: {extends: x}", "extends", "it belongs at the top of the file"),
    ("lr: 0.1", "lr", "it belongs under optimizer"),
    ("hidden: [3]", "hidden", "it belongs under model.architecture"),
    ("fold: 3", "fold", "it belongs under data.validation"),
    ("beta: 3", "beta", "it belongs under model.activation ("),
    # Brought along from other tools.
    ("optimizer: {learning_rate: 1}", "learning_rate", "called lr here"),
    ("learning_rate: 1", "learning_rate", "called lr here, under optimizer"),
    ("Max-Epochs: 1", "Max-Epochs", "called epochs here, under training"),
    ("lr_scheduler: cosine", "lr_scheduler", "called schedule here"),
    ("bias: true", "bias", "biases follow from the normalization"),
    ("output_activation: softmax", "output_activation", "models give logits"),
    # Unlike anything.
    ("qqqq: 1", "qqqq", "known: name, seed, data"),
    ("loss: {name: mse, qqqq: 1}", "qqqq", "there are no options here"),
]


@pytest.mark.parametrize(("written", "message", "under", "hint"), VALUES, ids=lambda value: str(value)[:40])
def test_a_wrong_value(written: str, message: str, under: str, hint: str | None) -> None:
    problem = only(MINIMAL + written)
    assert problem.message == message
    assert marked(problem) == under
    assert problem.mark is not None
    assert problem.mark.line == 5
    if hint is not None:
        assert problem.hint == hint


@pytest.mark.parametrize(("written", "message", "hint"), VALIDATIONS)
def test_a_wrong_validation(written: str, message: str, hint: str) -> None:
    problem = only(f"{DATA}  validation: {written}\n{MODEL}")
    assert (problem.message, problem.hint, marked(problem)) == (message, hint, written)


@pytest.mark.parametrize(("written", "message", "under"), CLASSES)
def test_wrong_classes_are_told_once(written: str, message: str, under: str) -> None:
    problem = only(f"{DATA}  classes: {written}\n{MODEL}")
    assert (problem.message, marked(problem)) == (message, under)


@pytest.mark.parametrize(("written", "key", "hint"), KEYS)
def test_an_unknown_key(written: str, key: str, hint: str) -> None:
    problem = only(MINIMAL + written)
    assert problem.message == f"unknown key '{key}'"
    assert marked(problem) == key
    assert problem.hint.startswith(hint)


@pytest.mark.parametrize(
    ("family", "written", "hint"),
    [
        ("activation", "silu", "called swish here"),
        ("activation", "Linear", "called identity here"),
        ("initializer", "xavier_uniform", "called glorot_uniform here"),
        ("initializer", "kaiming_normal", "called he_normal here"),
        ("normalization", "batch_norm", "called batch here"),
        ("dropout", "alpha_dropout", "called alpha here"),
        ("activation", "ReLU", "did you mean 'relu'?"),
        ("initializer", "he-normal", "did you mean 'he_normal'?"),
    ],
)
def test_a_part_under_another_name(family: str, written: str, hint: str) -> None:
    problem = only(f"{DATA}{MODEL}  {family}: {written}\n")
    assert problem.message == f"unknown {family} '{written}'"
    assert marked(problem) == written
    assert problem.hint.startswith(hint)


@pytest.mark.parametrize(
    ("text", "missing", "line", "under", "hint"),
    [
        (MODEL, "data.dataset", 1, "m", "add data: {dataset: digits}"),
        (DATA, "model.architecture", 1, "d", "add model: {architecture: {name: mlp, hidden: [300, 100]}}"),
        ("data:\n  limit: 3\n" + MODEL, "data.dataset", 1, "data", "add dataset: digits"),
        ("data: {}\n" + MODEL, "data.dataset", 1, "{}", "add dataset: digits"),
        (
            DATA + "model:\n  architecture: mlp\n",
            "model.architecture.hidden",
            4,
            "mlp",
            "write {name: mlp, hidden: [300, 100]}",
        ),
        (
            DATA + "model:\n  architecture:\n    name: mlp\n",
            "model.architecture.hidden",
            4,
            "architecture",
            "add hidden: [300, 100]",
        ),
        (
            DATA + "model: {architecture: {name: mlp, hidden: {layers: 3}}}",
            "model.architecture.hidden.units",
            3,
            "{layers: 3}",
            "add units: 10",
        ),
        (
            MINIMAL + "  dropout: alpha\n",
            "model.dropout.rate",
            5,
            "alpha",
            "write {name: alpha, rate: 0.1, layers: last}",
        ),
        (MINIMAL + "  dropout:\n    - name: alpha\n", "model.dropout.0.rate", 6, "n", "add rate: 0.1"),
        (
            MINIMAL + "training: {monitor: {mode: max}}",
            "training.monitor.metric",
            5,
            "{mode: max}",
            "add metric: valid/loss",
        ),
    ],
)
def test_a_missing_key_is_named_in_full_at_its_section(
    text: str, missing: str, line: int, under: str, hint: str
) -> None:
    problem = only(text)
    assert problem.message == f"missing required key '{missing}'"
    assert problem.mark is not None
    assert (problem.mark.line, marked(problem), problem.hint) == (line, under, hint)


def test_a_misspelt_required_key_is_told_once() -> None:
    problem = only(DATA + "model: {architecure: {name: mlp, hidden: [3]}}")
    assert problem.message == "unknown key 'architecure'"
    assert problem.hint.startswith("did you mean 'architecture'?")


@pytest.mark.parametrize("text", ["", "# nothing\n", "---\n"])
def test_an_empty_file(text: str) -> None:
    problem = only(text)
    assert problem.message == "there is no experiment here"
    assert "dnntrain init" in problem.hint


@pytest.mark.parametrize(("text", "kind"), [("- a\n", "a list"), ("hello", "a single value"), ("3", "a single value")])
def test_a_root_that_is_no_mapping(text: str, kind: str) -> None:
    assert only(text).message == f"an experiment is a mapping of sections, not {kind}"


def test_sections_without_content() -> None:
    assert messages(told("data:\nmodel: mlp\n")) == [
        "'data' must be a mapping, but is empty",
        "'model' must be a mapping, not the text 'mlp'",
    ]


def test_a_key_s_own_section_comes_before_one_that_is_only_a_little_like_it() -> None:
    assert only(MINIMAL + "  optimizer: sgd\n").hint == "it belongs at the top of the file"
    assert only(MINIMAL + "metric: accuracy\n").hint.startswith("did you mean 'metrics'?")


def test_each_entry_of_a_list_is_told_by_its_number() -> None:
    problems = told(DATA + "model: {architecture: {name: mlp, hidden: [10, '20', 3.5, -1, ~, true, [1]]}}")
    assert [(each.message.split(" must")[0], marked(each)) for each in problems] == [
        (f"entry {i} of 'hidden'", written)
        for i, written in enumerate(["'20'", "3.5", "-1", "~", "true", "[1]"], start=1)
    ]


def test_a_single_part_in_place_of_a_list_is_marked_where_it_stands() -> None:
    assert marked(only(MINIMAL + "  dropout: 0.2\n")) == "0.2"
    assert marked(only(MINIMAL + "  dropout: {name: alpha, rate: 2}\n")) == "2"
    assert marked(only(MINIMAL + "  dropout: {name: alpha, rate: 0, rat: 2}\n")) == "rat"
    assert marked(only(MINIMAL + "  dropout: {rate: 2}\n")) == "{rate: 2}"


def test_long_values_and_keys_are_cut() -> None:
    for text in (
        "training: {device: " + "x" * 500 + "}",
        "seed: " + "9" * 2000,
        "x" * 500 + ": 1",
        "loss: " + "x" * 500,
    ):
        problem = only(MINIMAL + text)
        assert "..." in problem.message
        assert len(problem.message) < 160
        assert all(len(line) < 400 for line in problem.render().splitlines())


def test_control_characters_do_not_reach_the_terminal() -> None:
    problem = only(MINIMAL + 'loss: "a\\e[31m\\nb"\n')
    assert problem.message == "unknown loss 'a\\x1b[31m\\nb'"


def test_duplicate_keys_tags_and_keys_that_are_no_text_are_told_with_the_rest() -> None:
    problems = told(MINIMAL + "seed: 1\nseed: '2'\nloss: !!python/name:os.system mse\n3: 4\n")
    assert messages(problems) == [
        "key 'seed' given twice",
        "tags are not used here: !!python/name:os.system",
        "unknown key '3'",
        "a key must be text, and 3 is not",
    ]


def test_bad_syntax_stands_alone() -> None:
    problem = only("data:\n  dataset: digits\n model: 3\nseed: 'x'\n")
    assert problem.mark is not None
    assert problem.mark.line == 3


# A part from outside, with types of all kinds.


@pytest.fixture
def odd_part(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(activations, "_entries", dict(activations._entries))

    def even(value: int) -> int:
        if value % 2:
            raise ValueError("odd numbers will not do")
        return value

    def ascending(value: list[int]) -> list[int]:
        if value != sorted(value):
            raise PydanticCustomError("ascending", "must ascend")
        return value

    def odd(*, up=None, either=1, rate="auto", pair=1, many=(), even=2, five=5, word="abc"):  # type: ignore[no-untyped-def]
        """Be odd.

        Args:
            up: ascending numbers.
            either: a number or a text.
            rate: a number or auto.
            pair: numbers by name, or one.
            many: texts.
            even: an even number.
            five: five times something.
            word: a short text.
        """

    odd.__annotations__.update(
        up=Annotated[list[int], AfterValidator(ascending)] | None,
        either=int | str,
        rate=Annotated[float, Field(gt=0)] | Literal["auto"],
        pair=int | dict[str, int],
        many=Annotated[tuple[str, ...], Field(strict=False, max_length=2)],
        even=Annotated[int, AfterValidator(even)],
        five=Annotated[int, Field(multiple_of=5)],
        word=Annotated[str, Field(min_length=2, max_length=3)],
    )
    activations.register("odd", equation="x", cite="none")(odd)


@pytest.mark.parametrize(
    ("option", "message", "under"),
    [
        ("either: [1]", "'either' must be a whole number or text, not a list", "[1]"),
        ("rate: atuo", "'rate' must be a number or auto, not the text 'atuo'", "atuo"),
        ("rate: -1", "'rate' must be greater than 0, not -1", "-1"),
        ("pair: x", "'pair' must be a whole number or a mapping, not the text 'x'", "x"),
        ("pair: {a: x}", "'a' must be a whole number, not the text 'x'", "x"),
        ("many: x", "'many' must be a list, not the text 'x'", "x"),
        ("many: [a, b, c]", "'many' must have at most 2 entries, not 3", "[a, b, c]"),
        ("up: [2, 1]", "'up' must ascend", "[2, 1]"),
        ("even: 3", "'even': odd numbers will not do", "3"),
        ("five: 3", "'five' must be a multiple of 5, not 3", "3"),
        ("word: a", "'word' must have at least 2 characters, not 1", "a"),
        ("word: 12", "'word' must be text, not 12", "12"),
    ],
)
@pytest.mark.usefixtures("odd_part")
def test_the_types_of_a_part_from_outside(option: str, message: str, under: str) -> None:
    problem = only(f"{MINIMAL}  activation: {{name: odd, {option}}}")
    assert (problem.message, marked(problem)) == (message, under)


@pytest.mark.usefixtures("odd_part")
def test_hints_for_texts_and_lists() -> None:
    assert only(MINIMAL + "  activation: {name: odd, word: 12}").hint == 'write "12" in quotes if it is text'
    assert only(MINIMAL + "  activation: {name: odd, many: abc}").hint == "write [abc]"
    assert only(MINIMAL + "  activation: {name: odd, rate: atuo}").hint == "did you mean 'auto'?"
    assert only(MINIMAL + "  activation: {name: odd, rate: 10%}").hint == "write 0.1"


@pytest.mark.parametrize(
    ("text", "hint"),
    [
        (f"{DATA}{MODEL}  activation: swiglu\n", "called model.architecture.gate=swiglu (of vit) here"),
        (MINIMAL + "callbacks: [time_limit]", "called training.max_time here"),
        (MINIMAL + "callbacks: [{name: checkpoint, every: 5}]", "called training.checkpoint here"),
        (MINIMAL + "callbacks: model_checkpoint", "called training.checkpoint here"),
    ],
)
def test_what_is_no_part_but_a_key_is_pointed_to(text: str, hint: str) -> None:
    assert only(text).hint == hint
