"""What `cpu_inference.py` races over: models of random weights, inputs of fixed lengths, goals."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from blip_edge.text import Tokenizer

ModelName = Literal["caption", "vqa", "retrieval"]
CLASSES: dict[ModelName, str] = {
    "caption": "BlipForConditionalGeneration",
    "vqa": "BlipForQuestionAnswering",
    "retrieval": "BlipForImageTextRetrieval",
}
DECODES: dict[ModelName, bool] = {"caption": True, "vqa": True, "retrieval": False}
THREADS = 2
PROMPT = "a picture of "
NEW_TOKENS, ANSWER_TOKENS, QUESTION, TEXT, TEXTS, READ, FORCED = 20, 5, 8, 12, 64, 16, 40
_SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
_SEP = 3
UNSAID = [*range(len(_SPECIAL)), -2, -1]
"""No word: never an answer, so that all lengths are as they were asked for."""
# Far below every other logit, and not so far that errors are nothing beside it.
_NEVER = -30.0


@dataclass(frozen=True, kw_only=True)
class Task:
    """One question to a model, of which everything is fixed but who answers it."""

    what: str
    model: ModelName
    beams: int = 1
    goals: dict[str, float] = field(default_factory=dict)
    """Least times as fast as `transformers` in float32, by the precision of ours."""


TASKS = {
    "caption-greedy": Task(
        what=f"caption, greedy, {NEW_TOKENS} new tokens",
        model="caption",
        goals={"int8": 5.0, "fp32": 1.7},
    ),
    "caption-beams": Task(
        what=f"caption, 3 beams, {NEW_TOKENS} new tokens",
        model="caption",
        beams=3,
        goals={"int8": 7.5, "fp32": 2.8},
    ),
    "vqa": Task(
        what=f"answer, greedy, {ANSWER_TOKENS} tokens to a question of {QUESTION}",
        model="vqa",
        goals={"int8": 4.5},
    ),
    "matching": Task(
        what=f"match one picture with {READ} texts of {TEXT} tokens",
        model="retrieval",
        goals={"int8": 8.5, "fp32": 3.4},
    ),
    "text": Task(
        what=f"embed {TEXTS} texts of {TEXT} tokens", model="retrieval", goals={"int8": 2.8}
    ),
}


@dataclass(frozen=True, kw_only=True)
class Sizes:
    """Of both towers; heads are 64 wide."""

    name: str
    image: int
    vision: int
    text: int
    layers: int
    words: int
    """[DEC] and [ENC] come on top."""
    patch: int = 16

    @property
    def patches(self) -> int:
        """Tokens of a picture, [CLS] included."""
        return (self.image // self.patch) ** 2 + 1


BASE = Sizes(name="BLIP base", image=384, vision=768, text=768, layers=12, words=30522)
TINY = Sizes(name="a tiny BLIP", image=32, vision=128, text=128, layers=2, words=300)


def write_weights(folder: Path, name: ModelName, sizes: Sizes) -> None:
    """A random model as `transformers` writes it, and its vocabulary.

    Weights are drawn large enough that pictures and words change what is said.
    """
    import torch
    import transformers

    torch.manual_seed(1)
    model = getattr(transformers, CLASSES[name])(_config(sizes))
    with torch.no_grad():
        for key, weight in model.named_parameters():
            if "norm" in key.lower():
                weight.fill_(float(key.endswith("weight")))
            elif weight.ndim > 1:
                weight.normal_(std=_std(key) * (768 / sizes.text) ** 0.5)
            elif weight.ndim == 1:
                weight.normal_(std=0.02)
        if name != "retrieval":
            model.text_decoder.cls.predictions.bias[UNSAID] = _NEVER
    model.config.architectures = [CLASSES[name]]
    model.save_pretrained(folder)
    words = [*_SPECIAL, *PROMPT.split()]
    words += [f"word{number}" for number in range(sizes.words - len(words))]
    (folder / "vocab.txt").write_text("\n".join(words), encoding="utf-8")


def _std(key: str) -> float:
    if "vision" in key:
        return 0.04
    # Layers quieter than words and places, or a decoder says one word for ever.
    return 0.06 if "embeddings" in key else 0.025


def _config(sizes: Sizes) -> Any:
    from transformers import BlipConfig

    return BlipConfig(
        vision_config={
            "image_size": sizes.image,
            "patch_size": sizes.patch,
            "hidden_size": sizes.vision,
            "intermediate_size": 4 * sizes.vision,
            "num_hidden_layers": sizes.layers,
            "num_attention_heads": sizes.vision // 64,
            "layer_norm_eps": 1e-6,
        },
        text_config={
            "vocab_size": sizes.words + 2,
            "hidden_size": sizes.text,
            "encoder_hidden_size": sizes.vision,
            "intermediate_size": 4 * sizes.text,
            "num_hidden_layers": sizes.layers,
            "num_attention_heads": sizes.text // 64,
            "bos_token_id": sizes.words,
            "sep_token_id": _SEP,
            "eos_token_id": _SEP,
        },
    )


@dataclass(frozen=True, kw_only=True)
class Inputs:
    """What everybody is asked, as words and, for who has no tokenizer, as ids."""

    picture: Image.Image
    question: str
    texts: list[str]
    prompt: NDArray[np.int64]
    """(1, T) of a caption, [DEC] first."""
    question_ids: NDArray[np.int64]
    """(1, T), [ENC] first."""
    read_ids: NDArray[np.int64]
    """(R, T) texts that are read with the picture, [ENC] first."""
    embedded_ids: NDArray[np.int64]
    """(R, T), [CLS] first."""
    forced: NDArray[np.int64]
    """(1, T): a caption that is forced through the decoder."""


def inputs(hf: Path, sizes: Sizes) -> Inputs:
    """The same for all, drawn from a seed."""
    draw = np.random.default_rng(0)
    words = Tokenizer.from_vocab(hf / "vocab.txt")
    known = sizes.words - len(_SPECIAL) - len(PROMPT.split())

    def text(length: int) -> str:
        # Two of its tokens are the first and [SEP].
        return " ".join(f"word{number}" for number in draw.integers(known, size=length - 2))

    texts = [text(TEXT) for _ in range(TEXTS)]
    question = text(QUESTION)
    prompt = np.array([words.prompt_ids(PROMPT)], dtype=np.int64)
    forced = draw.integers(8, sizes.words, size=(1, FORCED - prompt.shape[1]))
    return Inputs(
        picture=_picture(draw),
        question=question,
        texts=texts,
        prompt=prompt,
        question_ids=words.encode([question], max_length=35, first="enc")[0].astype(np.int64),
        read_ids=words.encode(texts[:READ], max_length=35, first="enc")[0].astype(np.int64),
        embedded_ids=words.encode(texts, max_length=35, first="cls")[0].astype(np.int64),
        forced=np.concatenate([prompt, forced], axis=1),
    )


def _picture(draw: np.random.Generator) -> Image.Image:
    """640 x 480, coarse spots of colour."""
    spots = draw.integers(256, size=(12, 16, 3), dtype=np.uint8)
    return Image.fromarray(spots).resize((640, 480), Image.Resampling.BICUBIC)
