"""`distill`: a MODEL folder to a smaller one that still says the same."""

from collections.abc import Iterable
from dataclasses import fields, replace
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from blip_edge.artifact import read_provenance
from blip_edge.data.dataset import Dataset
from blip_edge.data.texts import texts_of
from blip_edge.distill.importance import Importance, measure
from blip_edge.distill.objective import DistillObjective
from blip_edge.distill.recipe import DistillRecipe, Imitation
from blip_edge.distill.said import TaughtDataset, captions_of
from blip_edge.distill.spelling import require_spelled
from blip_edge.distill.store import Store
from blip_edge.distill.storing import feed_from, open_store, remembered, storable
from blip_edge.distill.student import inherit, most_important
from blip_edge.distill.surgery import Keep
from blip_edge.errors import ArtifactError, UsageError
from blip_edge.models.config import Architecture
from blip_edge.models.folder import Model, load_model
from blip_edge.models.smaller_vocabulary import with_vocabulary
from blip_edge.models.student import StudentSizes, student_config
from blip_edge.progress import SILENT, Progress
from blip_edge.text import Tokenizer, require_covered
from blip_edge.training import processes
from blip_edge.training.objectives import TaughtObjective
from blip_edge.training.processes import Device
from blip_edge.training.recipe import Task, TrainRecipe
from blip_edge.training.source import Source
from blip_edge.training.tasks import batches_of, objective_of
from blip_edge.training.work import Begun, Work, carry_out

__all__ = [
    "distill",
    "importance_of",
    "scored",
    "task_of",
    "taught_by",
    "taught_objective",
    "teacher_in",
]

_TASKS: dict[Architecture, Task] = {
    "BlipForConditionalGeneration": "caption",
    "BlipForImageTextRetrieval": "retrieval",
    "BlipForQuestionAnswering": "vqa",
    "BlipForPreTraining": "pretrain",
    "BlipForImagesAndTextClassification": "nlvr2",
}


def distill(
    teacher: Path,
    data: Path | str,
    output: Path,
    recipe: DistillRecipe,
    *,
    vocab_from: Path | None = None,
    store: Path | None = None,
    resume: bool = False,
    seed: int = 0,
    force: bool = False,
    device: Device = "auto",
    log_dir: Path | None = None,
    progress: Progress = SILENT,
) -> Path:
    """Cut a student out of `teacher`, and train it on `data` to answer as its teacher does.

    The task is what the teacher was made for. Under `torchrun` processes share the rows, as in
    `train`.

    Args:
        teacher: a MODEL; it stays as it is.
        data: a dataset folder.
        output: the MODEL folder to write.
        recipe: the student's sizes, the weights of the losses, and how long.
        vocab_from: a dataset folder to whose words the vocabulary is cut.
        store: a folder where all that the teacher tells is kept; what is there already, of this
            teacher, data and recipe, the teacher is not asked again.
        resume: go on with a run that was killed, from its last checkpoint.
        seed: of the rows' order.
        force: replace `output` if it is there.
        device: what kind of device it is trained on.
        log_dir: where curves are written for TensorBoard.
        progress: is told how far it is.

    Raises:
        ArtifactError: `teacher` is no model, or `data` no data set or without the task's rows, or
            it has words that the teacher can spell and the vocabulary of `vocab_from` cannot, or
            too many that the teacher cannot spell itself. The store is of something else, damaged,
            or cannot be written.
        UsageError: the recipe asks for a student larger than its teacher, or has losses that no
            store holds anything for.
    """
    if store is not None:
        recipe = storable(recipe)

    def begin(source: Source, progress: Progress) -> Begun:
        own = known.tokenizer if vocab_from is None else Tokenizer.load(teacher)
        require_spelled(source, own, work, progress)
        if vocab_from is not None:
            lost = known.tokenizer.unknown_words(source.read(max_words=recipe.max_words))
            unknown = set(own.unknown_words(lost))
            spelled = [word for word in lost if word not in unknown]
            require_covered(known.tokenizer, spelled, vocab_from)
        sizes, numbers = _sizes(recipe), None
        if recipe.layers == "last":  # known already, and so is what they allow
            student_config(known.config, sizes)
        kept = None
        if store is not None:
            parents = {"teacher": teacher, "vocabulary": vocab_from}
            kept = open_store(store, parents, source, recipe, training, seed=seed)
        importance = remembered(
            *(kept, recipe, training),
            lambda: scored(known, source, training, recipe, seed=seed),
        )
        if recipe.layers == "important":
            numbers = most_important(known.config, sizes, importance)
        config = student_config(known.config, sizes, numbers)
        blip, keep = inherit(known.blip, config, importance, layers=recipe.layers)
        student = Model(
            blip,
            known.tokenizer,
            replace(known.preprocess, size=config.vision_config.image_size),
            known.generation,
        )
        return taught_by(known, student, keep, source, work, progress, store=kept)

    known = _known(teacher, vocab_from, recipe.max_words)
    training = recipe.of(task_of(known), known.generation.prompt)
    work = Work(
        verb="distill",
        data=data,
        output=output,
        recipe=recipe,
        training=training,
        parents=(teacher, vocab_from),
        resume=resume,
        seed=seed,
        force=force,
        device=device,
        log_dir=log_dir,
        progress=progress,
    )
    return carry_out(work, begin)


