"""One step of training: what is learned from some batches, on one process or several."""

import warnings
from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.distributed.fsdp import FSDPModule
from torch.nn.parallel import DistributedDataParallel

from blip_edge.errors import ArtifactError
from blip_edge.training import processes
from blip_edge.training.batches import Step
from blip_edge.training.course import Course, learning_rate_factor
from blip_edge.training.curve import point
from blip_edge.training.recipe import Optimisation
from blip_edge.training.recompute import recomputing
from blip_edge.training.sharding import agree
from blip_edge.training.snapshot import Run

__all__ = ["Made", "Update"]


class Made(NamedTuple):
    """What came of one step."""

    losses: dict[str, Tensor]
    """Means over its batches."""
    rows: int
    lr: float
    position: int
    """Of the batch that comes next."""


class Update:
    """Forward and backward passes, and the optimiser's move.

    Where there are several processes the whole objective is run by torch's data parallelism, which
    averages gradients, unless it is sharded, which does the same; what it remembers is the same on
    each by its own doing.
    """

    def __init__(
        self, run: Run, recipe: Optimisation, course: Course, steps: int, device: torch.device
    ) -> None:
        self._run, self._recipe, self._course, self._steps = run, recipe, course, steps
        self._device = device
        self._trained = [p for group in run.optimiser.param_groups for p in group["params"]]
        self._objective: Any = run.objective
        self._sharded = isinstance(run.objective, FSDPModule)
        if processes.world() > 1 and isinstance(run.objective, nn.Module) and not self._sharded:
            self._objective = _shared(run.objective, device)

    def __call__(self, batches: Iterator[tuple[int, Step]], step: int) -> Made | None:
        """Train on as many batches as make a step; None if there are no more."""
        found: list[dict[str, Tensor]] = []
        rows, position = 0, 0
        for after, batch in batches:
            last = len(found) + 1 == self._course.accumulate
            found.append(self._learn(batch, step, last=last))
            rows, position = rows + batch.rows, after
        if not found:
            return None
        return Made(_mean(found), rows, self._move(step), position)

    def _learn(self, batch: Step, step: int, *, last: bool) -> dict[str, Tensor]:
        device = self._device
        half = self._recipe.precision == "bf16"
        with recomputing(self._run.model, on=self._course.recompute), self._together(last):
            # Not accelerate's own autocast: that is fixed for a process, and stages differ.
            with torch.autocast(device.type, torch.bfloat16, enabled=half):
                losses: dict[str, Tensor] = self._objective(batch.to(device), step)
                loss = torch.stack(list(losses.values())).sum()
            if not torch.isfinite(loss):
                raise ArtifactError(
                    f"the loss is not a finite number at step {step} ({point(step, losses)}); "
                    "lower lr or clip"
                )
            (loss / self._course.accumulate).backward()
        return {name: loss.detach() for name, loss in losses.items()}

    def _together(self, last: bool) -> AbstractContextManager[Any]:
        """Processes average their gradients once a step."""
        if self._sharded:
            self._objective.set_requires_gradient_sync(last)
        alone = last or not isinstance(self._objective, DistributedDataParallel)
        return nullcontext() if alone else self._objective.no_sync()

    def _move(self, step: int) -> float:
        """Follow the gradients, and say at which rate."""
        run = self._run
        factor = learning_rate_factor(step, self._recipe, self._steps, self._course)
        for group in run.optimiser.param_groups:
            group["lr"] = self._recipe.lr * factor
        if self._sharded:
            agree(self._trained)
        torch.nn.utils.clip_grad_norm_(self._trained, self._recipe.clip)
        run.optimiser.step()
        run.optimiser.zero_grad(set_to_none=True)
        if run.average is not None:
            run.average.follow()
        return self._recipe.lr * factor


def _shared(objective: nn.Module, device: torch.device) -> DistributedDataParallel:
    with warnings.catch_warnings():
        # The newest torch has another word for it, which the oldest that we take does not know.
        warnings.filterwarnings("ignore", "`broadcast_buffers`", FutureWarning)
        return DistributedDataParallel(
            objective,
            device_ids=None if device.type == "cpu" else [device.index],
            broadcast_buffers=False,
        )


def _mean(found: list[dict[str, Tensor]]) -> dict[str, Tensor]:
    if len(found) == 1:
        return found[0]
    return {name: torch.stack([losses[name] for losses in found]).mean() for name in found[0]}
