"""What distillation and pruning may be told, and what they are refused."""

from itertools import pairwise
from typing import Any

import pytest

from blip_edge.distill.pruning import kept_after
from blip_edge.distill.recipe import DistillRecipe, PruneRecipe
from blip_edge.errors import UsageError


@pytest.mark.parametrize(
    "wrong",
    [
        {"task_weight": -0.1},
        {"attention_weight": -0.1},
        {
            "task_weight": 0.0,
            "logit_weight": 0.0,
            "affinity_weight": 0.0,
            "hidden_weight": 0.0,
            "contrastive_weight": 0.0,
        },
        {"temperature": 0.0},
        {"contrastive_temperature": -1.0},
        {"calibration": 0},
        {"memory": -1},
        {"said": 1.5},
        {"said": -0.5},
        {"label_smoothing": 1.5},
        {"keep": 0.0},
        {"keep": 1.5},
        {"tokens": 0.0},
        {"tokens": 1.5},
        {"rounds": 0},
        {"rounds_share": 1.0},
        {"rounds_share": -0.1},
    ],
)
def test_a_prune_recipe_of_nonsense_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(UsageError):
        PruneRecipe(**wrong)


@pytest.mark.parametrize(
    "wrong",
    [{"vision_layers": -1}, {"text_width": -8}, {"said": 2.0}, {"lr": 0.0}, {"temperature": -1.0}],
)
def test_a_student_of_nonsense_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(UsageError):
        DistillRecipe(**wrong)


def test_a_recipe_says_how_its_task_is_learned() -> None:
    recipe = PruneRecipe(lr=0.5, batch=3, flip=0.25, label_smoothing=0.2, steps=9)
    task = recipe.of("vqa", "a ")
    assert (task.task, task.prompt, task.lr, task.batch) == ("vqa", "a ", 0.5, 3)
    assert (task.flip, task.label_smoothing, task.steps, task.queue_size) == (0.25, 0.2, 9, 0)


def test_cuts_are_few_first_and_last_and_end_at_what_stays() -> None:
    shares = [kept_after(0.4, done, 5) for done in range(6)]
    assert shares[0] == 1.0 and shares[5] == pytest.approx(0.4)
    steps = [before - after for before, after in pairwise(shares)]
    assert steps[0] == pytest.approx(steps[4]) and steps[0] < steps[1] < steps[2]