def task_of(model: Model) -> Task:
    """What a model is for."""
    return _TASKS[model.config.architecture]


def teacher_in(folder: Path) -> Model:
    """A MODEL that students can be taught by.

    Raises:
        ArtifactError: it is no model, or was tuned to judge dialogs: its sizes are those of a model
            that retrieves, which is all that its student would learn.
    """
    model = load_model(folder)
    if (folder / "provenance.json").is_file():
        recipe = read_provenance(folder).recipe
        if isinstance(recipe, dict) and recipe.get("task") == "visdial":
            raise ArtifactError(
                f"{folder} judges dialogs, which no student is taught; give the model that it was "
                "tuned from"
            )
    return model


def scored(
    model: Model, source: Source, training: TrainRecipe, recipe: Imitation, *, seed: int
) -> Importance:
    """How much everything in `model` matters for its own task."""
    batches = islice(batches_of(source, model, training, seed=seed), recipe.calibration)
    return importance_of(model, training, batches, recipe)


def importance_of(
    model: Model, training: TrainRecipe, batches: Iterable[Any], recipe: Imitation
) -> Importance:
    """The same on given batches; of several processes on those of all, so that all cut alike."""
    task = objective_of(model, training)

    def loss(batch: Any) -> Tensor:
        return sum(task(batch, 0).values(), start=Tensor([0.0]).squeeze())

    mine = measure(model.blip.requires_grad_(), loss, batches, recipe.importance)
    found = processes.everyone(mine.scores)
    scores = {label: torch.stack([each[label] for each in found]).mean(0) for label in mine.scores}
    return Importance(scores)


def taught_by(
    teacher: Model,
    student: Model,
    keep: Keep,
    source: Source,
    work: Work,
    progress: Progress,
    *,
    store: Store | None = None,
) -> Begun:
    """A run in which `student`, what `keep` left of `teacher`, learns from it.

    A `store` has what the teacher tells, or is given it.
    """
    recipe = work.recipe
    assert isinstance(recipe, Imitation)
    taught = None
    if recipe.said:
        if work.training.task not in ("caption", "pretrain") or source.dataset is None:
            raise UsageError("said is of captions in a dataset folder; set it to 0")
        how: dict[str, Any] = {"seed": work.seed, "progress": progress}
        said = processes.first(store.said) if store is not None else None
        if said is None:
            said = captions_of(source.dataset, teacher, recipe.said, **how)
            if store is not None and processes.rank() == 0:
                store.keep_said(said)
        dataset = TaughtDataset.of(source.dataset, teacher, recipe.said, said=said, **how)
        taught = replace(source, dataset=dataset)
    return Begun(
        student,
        lambda: taught_objective(
            teacher, student, keep, recipe, work.training, asks_first=recipe.views > 0
        ),
        source=taught,
        reader=teacher,
        views=recipe.views,
        feed=None if store is None else feed_from(store, teacher, recipe, work.training, progress),
    )


def taught_objective(
    teacher: Model,
    student: Model,
    keep: Keep,
    recipe: Imitation,
    training: TrainRecipe,
    *,
    asks_first: bool = False,
) -> DistillObjective:
    """The losses of `student`: its task's, and the distances from `teacher`."""
    task = objective_of(student, training)
    assert isinstance(task, TaughtObjective)
    return DistillObjective(student.blip, teacher.blip, task, recipe, keep, asks_first=asks_first)


def _known(teacher: Path, vocab_from: Path | None, max_words: int) -> Model:
    """The teacher, with the vocabulary that its student is to have."""
    model = teacher_in(teacher)
    if vocab_from is None:
        return model
    texts = texts_of(Dataset.open(vocab_from), max_words=max_words)
    return with_vocabulary(model, texts)


def _sizes(recipe: DistillRecipe) -> StudentSizes:
    return StudentSizes(**{each.name: getattr(recipe, each.name) for each in fields(StudentSizes)})
