"""A captioner small enough to be written down twice: once as graphs, once as a formula.

It follows the bundle contract (one layer, two heads of three), and its logits depend on the
picture, on every token of the row and on which was last, so that a wrongly reordered cache shows.
"""

from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from blip_edge.artifact import write_json
from blip_edge.generation import Generation
from blip_edge.preprocess import Preprocess
from blip_edge.runtime.engine import F32, I32, Task
from blip_edge.runtime.manifest import graph_sha256
from blip_edge.text import Tokenizer

HEADS, WIDTH, TOKENS, SIDE = 2, 3, 4, 8
D = HEADS * WIDTH
TEXT = "a picture of the red green blue circle square on under left right and two"
ROWS, LENGTH = 3, 12
PROMPT = "a picture of "

_random = np.random.default_rng(5)


def _matrix(*shape: int) -> F32:
    values: NDArray[np.float64] = _random.normal(size=shape) * 2
    return values.astype(np.float32)


@cache
def tokenizer() -> Tokenizer:
    return Tokenizer.train([TEXT] * 20, 80)


V = tokenizer().vocab_size
KEYS, VALUES, HEAD = _matrix(V, D), _matrix(V, D), _matrix(D, V)
LOOK_KEY, LOOK_VALUE = _matrix(3, D * TOKENS), _matrix(3, D * TOKENS)


def generation(**settings: Any) -> Generation:
    words = tokenizer()
    return Generation(
        **{
            "bos_token_id": words.dec,
            "eos_token_id": words.sep,
            "pad_token_id": words.pad,
            "max_length": LENGTH,
            "prompt": PROMPT,
            **settings,
        }
    )


class ToyEngine:
    """The formula; no cache, the whole text at every step."""

    tasks: tuple[Task, ...] = ("caption",)
    max_images = 2

    def encode(self, pixel_values: F32) -> F32:
        colour = pixel_values.mean(axis=(2, 3))  # (B, 3)
        keys = (colour @ LOOK_KEY).reshape(-1, D, TOKENS).mean(axis=2)
        values = (colour @ LOOK_VALUE).reshape(-1, HEADS, TOKENS, WIDTH).mean(axis=2)
        look: F32 = keys + values.reshape(-1, D)
        return look

    def start(self, cross: F32, rows: int) -> "ToySession":
        return ToySession(np.repeat(cross, rows // len(cross), axis=0))


class ToySession:
    def __init__(self, look: F32) -> None:
        self._look = look  # (R, D)
        self._ids = np.empty((len(look), 0), dtype=np.int32)

    def step(self, input_ids: I32, beam_idx: I32) -> F32:
        self._ids = np.concatenate([self._ids[beam_idx], input_ids], axis=1)
        state = KEYS[self._ids].mean(axis=1) + VALUES[self._ids[:, -1]] + self._look
        logits: F32 = np.tanh(state) @ HEAD
        return logits


def write_bundle(folder: Path, target: str, graphs: dict[str, str], **changes: Any) -> Path:
    """tokenizer.json and manifest.json for graph files that are in `folder` already."""
    words = tokenizer()
    words.save(folder)
    static = {"rows": ROWS, "length": LENGTH} if target == "coreml" else None
    manifest = {
        "format_version": 1,
        "target": target,
        "precision": "fp32",
        "tasks": ["caption"],
        "graphs": {
            name: {"file": file, "sha256": graph_sha256(folder / file), **_ports(name)}
            for name, file in graphs.items()
        },
        "parity": {},
        "preprocess": Preprocess(size=SIDE).to_json(),
        "tokenizer": "tokenizer.json",
        "decode": {**generation().to_json(), "prompt_ids": words.prompt_ids(PROMPT)},
        "cache": {
            "layers": [{"self_heads": HEADS, "cross_heads": HEADS, "head_dim": WIDTH}],
            "static": static,
        },
        "quality": None,
        "source": {"model_sha256": "0" * 64, "versions": {}},
        "latency": [],
        **changes,
    }
    write_json(folder / "manifest.json", manifest)
    return folder


def _ports(name: str) -> dict[str, Any]:
    cross = {
        "cross_key_0": _port(1, HEADS, WIDTH, TOKENS),
        "cross_value_0": _port(1, HEADS, TOKENS, WIDTH),
    }
    if name == "vision":
        return {"inputs": {"pixel_values": _port(1, 3, SIDE, SIDE)}, "outputs": cross}
    return {
        "inputs": {
            "input_ids": _port("R", "T", dtype="int32"),
            "beam_idx": _port("R", dtype="int32"),
            "past_key_0": _port("Q", HEADS, "P", WIDTH),
            "past_value_0": _port("Q", HEADS, "P", WIDTH),
            **cross,
        },
        "outputs": {
            "logits": _port("R", V),
            "present_key_0": _port("R", HEADS, "P+T", WIDTH),
            "present_value_0": _port("R", HEADS, "P+T", WIDTH),
        },
    }


def _port(*shape: int | str, dtype: str = "float32") -> dict[str, Any]:
    return {"shape": list(shape), "dtype": dtype}
