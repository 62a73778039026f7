"""What training would need of memory: of a model's or a published network's sizes, by a recipe."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from blip_edge.cli.folder_sizes import sizes_of
from blip_edge.cli.output import table
from blip_edge.cli.recipes import overrides
from blip_edge.cli.tell import size_text
from blip_edge.errors import UsageError, import_extra
from blip_edge.recipe import load

__all__ = ["memory_facts", "tell_memory"]

_WORDS = {
    "weights": "weights",
    "gradients": "gradients",
    "optimiser": "AdamW's moments",
    "momentum": "momentum encoders",
    "queue": "queue of features",
    "average": "average of weights",
    "best": "best weights so far",
    "activations": "activations",
    "ahead": "batches ahead",
    "program": "Python and torch",
    "total": "in all",
}


def memory_facts(
    folder: Path | None, preset_name: str | None, recipe: str | None, given: Sequence[str] | None
) -> dict[str, Any]:
    """The terms of the estimate in bytes, and what it is of.

    Sizes are those of the model in `folder` or of the preset; the task and how it is trained are
    the recipe's, and without one the task is what the model was made for.

    Raises:
        UsageError: not exactly one of both is given, or the recipe makes no sense.
        ArtifactError: the folder is no model.
        MissingExtraError: recipes of training need torch.
    """
    if (folder is None) == (preset_name is None):
        raise UsageError("--memory is of a model: give either a MODEL folder or --preset")
    import_extra("torch", "train")
    from blip_edge.models.presets import preset
    from blip_edge.models.weighing import parameters
    from blip_edge.training import TrainRecipe
    from blip_edge.training.memory import KEPT_PICTURES, estimate, planned

    start = preset("large" if preset_name == "large" else "base")
    task = None
    if folder is not None:
        start = sizes_of(folder, "--memory")
        asked = recipe is not None or any(pair.partition("=")[0] == "task" for pair in given or ())
        task = None if asked else _task_of(start)
    how = load(TrainRecipe, "train", recipe, overrides(given, task=task))
    config = planned(start, how)
    return {
        "model": preset_name or str(folder),
        "task": how.task,
        "image_size": config.vision_config.image_size,
        "batch": how.batch,
        "precision": how.precision,
        "recompute": how.recompute,
        "parameters": sum(parameters(config).values()),
        "memory": estimate(config, how).to_json(),
        "pictures_kept": KEPT_PICTURES,
    }


def _task_of(config: Any) -> str:
    from blip_edge.models.config import ARCHITECTURES

    return next(task for task, needed in ARCHITECTURES.items() if needed == config.architecture)


def tell_memory(facts: Mapping[str, Any]) -> str:
    """The estimate, one term a line; terms that there are none of are left out."""
    how = f"{facts['task']}, {facts['image_size']} px, batch {facts['batch']}, {facts['precision']}"
    rows = [
        ("model", f" {facts['model']}, {size_text(facts['parameters'])} parameters"),
        ("trained", f" {how}{', recompute' if facts['recompute'] else ''}"),
    ]
    sizes = {name: value for name, value in facts["memory"].items() if value}
    rows += [(_WORDS[name], f" {size_text(value, 'B')}") for name, value in sizes.items()]
    kept = size_text(facts["pictures_kept"], "B")
    rows.append(("beside it", f" decoded pictures, up to {kept}"))
    return table(rows)
