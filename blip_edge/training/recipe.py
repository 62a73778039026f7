"""What a training run may be told."""

from dataclasses import dataclass
from typing import Literal

from blip_edge.errors import UsageError

__all__ = ["FREE", "Optimisation", "ScheduleName", "Task", "TaskRecipe", "TrainRecipe"]

ScheduleName = Literal["cosine", "constant", "epoch-cosine", "epoch-decay"]
Task = Literal["pretrain", "caption", "retrieval", "vqa", "nlvr2", "visdial"]

FREE = frozenset({"max_bad", "workers", "save_every"})
"""Keys that leave the result as it is: a run goes on with other values of them."""


@dataclass(frozen=True, kw_only=True)
class Optimisation:
    """How long and how fast any stage that trains does so."""

    steps: int = 0
    """Optimiser steps; 0 says that `epochs` decides."""
    epochs: float = 1.0
    """Passes over the rows, when `steps` is 0."""
    batch: int = 32
    """Rows a step."""
    lr: float = 1e-4
    """Peak learning rate of AdamW."""
    warmup: int = 0
    """Steps in which the learning rate rises from 0 to `lr`."""
    schedule: ScheduleName = "cosine"
    """cosine, constant: after the warm-up the rate falls to 0 along a half cosine, or stays.
    epoch-cosine: the same cosine in stairs of an epoch, as BLIP fine-tunes. epoch-decay: warm-up
    from 1e-6 within the first epoch, then `decay` times less every epoch, as BLIP pre-trains."""
    weight_decay: float = 0.05
    """AdamW's decay, on all parameters, as BLIP trains."""
    clip: float = 1.0
    """Longest gradient; a longer one is scaled down to it. A very large number, such as 1e9, leaves
    all as they are."""
    precision: Literal["fp32", "bf16"] = "fp32"
    """Arithmetic of the forward pass; weights stay float32."""
    max_bad: float = 0.01
    """Share of pictures that may be unreadable before the run stops."""

    def __post_init__(self) -> None:
        if self.steps < 0 or self.epochs <= 0:
            raise UsageError("steps must not be negative and epochs must be positive")
        if self.batch < 1:
            raise UsageError(f"batch must be at least 1, got {self.batch}")
        if not self.lr > 0 or not self.clip > 0:
            raise UsageError("lr and clip must be positive")
        if self.warmup < 0 or not self.weight_decay >= 0:
            raise UsageError("warmup and weight_decay must not be negative")
        _shares(self, "max_bad")


@dataclass(frozen=True, kw_only=True)
class TaskRecipe(Optimisation):
    """How a task is learned, whatever the model starts from."""

    web_parts: int = 1
    """An epoch reads every so manieth of the tars (--web), another one each time: BLIP's a fifth of
    LAION, so 5."""
    accumulate: int = 1
    """Batches whose gradients make one step."""
    ema: float = 0.0
    """How slowly an average follows the weights, of which it then takes the place; 0 has none."""
    decay: float = 0.9
    """Of the schedule epoch-decay: the released recipe's; the paper says 0.85."""
    recompute: bool = False
    """Compute layers again in the backward pass instead of remembering them: less memory."""
    compile: bool = False
    """Have torch compile the layers of both towers: minutes before the first step, and faster steps
    after them. It needs a C++ compiler, on CUDA Triton."""
    shard: bool = False
    """Of several processes each keeps a share of weights, gradients and AdamW's state, and fetches
    the rest in every step (FSDP): less memory on each. One process keeps all."""
    save_every: int = 0
    """Steps from one checkpoint to the next, for --resume; 0 saves none."""
    eval_every: int = 0
    """Steps from one look at the val split to the next; the best weights stay. 0 never looks."""
    eval_items: int = 500
    """Rows of the val split that are looked at."""
    workers: int = 0
    """Threads that decode pictures ahead; 0 decodes when a batch is asked for."""
    min_crop: float = 1.0
    """Smallest share of a picture that a random crop keeps: BLIP 0.2 to pre-train, else 0.5; 1
    squashes the whole picture."""
    flip: float = 0.0
    """How often left and right change places; BLIP 0.5."""
    augment_ops: int = 0
    """Operations of RandomAugment; BLIP 2."""
    augment_level: int = 5
    """How strong they are, of 10."""
    negative_all_rank: bool = False
    """Take wrong partners from all processes (retrieval), as BLIP on COCO."""
    train_on_val: bool = False
    """Train on the val split too, as BLIP does before the test server is asked (vqa)."""
    negatives: int = 1
    """Wrong answers beside each true one (visdial)."""
    swap: float = 0.0
    """How often the two pictures change places (nlvr2); BLIP 0.5."""
    max_words: int = 30
    """Words of a caption that are kept."""
    label_smoothing: float = 0.1
    """Share of the language-model target that is spread over all words."""
    queue_size: int = 57600
    """Features that the contrastive loss remembers (pre-training)."""
    momentum: float = 0.995
    """How slowly the momentum encoders follow (pre-training)."""
    alpha: float = 0.4
    """Weight of the momentum encoders' soft targets (pre-training)."""
    alpha_warmup: int = 0
    """Steps in which `alpha` rises from 0."""

    def __post_init__(self) -> None:
        super().__post_init__()
        _shares(self, "label_smoothing", "momentum", "alpha", "min_crop", "flip", "swap")
        if min(self.save_every, self.eval_every, self.workers, self.augment_ops) < 0:
            raise UsageError("save_every, eval_every, workers and augment_ops must not be negative")
        if self.web_parts < 1:
            raise UsageError(f"web_parts must be at least 1, got {self.web_parts}")
        if self.negatives < 1 or self.eval_items < 1:
            raise UsageError("negatives and eval_items must be at least 1")
        if self.queue_size < 0 or self.alpha_warmup < 0:
            raise UsageError("queue_size and alpha_warmup must not be negative")
        if self.max_words < 1:
            raise UsageError(f"max_words must be at least 1, got {self.max_words}")


