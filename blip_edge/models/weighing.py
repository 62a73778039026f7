"""The numbers that a network holds, told from its sizes alone.

Every layer is written down once, as the matrices that it has: parameters and bytes follow from them
here, and in `cost` the multiplications.
"""

# N image tokens · D width · H heads · K width of a head · I = H · K, all heads together
# F neurons · W width of image tokens · V vocabulary · E width of the shared space · p patch side

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Literal, NamedTuple, get_args

from blip_edge.models.config import BlipConfig, TextConfig, VisionConfig

__all__ = [
    "PRECISIONS",
    "Matrices",
    "Matrix",
    "Precision",
    "TextMatrices",
    "VisionMatrices",
    "Weights",
    "head_weights",
    "parameters",
    "text_layers",
    "tower_weights",
    "vision_layers",
    "weights",
    "weights_of",
]

Precision = Literal["fp32", "fp16", "int8"]
PRECISIONS: tuple[Precision, ...] = get_args(Precision)

_FLOAT, _HALF = 4, 2
# Of an 8-bit layer, beside its integers: a scale for each output, and its input's scale and zero.
_SCALE, _INPUT = 4, 5


@dataclass(frozen=True, kw_only=True)
class Weights:
    """Numbers that a part of the network holds, and how many of them 8 bits can hold."""

    matrices: int = 0
    """Numbers of the matrices that `quantize` can turn into integers."""
    channels: int = 0
    """Outputs of these matrices."""
    layers: int = 0
    """Those of these matrices that inputs are multiplied by, which word tables without a head are
    not."""
    floats: int = 0
    """All the rest: biases, norms, patch embedding, positions and heads."""

    def __add__(self, other: "Weights") -> "Weights":
        return Weights(
            matrices=self.matrices + other.matrices,
            channels=self.channels + other.channels,
            layers=self.layers + other.layers,
            floats=self.floats + other.floats,
        )

    @property
    def count(self) -> int:
        """All of them."""
        return self.matrices + self.floats

    def bytes(self, precision: Precision) -> int:
        """Bytes of them: in int8 all matrices that can be integers are."""
        if precision != "int8":
            return (_FLOAT if precision == "fp32" else _HALF) * self.count
        scales = _SCALE * self.channels + _INPUT * self.layers
        return self.matrices + scales + _FLOAT * self.floats


class Matrix(NamedTuple):
    """A linear layer inside a tower's block, with a bias."""

    inputs: int
    outputs: int

    @property
    def size(self) -> int:
        """Its numbers, and the multiplications of a token."""
        return self.inputs * self.outputs

    @property
    def weights(self) -> Weights:
        """Of it and its bias."""
        if not self.size:  # all heads or neurons were cut out, and the bias is left
            return Weights(floats=self.outputs)
        return Weights(matrices=self.size, channels=self.outputs, layers=1, floats=self.outputs)


Matrices = tuple[Matrix, ...]


class TextMatrices(NamedTuple):
    """A layer of the text tower."""

    width: int
    own: Matrices
    """Self-attention's."""
    looks: Matrices
    """Cross-attention's that run at every token."""
    reads: Matrices
    """Cross-attention's that make keys and values, once for each token that is read."""
    feed: Matrices
    inner: int
    """Channels of self-attention's keys, and of its values."""
    seen_inner: int
    """The same of cross-attention, of both pictures where there are two."""


class VisionMatrices(NamedTuple):
    """A layer of the image tower."""

    attention: Matrices
    """What runs before tokens are merged."""
    feed: Matrices
    """What runs after that."""
    inner: int
    """Channels of its keys, and of its values."""


def text_layers(text: TextConfig, *, twin: bool = False) -> list[TextMatrices]:
    """The layers of a text tower, first to last; a twin looks at two pictures."""
    width, source, copies = text.hidden_size, text.encoder_hidden_size, 1 + twin
    layers = []
    for number, neurons in enumerate(text.ffn_widths):
        inner, cross = (heads[number] * text.head_width for heads in (text.heads, text.cross_heads))
        merges = twin and number >= text.merge_from_layer
        layers.append(
            TextMatrices(
                width=width,
                own=(Matrix(width, inner),) * 3 + (Matrix(inner, width),),
                looks=(Matrix(width, cross), Matrix(cross, width)) * copies
                + (Matrix(2 * width, width),) * merges,
                reads=(Matrix(source, cross),) * 2 * copies,
                feed=(Matrix(width, neurons), Matrix(neurons, width)),
                inner=inner,
                seen_inner=cross * copies,
            )
        )
    return layers


