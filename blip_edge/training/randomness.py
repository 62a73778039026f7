"""The state of everything that draws random numbers, as plain values.

Dropout draws from torch, data from numpy's own generators; Python's and numpy's global ones are
somebody else's, who shall find them where they were.
"""

import random
from base64 import b64decode, b64encode
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch

__all__ = ["random_state", "set_random_state", "undisturbed"]


def random_state() -> dict[str, Any]:
    """Where torch's, numpy's and Python's generators stand, as JSON can hold it."""
    name, keys, place, has_gauss, gauss = np.random.get_state(legacy=True)
    version, internal, after = random.getstate()
    cuda = [_text(state) for state in torch.cuda.get_rng_state_all()] if _on_gpu() else []
    return {
        "torch": _text(torch.get_rng_state()),
        "cuda": cuda,
        "numpy": [name, np.asarray(keys).tolist(), place, has_gauss, gauss],
        "python": [version, list(internal), after],
    }


def set_random_state(state: dict[str, Any]) -> None:
    """Go on from where `random_state` was."""
    torch.set_rng_state(_bytes(state["torch"]))
    if state["cuda"] and _on_gpu():
        torch.cuda.set_rng_state_all([_bytes(text) for text in state["cuda"]])
    name, keys, place, has_gauss, gauss = state["numpy"]
    np.random.set_state((name, np.array(keys, dtype=np.uint32), place, has_gauss, gauss))
    version, internal, after = state["python"]
    random.setstate((version, tuple(internal), after))


@contextmanager
def undisturbed() -> Iterator[None]:
    """Whatever is drawn inside, what comes after draws as if nothing had been."""
    state = random_state()
    try:
        yield
    finally:
        set_random_state(state)


def _on_gpu() -> bool:
    return torch.cuda.is_available() and torch.cuda.is_initialized()


def _text(state: torch.Tensor) -> str:
    return b64encode(state.numpy().tobytes()).decode()


def _bytes(text: str) -> torch.Tensor:
    return torch.frombuffer(bytearray(b64decode(text)), dtype=torch.uint8)
