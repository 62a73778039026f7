"""The loop: it learns, it follows its schedule, and a loss that is no number ends it."""

import math
import re
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from blip_edge.data import Dataset
from blip_edge.errors import ArtifactError
from blip_edge.models import Model, build
from blip_edge.progress import SILENT
from blip_edge.training.batches import Batch, CaptionBatches
from blip_edge.training.course import Course
from blip_edge.training.loop import fit, learning_rate_factor, total_steps
from blip_edge.training.objectives import CaptionObjective
from blip_edge.training.recipe import Optimisation, TrainRecipe
from blip_edge.training.recompute import recomputing
from tests import tiny


def endless() -> Iterator[Batch]:
    empty = torch.zeros(1, 1)
    while True:
        yield Batch(empty, empty.long(), empty.long(), torch.zeros(1).long())


def optimisation(**recipe: Any) -> Optimisation:
    return Optimisation(**{"lr": 0.1, "weight_decay": 0.0, "schedule": "constant", **recipe})


def run(module: nn.Module, loss: Any, steps: int, **recipe: Any) -> list[dict[str, float]]:
    how = optimisation(**recipe)
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


def test_a_long_run_gives_more_points_than_it_keeps() -> None:
    weight, given = nn.Linear(1, 1), list[dict[str, float]]()
    loss: Any = lambda batch, step: {"l": weight.bias.sum()}  # noqa: E731
    how: dict[str, Any] = {"steps": 333, "description": "x", "on_point": given.append}
    history = fit(weight, loss, endless(), optimisation(), **how)
    assert [point["step"] for point in given] == list(range(333))
    assert len(history) < 60


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


def pixels(*rows: list[float]) -> Batch:
    numbers = torch.tensor(rows)
    count = torch.arange(len(rows))
    return Batch(numbers, count[:, None], count[:, None], count)


def squares(model: nn.Module) -> Any:
    return lambda batch, step: {"l": model(batch.pixel_values).square().mean()}


def test_two_half_batches_make_the_step_of_a_whole_one() -> None:
    rows = torch.randn(24, 3).tolist()
    trained = []
    for size, accumulate in ((8, 1), (4, 2), (2, 4)):
        torch.manual_seed(0)
        model = nn.Linear(3, 2)
        batches = [pixels(*rows[i : i + size]) for i in range(0, 24, size)]
        history = fit(
            *(model, squares(model), batches, optimisation(weight_decay=0.1)),
            steps=3,
            description="x",
            course=Course(accumulate=accumulate),
        )
        trained.append((model.weight.detach(), torch.tensor([p["l"] for p in history])))
    for weight, losses in trained[1:]:
        torch.testing.assert_close(weight, trained[0][0], rtol=0, atol=1e-6)
        torch.testing.assert_close(losses, trained[0][1], rtol=0, atol=2e-5)


def test_a_step_sees_the_same_number_for_all_its_batches() -> None:
    seen: list[int] = []
    weight = nn.Linear(1, 1)

    def loss(batch: Batch, step: int) -> dict[str, Tensor]:
        seen.append(step)
        return {"l": weight.bias.sum()}

    course = Course(accumulate=3)
    fit(weight, loss, endless(), optimisation(), steps=2, description="x", course=course)
    assert seen == [0, 0, 0, 1, 1, 1]


def test_the_average_of_the_weights_is_what_stays() -> None:
    averaged, plain = nn.Linear(1, 1, bias=False), nn.Linear(1, 1, bias=False)
    for model in (averaged, plain):
        nn.init.constant_(model.weight, 2.0)
    seen: list[float] = []
    expected = 2.0

    def loss(batch: Batch, step: int) -> dict[str, Tensor]:
        seen.append(averaged.weight.item())
        return {"l": averaged.weight.sum()}

    course = Course(ema=0.75)
    fit(averaged, loss, endless(), optimisation(), steps=4, description="x", course=course)
    run(plain, lambda batch, step: {"l": plain.weight.sum()}, 4)
    for value in [*seen[1:], plain.weight.item()]:
        expected = 0.75 * expected + 0.25 * value
    assert averaged.weight.item() == pytest.approx(expected, abs=1e-6)
    assert seen == pytest.approx([2.0, 1.9, 1.8, 1.7], abs=1e-5), "training itself does not see it"


def falling() -> tuple[nn.Linear, Any]:
    """A weight that falls from 0 by 0.1 in every step."""
    model = nn.Linear(1, 1, bias=False)
    nn.init.zeros_(model.weight)
    return model, lambda batch, step: {"l": model.weight.sum()}


