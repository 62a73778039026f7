"""What training needs of memory, told from sizes alone: nothing is built, and no weights are read.

Each term is a formula in its function's docstring. Their sum is close to the highest resident
memory of a run on a processor. A layer's gradients take the place of what it remembered, which
makes the sum too large; what is there for a moment only is left out, which makes it too small. What
grows with the batch is held to what autograd keeps by a test, and the sum to real steps by
benchmarks/pretrain_step.py.
"""

# B rows · P pictures · R texts of a pass · T text tokens · N image tokens · D width · H heads
# I = H · K, all heads together · F neurons · W width of image tokens · V vocabulary
# Q queue · E width of the shared space · e bytes of what is multiplied: 4, in bfloat16 2

from dataclasses import asdict, dataclass, replace
from typing import NamedTuple

from blip_edge.models.config import ARCHITECTURES, BlipConfig, TextConfig
from blip_edge.models.weighing import parameters
from blip_edge.training.recipe import Task, TrainRecipe

__all__ = ["KEPT_PICTURES", "TEXT_TOKENS", "Memory", "estimate", "planned"]

TEXT_TOKENS: dict[Task, int] = {
    "pretrain": 35,
    "caption": 40,
    "retrieval": 35,
    "vqa": 35,
    "nlvr2": 60,
    "visdial": 256,
}
"""The longest texts that a task keeps; of NLVR2's sentences, which it does not cut, long ones."""
KEPT_PICTURES = 1 << 30
"""Bytes of decoded pictures that a run keeps at most, in the processor's memory."""

# Different answers that people give to a question, and the tokens of one. VQAv2 has fewer of both.
_ANSWERS, _ANSWER_TOKENS = 4, 8
# A caption's, before the dialog about its picture.
_CAPTION_TOKENS = 35
# Python, torch and what they bring along, before there is a model (measured on Linux, x86).
_PROGRAM = 720_000_000
_FLOAT, _HALF = 4, 2


@dataclass(frozen=True, kw_only=True)
class Memory:
    """Bytes by what they are for."""

    weights: int
    gradients: int
    optimiser: int
    """AdamW's two moments."""
    momentum: int
    """Slow copies of the encoders."""
    queue: int
    """Features that the contrastive loss remembers."""
    average: int
    """The slow average of the weights (recipe key ema)."""
    best: int
    """The best weights so far (recipe key eval_every)."""
    activations: int
    ahead: int
    """Batches that threads have ready (recipe key workers), in the processor's memory."""
    program: int
    """Python and torch themselves."""

    @property
    def total(self) -> int:
        """All of it."""
        return sum(asdict(self).values())

    def to_json(self) -> dict[str, int]:
        """The terms, and their sum."""
        return {**asdict(self), "total": self.total}


def planned(config: BlipConfig, recipe: TrainRecipe) -> BlipConfig:
    """The sizes that `config` has as a start of training by `recipe`: its task's and its pictures'.

    Raises:
        UsageError: the recipe's image size is no multiple of the patch size.
    """
    vision = config.vision_config
    vision = vision.resized(recipe.image_size or vision.image_size)
    return replace(config, architecture=ARCHITECTURES[recipe.task], vision_config=vision)


def estimate(config: BlipConfig, recipe: TrainRecipe) -> Memory:
    """What training a network of `config`, for the task of `recipe`, needs in one process.

    weights 4 · n of n parameters; gradients the same; AdamW's moments twice that; the average and
    the best weights once each where there are any. Contrastive tasks (pretrain, retrieval) have
    copies of the image tower, of the text encoder and of both projections, and a queue of
    2 · Q · E floats, to which fine-tuning adds Q numbers of pictures. W threads have 2 W batches of
    P · 3 S² floats ready.
    """
    count = parameters(config)
    weights = _FLOAT * sum(count.values())
    contrasts = recipe.task in ("pretrain", "retrieval")
    slow = count["vision"] + count["encoder"] + count["shared"] + count["projections"]
    queue = 2 * _FLOAT * recipe.queue_size * config.image_text_hidden_size
    queue += 8 * recipe.queue_size if recipe.task == "retrieval" else 0
    return Memory(
        weights=weights,
        gradients=weights,
        optimiser=2 * weights,
        momentum=_FLOAT * slow if contrasts else 0,
        queue=queue if contrasts else 0,
        average=weights if recipe.ema else 0,
        best=weights if recipe.eval_every else 0,
        activations=_activations(config, recipe),
        ahead=2 * recipe.workers * _pixels(config, recipe) * _FLOAT,
        program=_PROGRAM,
    )


class _Pass(NamedTuple):
    """One way of texts through the text tower."""

    text: TextConfig
    rows: int
    tokens: int
    seen: int = 0
    """Tokens that cross-attention reads; 0 skips it."""
    sources: int = 0
    """Pictures, or questions, whose keys and values are kept for it; 0 where the tokens are read
    themselves."""
    looks: int = 1
    """Pictures that each text sees."""


