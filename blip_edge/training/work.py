"""What every stage that trains does around the loop: draft, processes, checkpoints, provenance."""

import time
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import asdict, dataclass
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
from blip_edge.errors import ArtifactError, UsageError
from blip_edge.models.folder import Model, save_model
from blip_edge.progress import SILENT, Progress
from blip_edge.training import processes
from blip_edge.training.batches import Feed, RowBatches
from blip_edge.training.card import write_model_card
from blip_edge.training.checkpoints import Checkpoints
from blip_edge.training.compiled import require_compiler
from blip_edge.training.course import Course, total_steps
from blip_edge.training.loop import fit
from blip_edge.training.objectives import Objective
from blip_edge.training.processes import Device
from blip_edge.training.recipe import FREE, TaskRecipe, TrainRecipe
from blip_edge.training.scalars import written
from blip_edge.training.source import Source, digest_in
from blip_edge.training.tasks import batches_of, metric_of

__all__ = ["Begun", "Work", "carry_out", "course_of", "identity_of", "provenance"]


@dataclass(frozen=True, kw_only=True)
class Work:
    """A run: what it is told, what it reads and where it writes."""

    verb: str
    data: Path | str
    """A dataset folder; or, where pairs are learned from, the names of WebDataset tars."""
    output: Path
    """The MODEL folder to write; checkpoints are kept beside it, in `OUT.checkpoints`, until it is
    there."""
    recipe: TaskRecipe
    """What the verb was told; it is this that a run is known by."""
    training: TrainRecipe
    """How the task is learned, by that."""
    parents: Sequence[Path | None] = ()
    """Models and towers that it starts from or learns from."""
    web: Sequence[str] = ()
    resume: bool = False
    seed: int = 0
    force: bool = False
    device: Device = "auto"
    log_dir: Path | None = None
    progress: Progress = SILENT

    @property
    def checkpoints(self) -> Path:
        """The folder of its checkpoints, while it runs."""
        return self.output.with_name(f"{self.output.name}.checkpoints")


@dataclass(frozen=True)
class Begun:
    """What is trained."""

    model: Model
    objective: Callable[[], Objective]
    """Its losses; made after the random numbers of this process are set."""
    source: Source | None = None
    """What is read in place of the data as it is, if anything."""
    reader: Model | None = None
    """By whose words and pixels it is read, if not by the model's own."""
    views: int = 0
    """Epochs that differ, after which they come again; 0 repeats none."""
    feed: Callable[[RowBatches[Any, Any], int, torch.device], Feed] | None = None
    """Makes what is trained on of the rows' batches, of how many of them the run will read, and of
    where it computes; None takes them as they are."""
    steps: int = 0
    """In place of what the recipe says, if not 0."""


def carry_out(work: Work, begin: Callable[[Source, Progress], Begun]) -> Path:
    """Train what `begin` makes and write it to `work.output`.

    Under `torchrun` each process takes a share of every epoch's rows, `recipe.batch` of them at a
    time, and the first one writes. A finished run that is to be resumed is left
    as it is.

    Raises:
        UsageError: a run of something else to resume; tars for a task that reads no pairs; a device
            that is not there.
        ArtifactError: `data` or what is started from is not what it should be, or too many pictures
            are damaged.
    """
    started = time.monotonic()
    recipe, output, seed, progress = work.training, work.output, work.seed, work.progress
    where = processes.begin(work.device)
    leads = processes.rank() == 0
    progress = progress if leads else SILENT
    if work.resume and output.exists():
        _require_same(output, work)
        progress.say(f"{output} is finished")
        return output
    if recipe.compile:
        require_compiler(where)
    with (
        writing(output, force=work.force, reads=(work.data, *work.parents))
        if leads
        else nullcontext(output) as draft,
        written(work.log_dir if leads else None) as listener,
    ):
        torch.manual_seed(seed)
        source = Source.open(work.data, work.web, recipe, seed=seed, progress=progress)
        begun = begin(source, progress)
        torch.manual_seed(seed + processes.rank())  # weights are the same everywhere, dropout not
        checkpoints = _checkpoints(work, source, forget=work.force and leads)
        reader = begun.reader or begun.model
        rows = batches_of(begun.source or source, reader, recipe, seed=seed, views=begun.views)
        steps = begun.steps or total_steps(recipe, rows.per_epoch, recipe.accumulate)
        feed = begun.feed
        batches = rows if feed is None else feed(rows, steps * recipe.accumulate, where)
        history = fit(
            begun.model.blip,
            begun.objective(),
            batches,
            recipe,
            steps=steps,
            description=f"{work.verb} {recipe.task}",
            progress=progress,
            course=course_of(recipe, rows.per_epoch),
            evaluate=metric_of(source.dataset, begun.model, recipe),
            eval_every=recipe.eval_every,
            checkpoints=checkpoints,
            on_point=listener,
            device=where,
        )
        rows.report(draft, progress)
        if leads:
            save_model(draft, begun.model)
            parents = list(work.parents)
            made = provenance(work.verb, work.recipe, source, parents, started, history, seed=seed)
            write_provenance(draft, made)
            write_model_card(draft, output.name, begun.model, made, source.dataset)
    if leads:
        checkpoints.clear()
    processes.everyone(None)  # nobody says that it is done before it is
    return output


def course_of(recipe: TrainRecipe, per_epoch: int) -> Course:
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


def _checkpoints(work: Work, source: Source, *, forget: bool) -> Checkpoints:
    """Where the run's snapshots are kept; with `forget` a killed run's are deleted."""
    # A key that is new changes nothing by itself.
    added = asdict(Course()) | asdict(type(work.recipe)())
    kept = Checkpoints(
        work.checkpoints,
        identity_of(work, source),
        every=work.recipe.save_every,
        resume=work.resume,
        added=added,
        free=FREE,
    )
    if forget and not work.resume:
        kept.clear()
    return kept


def identity_of(work: Work, source: Source) -> dict[str, Any]:
    """What makes a run this one."""
    digests = [None if parent is None else _digest(parent) for parent in work.parents]
    told = {**asdict(work.recipe), "seed": work.seed}
    return {**told, "data": source.digest(), "parents": digests}


def _require_same(output: Path, work: Work) -> None:
    """Refuse a finished model that was made of something else than is asked for.

    Raises:
        UsageError: of another recipe, other data, or from other models.
        ArtifactError: one of these is not there.
    """
    asked = {**asdict(work.recipe), "seed": work.seed}
    made = read_provenance(output)
    told = asdict(type(work.recipe)()) | made.recipe
    differ = [key for key in asked if key not in FREE and told.get(key) != asked[key]]
    if differ:
        raise UsageError(
            f"{output} was made by another recipe: {', '.join(differ)} differ; give another -o"
        )
    source = Source.open(work.data, work.web, work.training, seed=work.seed)
    if digest_in(made.data or {}) != source.digest():
        raise UsageError(f"{output} was made from other data than {work.data}; give another -o")
    parents = [_digest(parent) for parent in work.parents if parent is not None]
    if [parent["sha256"] for parent in made.parents] != parents:
        raise UsageError(f"{output} was made from other models or towers; give another -o")


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
    if not parent.exists():
        raise ArtifactError(f"{parent} is missing")
    return sha256_folder(parent) if parent.is_dir() else sha256_file(parent)


def _source(data: Dataset | Source) -> Source:
    return data if isinstance(data, Source) else Source(data)
