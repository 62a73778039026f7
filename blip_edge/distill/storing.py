"""A run with a store: whether it may have one, which one is its, and how the teacher fills it."""

import hashlib
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

import torch

from blip_edge.artifact import sha256_folder
from blip_edge.distill.importance import Importance
from blip_edge.distill.recipe import Imitation
from blip_edge.distill.replay import TaughtBatches, Tell, identity_of
from blip_edge.distill.store import Store
from blip_edge.distill.told import Told, asked_first
from blip_edge.errors import UsageError
from blip_edge.models.folder import Model
from blip_edge.progress import Progress
from blip_edge.training import processes
from blip_edge.training.batches import Feed, RowBatches
from blip_edge.training.objectives import TaughtObjective
from blip_edge.training.randomness import undisturbed
from blip_edge.training.recipe import TrainRecipe
from blip_edge.training.source import Source
from blip_edge.training.tasks import objective_of

__all__ = ["feed_from", "open_store", "remembered", "storable"]

R = TypeVar("R", bound=Imitation)

# What a task's own loss, and so importance, depends on beside the batches.
_LOSS = ("label_smoothing", "queue_size", "momentum", "alpha", "alpha_warmup")


def storable(recipe: R) -> R:
    """The recipe of a run with a store: its epochs repeat, after one if it does not say.

    Raises:
        UsageError: it compares layers, which no store holds.
    """
    layers = [name for name in ("hidden_weight", "attention_weight") if getattr(recipe, name)]
    if layers:
        raise UsageError(
            f"a store holds no hidden states and no attention: set {' and '.join(layers)} to 0"
        )
    return replace(recipe, views=recipe.views or 1)


def open_store(
    folder: Path,
    parents: dict[str, Path | None],
    source: Source,
    recipe: Imitation,
    training: TrainRecipe,
    *,
    seed: int,
) -> Store:
    """The run's store, begun if it is not there; `parents` decide what the teacher is.

    Raises:
        ArtifactError: it is of something else, or cannot be written.
    """
    identity: dict[str, Any] = {
        name: None if path is None else sha256_folder(path) for name, path in parents.items()
    }
    identity |= {"data": source.digest(), **identity_of(recipe, training, seed=seed)}
    if processes.rank() > 0:
        processes.everyone(None)  # the first one begins it
    store = Store(folder, identity)
    if processes.rank() == 0:
        processes.everyone(None)
    return store


def remembered(
    store: Store | None,
    recipe: Imitation,
    training: TrainRecipe,
    measure: Callable[[], Importance],
) -> Importance:
    """What matters in the teacher, as the store has it, or else measured and kept there."""
    if store is None:
        return measure()
    of = [recipe.importance, recipe.calibration, *(getattr(training, key) for key in _LOSS)]
    name = f"importance-{hashlib.sha256(json.dumps(of).encode()).hexdigest()[:12]}"
    if processes.first(store.has(name)):
        return Importance(store.read(name))
    found = measure()
    if processes.rank() == 0:
        store.keep(name, found.scores)
    return found


def feed_from(
    store: Store,
    teacher: Model,
    recipe: Imitation,
    training: TrainRecipe,
    progress: Progress,
) -> Callable[[RowBatches[Any, Any], int, torch.device], Feed]:
    """Makes batches with what the teacher tells of them; it is asked about those that lack it."""

    def feed(rows: RowBatches[Any, Any], batches: int, device: torch.device) -> Feed:
        taught = TaughtBatches(rows, store, recipe.views)
        taught.fill(batches, lambda: _teller(teacher, recipe, training, device), progress)
        teacher.blip.cpu()  # its weights are not needed beside the student's
        return taught

    return feed


def _teller(teacher: Model, recipe: Imitation, training: TrainRecipe, device: torch.device) -> Tell:
    """Asks the teacher as a student's loss would, in the same precision."""
    with undisturbed():
        task = objective_of(teacher, training)
    assert isinstance(task, TaughtObjective)
    blip = teacher.blip.to(device).eval()
    pad, half = blip.config.text_config.pad_token_id, recipe.precision == "bf16"

    def tell(batch: Any) -> Told:
        with torch.autocast(device.type, torch.bfloat16, enabled=half):
            told, _ = asked_first(task, blip, batch.to(device), pad=pad)
        return told.compact(recipe.top, recipe.temperature)

    return tell
