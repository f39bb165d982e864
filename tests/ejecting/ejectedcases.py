"""Small experiments that together have every part that can be ejected, in ever other company."""

from __future__ import annotations

import random
from typing import Any

from dnntrain.parts.activations import activations
from dnntrain.parts.initializers import initializers
from dnntrain.parts.optimizers import optimizers

NEEDED: dict[str, dict[str, Any]] = {
    "uniform": {"low": -0.2, "high": 0.3},
    "truncated_normal": {"std": 0.1},
    "constant": {"value": 0.05},
    "normal": {"std": 0.3},
}
OTHERWISE: dict[str, list[dict[str, Any]]] = {
    "prelu": [{}, {"per_channel": True, "init": 0.1}],
    "swish": [{}, {"beta": 1.5}, {"learnable": True}],
    "rrelu": [{"lower": 0.1, "upper": 0.3}],
    "leaky_relu": [{"negative_slope": 0.2}],
    "gelu": [{}, {"approximate": "tanh"}],
    "variance_scaling": [
        {"distribution": each, "mode": mode}
        for each, mode in zip(("normal", "truncated_normal", "uniform"), ("fan_avg", "fan_in", "fan_out"), strict=True)
    ],
    "orthogonal": [{}, {"gain": 1.5}],
    "sgd": [{"momentum": 0.9, "nesterov": True}, {"momentum": 0.5, "dampening": 0.5}, {}],
    "adam": [{"amsgrad": True}, {"betas": [0.8, 0.99], "eps": 1e-6}],
    "adamw": [{"weight_decay": 0.1}, {"weight_decay": 0.0}],
    "nadam": [{"weight_decay": 0.1}, {"momentum_decay": 1.0}],
    "radam": [{"weight_decay": 0.1, "betas": [0.9, 0.7]}, {}],
    "muon": [
        {"weight_decay": 0.0, "momentum": 0.8, "ns_steps": 3, "adamw_betas": [0.8, 0.99]},
        {},
        {"nesterov": False, "adamw_lr": 0.01},
    ],
    "lion": [{"weight_decay": 0.1}, {}],
    "rmsprop": [{"momentum": 0.5, "centered": True}, {}, {"centered": True}],
    "adagrad": [{"initial_accumulator_value": 0.1}, {}],
}
RATES = {"sgd": 1e-3, "adadelta": 0.5}

