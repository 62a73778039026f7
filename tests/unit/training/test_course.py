"""Schedules against loops that are written out, and courses that make no sense."""

import math
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from blip_edge.errors import UsageError
from blip_edge.training.course import Course, learning_rate_factor, total_steps
from blip_edge.training.recipe import Optimisation


def written_out(recipe: Optimisation, course: Course, epochs: int) -> list[float]:
    """BLIP's two schedules as its programs run them: epoch by epoch, and batch by batch."""
    rates = []
    for epoch in range(epochs):
        rate = max(1e-6, recipe.lr * course.decay**epoch)
        if course.schedule == "epoch-cosine":
            rate = recipe.lr * 0.5 * (1 + math.cos(math.pi * epoch / epochs))
        for batch in range(course.per_epoch):
            if course.schedule == "epoch-decay" and epoch == 0:
                rise = (recipe.lr - 1e-6) * batch / max(1, recipe.warmup)
                rate = min(recipe.lr, 1e-6 + rise) if recipe.warmup else recipe.lr
            rates.append(rate)
    return rates


@settings(max_examples=80, deadline=None)
@given(
    epochs=st.integers(1, 9),
    per_epoch=st.integers(1, 12),
    warmup=st.integers(0, 30),
    lr=st.sampled_from([3e-4, 1e-5, 2e-6]),
    decay=st.sampled_from([0.85, 0.9, 0.2]),
)
def test_epochs_go_as_in_blips_programs(
    epochs: int, per_epoch: int, warmup: int, lr: float, decay: float
) -> None:
    for schedule in ("epoch-decay", "epoch-cosine"):
        rise = warmup if schedule == "epoch-decay" else 0  # fine-tuning has no warm-up
        recipe = Optimisation(lr=lr, warmup=rise)
        course = Course(schedule=schedule, per_epoch=per_epoch, decay=decay)
        steps = epochs * per_epoch
        rates = [lr * learning_rate_factor(step, recipe, steps, course) for step in range(steps)]
        assert rates == pytest.approx(written_out(recipe, course, epochs), rel=1e-9)


def test_a_warm_up_is_cut_at_the_end_of_the_first_epoch() -> None:
    course = Course(schedule="epoch-decay", per_epoch=10)
    recipe = Optimisation(lr=1e-4, warmup=40)
    factors = [learning_rate_factor(step, recipe, 20, course) for step in (0, 9, 10)]
    assert factors == pytest.approx([0.01, 0.01 + 0.99 * 9 / 40, 0.9])


def test_a_course_may_name_another_schedule_than_the_recipe() -> None:
    recipe = Optimisation(schedule="cosine")
    assert learning_rate_factor(5, recipe, 10, Course(schedule="constant")) == 1.0
    assert learning_rate_factor(5, recipe, 10, Course()) == pytest.approx(0.5)


def test_epochs_are_as_many_batches_whatever_a_step_takes() -> None:
    course = Course(accumulate=3, per_epoch=10)
    epochs = [course.epoch(step) for step in range(10)]
    assert epochs == [0, 0, 0, 0, 1, 1, 1, 2, 2, 2]
    assert total_steps(Optimisation(epochs=3), 10, accumulate=3) == 10
    assert total_steps(Optimisation(epochs=3, steps=4), 10, accumulate=3) == 4


def test_schedules_by_epochs_need_to_know_epochs() -> None:
    with pytest.raises(UsageError, match="how many batches an epoch has"):
        learning_rate_factor(0, Optimisation(), 1, Course(schedule="epoch-cosine"))


@pytest.mark.parametrize(
    "wrong",
    [{"accumulate": 0}, {"ema": 1.0}, {"ema": -0.1}, {"ema": math.nan}, {"decay": 0.0}],
)
def test_courses_of_nonsense_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(UsageError):
        Course(**wrong)
