"""From a spec and its data to everything that a trainer needs."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from dnntrain import build, spec
from dnntrain.errors import SpecError, UsageError
from dnntrain.placement import place
from dnntrain.spec import Spec
from dnntrain.training.built import Clip
from dnntrain.training.parameters import FlatParameters


def made(text: str = "", *, dataset: str = "digits", hidden: str = "[8]") -> Spec:
    return spec.loads(
        f"data: {{dataset: {dataset}}}\nmodel: {{architecture: {{name: mlp, hidden: {hidden}}}}}\n{text}",
        source="t.yaml",
    )


def resolved(experiment: Spec) -> tuple[Spec, build.Data]:
    data = build.open_data(experiment)
    return build.resolve(experiment, data), data


def test_shallow_defaults() -> None:
    full, _ = resolved(made(hidden="{layers: 4, units: 8}"))
    assert full.model.activation.name == "relu"
    assert full.model.normalization.name == "none"
    assert full.model.initializer.name == "he_normal"
    assert full.loss.name == "cross_entropy"
    assert [metric.name for metric in full.metrics] == ["accuracy"]
    assert (full.training.monitor.metric, full.training.monitor.mode) == ("valid/loss", "min")
    assert [callback.name for callback in full.callbacks] == ["early_stopping"]
    assert full.data.standardize == "feature"
    assert full.data.validation.from_ == "stratified"


@pytest.mark.parametrize(("average", "stops"), [("ema", True), ("swa", False), ("{name: swa, start: 0.0}", True)])
def test_an_average_that_begins_late_is_not_cut_off_by_default(average: str, stops: bool) -> None:
    text = f"{{data: digits, model: {{architecture: {{name: mlp, hidden: [4]}}}}, training: {{average: {average}}}}}"
    full, _ = resolved(spec.loads(text.replace("data: digits", "data: {dataset: digits}")))
    assert bool(full.callbacks) == stops


def test_deep_defaults() -> None:
    full, _ = resolved(made(hidden="{layers: 5, units: 8}"))
    assert full.model.activation.name == "swish"
    assert full.model.normalization.name == "batch"


@pytest.mark.parametrize(
    ("activation", "initializer"),
    [("selu", "lecun_normal"), ("tanh", "glorot_normal"), ("identity", "glorot_normal"), ("swish", "he_normal")],
)
def test_the_initializer_follows_the_activation(activation: str, initializer: str) -> None:
    full, _ = resolved(
        spec.loads(
            "{data: {dataset: digits}, "
            f"model: {{architecture: {{name: mlp, hidden: [4]}}, activation: {activation}}}}}"
        )
    )
    assert full.model.initializer.name == initializer


def test_regression_defaults() -> None:
    full, data = resolved(made(dataset="diabetes"))
    assert full.loss.name == "mse"
    assert [metric.name for metric in full.metrics] == ["mae", "r2"]
    assert full.data.validation.from_ == "random"
    assert build.outputs(full, data) == 1
    built = build.build(full, data, place(full))
    (x, y), *_ = next(built.train.epoch())
    assert y.shape == (32, 1)
    assert built.model(x).shape == (32, 1)


def test_without_validation_nothing_stops_early() -> None:
    experiment = spec.loads(
        "{data: {dataset: digits, validation: none}, model: {architecture: {name: mlp, hidden: [4]}}}"
    )
    full, data = resolved(experiment)
    assert full.callbacks == ()
    assert full.training.monitor.metric == "train/loss"
    assert build.build(full, data, place(full)).valid is None


def test_accuracy_is_better_when_higher() -> None:
    full, _ = resolved(made("training: {monitor: valid/accuracy}"))
    assert full.training.monitor.mode == "max"


@pytest.mark.parametrize(
    ("dataset", "text", "message", "place"),
    [
        ("digits", "loss: mse", "mse needs numbers, but dataset 'digits' has classes", "t.yaml:3:7"),
        ("diabetes", "loss: cross_entropy", "cross_entropy needs classes", "t.yaml:3:7"),
        ("digits", "loss: binary_cross_entropy", "needs two classes, but there are 10", "t.yaml:3:7"),
        ("diabetes", "metrics: [accuracy]", "metric 'accuracy' does not fit dataset 'diabetes'", "t.yaml:3:11"),
        ("digits", "training: {monitor: valid/r2}", "valid/r2 is monitored but not measured", "t.yaml:3:21"),
    ],
)
def test_what_does_not_fit_the_data_is_located(dataset: str, text: str, message: str, place: str) -> None:
    with pytest.raises(SpecError) as caught:
        resolved(made(text, dataset=dataset))
    assert message in str(caught.value)
    assert str(caught.value).startswith(place)


def test_two_classes_with_one_logit() -> None:
    experiment = spec.loads(
        "{data: {dataset: digits, classes: [3, 8]}, model: {architecture: {name: mlp, hidden: [8]}}, "
        "loss: binary_cross_entropy}"
    )
    full, data = resolved(experiment)
    assert build.outputs(full, data) == 1
    built = build.build(full, data, place(full))
    (x, y), *_ = next(built.train.epoch())
    assert set(y.tolist()) == {0, 1}
    assert torch.isfinite(built.loss(built.model(x), y))


def test_initialization_depends_on_the_seed_alone() -> None:
    """A dropout draws nothing from the initializers' generator, and the global generator plays no part."""
    base = spec.loads("{data: {dataset: digits}, model: {architecture: {name: mlp, hidden: [8, 8]}}}")
    noisy = spec.loads(
        "{data: {dataset: digits}, "
        "model: {architecture: {name: mlp, hidden: [8, 8]}, dropout: {name: dropout, rate: 0.5}}}"
    )
    base, noisy = resolved(base)[0], resolved(noisy)[0]
    torch.manual_seed(1)
    first = build.build_model(base, (1, 8, 8), 10).state_dict()
    torch.manual_seed(2)
    second = build.build_model(noisy, (1, 8, 8), 10).state_dict()
    for name, value in first.items():
        assert torch.equal(value, second[name])
    other = build.build_model(base.model_copy(update={"seed": 1}), (1, 8, 8), 10).state_dict()
    assert not torch.equal(first["dense1.weight"], other["dense1.weight"])


