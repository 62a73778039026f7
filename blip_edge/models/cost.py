"""What a network costs, told from its sizes alone: operations and bytes of every stage.

A stage is one graph of a bundle, run once for one picture: cross-attention's keys and values belong
to `vision`, and no text computes them again. Matrices are those of `weighing`; tests hold the sums
to the graphs', to torch's own counting and to the bytes of a quantized network.
"""

# T text tokens · P past tokens · N image tokens · D width · H heads · K width of a head
# I = H · K, all heads together · F neurons · W width of image tokens · V vocabulary
# E width of the shared space · p side of a patch

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from blip_edge.errors import UsageError
from blip_edge.models.config import BlipConfig, TextConfig, VisionConfig
from blip_edge.models.weighing import (
    Matrices,
    Matrix,
    Precision,
    TextMatrices,
    Weights,
    head_weights,
    text_layers,
    tower_weights,
    vision_layers,
    weights_of,
)

__all__ = [
    "Cost",
    "Lengths",
    "caption_costs",
    "image_macs",
    "read_cost",
    "stage_costs",
    "text_cost",
]

_FLOAT = 4


class Cost(NamedTuple):
    """One run of a stage."""

    macs: int
    """Multiplications that are added up."""
    weights: Weights
    """What is read of them; a word's own row and its position are too few to count."""
    floats: int = 0
    """Numbers of keys and values that are read and written, in float32 at any precision."""

    def bytes(self, precision: Precision) -> int:
        """Bytes that are moved if no cache holds any of them from one run to the next."""
        return self.weights.bytes(precision) + _FLOAT * self.floats

    def then(self, other: "Cost") -> "Cost":
        """Both in one stage."""
        both = self.weights + other.weights
        return Cost(self.macs + other.macs, both, self.floats + other.floats)


@dataclass(frozen=True, kw_only=True)
class Lengths:
    """How long the texts are that a stage reads or makes, in tokens."""

    prompt: int = 4
    """Tokens that a caption or answer starts from: [DEC] a picture of."""
    tokens: int = 20
    """Tokens of a caption, the prompt among them, and of every text that is read."""

    def __post_init__(self) -> None:
        if not 1 <= self.prompt < self.tokens:
            raise UsageError(
                f"a prompt of {self.prompt} tokens leaves none of {self.tokens} to be said"
            )

    def within(self, text: TextConfig) -> "Lengths":
        """No longer than the text tower has positions."""
        tokens = min(self.tokens, text.max_position_embeddings)
        return Lengths(prompt=min(self.prompt, tokens - 1), tokens=tokens)


def stage_costs(config: BlipConfig, lengths: Lengths | None = None) -> dict[str, Cost]:
    """What each stage of this architecture costs, for one picture and one text.

    Multiplications of the image tower are told at `image_macs`, of texts at `text_cost`. To them
    come

    vision    keys and values 2 N W I of each text layer, and a projection D E. Two pictures where a
              sentence is about two.
    prefill   the decoder on the prompt, P = 0; logits D² + D V after its last token.
    step      the decoder on one more token, the last: P = tokens - 1; logits D² + D V.
    text      the encoder; a projection D E.
    itm       the encoder with a look; 2 D.
    question  the encoder with a look; the decoder's keys and values, 2 T D I of each layer.
    reason    the encoder with a look at two; D² + 2 D.

    Raises:
        UsageError: the text tower has fewer than two positions.
    """
    lengths, parts = (lengths or Lengths()).within(config.text_config), config.parts
    costs = {"vision": _vision(config)}
    if parts.decoder:
        costs["prefill"] = _decode(config, lengths.prompt, 0, lengths)
        costs["step"] = _decode(config, 1, lengths.tokens - 1, lengths)
    if not parts.encoder:
        return costs
    width, shared = config.text_config.hidden_size, config.image_text_hidden_size
    layers = text_layers(config.text_config, twin=parts.twin)
    tokens, seen = lengths.tokens, config.vision_config.num_output_tokens
    look = text_cost(layers, tokens, seen=seen)
    if parts.compares:
        costs["text"] = text_cost(layers, tokens).then(_small(width, shared))
        costs["itm"] = look.then(_small(width, 2))
    elif parts.decoder:
        answers = text_layers(config.decoder_config)
        costs["question"] = look.then(read_cost(answers, tokens))
    else:
        costs["reason"] = look.then(_small(width, width)).then(_small(width, 2))
    return costs


