from __future__ import annotations

from typing import Any

import pytest
import torch
from tinyparts import make_mlp
from tinytraining import assemble, samples, through_a_file
from torch import Tensor, nn

from dnntrain.training.batches import Batch
from dnntrain.training.built import Built, Clip
from dnntrain.training.parameters import FlatParameters, Parameters, TensorParameters
from dnntrain.training.state import OptimizerMemory
from dnntrain.training.stepper import Stepper, autocast, clip_gradients

BOTH = pytest.mark.parametrize("kind", [FlatParameters, TensorParameters])


def with_gradients(kind: type[Parameters], *gradients: list[float]) -> Parameters:
    tensors = [nn.Parameter(torch.zeros(len(g))) for g in gradients]
    parameters = kind([{"params": tensors}])
    for p, g in zip(tensors, gradients, strict=True):
        p.grad = torch.tensor(g)
    parameters.collect()
    return parameters


def clipped(parameters: Parameters, **clip: float) -> list[list[float]]:
    clip_gradients(parameters, Clip(**clip), parameters.norm())
    return [g.tolist() for g in parameters.gradients_by_tensor]


@BOTH
def test_clipping_by_norm_keeps_the_direction_of_the_whole(kind: type[Parameters]) -> None:
    parameters = with_gradients(kind, [3.0, 0.0], [0.0, -4.0])
    assert parameters.norm().item() == pytest.approx(5.0)
    first, second = clipped(parameters, norm=2.0)
    assert first == pytest.approx([1.2, 0.0], rel=1e-5)
    assert second == pytest.approx([0.0, -1.6], rel=1e-5)


@BOTH
def test_clipping_each_tensor_by_its_own_norm(kind: type[Parameters]) -> None:
    first, second = clipped(with_gradients(kind, [3.0, 4.0], [0.3, 0.4]), parameter_norm=1.0)
    assert first == pytest.approx([0.6, 0.8], rel=1e-5)
    assert second == pytest.approx([0.3, 0.4], rel=1e-5), "below the limit already"


@BOTH
def test_clipping_by_value_may_turn_the_gradient(kind: type[Parameters]) -> None:
    first, second = clipped(with_gradients(kind, [0.9, -100.0], [0.5, 2.0]), value=1.0)
    assert first == pytest.approx([0.9, -1.0])
    assert second == pytest.approx([0.5, 1.0])


@BOTH
@pytest.mark.parametrize("clip", [{"norm": 10.0}, {"parameter_norm": 10.0}, {"value": 10.0}, {}], ids=str)
def test_a_small_gradient_stays_as_it_is(kind: type[Parameters], clip: dict[str, float]) -> None:
    assert clipped(with_gradients(kind, [3.0, 0.0], [0.0, -4.0]), **clip) == [[3.0, 0.0], [0.0, -4.0]]


@BOTH
@pytest.mark.parametrize("clip", [{"norm": 1.0}, {"parameter_norm": 1.0}, {"value": 1.0}], ids=str)
def test_a_zero_gradient_stays_zero(kind: type[Parameters], clip: dict[str, float]) -> None:
    assert clipped(with_gradients(kind, [0.0, 0.0], [0.0]), **clip) == [[0.0, 0.0], [0.0]]


def stepper(**options: Any) -> tuple[Stepper, Built]:
    built = assemble(**options)
    return Stepper(built), built


def weights(built: Built) -> Tensor:
    return torch.cat([p.detach().flatten() for p in built.model.parameters()]).clone()


def batch(n: int = 24, seed: int = 0) -> Batch:
    return samples(n, seed=seed)


def reference_gradient(built: Built, whole: Batch) -> Tensor:
    """The gradient of a batch, taken by torch.autograd without anything of ours but model and loss."""
    loss = nn.functional.cross_entropy(built.model(whole[0]), whole[1])
    return torch.cat([g.flatten() for g in torch.autograd.grad(loss, list(built.model.parameters()))])