SCHEDULES: list[Any] = [
    "constant",
    {"name": "constant", "warmup": 5},
    {"name": "power", "s": 3},
    {"name": "power", "s": 1, "c": 0.7, "unit": "epoch", "warmup": {"epochs": 0.5, "start_factor": 0.2}},
    {"name": "exponential", "s": 9},
    {"name": "piecewise", "boundaries": [2, 5], "values": [1.0, 0.3, 0.1]},
    {"name": "piecewise", "boundaries": [1], "values": [1.0, 0.1], "unit": "epoch", "warmup": 2},
    "linear",
    {"name": "linear", "end_factor": 0.2, "length": 5},
    {"name": "polynomial", "power": 2.5, "end_factor": 0.1, "warmup": 3},
    {"name": "one_cycle", "max_lr": 0.007},
    {"name": "one_cycle", "cycle_momentum": False, "warmup": 2},
    {"name": "one_cycle", "warmup": 2},
    "cosine",
    {"name": "cosine", "cycle": 3, "min_factor": 0.1},
    {"name": "cosine", "cycle": 2, "t_mul": 1.5, "warmup": 2},
    {"name": "performance", "patience": 1, "min_delta": 0.5},
    {"name": "performance", "patience": 1, "min_delta": 9.0, "factor": 0.3, "warmup": 5},
]
NORMALIZATIONS: list[Any] = [
    "none",
    "batch",
    {"name": "batch", "position": "after", "momentum": 0.3, "input": True},
    {"name": "batch", "affine": False, "eps": 1e-3},
    {"name": "layer", "position": "after"},
    {"name": "layer", "affine": False, "eps": 1e-3},
    "rms",
    {"name": "rms", "affine": False, "eps": 1e-5},
    {"name": "group", "groups": 2},
    {"name": "group", "groups": 4},
    {"name": "group", "groups": 2, "position": "after"},
    {"name": "group", "groups": 1, "input": True},
    {"name": "group", "groups": 16},
    "instance",
    {"name": "instance", "affine": False},
]
DROPOUTS: list[Any] = [
    [],
    [{"name": "dropout", "rate": 0.3}],
    [{"name": "alpha", "rate": 0.1, "layers": "last"}],
    [{"name": "gaussian", "rate": 0.2, "layers": "all"}, {"name": "dropout", "rate": 0.1, "layers": "last"}],
    [{"name": "dropout", "rate": 0.1, "layers": "last"}, {"name": "gaussian", "rate": 0.2}],
    [{"name": "spatial", "rate": 0.2, "layers": "input"}, {"name": "alpha", "rate": 0.1}],
    [{"name": "spatial", "rate": 0.3}],
]
REGULARIZERS: list[Any] = [
    [],
    [{"name": "l1", "strength": 1e-3}],
    [{"name": "l2", "strength": 1e-3}, "unit_norm"],
    [{"name": "l1_l2", "l1": 1e-3, "l2": 1e-2}, {"name": "l2", "strength": 0.1, "layers": "output"}],
    [{"name": "max_norm", "max": 0.5}],
    [{"name": "gradient_noise", "eta": 0.1}, {"name": "l1", "strength": 1e-4, "layers": ["output", "*1*"]}],
    [{"name": "non_negative", "layers": "output"}, {"name": "max_norm", "max": 0.7, "layers": "*1*"}],
]
CLIPS = [None, {"norm": 0.5}, {"value": 0.01}, {"parameter_norm": 0.2}]
CALLBACKS: list[Any] = [
    [],
    [{"name": "early_stopping", "patience": 1, "min_delta": 5.0}],
    [{"name": "early_stopping", "patience": 1, "min_delta": 5.0, "warmup": 1}, "terminate_on_nan"],
]
CLASSES: list[Any] = [None, [3, 8, 1], {"small": [0, 1, 2], "odd": [5, 7], "other": "rest"}]
LOSSES: dict[str, list[Any]] = {
    "classes": [
        "cross_entropy",
        {"name": "cross_entropy", "label_smoothing": 0.1, "class_weights": "balanced"},
        {"name": "cross_entropy", "label_smoothing": 0.2},
        "hinge",
    ],
    "binary": [
        "binary_cross_entropy",
        {"name": "binary_cross_entropy", "positive_weight": 2.5, "label_smoothing": 0.1},
    ],
    "values": ["mse", "mae", {"name": "huber", "delta": 3.0}],
}
METRICS: dict[str, list[Any]] = {
    "classes": [
        ["accuracy", {"name": "top_k", "k": 2}, "confusion"],
        [{"name": "f1", "average": "weighted"}, "precision"],
        ["calibration_error", "recall", "f1"],
        [],
    ],
    "binary": [
        ["accuracy", {"name": "f1", "average": "binary"}, {"name": "precision", "average": "micro"}],
        [{"name": "calibration_error", "bins": 5}, {"name": "top_k", "k": 1}, {"name": "recall", "average": "binary"}],
    ],
    "values": [["mae", "r2"], ["mse"]],
}
VALIDATIONS: list[Any] = [
    {"fraction": 0.1},
    {"size": 30, "from": "first"},
    {"size": 31, "from": "last"},
    {"size": 32, "from": "random", "seed": 5},
    {"folds": 10, "fold": 3},
    {"folds": 10, "fold": 2, "from": "random"},
    {"folds": 10, "fold": 9, "from": "last"},
    "none",
]
PLAIN: list[Any] = [
    {"name": "mlp", "hidden": [8, 4]},
    {"name": "mlp", "hidden": {"layers": 4, "units": 6}},
    {"name": "mlp", "hidden": []},
    {"name": "cnn", "widths": [4, 8]},
    {"name": "cnn", "widths": [4], "convolutions": 2, "head": "flatten", "dense": [8], "pool": "average"},
    {"name": "cnn", "widths": [4, 4], "convolutions": 2, "kernel": 5},
    {"name": "cnn", "widths": [4, 6], "kernel": 1, "pool": "none"},
]
RESIDUAL: list[Any] = [
    {"name": "resnet", "depth": 14, "width": 2, "shortcut": "projection"},
    {"name": "resnet", "depth": 8, "width": 4},
    {"name": "wide_resnet", "depth": 10, "widen": 1},
    {"name": "wide_resnet", "depth": 16, "widen": 2},
]
ATTENTIVE: list[Any] = [
    {"name": "vit", "patch": 4, "width": 4, "heads": 2, "layers": 1},
    {"name": "vit", "patch": 2, "width": 6, "heads": 3, "layers": 2, "mlp_ratio": 1.3, "gate": "glu"},
    {"name": "vit", "patch": 4, "width": 4, "heads": 1, "layers": 2, "gate": "geglu"},
    {"name": "vit", "patch": 4, "width": 8, "heads": 2, "layers": 2, "mlp_ratio": 1.0, "gate": "swiglu"},
]
RECURRENT: list[Any] = [
    {"name": "rnn", "units": 4},
    {"name": "rnn", "units": 3, "layers": 2, "bidirectional": True},
    {"name": "rnn", "units": 4, "layers": 3, "embedding": {"vocabulary": 7, "size": 4}},
    {"name": "lstm", "units": 4, "layers": 2},
    {"name": "lstm", "units": 2, "bidirectional": True, "embedding": {"vocabulary": 8, "size": 3, "padding": 2}},
    {"name": "gru", "units": 4, "bidirectional": True},
    {"name": "gru", "units": 6, "layers": 4},
]