def test_the_best_weights_stay_and_not_the_last() -> None:
    model, loss = falling()
    asked: list[tuple[bool, float]] = []

    def metric() -> float:
        asked.append((model.training, round(model.weight.item(), 5)))
        return -abs(model.weight.item() + 0.42)

    history = fit(
        *(model, loss, endless(), optimisation()),
        steps=9,
        description="x",
        evaluate=metric,
        eval_every=2,
    )
    assert asked == [(False, w) for w in (-0.2, -0.4, -0.6, -0.8, -0.9)]
    assert model.weight.item() == pytest.approx(-0.4, abs=1e-5)
    measured = {point["step"]: point["metric"] for point in history if "metric" in point}
    assert measured == {1.0: -0.22, 3.0: -0.02, 5.0: -0.18, 7.0: -0.38, 8.0: -0.48}


def test_what_is_measured_is_the_average_that_would_stay() -> None:
    model, loss = falling()
    asked: list[float] = []

    def metric() -> float:
        asked.append(model.weight.item())
        return -len(asked)

    course = Course(ema=0.5)
    how: dict[str, Any] = {"description": "x", "course": course, "evaluate": metric}
    fit(model, loss, endless(), optimisation(), steps=3, eval_every=1, **how)
    assert asked == pytest.approx([-0.05, -0.125, -0.2125], abs=1e-5)
    assert model.weight.item() == pytest.approx(-0.05, abs=1e-5), "the first was the best"


def test_of_a_metric_that_is_no_number_nothing_is_kept() -> None:
    model, loss = falling()
    how: dict[str, Any] = {"description": "x", "evaluate": lambda: math.nan, "eval_every": 1}
    history = fit(model, loss, endless(), optimisation(), steps=2, **how)
    assert model.weight.item() == pytest.approx(-0.2, abs=1e-5)
    assert all("metric" not in point for point in history)


def test_random_numbers_are_as_if_nobody_had_evaluated() -> None:
    def noisy(evaluate: Any) -> Tensor:
        torch.manual_seed(0)
        model = nn.Linear(4, 1)
        fit(
            model,
            lambda batch, step: {"l": model(torch.randn(2, 4)).square().sum()},
            *(endless(), optimisation()),
            steps=5,
            description="x",
            evaluate=evaluate,
            eval_every=1,
        )
        return model.weight.detach()

    calls: list[float] = []

    def rising() -> float:
        calls.append(torch.rand(()).item())
        return float(len(calls))

    assert torch.equal(noisy(rising), noisy(None))
    assert len(set(calls)) == 5, "the training around them does draw"


def test_losses_and_samples_a_second_are_told_and_points_given_as_they_come() -> None:
    told: list[str] = []
    given: list[dict[str, float]] = []

    class Listener:
        track, say = SILENT.track, SILENT.say

        def note(self, text: str) -> None:
            told.append(text)

    model, loss = falling()
    how: dict[str, Any] = {"progress": Listener(), "on_point": given.append}
    history = fit(
        *(model, loss, [pixels([1.0], [2.0])] * 3, optimisation()),
        steps=3,
        description="x",
        **how,
    )
    assert [{"step": point["step"], "l": point["l"]} for point in given] == history
    assert all(point["samples/s"] > 0 for point in given)
    assert [point["lr"] for point in given] == [0.1] * 3
    assert all(re.fullmatch(r"l -?0\.\d00 \d+\.\d samples/s", text) for text in told)
    assert len(told) == 3


def test_recomputing_layers_changes_no_weight(world: Dataset, captioner: Model) -> None:
    """Dropout is drawn again as it was."""
    recipe = TrainRecipe(lr=5e-3, prompt="a ")
    trained = []
    for recompute in (False, True):
        blip = tiny.lively(captioner.config)
        batches = CaptionBatches(
            *(world, world.captions("train"), captioner.tokenizer, captioner.preprocess),
            batch=8,
            seed=0,
            prompt=recipe.prompt,
        )
        torch.manual_seed(3)
        objective = CaptionObjective(blip, captioner.tokenizer, recipe)
        course = Course(recompute=recompute)
        fit(blip, objective, batches, recipe, steps=3, description="x", course=course)
        trained.append(blip.state_dict())
        assert "forward" not in vars(blip.vision_model.blocks[0])
    assert trained[0].keys() == trained[1].keys()
    assert all(torch.equal(trained[0][name], trained[1][name]) for name in trained[0])


def test_layers_keep_less_while_they_are_recomputed(captioner: Model) -> None:
    def kept(on: bool) -> int:
        sizes: list[int] = []

        def pack(tensor: Tensor) -> Tensor:
            sizes.append(tensor.numel())
            return tensor

        with (
            recomputing(captioner.blip, on=on),
            torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor),
        ):
            captioner.blip.vision_model(torch.randn(4, 3, 24, 24))
        return sum(sizes)

    assert kept(True) < 0.4 * kept(False)