@pytest.mark.parametrize("flat", [True, False])
def test_a_step_is_gradient_descent_on_the_mean_loss(flat: bool) -> None:
    step, built = stepper(flat=flat)
    before, gradient = weights(built), reference_gradient(built, batch())
    losses, outputs, norm, *_ = step.step([batch()], 0)
    torch.testing.assert_close(weights(built), before - 0.1 * gradient)
    assert norm.item() == pytest.approx(gradient.norm().item(), rel=1e-5)
    assert losses[0].item() == pytest.approx(nn.functional.cross_entropy(outputs[0], batch()[1]).item())
    assert not losses[0].requires_grad
    assert not outputs[0].requires_grad


@pytest.mark.parametrize("flat", [True, False])
def test_the_norm_that_is_reported_is_the_one_before_clipping(flat: bool) -> None:
    step, built = stepper(flat=flat, clip=Clip(norm=1e-3))
    before, gradient = weights(built), reference_gradient(built, batch())
    _, _, norm, *_ = step.step([batch()], 0)
    assert norm.item() == pytest.approx(gradient.norm().item(), rel=1e-5)
    torch.testing.assert_close(weights(built), before - 0.1 * 1e-3 * gradient / (gradient.norm() + 1e-6))


@pytest.mark.parametrize("sizes", [[8, 8, 8], [5, 12, 7], [1, 23], [24]])
@pytest.mark.parametrize("clip", [Clip(), Clip(norm=0.05), Clip(value=0.01)], ids=str)
def test_accumulated_batches_equal_one_large_batch(sizes: list[int], clip: Clip) -> None:
    whole = batch()
    pieces = list(zip(whole[0].split(sizes), whole[1].split(sizes), strict=True))
    at_once, one = stepper(clip=clip)
    in_pieces, other = stepper(clip=clip)
    for _ in range(5):
        (mean,), _, norm, *_ = at_once.step([whole], 0)
        losses, outputs, same_norm, *_ = in_pieces.step(pieces, 0)
        assert [len(each) for each in outputs] == sizes
        weighted = sum(loss * size for loss, size in zip(losses, sizes, strict=True)) / 24
        torch.testing.assert_close(weighted, mean)
        torch.testing.assert_close(same_norm, norm)
    torch.testing.assert_close(weights(one), weights(other), rtol=1e-5, atol=1e-6)


def test_clipping_and_updating_happen_once_for_all_accumulated_batches() -> None:
    calls: list[int] = []
    step, built = stepper(optimizer={"name": "nadam", "lr": 0.01})
    built.optimizer.register_step_post_hook(lambda *_: calls.append(1))
    step.step([batch(), batch(seed=1), batch(seed=2)], 0)
    assert calls == [1]


@pytest.mark.parametrize("flat", [True, False])
@pytest.mark.parametrize("clip", [Clip(norm=0.1), Clip(parameter_norm=0.1), Clip(value=0.01)], ids=str)
def test_under_fp16_gradients_are_clipped_after_unscaling(flat: bool, clip: Clip) -> None:
    half, built = stepper(precision="fp16", flat=flat, clip=clip)
    full, reference = stepper(flat=flat, clip=clip)
    before = weights(built)
    _, _, norm, *_ = half.step([batch()], 0)
    _, _, expected, *_ = full.step([batch()], 0)
    assert norm.item() == pytest.approx(expected.item(), rel=1e-2), "the norm is that of the scaled gradient"
    moved, should = weights(built) - before, weights(reference) - before
    assert (moved - should).norm() < 0.02 * should.norm()


@pytest.mark.parametrize("flat", [True, False])
def test_under_fp16_an_overflowing_step_is_skipped_and_the_scale_lowered(flat: bool) -> None:
    step, built = stepper(precision="fp16", flat=flat, optimizer={"name": "adamw", "lr": 0.1})
    before, scale = weights(built), step.scaler.get_scale()
    x, y = batch()
    _, _, norm, *_ = step.step([(x * 300, y)], 0)
    assert not norm.isfinite()
    assert torch.equal(weights(built), before)
    assert step.scaler.get_scale() == scale / 2
    for _ in range(12):
        step.step([(x, y)], 0)
    assert not torch.equal(weights(built), before)


