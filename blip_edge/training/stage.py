"""`train`: a data set, and perhaps a model to start from, to a MODEL folder."""

import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from blip_edge import __version__
from blip_edge.artifact import (
    Provenance,
    sha256_file,
    sha256_folder,
    write_provenance,
    writing,
)
from blip_edge.data.dataset import Dataset
from blip_edge.errors import UsageError
from blip_edge.models.folder import Model, save_model
from blip_edge.progress import SILENT, Progress
from blip_edge.training.batches import CaptionBatches
from blip_edge.training.loop import fit, total_steps
from blip_edge.training.objectives import CaptionObjective, Objective, PretrainObjective
from blip_edge.training.recipe import Optimisation, TrainRecipe
from blip_edge.training.start import continued, fresh, read_towers

__all__ = ["batches_for", "provenance", "train"]

_MAX_TOKENS = 40
"""BLIP cuts captions after so many tokens, prompt included (its captioning recipe)."""


def train(
    data: Path,
    output: Path,
    recipe: TrainRecipe,
    *,
    init: Path | None = None,
    vision_init: Path | None = None,
    text_init: Path | None = None,
    seed: int = 0,
    force: bool = False,
    progress: Progress = SILENT,
) -> Path:
    """Train a BLIP on the captions of `data` and write it to `output`.

    Args:
        data: a dataset folder.
        output: the MODEL folder to write.
        recipe: task, sizes and how long.
        init: a MODEL whose weights, sizes and vocabulary are taken; parts that it has and the task
            does not need are left behind, and parts that the task needs must be in it.
        vision_init: a file with a pretrained ViT, instead of a fresh image tower.
        text_init: a folder with a pretrained BERT and its vocabulary, instead of fresh text towers.
        seed: of fresh weights, of the rows' order and of dropout.
        force: replace `output` if it is there.
        progress: is told what towers leave behind and what is fresh, and how far training is.

    Raises:
        UsageError: `init` together with a tower.
        ArtifactError: `data` or what is started from is not what it should be, or too many pictures
            are damaged.
    """
    started = time.monotonic()
    if init is not None and (vision_init is not None or text_init is not None):
        raise UsageError("--init is a whole model; give it or towers (--vision-init, --text-init)")
    with writing(output, force=force) as draft:
        torch.manual_seed(seed)
        dataset = Dataset.open(data)
        if init is not None:
            model = continued(init, recipe)
        else:
            towers = read_towers(recipe, vision_init, text_init, progress)
            model = fresh(dataset, recipe, towers)
        batches = batches_for(dataset, model, recipe, seed=seed, max_words=recipe.max_words)
        objective = _objective(model, recipe)
        history = fit(
            model.blip,
            objective,
            batches,
            recipe,
            steps=total_steps(recipe, batches.per_epoch),
            description=f"train {recipe.task}",
            progress=progress,
        )
        save_model(draft, model)
        batches.report(draft, progress)
        write_provenance(
            draft,
            provenance(
                *("train", recipe, dataset, [init, vision_init, text_init], started, history),
                seed=seed,
            ),
        )
    return output


def batches_for(
    dataset: Dataset, model: Model, recipe: Optimisation, *, seed: int, max_words: int = 30
) -> CaptionBatches:
    """The training rows of `dataset` as `model` reads them; only captioners see the prompt."""
    matches = model.config.architecture != "BlipForConditionalGeneration"
    return CaptionBatches(
        dataset,
        dataset.captions("train"),
        model.tokenizer,
        model.preprocess,
        batch=recipe.batch,
        seed=seed,
        prompt="" if matches else model.generation.prompt,
        max_words=max_words,
        max_length=min(_MAX_TOKENS, model.config.text_config.max_position_embeddings),
        max_bad=recipe.max_bad,
    )


def provenance(
    verb: str,
    recipe: Any,
    dataset: Dataset | None,
    parents: list[Path | None],
    started: float,
    history: list[dict[str, float]],
    *,
    seed: int,
) -> Provenance:
    """Where a model comes from; `started` is a time.monotonic()."""
    return Provenance(
        verb=verb,
        recipe={**asdict(recipe), "seed": seed},
        parents=[{"path": str(p), "sha256": _digest(p)} for p in parents if p is not None],
        data=None if dataset is None else _identity(dataset),
        version=__version__,
        seconds=round(time.monotonic() - started, 2),
        history=history,
    )


def _digest(parent: Path) -> str:
    return sha256_folder(parent) if parent.is_dir() else sha256_file(parent)


def _identity(dataset: Dataset) -> dict[str, Any]:
    items = len(dataset.captions("train"))
    return {"name": dataset.name, "sha256": dataset.digest(), "items": items}


def _objective(model: Model, recipe: TrainRecipe) -> Objective:
    kind = PretrainObjective if recipe.task == "pretrain" else CaptionObjective
    return kind(model.blip, model.tokenizer, recipe)