def test_the_order_of_the_data_does_not_depend_on_the_model() -> None:
    orders = []
    for extra in ("dropout: none", "dropout: {name: dropout, rate: 0.5}"):
        experiment = spec.loads(
            f"{{data: {{dataset: digits}}, model: {{architecture: {{name: mlp, hidden: [8]}}, {extra}}}}}"
        )
        full, data = resolved(experiment)
        built = build.build(full, data, place(full))
        orders.append(torch.cat([y for step in built.train.epoch() for _, y in step]))
    assert torch.equal(*orders)


def test_the_split_does_not_depend_on_the_seed() -> None:
    first, second = (build.open_data(made(f"seed: {seed}")) for seed in (1, 2))
    assert np.array_equal(first.parts.train.index, second.parts.train.index)


def test_decay_skips_biases_and_norms() -> None:
    full, data = resolved(made("optimizer: {name: adamw, weight_decay: 0.5}", hidden="{layers: 5, units: 8}"))
    built = build.build(full, data, place(full))
    assert isinstance(built.parameters, FlatParameters)
    decayed, spared = built.parameters.groups
    sizes = {name: p.numel() for name, p in built.model.named_parameters()}
    kernels = sum(size for name, size in sizes.items() if name.endswith("weight") and not name.startswith("norm"))
    assert decayed["params"][0].numel() == kernels
    assert spared["weight_decay"] == 0.0
    assert spared["params"][0].numel() == sum(sizes.values()) - kernels


def test_a_device_that_is_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(UsageError, match="no CUDA device here; use auto or cpu"):
        place(made("training: {device: cuda}"))
    assert place(made()).device == torch.device("cpu")


def test_auto_takes_cuda_and_bf16_where_they_are(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda: True)
    placed = place(made())
    assert (placed.device.type, placed.precision) == ("cuda", "bf16")
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda: False)
    assert place(made()).precision == "fp32"
    with pytest.raises(UsageError, match="only 1 CUDA devices"):
        place(made("training: {device: 'cuda:3'}"))


def test_tf32_needs_cuda() -> None:
    with pytest.raises(UsageError, match="only CUDA devices have"):
        place(made("training: {device: cpu, precision: tf32}"))


def test_a_missing_test_part_is_said(tmp_path: Path) -> None:
    path = tmp_path / "data.npz"
    rng = np.random.default_rng(0)
    np.savez(path, x_train=rng.normal(size=(50, 3)).astype("float32"), y_train=np.arange(50) % 2)
    full, data = resolved(made(dataset=f"{{name: npz, path: {path}}}"))
    prepare = build.standardizer(full, data)
    with pytest.raises(UsageError, match="dataset 'npz' has no test samples"):
        build.part_of(full, data, "test", prepare, torch.device("cpu"))


def test_inputs_are_standardized_by_the_training_part_alone() -> None:
    experiment = spec.loads("{data: {dataset: digits, limit: 50}, model: {architecture: {name: mlp, hidden: [4]}}}")
    full, data = resolved(experiment)
    prepare = build.standardizer(full, data)
    train = data.parts.train
    assert len(train.index) == 50
    x = train.x[train.index].astype(np.float64)
    deviation = x.std(axis=0)
    deviation[deviation == 0] = 1
    expected = (x - x.mean(axis=0)) / deviation
    np.testing.assert_allclose(prepare(torch.from_numpy(train.x[train.index])).numpy(), expected, atol=1e-5)


def test_balanced_sampling_draws_classes_alike() -> None:
    experiment = spec.loads(
        "{data: {dataset: digits, classes: {nine: [9], other: rest}, sampling: balanced}, "
        "model: {architecture: {name: mlp, hidden: [4]}}}"
    )
    full, data = resolved(experiment)
    built = build.build(full, data, place(full))
    drawn = torch.cat([y for step in built.train.epoch() for _, y in step])
    assert (data.parts.train.y[data.parts.train.index] == 0).mean() < 0.15
    assert 0.45 < (drawn == 0).float().mean() < 0.55


@pytest.mark.parametrize("kind", ["norm", "value", "parameter_norm"])
def test_clipping_reaches_the_stepper(kind: str) -> None:
    full, data = resolved(made(f"training: {{clip: {{{kind}: 0.25}}}}"))
    assert build.build(full, data, place(full)).clip == Clip(**{kind: 0.25})


def test_convolutions_are_laid_out_channels_last_for_cuda_alone() -> None:
    def network() -> torch.nn.Module:
        return torch.nn.Sequential(torch.nn.Conv2d(3, 8, 3), torch.nn.Flatten(), torch.nn.Linear(8, 2))

    cuda = build.laid_out(network(), torch.device("cuda"))[0].weight
    assert cuda.is_contiguous(memory_format=torch.channels_last)
    assert not cuda.is_contiguous()
    assert build.laid_out(network(), torch.device("cpu"))[0].weight.is_contiguous()