@pytest.mark.parametrize("precision", ["fp32", "bf16", "fp16"])
def test_the_forward_pass_has_the_chosen_precision_and_the_weights_do_not(precision: str) -> None:
    step, built = stepper(precision=precision)
    (loss,), (outputs,), norm, *_ = step.step([batch()], 0)
    dtype = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}[precision]
    assert outputs.dtype == dtype
    assert loss.dtype == norm.dtype == torch.float32
    assert all(p.dtype == torch.float32 for p in built.model.parameters())


def test_autocast_is_off_in_full_precision() -> None:
    for precision, dtype in (("fp32", torch.float32), ("tf32", torch.float32), ("bf16", torch.bfloat16)):
        with autocast(torch.device("cpu"), precision):
            assert (torch.ones(2, 2) @ torch.ones(2, 2)).dtype == dtype


def test_a_schedule_scales_every_group_from_its_own_rate() -> None:
    model = make_mlp()
    parameters = FlatParameters(
        [{"params": list(model.dense1.parameters()), "lr": 0.5}, {"params": list(model.output.parameters())}]
    )
    built = assemble(model=model, schedule=lambda step: (1 / (1 + step), None))
    built.parameters, built.optimizer = parameters, torch.optim.SGD(parameters.groups, lr=0.1)
    step = Stepper(built)
    for t in (0, 4, 1):
        step.set_rates(t, 0.5)
        assert [group["lr"] for group in built.optimizer.param_groups] == pytest.approx(
            [0.25 / (1 + t), 0.05 / (1 + t)]
        )
        assert step.rate(t, 0.5) == pytest.approx(0.05 / (1 + t)), "the rate that is told is the optimizer's own"
        assert "momentum" in built.optimizer.param_groups[0]


@pytest.mark.parametrize(
    ("optimizer", "key"),
    [
        ({"name": "sgd", "lr": 0.1, "momentum": 0.9}, "momentum"),
        ({"name": "adamw", "lr": 0.1}, "betas"),
        ({"name": "nadam", "lr": 0.1}, "betas"),
    ],
    ids=lambda value: str(value),
)
def test_momentum_is_the_first_beta_for_the_adam_family(optimizer: Any, key: str) -> None:
    step, built = stepper(optimizer=optimizer, schedule=lambda t: (1.0, 0.85 if t else None))
    (group,) = built.optimizer.param_groups
    before = group[key]
    step.set_rates(0, 1.0)
    assert group[key] == before, "None leaves it alone"
    step.set_rates(1, 1.0)
    assert group[key] == (0.85 if key == "momentum" else (0.85, 0.999))


def test_a_compiled_model_is_the_one_that_is_trained() -> None:
    built = assemble()
    called: list[int] = []

    def compiled(x: Tensor) -> Tensor:
        called.append(len(x))
        outputs: Tensor = built.model(x)
        return outputs

    built.compiled = compiled
    Stepper(built).step([batch()], 0)
    assert called == [24]


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_a_stepper_goes_on_from_its_state(precision: str) -> None:
    options: dict[str, Any] = {"optimizer": {"name": "nadam", "lr": 0.01}, "precision": precision}
    first, whole = stepper(**options)
    for seed in range(3):
        first.step([batch(seed=seed)], 0)
    second, resumed = stepper(**options)
    resumed.model.load_state_dict(whole.model.state_dict())
    for part, other in (
        (first.scaler, second.scaler),
        (OptimizerMemory(whole.optimizer), OptimizerMemory(resumed.optimizer)),
    ):
        other.load_state_dict(through_a_file(part.state_dict()))
    for seed in range(3, 6):
        first.step([batch(seed=seed)], 0)
        second.step([batch(seed=seed)], 0)
    assert torch.equal(weights(whole), weights(resumed))
    if precision == "fp16":
        assert first.scaler.state_dict() == second.scaler.state_dict()
