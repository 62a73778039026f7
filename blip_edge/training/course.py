"""How long a run goes, how fast at each step, and what it does beyond one batch a step."""

import math
from dataclasses import dataclass
from typing import Literal

from blip_edge.errors import UsageError
from blip_edge.training.recipe import Optimisation

__all__ = ["Course", "ScheduleName", "learning_rate_factor", "total_steps"]

ScheduleName = Literal["cosine", "constant", "epoch-cosine", "epoch-decay"]

# BLIP's pre-training rises from this learning rate, and never falls below it.
_FLOOR = 1e-6


@dataclass(frozen=True, kw_only=True)
class Course:
    """The defaults are one batch a step, and the schedule that the recipe names."""

    accumulate: int = 1
    """Batches whose gradients make one step."""
    ema: float = 0.0
    """How slowly an average follows the weights, of which it then takes the place; 0 has none."""
    schedule: ScheduleName | None = None
    """cosine, constant: linear warm-up, then half a cosine, or no change, step by step.
    epoch-cosine: the same cosine in stairs of an epoch, as BLIP fine-tunes (without warm-up).
    epoch-decay: linear warm-up from 1e-6 within the first epoch, then each epoch's rate is `decay`
    times the last one's, down to 1e-6, as BLIP pre-trains."""
    per_epoch: int = 0
    """Batches of an epoch, which the last two need."""
    decay: float = 0.9
    """Of epoch-decay: the released recipe's; the paper says 0.85."""
    recompute: bool = False
    """Forget what the layers computed and compute it again in the backward pass: less memory."""
    compile: bool = False
    """Have torch compile the layers of both towers, which takes minutes before the first step."""
    shard: bool = False
    """Of several processes each keeps a share of weights, gradients and AdamW's state (FSDP)."""

    def __post_init__(self) -> None:
        if self.accumulate < 1:
            raise UsageError(f"accumulate must be at least 1, got {self.accumulate}")
        if self.shard and self.compile:
            raise UsageError("shard and compile do not go together; leave one of them out")
        if not 0 <= self.ema < 1:
            raise UsageError(f"ema must be at least 0 and less than 1, got {self.ema}")
        if not 0 < self.decay <= 1:
            raise UsageError(f"decay must lie in (0, 1], got {self.decay}")

    def epoch(self, step: int) -> int:
        """The epoch in which `step` begins."""
        if self.per_epoch < 1:
            raise UsageError("a schedule by epochs needs to know how many batches an epoch has")
        return step * self.accumulate // self.per_epoch


_PLAIN = Course()


def total_steps(recipe: Optimisation, per_epoch: int, accumulate: int = 1) -> int:
    """Optimiser steps of a run: `steps`, or else `epochs` times the batches of an epoch.

    With `accumulate` batches a step there are as many fewer.
    """
    return recipe.steps or max(1, math.ceil(recipe.epochs * per_epoch / accumulate))


def learning_rate_factor(
    step: int, recipe: Optimisation, steps: int, course: Course = _PLAIN
) -> float:
    """Share of the peak learning rate at `step` of `steps`; see `Course.schedule`."""
    name = course.schedule or recipe.schedule
    if name == "epoch-decay":
        return _decayed(step, recipe, course)
    if step < recipe.warmup:
        return (step + 1) / recipe.warmup
    if name == "constant":
        return 1.0
    if name == "epoch-cosine":
        epochs = course.epoch(steps - 1) + 1
        return 0.5 * (1.0 + math.cos(math.pi * course.epoch(step) / epochs))
    done = (step - recipe.warmup) / max(1, steps - recipe.warmup)
    return 0.5 * (1.0 + math.cos(math.pi * min(1.0, done)))


def _decayed(step: int, recipe: Optimisation, course: Course) -> float:
    epoch, floor = course.epoch(step), min(1.0, _FLOOR / recipe.lr)
    if epoch == 0 and step < recipe.warmup:
        return floor + (1.0 - floor) * step / recipe.warmup
    return max(floor, course.decay**epoch)