AUGMENTATIONS: list[Any] = [
    [],
    [{"name": "random_crop", "padding": 1}, "horizontal_flip"],
    [{"name": "horizontal_flip", "probability": 0.2}, "horizontal_flip", {"name": "horizontal_flip"}],
    [{"name": "random_erasing", "probability": 0.9, "scale": [0.1, 0.4], "ratio": [0.5, 3]}, "random_crop"],
    [{"name": "random_erasing", "fill": "noise"}, {"name": "random_erasing", "fill": "black"}, "random_crop"],
    ["color_jitter", {"name": "color_jitter", "brightness": 2, "contrast": 0, "hue": 0}],
    [{"name": "color_jitter", "brightness": 0, "contrast": 0, "hue": 0.5}, "cutmix"],
    ["horizontal_flip", "cutmix"],
    ["rand_augment"],
    [{"name": "rand_augment", "operations": 3, "magnitude": 25}, "color_jitter", "rand_augment"],
    [{"name": "cutmix", "alpha": 0.4, "probability": 0.5}, "mixup", {"name": "random_crop", "padding": 2}],
]
SIZES: list[Any] = [8, 12, [11, 9]]  # one is that of most of the pictures
GROUPS: list[Any] = [
    [{"layers": "output", "lr": 0.01}],
    [{"layers": ["output", "*1*"], "lr": 1e-4}, {"layers": "*", "lr": 0.002}],
]
DECAYS: list[Any] = [
    [{"layers": "output", "weight_decay": 0.3}],
    [{"layers": "*1*", "lr": 0.01, "weight_decay": 0.0}, {"layers": ["out*"], "weight_decay": 0.2}],
]
AVERAGES: list[Any] = [
    None,
    "ema",
    {"name": "ema", "decay": 0.7},
    {"name": "swa", "start": 0},
    {"name": "swa", "start": 0.4},
]
MIXUP: list[Any] = [["mixup"], [{"name": "mixup", "alpha": 1, "probability": 0.7}]]

CONVOLUTIONAL = ("cnn", "resnet", "wide_resnet")
GATED = ("lstm", "gru")  # they have activations of their own

DECAYING = ("adamw", "nadam", "radam", "lion")
STILL = ("adagrad", "adadelta")  # they have no momentum


def cycles(schedule: Any) -> bool:
    return "one_cycle" in str(schedule) and "cycle_momentum" not in str(schedule)


def takes(architecture: dict[str, Any], data: dict[str, Any]) -> bool:
    """Whether an architecture is for such data."""
    tokens = data.get("holds") == "tokens"
    if "units" in architecture:
        return tokens if "embedding" in architecture else data["pictures"] or data.get("holds") == "sequences"
    return not tokens if architecture["name"] == "mlp" else bool(data["pictures"])


def drops_channels(architecture: dict[str, Any]) -> bool:
    """Whether there are positions behind every hidden layer."""
    return architecture["name"] in (*CONVOLUTIONAL, "vit") and not architecture.get("dense")


