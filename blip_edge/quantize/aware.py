"""Quantization-aware training: a model learns to answer, rounded, what it answers in float.

The one loop trains a copy whose layers round, by its task's losses and by distances from the float
model. Ranges are those of calibration, and stay: the weights settle around them.
"""

from collections.abc import Mapping
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

from blip_edge.distill.recipe import Imitation
from blip_edge.distill.stage import task_of, taught_objective
from blip_edge.distill.surgery import everything
from blip_edge.models.folder import Model
from blip_edge.models.quantized import LayerDecision
from blip_edge.progress import SILENT, Progress
from blip_edge.quantize.fake import fake_quantized, with_weights_of
from blip_edge.quantize.recipe import QuantizeRecipe
from blip_edge.training.course import total_steps
from blip_edge.training.curve import Point
from blip_edge.training.loop import fit
from blip_edge.training.recipe import Optimisation
from blip_edge.training.source import Source
from blip_edge.training.tasks import batches_of
from blip_edge.training.work import course_of

__all__ = ["trained_rounded"]


# The float model is what is wanted: not the data, nor smaller weights, nor its answers softened.
_LOSSES: dict[str, Any] = {
    "task_weight": 0.0,
    "logit_weight": 1.0,
    "affinity_weight": 1.0,
    "hidden_weight": 0.1,
    "contrastive_weight": 0.0,
    "temperature": 1.0,
    "weight_decay": 0.0,
}


def trained_rounded(
    model: Model,
    data: Path,
    decisions: Mapping[str, LayerDecision],
    recipe: QuantizeRecipe,
    *,
    seed: int = 0,
    progress: Progress = SILENT,
) -> tuple[Model, list[Point]]:
    """A copy of `model` with float weights that suffer less from `decisions`, and the loss curve.

    Args:
        model: the float model, which is the teacher.
        data: a DATA folder with train rows of what the model is for.
        decisions: by layer, how it rounds.
        recipe: how long and how fast.
        seed: of the rows' order.
        progress: told how far it is.

    Raises:
        ArtifactError: there are no such rows, or the loss is not a finite number.
    """
    how = _imitation(recipe)
    training = how.of(task_of(model), model.generation.prompt)
    source = Source.open(data, (), training, seed=seed, progress=progress)
    student = model.with_blip(fake_quantized(model.blip, decisions))
    rows = batches_of(source, student, training, seed=seed)
    history = fit(
        student.blip,
        taught_objective(model, student, everything(model.blip), how, training),
        rows,
        training,
        steps=total_steps(training, rows.per_epoch, training.accumulate),
        description="quantize, training",
        progress=progress,
        course=course_of(training, rows.per_epoch),
    )
    return model.with_blip(with_weights_of(model.blip, student.blip)), history


def _imitation(recipe: QuantizeRecipe) -> Imitation:
    """How the student, which is its own teacher rounded, is held to it."""
    told = asdict(recipe)
    shared = {each.name: told[each.name] for each in fields(Optimisation) if each.name in told}
    return Imitation(**shared, **_LOSSES)
