"""What each task trains on, what it minimises, and what its result is chosen by."""

from collections.abc import Callable, Sequence
from typing import Any

from blip_edge.data.dataset import Dataset
from blip_edge.data.rows import CaptionRow
from blip_edge.errors import ArtifactError
from blip_edge.evaluation import EvalSettings, evaluate_loaded
from blip_edge.evaluation.crew import Crew
from blip_edge.models.folder import Model
from blip_edge.training import processes
from blip_edge.training.augment import Augmentation
from blip_edge.training.batches import (
    CaptionBatches,
    DialogBatches,
    Feeding,
    Nlvr2Batches,
    RowBatches,
    VqaBatches,
)
from blip_edge.training.engine import edge_model
from blip_edge.training.objectives import (
    CaptionObjective,
    DialogObjective,
    Nlvr2Objective,
    Objective,
    PretrainObjective,
    RetrievalObjective,
    VqaObjective,
)
from blip_edge.training.recipe import Task, TrainRecipe
from blip_edge.training.source import Source

__all__ = ["batches_of", "metric_of", "objective_of"]

# Tokens that BLIP keeps of captions, prompt included, of what it pre-trains on, and of other texts.
_CAPTION_TOKENS, _PRETRAIN_TOKENS, _TEXT_TOKENS = 40, 30, 35
# The figures whose sum a run's best weights are chosen by, as BLIP's programs choose.
_CHOSEN_BY = {
    "caption": ("val", ("CIDEr", "BLEU-4")),
    "retrieval": ("val", ("r_mean",)),
    "vqa": ("val", ("vqa_accuracy",)),
    "nlvr2": ("dev", ("accuracy",)),
    "visdial": ("val", ("MRR",)),
}


def objective_of(model: Model, recipe: TrainRecipe) -> Objective:
    """The losses of the recipe's task.

    Raises:
        ArtifactError: the model's sizes do not fit the task.
    """
    blip, words = model.blip, model.tokenizer
    match recipe.task:
        case "pretrain":
            return PretrainObjective(blip, words, recipe)
        case "caption":
            return CaptionObjective(blip, words, recipe)
        case "retrieval":
            everyone = recipe.negative_all_rank
            return RetrievalObjective(blip, words, recipe, negative_all_rank=everyone)
        case "vqa":
            return VqaObjective(blip, words, recipe)
        case "nlvr2":
            return Nlvr2Objective(blip, words)
        case "visdial":
            config = model.config
            if config.vision_config.hidden_size != config.text_config.hidden_size:
                raise ArtifactError(
                    "a dialog is read with its caption and its picture side by side; this model's "
                    f"pictures are {config.vision_config.hidden_size} wide and its texts "
                    f"{config.text_config.hidden_size}"
                )
            for unused in (blip.temp, *blip.vision_proj.parameters(), *blip.text_proj.parameters()):
                unused.requires_grad_(False)  # several processes wait for every gradient there is
            return DialogObjective(blip, words)


def batches_of(
    source: Source, model: Model, recipe: TrainRecipe, *, seed: int, views: int = 0
) -> RowBatches[Any, Any]:
    """The training rows of the recipe's task, as `model` reads them; see `Feeding` for `views`."""
    feeding = _feeding(recipe, seed, views)
    if recipe.task in ("pretrain", "caption", "retrieval"):
        return _pairs_of(source, model, recipe, feeding)
    assert source.dataset is not None  # shards hold pairs only
    dataset = source.dataset
    words, pixels = model.tokenizer, model.preprocess
    room = model.config.text_config.max_position_embeddings
    match recipe.task:
        case "vqa":
            questions = [
                row
                for split in ("train", "vg", *(["val"] if recipe.train_on_val else []))
                if dataset.has(f"vqa_{split}.json")
                for row in dataset.questions(split)
            ]
            return VqaBatches(
                *(dataset, questions, words, pixels),
                max_length=min(_TEXT_TOKENS, room),
                max_answer_length=room,
                **feeding,
            )
        case "nlvr2":
            return Nlvr2Batches(
                *(dataset, dataset.sentences("train"), words, pixels),
                swap=recipe.swap,
                max_length=room,
                **feeding,
            )
        case _:
            return DialogBatches(
                *(dataset, dataset.dialogs("train"), words, pixels),
                negatives=recipe.negatives,
                max_length=min(256, room),
                **feeding,
            )


def _pairs_of(
    source: Source, model: Model, recipe: TrainRecipe, feeding: Feeding
) -> CaptionBatches:
    captions = recipe.task == "caption"
    tokens = {"caption": _CAPTION_TOKENS, "pretrain": _PRETRAIN_TOKENS}
    return CaptionBatches(
        *(source.dataset, _rows_of(source.dataset, recipe.task), model.tokenizer, model.preprocess),
        prompt=recipe.prompt if captions else "",
        max_words=recipe.max_words,
        max_length=min(
            tokens.get(recipe.task, _TEXT_TOKENS), model.config.text_config.max_position_embeddings
        ),
        web=source.web,
        **feeding,
    )


def _rows_of(dataset: Dataset | None, task: Task) -> list[CaptionRow]:
    """Pairs to train on; to pre-train, those of the web too, beside people's or alone."""
    if dataset is None:
        return []
    if task == "retrieval":
        return dataset.retrieval("train")
    if task == "pretrain" and dataset.has("web_train.json"):
        people = dataset.captions("train") if dataset.has("caption_train.json") else []
        return people + dataset.web()
    return dataset.captions("train")


def _feeding(recipe: TrainRecipe, seed: int, views: int) -> Feeding:
    plain = recipe.min_crop >= 1 and not recipe.flip and not recipe.augment_ops
    change = Augmentation(
        min_scale=recipe.min_crop,
        flip=recipe.flip,
        ops=recipe.augment_ops,
        level=recipe.augment_level,
    )
    return {
        "batch": recipe.batch,
        "seed": seed,
        "max_bad": recipe.max_bad,
        "augmentation": None if plain else change,
        "workers": recipe.workers,
        "rank": processes.rank(),
        "world": processes.world(),
        "views": views,
    }


def metric_of(
    dataset: Dataset | None, model: Model, recipe: TrainRecipe
) -> Callable[[], float] | None:
    """The task's metric of `model` as it is when called, on the val split; more is better.

    Raises:
        ArtifactError: what it is measured by is missing or damaged, which is better known before
            the first step than at the first look.
    """
    if not recipe.eval_every or dataset is None:
        return None
    split, names = _CHOSEN_BY[recipe.task]
    _require_rows(dataset, recipe, split)
    crew = Crew(processes.rank(), processes.world(), processes.everyone)
    how = EvalSettings(limit=recipe.eval_items, max_bad=recipe.max_bad, crew=crew)

    def measure() -> float:
        found = evaluate_loaded(edge_model(model), dataset, recipe.task, split, how)
        return sum(found.metrics[name] for name in names)

    return measure


def _require_rows(dataset: Dataset, recipe: TrainRecipe, split: str) -> None:
    read: dict[Task, Callable[[str], Sequence[object]]] = {
        "caption": dataset.captions,
        "retrieval": dataset.retrieval,
        "vqa": dataset.questions,
        "nlvr2": dataset.sentences,
        "visdial": dataset.dialogs,
    }
    read[recipe.task](split)
    if recipe.task == "vqa" and dataset.has("answer_list.json"):
        dataset.answers()
