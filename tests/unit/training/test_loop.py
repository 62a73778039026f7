"""The loop: it learns, it follows its schedule, and a loss that is no number ends it."""

import math
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from blip_edge.data import Dataset
from blip_edge.errors import ArtifactError
from blip_edge.models import Model, build
from blip_edge.training.batches import Batch, CaptionBatches
from blip_edge.training.loop import fit, learning_rate_factor, total_steps
from blip_edge.training.objectives import CaptionObjective
from blip_edge.training.recipe import Optimisation, TrainRecipe


def endless() -> Iterator[Batch]:
    empty = torch.zeros(1, 1)
    while True:
        yield Batch(empty, empty.long(), empty.long(), torch.zeros(1).long())


def run(module: nn.Module, loss: Any, steps: int, **recipe: Any) -> list[dict[str, float]]:
    how = Optimisation(**{"lr": 0.1, "weight_decay": 0.0, "schedule": "constant", **recipe})
    return fit(module, loss, endless(), how, steps=steps, description="test")


def test_warm_up_then_half_a_cosine() -> None:
    recipe = Optimisation(warmup=4)
    factors = [learning_rate_factor(step, recipe, 12) for step in range(13)]
    assert factors[:5] == [0.25, 0.5, 0.75, 1.0, 1.0]
    assert factors[8] == pytest.approx(0.5)
    assert factors[12] == pytest.approx(0.0)
    assert factors[4:] == sorted(factors[4:], reverse=True)
    assert learning_rate_factor(99, recipe, 12) == pytest.approx(0.0)


def test_a_constant_rate_stays_after_its_warm_up() -> None:
    recipe = Optimisation(warmup=2, schedule="constant")
    assert [learning_rate_factor(step, recipe, 5) for step in range(5)] == [0.5, 1, 1, 1, 1]


def test_a_warm_up_longer_than_the_run_never_divides_by_zero() -> None:
    assert learning_rate_factor(3, Optimisation(warmup=3), 3) == 1.0


@pytest.mark.parametrize(
    ("recipe", "steps"),
    [({"steps": 7, "epochs": 9.0}, 7), ({"epochs": 2.5}, 25), ({"epochs": 0.01}, 1)],
)
def test_steps_or_else_epochs_decide(recipe: dict[str, Any], steps: int) -> None:
    assert total_steps(Optimisation(**recipe), per_epoch=10) == steps


def test_the_first_step_has_the_first_rate() -> None:
    """AdamW's first step is as long as the learning rate, whatever the gradient."""
    weight = nn.Linear(1, 1, bias=False)
    before = weight.weight.item()
    run(weight, lambda batch, step: {"loss": weight.weight.sum()}, 1, warmup=4)
    assert before - weight.weight.item() == pytest.approx(0.1 / 4, rel=1e-4)


@pytest.mark.parametrize(("clip", "share"), [(1e9, 1.0), (5.0, 0.5)])
def test_a_long_gradient_is_scaled_down_to_clip(clip: float, share: float) -> None:
    weight = nn.Linear(2, 1, bias=False)
    seen = []
    direction = torch.tensor([[6.0, 8.0]])
    clipping = torch.nn.utils.clip_grad_norm_

    def loss(batch: Batch, step: int) -> dict[str, Tensor]:
        return {"l": (weight.weight * direction).sum()}

    def spy(parameters: Any, longest: float) -> Tensor:
        norm: Tensor = clipping(parameters, longest)
        assert weight.weight.grad is not None
        seen.append(weight.weight.grad.clone())
        return norm

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch.nn.utils, "clip_grad_norm_", spy)
        run(weight, loss, 1, clip=clip)
    torch.testing.assert_close(seen, [direction * share])


def test_frozen_parameters_are_not_trained() -> None:
    model = nn.Linear(2, 2)
    model.bias.requires_grad_(False)
    bias, weight = model.bias.detach().clone(), model.weight.detach().clone()

    def loss(batch: Batch, step: int) -> dict[str, Tensor]:
        return {"loss": model(torch.ones(1, 2)).square().sum()}

    fit(model, loss, endless(), Optimisation(lr=0.1), steps=2, description="x")
    assert torch.equal(model.bias, bias) and not torch.equal(model.weight, weight)


def test_all_losses_are_summed_and_logged() -> None:
    weight = nn.Linear(1, 1, bias=False)
    nn.init.constant_(weight.weight, 2.0)

    def losses(batch: Batch, step: int) -> dict[str, Tensor]:
        w = weight.weight.sum()
        return {"a": w * 2, "b": w * -2 + 1}

    history = run(weight, losses, 3)
    assert weight.weight.item() == 2.0, "the gradients of a and b cancel"
    assert history[0] == {"step": 0.0, "a": 4.0, "b": -3.0}
    assert [point["step"] for point in history] == [0, 1, 2]


def test_a_long_run_keeps_points_of_its_curve_and_the_last() -> None:
    weight = nn.Linear(1, 1)
    history = run(weight, lambda batch, step: {"l": weight.bias.sum()}, 333)
    assert 50 <= len(history) <= 60
    assert history[-1]["step"] == 332


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_loss_that_is_no_number_says_at_which_step(value: float) -> None:
    weight = nn.Linear(1, 1)

    def loss(batch: Batch, step: int) -> dict[str, Tensor]:
        return {"lm": weight.bias.sum() * (value if step == 2 else 1.0)}

    with pytest.raises(ArtifactError, match=r"not a finite number at step 2 .*lower lr"):
        run(weight, loss, 5)


def test_the_model_trains_in_training_mode_and_is_left_ready_for_use() -> None:
    modes = []
    model = nn.Linear(1, 1).eval()

    def loss(batch: Batch, step: int) -> dict[str, Tensor]:
        modes.append(model.training)
        return {"l": model.bias.sum()}

    run(model, loss, 1)
    assert modes == [True] and not model.training


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_training_lowers_the_loss_on_drawn_pictures(
    precision: Any, world: Dataset, captioner: Model
) -> None:
    recipe = TrainRecipe(lr=5e-3, precision=precision, label_smoothing=0.0, prompt="a ")
    batches = CaptionBatches(
        world,
        world.captions("train"),
        captioner.tokenizer,
        captioner.preprocess,
        batch=8,
        seed=0,
        prompt=recipe.prompt,
    )
    blip = build(captioner.config)
    objective = CaptionObjective(blip, captioner.tokenizer, recipe)
    history = fit(blip, objective, batches, recipe, steps=60, description="x")
    assert history[-1]["lm"] < 0.7 * history[0]["lm"]
    assert all(parameter.dtype == torch.float32 for parameter in blip.parameters())
