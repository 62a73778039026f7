"""What distillation and pruning may be told."""

from dataclasses import dataclass

from blip_edge.errors import UsageError
from blip_edge.training.recipe import Optimisation

__all__ = ["DistillRecipe", "Imitation", "PruneRecipe"]


@dataclass(frozen=True, kw_only=True)
class Imitation(Optimisation):
    """How much a student listens to the captions, and how much to its teacher."""

    task_weight: float = 0.6
    """Weight of the language-model loss on the captions themselves."""
    logit_weight: float = 0.4
    """Weight of the divergence from the teacher's word probabilities."""
    hidden_weight: float = 0.1
    """Weight of the distance between hidden states."""
    contrastive_weight: float = 0.1
    """Weight of telling the teacher's view of a picture from its views of the others."""
    temperature: float = 2.0
    """How much the word probabilities are softened before they are compared."""
    contrastive_temperature: float = 0.1
    """Sharpness of the contrastive comparison."""
    label_smoothing: float = 0.0
    """Share of the language-model target that is spread over all words."""
    calibration: int = 16
    """Batches on which heads and neurons are scored."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 <= self.label_smoothing <= 1:
            raise UsageError(f"label_smoothing must lie between 0 and 1: {self.label_smoothing}")
        weights = (
            self.task_weight,
            self.logit_weight,
            self.hidden_weight,
            self.contrastive_weight,
        )
        if min(weights) < 0 or max(weights) == 0:
            raise UsageError("the four loss weights must not be negative, nor all zero")
        if not self.temperature > 0 or not self.contrastive_temperature > 0:
            raise UsageError("temperatures must be positive")
        if self.calibration < 1:
            raise UsageError(f"calibration needs at least one batch, got {self.calibration}")


@dataclass(frozen=True, kw_only=True)
class DistillRecipe(Imitation):
    """A student cut out of its teacher: fewer layers, heads and neurons, of the same width."""

    vision_layers: int = 6
    """Layers of the student's image tower; the last of each block of the teacher's are taken."""
    text_layers: int = 6
    """Layers of the student's text tower."""
    keep_heads: float = 1.0
    """Share of the attention heads that the student starts with, the most important ones."""
    keep_neurons: float = 1.0
    """Share of the feed-forward neurons that the student starts with."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if min(self.vision_layers, self.text_layers) < 1:
            raise UsageError("a student needs at least one layer a tower")
        if not (0 < self.keep_heads <= 1 and 0 < self.keep_neurons <= 1):
            raise UsageError("keep_heads and keep_neurons must lie in (0, 1]")


@dataclass(frozen=True, kw_only=True)
class PruneRecipe(Imitation):
    """Cutting heads and neurons out of a model, and training to recover what that cost."""

    keep: float = 0.7
    """Share of heads, and of neurons, that stay: those that matter most, over all layers."""
    even: bool = False
    """Keep the same number in every layer, instead of where they matter most."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 < self.keep <= 1:
            raise UsageError(f"keep must lie in (0, 1], got {self.keep}")
