"""`distill` and `prune`: a MODEL folder to a smaller one that still says the same."""

import time
from collections.abc import Sequence
from copy import deepcopy
from itertools import islice
from pathlib import Path

import torch

from blip_edge.artifact import write_provenance, writing
from blip_edge.data.dataset import Dataset
from blip_edge.distill.importance import choose, measure
from blip_edge.distill.objective import DistillObjective
from blip_edge.distill.recipe import DistillRecipe, Imitation, PruneRecipe
from blip_edge.distill.student import caption_loss, inherit, require_captioner
from blip_edge.distill.surgery import cut
from blip_edge.models.blip import Blip
from blip_edge.models.folder import Model, load_model, save_model
from blip_edge.progress import SILENT, Progress
from blip_edge.training.batches import CaptionBatches
from blip_edge.training.loop import fit, total_steps
from blip_edge.training.stage import batches_for, provenance

__all__ = ["distill", "prune"]


def distill(
    teacher: Path,
    data: Path,
    output: Path,
    recipe: DistillRecipe,
    *,
    seed: int = 0,
    force: bool = False,
    progress: Progress = SILENT,
) -> Path:
    """Cut a student out of `teacher`, train it on `data` to answer as its teacher does.

    Raises:
        ArtifactError: `teacher` is no captioner, or `data` no data set.
        UsageError: the recipe asks for a student larger than its teacher.
    """
    started = time.monotonic()
    with writing(output, force=force) as draft:
        torch.manual_seed(seed)
        dataset, model = Dataset.open(data), load_model(teacher)
        require_captioner(model.blip, "distill")
        batches = batches_for(dataset, model, recipe, seed=seed)
        student, keep = inherit(
            model.blip,
            model.tokenizer,
            model.generation.prompt,
            recipe,
            islice(batches, recipe.calibration),
        )
        layers = (list(keep.vision), list(keep.text))
        history = _imitate(student, model, layers, batches, recipe, "distill", progress)
        save_model(draft, model.with_blip(student))
        batches.report(draft, progress)
        made = provenance("distill", recipe, dataset, [teacher], started, history, seed=seed)
        write_provenance(draft, made)
    return output


def prune(
    model: Path,
    data: Path,
    output: Path,
    recipe: PruneRecipe,
    *,
    seed: int = 0,
    force: bool = False,
    progress: Progress = SILENT,
) -> Path:
    """Cut the heads and neurons of `model` that matter least, and train to recover the loss.

    The whole model is the teacher of what is left of it.

    Raises:
        ArtifactError: `model` is no captioner, or `data` no data set.
    """
    started = time.monotonic()
    with writing(output, force=force) as draft:
        torch.manual_seed(seed)
        dataset, whole = Dataset.open(data), load_model(model)
        require_captioner(whole.blip, "prune")
        batches = batches_for(dataset, whole, recipe, seed=seed)
        words, prompt = whole.tokenizer, whole.generation.prompt
        importance = measure(
            whole.blip,
            lambda batch: caption_loss(whole.blip, words, prompt, batch),
            islice(batches, recipe.calibration),
        )
        keep = choose(importance, heads=recipe.keep, neurons=recipe.keep, even=recipe.even)
        smaller = cut(whole.blip, keep)
        layers = (list(keep.vision), list(keep.text))
        history = _imitate(smaller, whole, layers, batches, recipe, "prune", progress)
        save_model(draft, whole.with_blip(smaller))
        batches.report(draft, progress)
        made = provenance("prune", recipe, dataset, [model], started, history, seed=seed)
        write_provenance(draft, made)
    return output


def _imitate(
    student: Blip,
    teacher: Model,
    layers: tuple[Sequence[int], Sequence[int]],
    batches: CaptionBatches,
    recipe: Imitation,
    verb: str,
    progress: Progress,
) -> list[dict[str, float]]:
    objective = DistillObjective(
        student,
        deepcopy(teacher.blip),
        teacher.tokenizer,
        recipe,
        vision_layers=layers[0],
        text_layers=layers[1],
        prompt=teacher.generation.prompt,
    )
    steps = total_steps(recipe, batches.per_epoch)
    return fit(
        student, objective, batches, recipe, steps=steps, description=verb, progress=progress
    )
