"""The one training loop: teacher, student and recovery differ in the objective, not in the loop."""

import math
from collections.abc import Callable, Generator, Iterable
from contextlib import closing, nullcontext
from dataclasses import asdict
from itertools import islice

import torch
from torch import nn

from blip_edge.progress import SILENT, Progress
from blip_edge.training import processes
from blip_edge.training.batches import Feed, Step
from blip_edge.training.best import Best
from blip_edge.training.checkpoints import Checkpoints
from blip_edge.training.compiled import compiled
from blip_edge.training.course import Course, learning_rate_factor, total_steps
from blip_edge.training.curve import Curve, Point
from blip_edge.training.ema import Average
from blip_edge.training.objectives import Objective
from blip_edge.training.randomness import undisturbed
from blip_edge.training.recipe import Optimisation
from blip_edge.training.sharding import gathered, sharded
from blip_edge.training.snapshot import Place, Run
from blip_edge.training.update import Update

__all__ = ["fit", "learning_rate_factor", "total_steps"]

_PLAIN = Course()

Batches = Iterable[Step] | Feed


def fit(
    model: nn.Module,
    objective: Objective,
    batches: Batches,
    recipe: Optimisation,
    *,
    steps: int,
    description: str,
    progress: Progress = SILENT,
    course: Course = _PLAIN,
    evaluate: Callable[[], float] | None = None,
    eval_every: int = 0,
    checkpoints: Checkpoints | None = None,
    on_point: Callable[[Point], None] | None = None,
    device: torch.device | None = None,
) -> list[Point]:
    """Train `model` in place for `steps` steps, and return points of the loss curve.

    It is on the CPU again afterwards. Where there is a process group every process calls this, with
    batches of its own, and all end with the same.

    Args:
        model: its trainable parameters are trained.
        objective: of a batch's losses; what it remembers is saved if it is a module, and parameters
            that it has beside the model's are trained with them.
        batches: read on from where a killed run was; only a `Feed` does so without reading all.
        recipe: rates, decay, clipping and precision.
        steps: of the optimiser, from the first one of the run on.
        description: words for the progress bar.
        progress: is told the losses and how many samples a second are trained on.
        course: accumulation, average of weights, schedule, memory.
        evaluate: the task's metric of `model` as it is, in eval mode; more is better. The best
            weights are those that stay, and random numbers are as if nobody had asked.
        eval_every: steps from one evaluation to the next; the last step is always followed by one.
        checkpoints: where a run is saved, and perhaps resumed from.
        on_point: is given points of the curve as they come, more than are kept; see `Curve`.
        device: where it is trained; None is where accelerate says.

    Raises:
        UsageError: the checkpoints are of another run.
        ArtifactError: the loss is not a finite number, or a checkpoint cannot be read or written.
    """
    device = processes.begin() if device is None else device
    curve = Curve(steps, progress, on_point)
    run = _begun(model, objective, batches, recipe, course, curve, device)
    place = Place() if checkpoints is None else _resumed(run, checkpoints, steps, course, progress)
    update = Update(run, recipe, course, steps, device)
    run.model.train()
    with (
        closing(_placed(batches, place.position)) as stream,
        compiled(run.model, run.objective, on=course.compile),
    ):
        for step in progress.track(
            range(place.steps, steps), description, total=steps - place.steps
        ):
            made = update(islice(stream, course.accumulate), step)
            if made is None:
                break
            run.curve.add(step, made.losses, made.rows, made.lr)
            done = step + 1
            if evaluate and (done == steps or (eval_every and done % eval_every == 0)):
                _judge(run, evaluate, step)
            if checkpoints and checkpoints.due(done) and done < steps:
                _save(run, checkpoints, Place(done, made.position))
    return _ended(run)


def _begun(
    model: nn.Module,
    objective: Objective,
    batches: Batches,
    recipe: Optimisation,
    course: Course,
    curve: Curve,
    device: torch.device,
) -> Run:
    whole = model
    if course.shard and processes.world() > 1 and isinstance(objective, nn.Module):
        model, objective = sharded(model, objective, device)
    else:
        model.to(device)
        if isinstance(objective, nn.Module):
            objective.to(device)  # what it remembers between steps
    parts = (model, objective) if isinstance(objective, nn.Module) else (model,)
    trained = list(dict.fromkeys(p for part in parts for p in part.parameters() if p.requires_grad))
    return Run(
        model,
        whole,
        objective,
        torch.optim.AdamW(trained, lr=recipe.lr, weight_decay=recipe.weight_decay, fused=True),
        Average(trained, course.ema) if course.ema else None,
        Best(),
        curve,
        batches.skipped if isinstance(batches, Feed) else {},
    )


def _ended(run: Run) -> list[Point]:
    """Leave the weights that count on the CPU, and give the points of the curve."""
    if run.average is not None:
        run.average.exchange()
    with gathered(run.model, run.whole):
        run.best.bring_back(run.whole)
    run.whole.eval().cpu()
    return run.curve.points


def _resumed(
    run: Run, checkpoints: Checkpoints, steps: int, course: Course, progress: Progress
) -> Place:
    also = {**asdict(course), "total steps": steps, "processes": processes.world()}
    snapshot = checkpoints.begin(also, progress)
    if snapshot is None:
        return Place()
    place = run.taken_up(snapshot)
    progress.say(f"continuing after step {place.steps} of {steps}")
    return place


def _save(run: Run, checkpoints: Checkpoints, place: Place) -> None:
    snapshot = run.taken(place)
    if processes.rank() == 0:
        checkpoints.save(place.steps, snapshot)


def _judge(run: Run, evaluate: Callable[[], float], step: int) -> None:
    run.model.eval()
    averaged = nullcontext() if run.average is None else run.average.instead()
    # What an evaluation runs is of many shapes, and not worth compiling.
    eager = torch.compiler.set_stance("force_eager")
    with averaged, gathered(run.model, run.whole), undisturbed(), eager:
        # Of several processes one decides, or else they would go on with different weights.
        value = processes.first(float(evaluate()))
        if math.isfinite(value):
            run.curve.measured(step, value)
            run.best.consider(value, step + 1, run.whole)
    run.model.train()


def _placed(batches: Batches, position: int) -> Generator[tuple[int, Step], None, None]:
    """Batches with the position after each."""
    if isinstance(batches, Feed):
        yield from batches.placed(position)
    else:
        yield from islice(enumerate(batches, 1), position, None)