def suits(norm: Any, architecture: dict[str, Any]) -> bool:
    """Whether a normalization can stand in an architecture."""
    name = architecture["name"]
    chosen = {"name": norm} if isinstance(norm, str) else norm
    if name == "vit":
        if chosen["name"] in ("batch", "instance") or chosen.get("position") == "after":
            return False
    elif chosen["name"] == "instance":
        return drops_channels(architecture)
    width = 16 if name == "wide_resnet" else architecture.get("width", architecture.get("units", 6))
    widths = architecture.get("widths", [width])
    fewest = 1 if name in CONVOLUTIONAL and not architecture.get("dense") else 2  # of channels in a group
    groups = chosen.get("groups", 1)
    return all(width % groups == 0 and width // groups >= fewest for width in widths)


def named(name: str, draw: random.Random) -> dict[str, Any]:
    return {"name": name, **NEEDED.get(name, {}), **draw.choice(OTHERWISE.get(name, [{}]))}


def drawn(draw: random.Random, datasets: list[dict[str, Any]], architectures: list[Any]) -> dict[str, Any]:
    """Return an experiment of parts that suit each other."""
    data = draw.choice([each for each in datasets if any(takes(architecture, each) for architecture in architectures)])
    kind, pictures = data["kind"], data["pictures"]
    architecture = draw.choice([each for each in architectures if takes(each, data)])
    name = architecture["name"]
    norm = draw.choice([each for each in NORMALIZATIONS if suits(each, architecture)])
    dropout = draw.choice(DROPOUTS if drops_channels(architecture) else DROPOUTS[: -1 if name != "mlp" else -2])
    if "none" in str(norm) and drops_channels(architecture) and draw.random() < 0.2:
        dropout = DROPOUTS[-1]
    regularizers = draw.choice(REGULARIZERS if architecture.get("hidden") != [] else REGULARIZERS[:5])
    tables = name == "vit" or "embedding" in architecture
    optimizer = draw.choice([each for each in optimizers.names() if each != "muon" or not tables])
    groups = draw.choice([*GROUPS, *DECAYS] if optimizer in DECAYING else GROUPS)
    if (
        optimizer == "muon"
        or tables
        or draw.random() < 0.6
        or (architecture.get("hidden") == [] and "*1" in str(groups))
    ):
        groups = []
    validation = draw.choice(VALIDATIONS)
    average = draw.choice([None, *AVERAGES])
    callbacks = CALLBACKS[0] if validation == "none" or "0.4" in str(average) else draw.choice(CALLBACKS)
    section: dict[str, Any] = {
        "dataset": data["dataset"],
        "limit": draw.choice([100, 97]),
        "batch_size": draw.choice([32, 24, 16]),
        "validation": validation,
        "standardize": draw.choice(["none", "unit", "channel", "feature"] if pictures else ["feature"])
        if "embedding" not in architecture
        else "none",
    }
    if pictures and draw.random() < 0.4:
        section["resize"] = draw.choice(SIZES[:2] if name == "vit" else SIZES)
    if draw.random() < 0.7 and "embedding" not in architecture:
        section["augment"] = draw.choice([*MIXUP, *AUGMENTATIONS] if pictures else MIXUP)
    if kind == "classes":
        section["classes"] = data.get("classes", draw.choice(CLASSES)) if data["dataset"] == "digits" else None
        section["sampling"] = draw.choice(["shuffle", "shuffle", "balanced"])
    if kind == "binary":
        section["classes"] = {"low": [0, 1, 2, 3], "high": "rest"}
    metrics = draw.choice(METRICS[kind])
    monitored = [each for each in metrics if each in ("accuracy", "recall", "r2")]
    part = "train" if validation == "none" else "valid"
    return {
        "seed": draw.randrange(2**63),
        "data": section,
        "model": {
            "architecture": architecture,
            "activation": named("tanh" if name in GATED else draw.choice(activations.names()), draw),
            "initializer": named(draw.choice(initializers.names()), draw),
            "output_initializer": named(draw.choice(initializers.names()), draw),
            "normalization": norm,
            "dropout": dropout,
        },
        "optimizer": {"lr": RATES.get(optimizer, 3e-3), **named(optimizer, draw), "groups": groups},
        "schedule": draw.choice([each for each in SCHEDULES if optimizer not in STILL or not cycles(each)]),
        "regularizers": regularizers,
        "loss": draw.choice(LOSSES[kind]),
        "metrics": metrics,
        "training": {
            "epochs": 2,
            "threads": 1,
            "device": "cpu",
            "clip": draw.choice(CLIPS),
            "accumulate": draw.choice([1, 1, 3]),
            "average": average,
            "monitor": f"{part}/{draw.choice(['loss', *monitored])}",
        },
        "callbacks": callbacks,
    }


def traits_of(case: dict[str, Any]) -> set[tuple[str, str]]:
    """Return what a case has: each choice of each key."""
    found = {("data", str(case["data"][key])) for key in case["data"] if key != "limit"}
    found |= {("data.dataset", str(case["data"]["dataset"]))}
    found |= {(key, str(value)) for key, value in case["model"].items()}
    found |= {(key, str(case["training"][key])) for key in ("clip", "accumulate", "monitor")}
    if case["optimizer"]["name"] == "muon":
        found |= {("muon", str(case["training"]["clip"]))}
    if case["data"].get("resize"):
        dtype = "floats" if "floats" in str(case["data"]["dataset"]) else "bytes"
        standardized = case["data"]["standardize"], bool(case["data"].get("augment"))
        found |= {("resized", f"{dtype}, {standardized}")}
    # Statistics of batch normalization are averaged, or measured anew.
    batched = "batch" in str(case["model"]["normalization"])
    found |= {("average", f"{case['training']['average']}, batch normalization: {batched}")}
    if "mix" in str(case["data"].get("augment")):
        found |= {("loss of mixed samples", str(case["loss"]))}
    return found | {
        (key, str(case[key])) for key in ("optimizer", "schedule", "regularizers", "loss", "metrics", "callbacks")
    }


def names_of(value: Any, key: str = "") -> set[tuple[str, str]]:
    """Return the names of parts in a case, each with the key that it stands under."""
    if isinstance(value, str):
        return {(key, value)}
    if isinstance(value, dict) and "name" in value:
        return {(key, value["name"])}
    items = value.items() if isinstance(value, dict) else ((key, each) for each in value or ())
    found = ((name.removeprefix("output_"), each) for name, each in items if isinstance(each, str | dict | list))
    return set().union(*(names_of(each, name) for name, each in found))


def network_traits_of(case: dict[str, Any]) -> set[tuple[str, ...]]:
    """Return what matters to how a network is written: by itself, and in company of its architecture."""
    model = case["model"]
    norm = {"name": model["normalization"]} if isinstance(model["normalization"], str) else model["normalization"]
    activation, architecture = model["activation"], model["architecture"]
    drawn_by = [model["initializer"], model["output_initializer"]]
    place = "none" if norm["name"] == "none" else norm.get("position", "before")
    found = {
        (norm["name"], place, str("input" in norm)),
        ("learned", str(activation["name"] in ("prelu", "swish")), str("per_channel" in activation)),
        ("fused", activation["name"] if activation["name"] in ("tanh", "relu") else ""),
        ("rotations", str(any(each["name"] == "orthogonal" and "gain" in each for each in drawn_by))),
        ("decay", str(bool(case["optimizer"].get("weight_decay", case["optimizer"]["name"] == "adamw")))),
        *(("dropout", each["name"], each.get("layers", "hidden")) for each in model["dropout"]),
        *(("some layers", str("layers" in each)) for each in case["regularizers"]),
    }
    return found | {(architecture["name"], *each) for each in found} | {(str(architecture), place)}


def covering(datasets: list[dict[str, Any]], *, most: int) -> list[dict[str, Any]]:
    """Return so many cases: each time, of some drawn at random, the one with most that is new, parts above all."""
    draw, seen, names, cases = random.Random(1), set[tuple[str, str]](), set[tuple[str, str]](), []
    for _ in range(most):
        drawn_now = [drawn(draw, datasets, PLAIN) for _ in range(300)]
        case = max(drawn_now, key=lambda each: 3 * len(names_of(each) - names) + len(traits_of(each) - seen))
        seen |= traits_of(case)
        names |= names_of(case)
        cases.append(case)
    return cases


def covering_networks(datasets: list[dict[str, Any]], architectures: list[Any], *, most: int) -> list[dict[str, Any]]:
    """Return so many cases of some architectures in turn, each with most that is new to how a network is written."""
    draw, seen, cases = random.Random(2), set[tuple[str, ...]](), []
    for number in range(most):
        architecture = architectures[number % len(architectures)]
        drawn_now = [drawn(draw, datasets, [architecture]) for _ in range(100)]
        case = max(drawn_now, key=lambda each: len(network_traits_of(each) - seen))
        seen |= network_traits_of(case)
        cases.append(case)
    return cases