def vision_layers(vision: VisionConfig) -> Iterator[VisionMatrices]:
    """The layers of the image tower, first to last."""
    width = vision.hidden_size
    for heads, neurons in zip(vision.heads, vision.ffn_widths, strict=True):
        inner = heads * vision.head_width
        attention = (Matrix(width, 3 * inner), Matrix(inner, width))
        yield VisionMatrices(attention, (Matrix(width, neurons), Matrix(neurons, width)), inner)


def weights(config: BlipConfig) -> dict[str, Weights]:
    """Weights of each part, those that encoder and decoder share once, as `shared`.

    Image tower: (3 p² + 2 + N) D, and a layer (3 D + 3 + D) I + 2 D F + F + 6 D, and 2 D.
    Text: (V + positions + 2) D of embeddings; a layer's self-attention 4 D I + 3 I + 3 D,
    cross-attention 2 (D + W) I + 3 I + 3 D, feed-forward network 2 D F + F + 3 D; the
    language-model head D² + 3 D + V. A head's words are integers where the head is.
    """
    parts, text = config.parts, config.text_config
    width, shared_width = text.hidden_size, config.image_text_hidden_size
    encoder = _self_attention(text) if parts.encoder else Weights()
    decoder = _self_attention(config.decoder_config) if parts.decoder else Weights()
    shared, words = Weights(), _words(text)
    if parts.encoder and parts.decoder and parts.compares:
        shared = _other(text) + words
    elif config.tie_encoder_decoder:
        shared = _feed(text) + words
        encoder += _cross_attention(text)
        decoder += _cross_attention(config.decoder_config)
    else:
        if parts.encoder:
            encoder += _other(text, twin=parts.twin) + replace(words, layers=0)
        if parts.decoder:
            decoder += _other(config.decoder_config) + words
    if parts.decoder:
        decoder += _head(text)
    compared = (config.vision_config.hidden_size + width + 2) * shared_width
    heads = 2 * width + 3 if parts.compares else 0  # matching, and the temperature
    heads += width**2 + 3 * width + 2 if parts.twin else 0
    return {
        "vision": tower_weights(config.vision_config),
        "encoder": encoder,
        "decoder": decoder,
        "shared": shared,
        "projections": Weights(floats=compared if parts.compares else 0),
        "heads": Weights(floats=heads),
    }


def parameters(config: BlipConfig) -> dict[str, int]:
    """Parameters of each part; see `weights`."""
    return {name: part.count for name, part in weights(config).items()}


def weights_of(matrices: Iterable[Matrix]) -> Weights:
    """Of several matrices and their biases."""
    return sum((matrix.weights for matrix in matrices), Weights())


def tower_weights(vision: VisionConfig) -> Weights:
    """Of the image tower."""
    width = vision.hidden_size
    around = Weights(floats=(3 * vision.patch_size**2 + 2 + vision.num_tokens + 2) * width)
    norms = Weights(floats=4 * width)
    every = (weights_of(layer.attention + layer.feed) + norms for layer in vision_layers(vision))
    return sum(every, around)


def head_weights(text: TextConfig) -> Weights:
    """Of a language model's head, whose matrix is the word table."""
    return _head(text) + _words(text)


def _self_attention(text: TextConfig) -> Weights:
    norm = Weights(floats=2 * text.hidden_size)
    return sum((weights_of(layer.own) + norm for layer in text_layers(text)), Weights())


def _other(text: TextConfig, *, twin: bool = False) -> Weights:
    """All of a text tower but self-attention, words and head."""
    return _feed(text) + _cross_attention(text, twin=twin)


def _feed(text: TextConfig) -> Weights:
    """Positions and feed-forward networks."""
    norm = Weights(floats=2 * text.hidden_size)
    total = Weights(floats=text.max_position_embeddings * text.hidden_size) + norm
    return sum((weights_of(layer.feed) + norm for layer in text_layers(text)), total)


def _cross_attention(text: TextConfig, *, twin: bool = False) -> Weights:
    norm = Weights(floats=2 * text.hidden_size)
    layers = text_layers(text, twin=twin)
    return sum((weights_of(layer.looks + layer.reads) + norm for layer in layers), Weights())


def _words(text: TextConfig) -> Weights:
    size = text.vocab_size * text.hidden_size
    return Weights(matrices=size, channels=text.vocab_size, layers=1)


def _head(text: TextConfig) -> Weights:
    """Of the head all but the word table."""
    return Weights(floats=text.hidden_size**2 + 3 * text.hidden_size + text.vocab_size)