def _activations(config: BlipConfig, recipe: TrainRecipe) -> int:
    """What a forward pass leaves for the backward pass, bytes, with dropout.

    The pictures 4 · P · 3 S²; the image tower's layers, and after them 2 · 4 · P N D; the text
    tower's layers, each way through it; the loss's, see `_losses`; in bfloat16 a copy of the
    weights, 2 · n. With `recompute` a layer leaves its input, keys and values alone, and only the
    largest layer is there whole; copies of weights are then made a layer at a time.
    """
    half = recipe.precision == "bf16"
    vision, size = config.vision_config, _HALF if half else _FLOAT
    pictures, token = _pictures(recipe), _FLOAT * vision.hidden_size
    around = _pixels(config, recipe) * (_FLOAT + (_HALF if half else 0))
    around += 2 * pictures * vision.num_output_tokens * token
    whole, kept = [], []
    for number, tokens in enumerate((vision.num_tokens, *vision.layer_tokens)[:-1]):
        whole.append(pictures * _vision_layer(config, number, tokens, half=half))
        kept.append(pictures * tokens * token)
    for each in _passes(config, recipe):
        for number in range(each.text.num_hidden_layers):
            inner = each.text.cross_heads[number] * each.text.head_width
            keys = 2 * size * each.looks * each.sources * each.seen * inner
            texts = each.rows * each.tokens
            whole.append(texts * _text_layer(each, number, half=half) + keys)
            kept.append(_FLOAT * texts * each.text.hidden_size + keys)
    around += _losses(config, recipe)
    if recipe.recompute:
        return around + sum(kept) + max(whole, default=0)
    return around + sum(whole) + (_HALF * sum(parameters(config).values()) if half else 0)


def _pictures(recipe: TrainRecipe) -> int:
    return recipe.batch * (2 if recipe.task == "nlvr2" else 1)


def _pixels(config: BlipConfig, recipe: TrainRecipe) -> int:
    """P · 3 S² numbers of a batch."""
    return _pictures(recipe) * 3 * config.vision_config.image_size**2


def _vision_layer(config: BlipConfig, number: int, tokens: int, *, half: bool) -> int:
    """Bytes that a layer leaves of a picture whose `tokens` it gets:
    N · (4 · D + e · (D + 4 I)) + N' · (4 · D + e · (D + 2 F)), N' those that it does not merge.

    Both norms' inputs and outputs; query, key, value and what attention gives; the neurons before
    and after GELU. In bfloat16 the shares of attention, H · N, too.
    """
    vision, size = config.vision_config, _HALF if half else _FLOAT
    heads, width = vision.heads[number], vision.hidden_size
    attention = width + 4 * heads * vision.head_width + (heads * tokens if half else 0)
    network = width + 2 * vision.ffn_widths[number]
    left = vision.layer_tokens[number]
    return tokens * (_FLOAT * width + size * attention) + left * (_FLOAT * width + size * network)


def _text_layer(each: _Pass, number: int, *, half: bool) -> int:
    """Bytes that a layer leaves of a token, keys and values of pictures not counted.

    Self-attention and feed-forward network 4 · 2 D + e · (4 D + 4 I + 2 F + 3 H T): the norms'
    inputs, both branches' dropout and inputs, query, key, value and the result, and of the shares
    three copies, as they are, silenced, and what silences them. A look at N tokens adds
    4 · D + e · (2 D + 2 I + 3 H N), and where there are no keys and values 2 H W, see
    `CrossAttention`. Two casts of D more in bfloat16.
    """
    text, size = each.text, _HALF if half else _FLOAT
    width, heads = text.hidden_size, text.heads[number]
    floats, products = 2 * width, 4 * width + 4 * heads * text.head_width
    products += 2 * text.ffn_widths[number] + 3 * heads * each.tokens + (2 * width if half else 0)
    if each.seen:
        heads = text.cross_heads[number]
        look = 2 * width + 2 * heads * text.head_width + 3 * heads * each.seen
        look += 0 if each.sources else 2 * heads * text.encoder_hidden_size
        floats, products = floats + width, products + each.looks * look
    return _FLOAT * floats + size * products


def _passes(config: BlipConfig, recipe: TrainRecipe) -> list[_Pass]:
    """How texts go through the text tower in one step of the task."""
    text, rows, tokens = config.text_config, recipe.batch, TEXT_TOKENS[recipe.task]
    tokens = min(tokens, text.max_position_embeddings)
    image = config.vision_config.num_output_tokens
    alone = _Pass(text, rows, tokens)
    pairs = _Pass(text, 3 * rows, tokens, image, 3 * rows)  # matching, wrong texts and pictures
    match recipe.task:
        case "pretrain":
            return [alone, pairs, _Pass(text, rows, tokens, image, rows)]
        case "retrieval":
            return [alone, pairs]
        case "caption":
            glances = tokens * (image + text.head_width) < image * text.head_width
            return [_Pass(text, rows, tokens, image, 0 if glances else rows)]
        case "vqa":
            answers = _ANSWERS * rows
            return [
                _Pass(text, rows, tokens, image, rows),
                _Pass(config.decoder_config, answers, _ANSWER_TOKENS, tokens, answers),
            ]
        case "nlvr2":
            return [_Pass(text, rows, tokens, image, rows, looks=2)]
        case "visdial":
            texts = rows * (1 + recipe.negatives)
            caption = _Pass(text, rows, min(_CAPTION_TOKENS, tokens))
            return [caption, _Pass(text, texts, tokens, image + caption.tokens, rows)]


def _losses(config: BlipConfig, recipe: TrainRecipe) -> int:
    """Bytes of the losses: 4 · 3 · R T V of a language model, 4 · (2 E + 8 B) (Q + B) of ITC.

    Logits, their logarithms and their gradient; candidates with the queue's, and the similarities
    of both directions with their targets.
    """
    rows, tokens, words = recipe.batch, TEXT_TOKENS[recipe.task], config.text_config.vocab_size
    total = 0
    if recipe.task in ("pretrain", "retrieval"):
        floats = 2 * config.image_text_hidden_size + 8 * rows
        total += _FLOAT * floats * (recipe.queue_size + rows)
    if recipe.task in ("pretrain", "caption"):
        total += 3 * _FLOAT * rows * tokens * words
    if recipe.task == "vqa":
        total += 3 * _FLOAT * _ANSWERS * rows * _ANSWER_TOKENS * words
    return total
