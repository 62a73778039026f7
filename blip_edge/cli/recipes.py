"""Which recipe class a verb reads, and its flags turned into overrides of recipe keys."""

from collections.abc import Sequence
from importlib import import_module
from typing import Any, NamedTuple

from blip_edge.errors import UsageError, import_extra
from blip_edge.recipe import names

__all__ = ["VERBS", "built_in", "overrides", "recipe_class", "stage_of"]


class _Home(NamedTuple):
    stage: str
    """The root folder with this verb's recipes."""
    module: str
    name: str
    torch: bool
    """Whether the module needs the `train` extra."""


_HOMES = {
    "data": _Home("data", "blip_edge.data.shapes", "ShapesRecipe", False),
    "train": _Home("train", "blip_edge.training", "TrainRecipe", True),
    "capfilt": _Home("train/capfilt", "blip_edge.evaluation.capfilt", "RoundsRecipe", False),
    "distill": _Home("distill", "blip_edge.distill", "DistillRecipe", True),
    "student": _Home("distill/students", "blip_edge.models.student", "StudentSizes", True),
    "prune": _Home("distill", "blip_edge.distill", "PruneRecipe", True),
    "quantize": _Home("quantize", "blip_edge.quantize", "QuantizeRecipe", True),
    "export": _Home("exporters", "blip_edge.exporters", "ExportRecipe", False),
    "bench": _Home("benchmarks", "blip_edge.benchmarks", "BenchRecipe", False),
}
VERBS = tuple(_HOMES)


def stage_of(verb: str) -> str:
    """The stage whose folder holds a verb's recipes.

    Raises:
        UsageError: the verb takes no recipe.
    """
    if verb not in _HOMES:
        raise UsageError(f"{verb!r} takes no recipe; these do: {', '.join(VERBS)}")
    return _HOMES[verb].stage


def recipe_class(verb: str) -> type[Any]:
    """The dataclass that a verb's recipes fill.

    Raises:
        UsageError: the verb takes no recipe.
        MissingExtraError: the stage needs an extra that is not installed.
    """
    stage_of(verb)
    home = _HOMES[verb]
    if home.torch:
        import_extra("torch", "train")
    cls: type[Any] = getattr(import_module(home.module), home.name)
    return cls


def built_in() -> list[tuple[str, str]]:
    """(verb, recipe) of every built-in recipe."""
    return [(_verb(stage, name), name) for stage, name in names()]


def _verb(stage: str, name: str) -> str:
    # distill/ holds two verbs' recipes; recipes are named <data>-<what>.
    if stage == "distill" and "prune" in name.split("-"):
        return "prune"
    return next(verb for verb, home in _HOMES.items() if home.stage == stage)


def overrides(given: Sequence[str] | None, **flags: object) -> list[str]:
    """`--set` pairs, followed by a pair for every flag that was given."""
    pairs = [f"{key}={_toml(value)}" for key, value in flags.items() if value is not None]
    return [*(given or ()), *pairs]


def _toml(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
