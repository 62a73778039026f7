"""The one training loop: teacher, student and recovery differ in the objective, not in the loop."""

import math
from collections.abc import Iterable
from itertools import islice

import torch
from accelerate import Accelerator
from torch import nn

from blip_edge.errors import ArtifactError
from blip_edge.progress import SILENT, Progress
from blip_edge.training.batches import Batch
from blip_edge.training.objectives import Objective
from blip_edge.training.recipe import Optimisation

__all__ = ["fit", "learning_rate_factor", "total_steps"]

_LOGGED = 50
"""How many points of the loss curve are kept."""


def total_steps(recipe: Optimisation, per_epoch: int) -> int:
    """Optimiser steps of a run: `steps`, or else `epochs` times the batches of an epoch."""
    return recipe.steps or max(1, math.ceil(recipe.epochs * per_epoch))


def learning_rate_factor(step: int, recipe: Optimisation, steps: int) -> float:
    """Share of the peak learning rate at `step`: linear warm-up, then half a cosine or constant."""
    if step < recipe.warmup:
        return (step + 1) / recipe.warmup
    if recipe.schedule == "constant":
        return 1.0
    done = (step - recipe.warmup) / max(1, steps - recipe.warmup)
    return 0.5 * (1.0 + math.cos(math.pi * min(1.0, done)))


def fit(
    model: nn.Module,
    objective: Objective,
    batches: Iterable[Batch],
    recipe: Optimisation,
    *,
    steps: int,
    description: str,
    progress: Progress = SILENT,
) -> list[dict[str, float]]:
    """Train `model` in place for `steps` steps, and return points of the loss curve.

    It is trained where accelerate says, and is on the CPU again afterwards.

    Raises:
        ArtifactError: the loss is not a finite number.
    """
    accelerator = Accelerator()
    half = recipe.precision == "bf16"
    model.to(accelerator.device)
    if isinstance(objective, nn.Module):
        objective.to(accelerator.device)  # what it remembers between steps
    trained = [p for p in model.parameters() if p.requires_grad]
    optimiser = torch.optim.AdamW(
        trained, lr=recipe.lr, weight_decay=recipe.weight_decay, fused=True
    )
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimiser, lambda step: learning_rate_factor(step, recipe, steps)
    )
    model.train()
    history: list[dict[str, float]] = []
    stream = progress.track(islice(batches, steps), description, total=steps)
    for step, batch in enumerate(stream):
        # Not accelerate's own autocast: that is fixed for a process, and stages differ.
        with torch.autocast(accelerator.device.type, torch.bfloat16, enabled=half):
            losses = objective(batch.to(accelerator.device), step)
            loss = torch.stack(list(losses.values())).sum()
        if not torch.isfinite(loss):
            raise ArtifactError(
                f"the loss is not a finite number at step {step} ({_point(step, losses)}); "
                "lower lr or clip"
            )
        accelerator.backward(loss)
        torch.nn.utils.clip_grad_norm_(trained, recipe.clip)
        optimiser.step()
        optimiser.zero_grad(set_to_none=True)
        schedule.step()
        if step % max(1, steps // _LOGGED) == 0 or step == steps - 1:
            history.append(_point(step, losses))
            progress.note(" ".join(f"{k} {v:.3f}" for k, v in history[-1].items() if k != "step"))
    model.eval().cpu()
    return history


def _point(step: int, losses: dict[str, torch.Tensor]) -> dict[str, float]:
    return {"step": float(step), **{n: round(loss.item(), 5) for n, loss in losses.items()}}
