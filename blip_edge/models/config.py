"""A network's sizes: one frozen dataclass a tower, and together they are config.json.

Field names are Hugging Face's, so nothing is translated on the way in or out. Head counts and FFN
widths may be one number for all layers or a list with one per layer, so that a pruned model is an
ordinary model. `layer_norm_eps` and head counts are always written out: the classes of
`transformers` have defaults (1e-5, 8 heads) that BLIP's released weights do not use.
"""

import math
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any, Literal, NamedTuple, TypeVar, get_args, get_origin

from blip_edge.errors import ArtifactError, UsageError
from blip_edge.models.token_schedule import check_schedule, resized_schedule

__all__ = [
    "ARCHITECTURES",
    "Architecture",
    "BlipConfig",
    "Parts",
    "PerLayer",
    "TextConfig",
    "TowerConfig",
    "VisionConfig",
]

PerLayer = int | tuple[int, ...]
Architecture = Literal[
    "BlipForConditionalGeneration",
    "BlipForImageTextRetrieval",
    "BlipForQuestionAnswering",
    "BlipForPreTraining",
    "BlipForImagesAndTextClassification",
]

ARCHITECTURES: dict[str, Architecture] = {
    "caption": "BlipForConditionalGeneration",
    "retrieval": "BlipForImageTextRetrieval",
    "vqa": "BlipForQuestionAnswering",
    "pretrain": "BlipForPreTraining",
    "nlvr2": "BlipForImagesAndTextClassification",
    "visdial": "BlipForImageTextRetrieval",  # an answer matches its dialog or does not
}
"""The architecture that each task needs, in Hugging Face's words."""


class Parts(NamedTuple):
    """What a network has besides its image tower."""

    encoder: bool = False
    decoder: bool = False
    compares: bool = False
    """Projections, the temperature and the matching head."""
    twin: bool = False
    """Cross-attention to two pictures, and a head that says true or false."""


_PARTS: dict[Architecture, Parts] = {
    "BlipForConditionalGeneration": Parts(decoder=True),
    "BlipForImageTextRetrieval": Parts(encoder=True, compares=True),
    "BlipForQuestionAnswering": Parts(encoder=True, decoder=True),
    "BlipForPreTraining": Parts(encoder=True, decoder=True, compares=True),
    "BlipForImagesAndTextClassification": Parts(encoder=True, twin=True),
}

# Several versions of `transformers` leave out what their image tower's defaults are. The text
# tower's default of 8 heads is not BLIP's, and is not taken for granted.
_LEFT_OUT = {"num_attention_heads": 12, "layer_norm_eps": 1e-5}

T = TypeVar("T", "VisionConfig", "TextConfig")


def _each(value: PerLayer, layers: int, name: str) -> tuple[int, ...]:
    every = (value,) * layers if isinstance(value, int) else tuple(value)
    if len(every) != layers:
        raise UsageError(f"{name} lists {len(every)} layers, the tower has {layers}")
    if min(every, default=1) < 0:
        raise UsageError(f"{name} must not be negative, got {value}")
    return every


_KINDS: dict[Any, str] = {
    **dict.fromkeys((int, int | None), "a whole number"),
    **dict.fromkeys((PerLayer, PerLayer | None), "a whole number, or one for each layer"),
    tuple[int, ...] | None: "a list of one whole number for each layer",
    float: "a number",
    str: "text",
}


def _fits(kind: Any, value: object) -> bool:
    """Whether a value is of a field's type; a finite number of a float's, a truth value of none."""
    if isinstance(value, tuple):
        return any(get_origin(one) is tuple for one in get_args(kind)) and all(
            _fits(int, number) for number in value
        )
    if kind is float:
        return _fits(int, value) or (isinstance(value, float) and math.isfinite(value))
    plain = [one for one in get_args(kind) or (kind,) if isinstance(one, type)]
    return isinstance(value, tuple(plain)) and not isinstance(value, bool)


@dataclass(frozen=True, kw_only=True)
class TowerConfig:
    """What both towers have: layers of attention and feed-forward networks."""

    hidden_size: int = 768
    num_hidden_layers: int = 12
    num_attention_heads: PerLayer = 12
    intermediate_size: PerLayer = 3072
    head_dim: int | None = None
    """Width of one head; hidden_size / num_attention_heads unless heads were cut out."""
    hidden_act: str = "gelu"

    def __post_init__(self) -> None:
        for one in fields(self):
            if not _fits(one.type, value := getattr(self, one.name)):
                raise UsageError(f"{one.name} {value!r} is not {_KINDS[one.type]}")
        _ = self.heads, self.ffn_widths, self.head_width

    @property
    def heads(self) -> tuple[int, ...]:
        """Self-attention heads of each layer."""
        return _each(self.num_attention_heads, self.num_hidden_layers, "num_attention_heads")

    @property
    def ffn_widths(self) -> tuple[int, ...]:
        """Neurons in each layer's feed-forward network."""
        return _each(self.intermediate_size, self.num_hidden_layers, "intermediate_size")

    @property
    def head_width(self) -> int:
        """K, the width of one head."""
        if self.head_dim is not None:
            return self.head_dim
        heads = self.num_attention_heads
        if not isinstance(heads, int) or heads < 1 or self.hidden_size % heads:
            raise UsageError(f"hidden_size {self.hidden_size} does not split into {heads} heads")
        return self.hidden_size // heads


