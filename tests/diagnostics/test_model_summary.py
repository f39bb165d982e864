"""Layers, shapes, parameters and work of a network, against figures worked out by hand."""

from __future__ import annotations

import torch
from torch import nn

from dnntrain import build, spec
from dnntrain.diagnostics.model_summary import count, summarize


def chapter_example() -> nn.Module:
    """The textbook's 784-300-100-10 with batch normalization at the input and before each activation."""
    text = """
data: {dataset: mnist}
model:
  architecture: {name: mlp, hidden: [300, 100]}
  activation: relu
  initializer: he_normal
  output_initializer: glorot_uniform
  normalization: {name: batch, input: true}
"""
    return build.build_model(spec.loads(text), (1, 28, 28), 10)


def test_the_chapters_example_is_counted_as_in_the_chapter() -> None:
    made = summarize(chapter_example(), (1, 28, 28))
    norms = {row.name: row.trainable + row.fixed for row in made.layers if row.kind == "BatchNorm1d"}
    assert norms == {"input_norm": 3136, "norm1": 1200, "norm2": 400}
    assert made.fixed == 2368
    assert made.trainable == 784 * 300 + 300 * 100 + 100 * 10 + 10 + 2368


def test_layers_come_in_order_with_their_shapes() -> None:
    made = summarize(chapter_example(), (1, 28, 28))
    assert [(row.name, row.shape) for row in made.layers] == [
        ("flatten", (784,)),
        ("input_norm", (784,)),
        ("dense1", (300,)),
        ("norm1", (300,)),
        ("activation1", (300,)),
        ("dense2", (100,)),
        ("norm2", (100,)),
        ("activation2", (100,)),
        ("output", (10,)),
    ]


def test_a_multiply_add_counts_as_two() -> None:
    made = summarize(nn.Linear(7, 5), (7,))
    assert made.flops == 2 * 7 * 5
    assert (made.trainable, made.fixed) == (40, 0)


def test_frozen_parameters_are_fixed() -> None:
    layer = nn.Linear(3, 2)
    layer.weight.requires_grad_(False)
    assert count(layer) == (2, 6)
    (row,) = summarize(nn.Sequential(layer), (3,)).layers
    assert (row.trainable, row.fixed) == (2, 6)


def test_the_model_is_left_as_it_was() -> None:
    model = chapter_example().train()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    summarize(model, (1, 28, 28))
    assert model.training
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert not any(module._forward_hooks for module in model.modules())