@dataclass(frozen=True, kw_only=True)
class TrainRecipe(TaskRecipe):
    """Training of a BLIP for one task.

    The sizes count only for a model that starts from nothing; with --init, --vision-init and
    --text-init they are those of what is started from.
    """

    task: Task = "caption"
    """pretrain: ITC + ITM + LM; caption: LM with the prompt not counted; retrieval: ITC + ITM with
    all texts of a picture; vqa: LM on answers; nlvr2: true or false of two pictures; visdial: ITM
    on answers in a dialog."""
    image_size: int = 0
    """Side of the square that pictures are squashed to; 0 takes the model's own, and 384 for one
    that starts from nothing."""
    prompt: str = "a picture of "
    """Words that every caption starts from (captioning)."""
    vision_layers: int = 12
    """Layers of the image tower."""
    vision_width: int = 768
    """Width of the image tower."""
    vision_heads: int = 12
    """Attention heads in each layer of the image tower."""
    patch_size: int = 16
    """Side of a patch, in pixels."""
    text_layers: int = 12
    """Layers of the text tower."""
    text_width: int = 768
    """Width of the text tower."""
    text_heads: int = 12
    """Attention heads in each layer of the text tower."""
    dropout: float = 0.1
    """Share of the text tower's activations and attention that training silences."""
    drop_path: float = 0.0
    """Share of the image tower's residual branches that training leaves out in its last layer; BLIP
    0.1 for questions, NLVR2 and the large tower. It counts for every model, however it starts."""
    embed_dim: int = 256
    """Width of the space where images and texts are compared."""
    vocab_size: int = 30524
    """Most word pieces of the vocabulary that is learned from the data's captions."""
    max_positions: int = 512
    """Longest text that the model can hold, in tokens."""
    num_beams: int = 3
    """Beams with which the trained captioner searches."""
    min_length: int = 5
    """Fewest tokens of a caption, counting the prompt."""
    max_length: int = 20
    """Most tokens of a caption, counting the prompt."""

    def __post_init__(self) -> None:
        super().__post_init__()
        _shares(self, "dropout", "drop_path")
        if self.eval_every and self.task == "pretrain":
            raise UsageError("pre-training has no metric to choose by; eval_every must be 0")
        if self.train_on_val and (self.task != "vqa" or self.eval_every):
            raise UsageError(
                "train_on_val is of vqa, and leaves no val split to choose by: eval_every must be 0"
            )
        for name in ("vision_width", "text_width", "embed_dim", "vocab_size", "max_positions"):
            if getattr(self, name) < 1:
                raise UsageError(f"{name} must be at least 1, got {getattr(self, name)}")
        if self.image_size < 0:
            raise UsageError(f"image_size must not be negative, got {self.image_size}")


def _shares(recipe: Optimisation, *names: str) -> None:
    for name in names:
        if not 0 <= getattr(recipe, name) <= 1:
            raise UsageError(f"{name} must lie between 0 and 1, got {getattr(recipe, name)}")
