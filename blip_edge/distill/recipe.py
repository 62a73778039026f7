"""What distillation and pruning may be told."""

from dataclasses import dataclass, fields
from typing import Literal

from blip_edge.distill.importance import Criterion
from blip_edge.distill.student import LayerChoice
from blip_edge.errors import UsageError
from blip_edge.models.student import StudentSizes
from blip_edge.training.recipe import Task, TaskRecipe, TrainRecipe

__all__ = ["DistillRecipe", "Imitation", "Per", "PruneRecipe"]

Per = Literal["parameters", "macs", "latency"]


@dataclass(frozen=True, kw_only=True)
class Imitation(TaskRecipe):
    """How much a student listens to the data, and how much to its teacher."""

    label_smoothing: float = 0.0
    """Share of the language-model target that is spread over all words."""
    queue_size: int = 0
    """Features that the task's own contrastive loss remembers."""
    task_weight: float = 0.6
    """Weight of the task's own losses."""
    logit_weight: float = 0.4
    """Weight of the divergence from the teacher's probabilities: of words, of match, of true."""
    affinity_weight: float = 0.4
    """Weight of the divergence between what pictures and texts are similar to (retrieval)."""
    hidden_weight: float = 0.1
    """Weight of the distance between hidden states."""
    attention_weight: float = 0.0
    """Weight of the distance between attention scores, of text and picture and across."""
    contrastive_weight: float = 0.1
    """Weight of telling the teacher's view of a picture from its views of the others."""
    temperature: float = 2.0
    """How much probabilities are softened before they are compared."""
    contrastive_temperature: float = 0.1
    """Sharpness of the contrastive comparison."""
    memory: int = 0
    """Rows of former batches that views and affinities are compared with too."""
    said: float = 0.0
    """Share of captions in whose place the teacher's own stand, searched with the beams of its
    generation_config (sequence-level distillation)."""
    importance: Criterion = "taylor"
    """What heads, neurons and channels are chosen by: taylor and fisher ask the data, magnitude
    only the weights."""
    calibration: int = 16
    """Batches on which they are scored."""
    views: int = 0
    """Epochs that differ: after them their batches come again, augmentation included, and wrong
    partners are those that the teacher finds alike, whatever its student does. 0 repeats none; with
    a store it means 1."""
    top: int = 32
    """Logits of a prediction that a store holds, beside the weight of the rest; 0 holds all."""

    def __post_init__(self) -> None:
        super().__post_init__()
        weights = [self.task_weight, self.logit_weight, self.affinity_weight, self.hidden_weight]
        weights += [self.attention_weight, self.contrastive_weight]
        if min(weights) < 0 or max(weights) == 0:
            raise UsageError("the loss weights must not be negative, nor all zero")
        if not self.temperature > 0 or not self.contrastive_temperature > 0:
            raise UsageError("temperatures must be positive")
        if self.memory < 0:
            raise UsageError(f"memory must not be negative, got {self.memory}")
        if not 0 <= self.said <= 1:
            raise UsageError(f"said must lie between 0 and 1, got {self.said}")
        if self.calibration < 1:
            raise UsageError(f"calibration needs at least one batch, got {self.calibration}")
        if self.views < 0 or self.top < 0:
            raise UsageError("views and top must not be negative")

    def of(self, task: Task, prompt: str) -> TrainRecipe:
        """How the task itself is learned."""
        shared = {each.name: getattr(self, each.name) for each in fields(TaskRecipe)}
        return TrainRecipe(task=task, prompt=prompt, **shared)


@dataclass(frozen=True, kw_only=True)
class DistillRecipe(Imitation, StudentSizes):
    """A student cut out of its teacher, and taught by it."""

    layers: LayerChoice = "last"
    """Which of the teacher's: the last of each of equal blocks, or those that matter most."""

    def __post_init__(self) -> None:
        StudentSizes.__post_init__(self)
        Imitation.__post_init__(self)


@dataclass(frozen=True, kw_only=True)
class PruneRecipe(Imitation):
    """Cutting heads, neurons, channels and layers out of a model, and training to recover that."""

    keep: float = 0.7
    """Share that stays, of what `per` names."""
    per: Per = "parameters"
    """What is saved: parameters, multiplications of one caption, answer or match, or its latency,
    measured on this machine. What matters least for what it costs goes first."""
    even: bool = False
    """Cut the same share of every layer, so that the classes of `transformers` hold the result."""
    widths: bool = True
    """Whether channels of the towers may go, or only heads, neurons and layers."""
    tokens: float = 1.0
    """Share of the image tokens that is left after the last layer; alike ones are merged."""
    rounds: int = 4
    """Cuts on the way to `keep`, along a half cosine: most in the middle; the model trains in
    between."""
    rounds_share: float = 0.4
    """Share of the steps that is trained between the cuts; the rest comes after the last one."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 < self.keep <= 1:
            raise UsageError(f"keep must lie in (0, 1], got {self.keep}")
        if not 0 < self.tokens <= 1:
            raise UsageError(f"tokens must lie in (0, 1], got {self.tokens}")
        if self.rounds < 1 or not 0 <= self.rounds_share < 1:
            raise UsageError("rounds must be at least 1, and rounds_share lie in [0, 1)")
