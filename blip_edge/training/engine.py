"""torch under the same search as every other target: how a MODEL folder captions."""

# B images · R rows = B x beams · T text tokens · V vocabulary · S image side

from pathlib import Path
from typing import Any

import numpy as np
import torch

from blip_edge.errors import UsageError
from blip_edge.models.attention import Cross, causal_mask
from blip_edge.models.blip import Blip
from blip_edge.models.folder import Model, load_model
from blip_edge.runtime.edge_model import EdgeModel
from blip_edge.runtime.engine import F32, I32

__all__ = ["TorchEngine", "edge_model", "open_model"]


def open_model(folder: Path, *, threads: int | None = None) -> EdgeModel:
    """Open a MODEL folder for captioning; a quantized one computes as its int8 bundle will.

    Raises:
        ArtifactError: the folder is not a whole model.
    """
    if threads is not None:
        torch.set_num_threads(threads)
    return edge_model(load_model(folder, quantized=True))


def edge_model(model: Model) -> EdgeModel:
    """A model that is in memory, as a captioner."""
    engine = TorchEngine(model.blip)
    return EdgeModel(engine, model.tokenizer, model.preprocess, model.generation)


class TorchEngine:
    """A BLIP that generates, behind the runtime's engine interface."""

    max_images = 64

    def __init__(self, blip: Blip) -> None:
        self._blip = blip.eval()

    @torch.inference_mode()
    def encode(self, pixel_values: F32) -> list[Cross]:
        """(B, 3, S, S) pixels to the decoder's cross-attention keys and values."""
        tokens = self._blip.vision_model(torch.from_numpy(pixel_values))
        return self._blip.decoder.bert.cross(tokens)

    def start(self, cross: Any, rows: int) -> "_Session":
        """Begin a search of R rows; see `runtime.engine.Engine`."""
        return _Session(self._blip, cross)


class _Session:
    def __init__(self, blip: Blip, cross: list[Cross]) -> None:
        self._decoder, self._cross = blip.decoder, cross
        self._room = blip.config.text_config.max_position_embeddings
        self._past: list[tuple[torch.Tensor, torch.Tensor]] | None = None

    @torch.inference_mode()
    def step(self, input_ids: I32, beam_idx: I32) -> F32:
        ids = torch.from_numpy(np.ascontiguousarray(input_ids)).long()
        if self._past is not None:
            order = torch.from_numpy(np.ascontiguousarray(beam_idx)).long()
            self._past = [(k[order], v[order]) for k, v in self._past]
        start = 0 if self._past is None else self._past[0][0].shape[2]
        if start + ids.shape[1] > self._room:
            raise UsageError(f"the model holds {self._room} tokens; ask for a smaller max_length")
        mask = causal_mask(ids.shape[1], start, ids.device)
        hidden, self._past = self._decoder.bert(ids, mask, self._cross, self._past)
        logits: F32 = self._decoder.logits(hidden[:, -1]).float().numpy()  # (R, V)
        return logits