@dataclass(frozen=True, kw_only=True)
class VisionConfig(TowerConfig):
    """Sizes of the ViT; the defaults are BLIP base at 384 pixels."""

    image_size: int = 384
    patch_size: int = 16
    layer_norm_eps: float = 1e-6
    attention_dropout: float = 0.0
    drop_path_rate: float = 0.0
    """Share of residual branches that training leaves out in the last layer, 0 in the first."""
    tokens_kept: tuple[int, ...] | None = None
    """Image tokens after each layer, class token included, where layers merge tokens that are
    alike; see `token_merging` and `tokens_schedule`. None keeps all."""

    def __post_init__(self) -> None:
        for name, value in (("image_size", self.image_size), ("patch_size", self.patch_size)):
            if not isinstance(value, int):
                raise UsageError(f"{name} {value} is not one number: BLIP takes square pictures")
        if self.patch_size < 1 or self.image_size < 1:
            raise UsageError("image_size and patch_size must be positive")
        if self.image_size % self.patch_size:
            raise UsageError(
                f"image_size {self.image_size} is not a multiple of patch_size {self.patch_size}; "
                f"the nearest are {self._multiples()}"
            )
        super().__post_init__()
        if self.tokens_kept is not None:
            check_schedule(self.tokens_kept, self.num_tokens, self.num_hidden_layers)

    def _multiples(self) -> str:
        below = self.image_size // self.patch_size * self.patch_size
        return " and ".join(str(size) for size in (below, below + self.patch_size) if size)

    @property
    def num_tokens(self) -> int:
        """Image tokens that go in: the patches and the class token."""
        return (self.image_size // self.patch_size) ** 2 + 1

    @property
    def layer_tokens(self) -> tuple[int, ...]:
        """Image tokens after each layer."""
        return self.tokens_kept or (self.num_tokens,) * self.num_hidden_layers

    @property
    def num_output_tokens(self) -> int:
        """Image tokens that come out, which texts read: fewer where layers merge some."""
        return self.layer_tokens[-1] if self.layer_tokens else self.num_tokens

    def resized(self, image_size: int) -> "VisionConfig":
        """The same tower for pictures of another size; layers merge the same shares of tokens.

        Raises:
            UsageError: `image_size` is no multiple of the patch size.
        """
        plain = replace(self, image_size=image_size, tokens_kept=None)
        if self.tokens_kept is None:
            return plain
        kept = resized_schedule(self.tokens_kept, self.num_tokens, plain.num_tokens)
        return replace(plain, tokens_kept=kept)


@dataclass(frozen=True, kw_only=True)
class TextConfig(TowerConfig):
    """Sizes of the BERT-like mixture of encoder and decoder; the defaults are BLIP base."""

    vocab_size: int = 30524
    max_position_embeddings: int = 512
    encoder_hidden_size: int = 768
    """Width of what cross-attention reads: the image tokens."""
    cross_attention_heads: PerLayer | None = None
    """Heads of each cross-attention; the same as self-attention's unless heads were cut out."""
    merge_from_layer: int = 6
    """First layer that merges what it saw in two pictures by a matrix; those before it average."""
    layer_norm_eps: float = 1e-12
    hidden_dropout_prob: float = 0.0
    attention_probs_dropout_prob: float = 0.0
    bos_token_id: int = 30522
    pad_token_id: int = 0
    sep_token_id: int = 102

    def __post_init__(self) -> None:
        super().__post_init__()
        _ = self.cross_heads

    @property
    def cross_heads(self) -> tuple[int, ...]:
        """Cross-attention heads of each layer."""
        if self.cross_attention_heads is None:
            return self.heads
        return _each(self.cross_attention_heads, self.num_hidden_layers, "cross_attention_heads")


@dataclass(frozen=True, kw_only=True)
class BlipConfig:
    """A whole BLIP: two towers and what the model is for."""

    vision_config: VisionConfig = field(default_factory=VisionConfig)
    text_config: TextConfig = field(default_factory=TextConfig)
    architecture: Architecture = "BlipForConditionalGeneration"
    image_text_hidden_size: int = 256
    """Width of the space where images and texts are compared."""
    contrastive_temperature: float = 0.07
    """What similarities are divided by, where training starts (paper's code) and as it ended."""
    tie_encoder_decoder: bool = False
    """An answering model's encoder and decoder are one but for attention: words, positions and
    feed-forward networks."""

    def __post_init__(self) -> None:
        if self.text_config.encoder_hidden_size != self.vision_config.hidden_size:
            raise UsageError(
                f"text_config.encoder_hidden_size {self.text_config.encoder_hidden_size} is not "
                f"vision_config.hidden_size {self.vision_config.hidden_size}"
            )
        if self.tie_encoder_decoder and self.architecture != "BlipForQuestionAnswering":
            raise UsageError(
                "tie_encoder_decoder is for models that answer questions; "
                f"{self.architecture} has no two text towers, or shares them already"
            )

    @property
    def parts(self) -> Parts:
        """What the network has besides its image tower."""
        return _PARTS[self.architecture]

    @property
    def captions(self) -> bool:
        """Whether its decoder reads pictures; that of an answering model reads questions."""
        return self.parts.decoder and self.architecture != "BlipForQuestionAnswering"

    @property
    def decoder_config(self) -> TextConfig:
        """The decoder's sizes: one that answers reads the question's states, not the picture."""
        text = self.text_config
        if self.architecture != "BlipForQuestionAnswering":
            return text
        return replace(text, encoder_hidden_size=text.hidden_size)

    @property
    def model_type(self) -> Literal["blip", "blip_edge"]:
        """`blip` when the classes of `transformers` can hold this model, else `blip_edge`."""
        return "blip" if self._fits_hugging_face() else "blip_edge"

    def _fits_hugging_face(self) -> bool:
        if self.tie_encoder_decoder:
            return False
        for tower in (self.vision_config, self.text_config):
            heads, width = tower.num_attention_heads, tower.intermediate_size
            if not isinstance(heads, int) or not isinstance(width, int):
                return False
            if heads * tower.head_width != tower.hidden_size:
                return False
        if self.vision_config.num_output_tokens != self.vision_config.num_tokens:
            return False
        text = self.text_config
        held = ("BlipForConditionalGeneration", "BlipForImageTextRetrieval")
        # Its answering model builds both text towers from one config, of one width.
        answers = self.architecture == "BlipForQuestionAnswering" and self.decoder_config == text
        return text.cross_heads == text.heads and (self.architecture in held or answers)

    def to_json(self) -> dict[str, Any]:
        """The fields of config.json."""
        return {
            "model_type": self.model_type,
            "architectures": [self.architecture],
            "image_text_hidden_size": self.image_text_hidden_size,
            "contrastive_temperature": self.contrastive_temperature,
            "vision_config": {"model_type": "blip_vision_model", **asdict(self.vision_config)},
            "text_config": {
                "model_type": "blip_text_model",
                **asdict(self.text_config),
                "is_decoder": True,
            },
            "tie_word_embeddings": True,
            **({"tie_encoder_decoder": True} if self.tie_encoder_decoder else {}),
        }

    @classmethod
    def from_json(cls, config: dict[str, Any], *, source: Path | str) -> "BlipConfig":
        """Read config.json, ours or Hugging Face's; `source` is named in errors.

        Raises:
            ArtifactError: it is not a BLIP configuration, or its sizes do not fit together.
        """
        if not isinstance(config, dict):
            raise ArtifactError(f"{source} is not a model's configuration")
        if config.get("model_type") not in ("blip", "blip_edge"):
            raise ArtifactError(f"{source}: model_type {config.get('model_type')!r} is not BLIP")
        named = config.get("architectures")
        architecture = named[0] if isinstance(named, list) and named else named
        if not isinstance(architecture, str) or architecture not in _PARTS:
            known = ", ".join(_PARTS)
            raise ArtifactError(f"{source}: architecture {architecture!r} is none of {known}")
        pictures, text = config.get("vision_config"), config.get("text_config")
        if isinstance(pictures, dict):
            pictures = {**_LEFT_OUT, **pictures}
        vision = _tower(VisionConfig, pictures, source)
        if isinstance(text, dict):  # older configs lack it
            text = {"encoder_hidden_size": vision.hidden_size, **text}
        try:
            return cls(
                vision_config=vision,
                text_config=_tower(TextConfig, text, source),
                architecture=architecture,
                image_text_hidden_size=int(config.get("image_text_hidden_size", 256)),
                contrastive_temperature=float(config.get("contrastive_temperature", 0.07)),
                tie_encoder_decoder=config.get("model_type") == "blip_edge"
                and bool(config.get("tie_encoder_decoder", False)),
            )
        except (TypeError, ValueError, UsageError) as error:
            raise ArtifactError(f"{source}: {error}") from None


def _tower(cls: type[T], values: object, source: Path | str) -> T:
    if not isinstance(values, dict):
        raise ArtifactError(f"{source} does not describe both towers")
    known = {field.name for field in fields(cls)}
    kept = {key: value for key, value in values.items() if key in known and value is not None}
    lists = {key: tuple(value) for key, value in kept.items() if isinstance(value, list)}
    if kept.get("hidden_act", "gelu") != "gelu":
        raise ArtifactError(f"{source}: hidden_act {kept['hidden_act']!r}; BLIP uses gelu")
    if "num_attention_heads" not in kept:
        raise ArtifactError(
            f"{source} does not say num_attention_heads; add it (released BLIP: 12)"
        )
    try:
        return cls(**{**kept, **lists})
    except (TypeError, UsageError) as error:
        raise ArtifactError(f"{source}: {error}") from None
