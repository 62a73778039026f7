"""`train`: a data set, and perhaps a model to start from, to a MODEL folder."""

import time
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from blip_edge import __version__
from blip_edge.artifact import (
    Provenance,
    read_provenance,
    sha256_file,
    sha256_folder,
    write_provenance,
    writing,
)
from blip_edge.data.dataset import Dataset
from blip_edge.errors import UsageError
from blip_edge.models.folder import Model, save_model
from blip_edge.progress import SILENT, Progress
from blip_edge.training import processes
from blip_edge.training.batches import CaptionBatches
from blip_edge.training.checkpoints import Checkpoints
from blip_edge.training.compiled import require_compiler
from blip_edge.training.course import Course, total_steps
from blip_edge.training.loop import fit
from blip_edge.training.processes import Device
from blip_edge.training.recipe import Optimisation, TrainRecipe
from blip_edge.training.scalars import written
from blip_edge.training.source import Source
from blip_edge.training.start import Start
from blip_edge.training.tasks import batches_of, metric_of, objective_of

__all__ = ["batches_for", "provenance", "train"]

_MAX_TOKENS = 40
"""BLIP cuts captions after so many tokens, prompt included (its captioning recipe)."""


def train(
    data: Path | str,
    output: Path,
    recipe: TrainRecipe,
    *,
    web: Sequence[str] = (),
    init: Path | None = None,
    vision_init: Path | None = None,
    text_init: Path | None = None,
    resume: bool = False,
    seed: int = 0,
    force: bool = False,
    device: Device = "auto",
    log_dir: Path | None = None,
    progress: Progress = SILENT,
) -> Path:
    """Train a BLIP on `data` for the recipe's task and write it to `output`.

    Under `torchrun` each process takes a share of every epoch's rows, `recipe.batch` of them at a
    time, and the first one writes.

    Args:
        data: a dataset folder; or, where pairs are learned from, the names of WebDataset tars.
        output: the MODEL folder to write; checkpoints are kept beside it, in `OUT.checkpoints`,
            until it is there.
        recipe: task, sizes and how long.
        web: names of tars whose pairs are learned from beside the folder's; `{000..127}` in a name
            stands for numbers.
        init: a MODEL whose weights, sizes and vocabulary are taken; parts that it has and the task
            does not need are left behind, and parts that the task needs must be in it.
        vision_init: a file with a pretrained ViT, instead of a fresh image tower.
        text_init: a folder with a pretrained BERT and its vocabulary, instead of fresh text towers.
        resume: go on with a run that was killed, from its last checkpoint; with nothing there it
            begins, and a finished one of the same recipe is left as it is.
        seed: of fresh weights, of the rows' order and of dropout.
        force: replace `output` if it is there, and forget a killed run's checkpoints.
        device: what kind of device it is trained on; auto is the fastest there is.
        log_dir: where losses, metric, learning rate and speed are written for TensorBoard.
        progress: is told what towers leave behind and what is fresh, and how far training is.

    Raises:
        UsageError: `init` together with a tower; a run of another recipe to resume; tars for a task
            that reads no pairs; a device that is not there.
        ArtifactError: `data` or what is started from is not what it should be, or too many pictures
            are damaged.
    """
    started = time.monotonic()
    start = Start(init, vision_init, text_init)
    if resume and output.exists():
        _require_same(output, {**asdict(recipe), "seed": seed})
        progress.say(f"{output} is finished")
        return output
    where = processes.begin(device)
    if recipe.compile:
        require_compiler(where)
    leads = processes.rank() == 0
    progress = progress if leads else SILENT
    parents = [init, vision_init, text_init]
    with (
        writing(output, force=force) if leads else nullcontext(output) as draft,
        written(log_dir if leads else None) as listener,
    ):
        torch.manual_seed(seed)
        source = Source.open(data, web, recipe, seed=seed, progress=progress)
        model = start.model(source.texts(), recipe, progress)
        torch.manual_seed(seed + processes.rank())  # weights are the same everywhere, dropout not
        identity = _identity_of(recipe, seed, source, parents)
        checkpoints = _checkpoints(output, recipe, identity, resume=resume, forget=force and leads)
        batches = batches_of(source, model, recipe, seed=seed)
        history = fit(
            model.blip,
            objective_of(model, recipe),
            batches,
            recipe,
            steps=total_steps(recipe, batches.per_epoch, recipe.accumulate),
            description=f"train {recipe.task}",
            progress=progress,
            course=_course(recipe, batches.per_epoch),
            evaluate=metric_of(source.dataset, model, recipe),
            eval_every=recipe.eval_every,
            checkpoints=checkpoints,
            on_point=listener,
            device=where,
        )
        batches.report(draft, progress)
        if leads:
            save_model(draft, model)
            made = provenance("train", recipe, source, parents, started, history, seed=seed)
            write_provenance(draft, made)
    if checkpoints is not None and leads:
        checkpoints.clear()
    processes.everyone(None)  # nobody says that it is done before it is
    return output


def _course(recipe: TrainRecipe, per_epoch: int) -> Course:
    return Course(
        accumulate=recipe.accumulate,
        ema=recipe.ema,
        schedule=recipe.schedule,
        per_epoch=per_epoch,
        decay=recipe.decay,
        recompute=recipe.recompute,
        compile=recipe.compile,
        shard=recipe.shard,
    )


def _checkpoints(
    output: Path, recipe: TrainRecipe, identity: dict[str, Any], *, resume: bool, forget: bool
) -> Checkpoints | None:
    """Where the run's snapshots are kept, if any are; with `forget` a killed run's are deleted."""
    if not recipe.save_every:
        return None
    folder = output.with_name(f"{output.name}.checkpoints")
    added = asdict(Course()) | asdict(TrainRecipe())  # a key that is new changes nothing by itself
    kept = Checkpoints(folder, identity, every=recipe.save_every, resume=resume, added=added)
    if forget and not resume:
        kept.clear()
    return kept


def _identity_of(
    recipe: TrainRecipe, seed: int, source: Source, parents: list[Path | None]
) -> dict[str, Any]:
    """What makes a run this one."""
    digests = [None if parent is None else _digest(parent) for parent in parents]
    return {**asdict(recipe), "seed": seed, "data": source.digest(), "parents": digests}


def _require_same(output: Path, asked: dict[str, Any]) -> None:
    """Refuse to take a finished model for the one that is asked for if its recipe was another."""
    made = asdict(TrainRecipe()) | read_provenance(output).recipe
    differ = [key for key, value in asked.items() if made.get(key) != value]
    if differ:
        raise UsageError(
            f"{output} was trained by another recipe: {', '.join(differ)} differ; give another -o"
        )


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
    data: Dataset | Source | None,
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
        data=None if data is None else _source(data).identity(),
        version=__version__,
        seconds=round(time.monotonic() - started, 2),
        history=history,
    )


def _digest(parent: Path) -> str:
    return sha256_folder(parent) if parent.is_dir() else sha256_file(parent)


def _source(data: Dataset | Source) -> Source:
    return data if isinstance(data, Source) else Source(data)
