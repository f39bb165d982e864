"""Short experiments with a pretraining, and what is built of them."""

from __future__ import annotations

from typing import Any

import torch

from dnntrain import build, spec, yamltext
from dnntrain.placement import place
from dnntrain.registry import Entry
from dnntrain.training.built import Built


def content(pretraining: Any, **sections: Any) -> dict[str, Any]:
    made: dict[str, Any] = {
        "name": "own",
        "seed": 3,
        "data": {"dataset": "digits", "limit": 60, "validation": {"size": 100}},
        "model": {"architecture": {"name": "mlp", "hidden": [12, 10]}},
        "training": {"epochs": 2, "threads": 1},
        "pretraining": pretraining,
    }
    for name, section in sections.items():
        made[name] = {**made[name], **section} if name in made and isinstance(section, dict) else section
    return made


AUTOENCODER = {"name": "autoencoder", "epochs": 2, "batch_size": 256}


def made(entry: Entry, **changes: Any) -> dict[str, Any]:
    """Return an experiment with a part of the family in it that suits."""
    example = entry.example if isinstance(entry.example, dict) else {"name": entry.name}
    sections: dict[str, Any] = {}
    if entry.name == "rbm":
        sections["model"] = {"activation": "sigmoid"}
    if entry.name == "contrastive":
        sections["data"] = {"augment": {"name": "random_crop", "padding": 1}}
    return content({**example, "epochs": 2, "batch_size": 400, **changes}, **sections)


def read(tree: dict[str, Any]) -> spec.Spec:
    return spec.loads(yamltext.dump(tree), source="f.yaml")


def prepared(tree: dict[str, Any]) -> tuple[build.Pretraining, Built]:
    experiment = read(tree)
    data = build.open_data(experiment)
    experiment = build.resolve(experiment, data)
    built = build.build(experiment, data, place(experiment))
    return build.Pretraining(experiment, data, place(experiment), built), built


def hidden(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {name: value for name, value in state.items() if name.startswith(("dense", "norm"))}