def caption_costs(config: BlipConfig, lengths: Lengths | None = None) -> list[Cost]:
    """The stages of one greedy caption in turn: vision, prefill, and a step for each further token.

    The last token is not read again.

    Raises:
        UsageError: the network does not caption, or has fewer than two positions.
    """
    if not config.captions:
        raise UsageError(f"{config.architecture} does not caption")
    lengths = (lengths or Lengths()).within(config.text_config)
    pasts = range(lengths.prompt, lengths.tokens - 1)
    steps = [_decode(config, 1, past, lengths) for past in pasts]
    return [_vision(config), _decode(config, lengths.prompt, 0, lengths), *steps]


def image_macs(vision: VisionConfig) -> int:
    """Multiplications of the image tower, for one picture.

    (N - 1) 3 p² D of patches; a layer 4 N D I + 2 N² I of attention and 2 N D F, where N is what is
    left after each merging. To merge M of N tokens takes, of S = (N - 1) // 2 sources and
    G = N // 2 targets, S G K to compare and G M D to add.
    """
    before = vision.num_tokens
    macs = (before - 1) * 3 * vision.patch_size**2 * vision.hidden_size
    for left, layer in zip(vision.layer_tokens, vision_layers(vision), strict=True):
        macs += before * _size(layer.attention) + 2 * before**2 * layer.inner
        macs += left * _size(layer.feed)
        if left < before:
            compared = vision.head_width if layer.inner else vision.hidden_size
            sources, targets = (before - 1) // 2, before // 2
            macs += targets * (sources * compared + (before - left) * vision.hidden_size)
        before = left
    return macs


def text_cost(layers: Sequence[TextMatrices], tokens: int, *, past: int = 0, seen: int = 0) -> Cost:
    """`tokens` through a text tower, `past` of them before, with a look at `seen` others.

    A layer multiplies 4 T D I + 2 T (P + T) I for self-attention and 2 T D F; a look at N tokens,
    whose keys and values are there, takes 2 T D I + 2 T N I. A look at two pictures takes it twice,
    and 2 T D² in layers that merge.
    """
    macs, floats, weights = 0, 0, Weights()
    for layer in layers:
        always, norm = layer.own + layer.feed, Weights(floats=2 * layer.width)
        macs += tokens * _size(always) + 2 * tokens * (past + tokens) * layer.inner
        weights += weights_of(always) + norm + norm
        if seen:
            macs += tokens * _size(layer.looks) + 2 * tokens * seen * layer.seen_inner
            weights += weights_of(layer.looks) + norm
            floats += 2 * seen * layer.seen_inner
    embedded = Weights(floats=2 * layers[0].width if layers else 0)  # a norm
    return Cost(macs, weights + embedded, floats)


def read_cost(layers: Sequence[TextMatrices], tokens: int) -> Cost:
    """Keys and values of `tokens` for a text tower, computed once and written: 2 N W I a layer."""
    every: Matrices = tuple(matrix for layer in layers for matrix in layer.reads)
    written = tokens * sum(matrix.outputs for matrix in every)
    return Cost(tokens * _size(every), weights_of(every), written)


def _vision(config: BlipConfig) -> Cost:
    vision, parts = config.vision_config, config.parts
    # Two pictures have keys and values by matrices of their own, and go through one tower.
    cost = Cost((1 + parts.twin) * image_macs(vision), tower_weights(vision))
    layers = text_layers(config.text_config, twin=parts.twin)
    cost = cost.then(read_cost(layers, vision.num_output_tokens))
    if not parts.compares:
        return cost
    return cost.then(_small(vision.hidden_size, config.image_text_hidden_size))


def _decode(config: BlipConfig, tokens: int, past: int, lengths: Lengths) -> Cost:
    """The decoder on `tokens` more, its cache, and the logits after the last of them."""
    text = config.decoder_config
    seen = config.vision_config.num_output_tokens if config.captions else lengths.tokens
    layers = text_layers(text)
    logits = text.hidden_size**2 + text.hidden_size * text.vocab_size
    cache = sum(2 * (past + tokens) * layer.inner for layer in layers)
    head = Cost(logits, head_weights(text), cache)
    return text_cost(layers, tokens, past=past, seen=seen).then(head)


def _small(inputs: int, outputs: int) -> Cost:
    """A layer of one token, which stays in float."""
    return Cost(inputs * outputs, Weights(floats=inputs * outputs + outputs))


def _size(matrices: Iterable[Matrix]) -> int:
    return sum(matrix.size for matrix in matrices)
