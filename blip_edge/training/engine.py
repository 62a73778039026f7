"""torch under the same programs as every other target: how a MODEL folder is used."""

# B images · F frames of a clip · R rows = B x beams · T text tokens · V vocabulary · S image side

from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from blip_edge.errors import ArtifactError
from blip_edge.models.attention import Cross, causal_mask
from blip_edge.models.blip import Blip
from blip_edge.models.config import Architecture
from blip_edge.models.folder import Model, load_model
from blip_edge.runtime.edge_model import EdgeModel
from blip_edge.runtime.engine import F32, I32, Session, Task
from blip_edge.runtime.room import Room

__all__ = ["Seen", "TorchEngine", "edge_model", "open_model"]

_TASKS: dict[Architecture, tuple[Task, ...]] = {
    "BlipForConditionalGeneration": ("caption",),
    "BlipForImageTextRetrieval": ("retrieval",),
    "BlipForQuestionAnswering": ("vqa",),
    "BlipForPreTraining": ("caption", "retrieval"),
    "BlipForImagesAndTextClassification": ("nlvr2",),
}


def open_model(folder: Path, *, threads: int | None = None) -> EdgeModel:
    """Open a MODEL folder; a quantized one computes as its int8 bundle will.

    Raises:
        ArtifactError: the folder is not a whole model.
    """
    if threads is not None:
        torch.set_num_threads(threads)
    return edge_model(load_model(folder, quantized=True))


def edge_model(model: Model) -> EdgeModel:
    """A model that is in memory, ready to be asked."""
    engine = TorchEngine(model.blip)
    return EdgeModel(engine, model.tokenizer, model.preprocess, model.generation)


class Seen(NamedTuple):
    """What texts read of pictures, or answers of questions."""

    tokens: Tensor
    """(B, N, D): of the picture, or of the question that has seen it."""
    cross: list[Cross]
    """Keys and values of the tower that reads them; empty where there are two pictures to read."""


class TorchEngine:
    """A BLIP behind the runtime's engine interface; what it can do is in `tasks`."""

    max_images = 64

    def __init__(self, blip: Blip) -> None:
        self._blip = blip.eval()
        self.tasks: tuple[Task, ...] = _TASKS[blip.config.architecture]
        self.max_tokens = blip.config.text_config.max_position_embeddings
        self._device = next(blip.parameters()).device

    @torch.inference_mode()
    def encode(self, pixel_values: F32) -> Seen:
        """(B, 3, S, S) pixels to image tokens, and what the text tower reads of them."""
        blip = self._blip
        pixels = torch.from_numpy(np.ascontiguousarray(pixel_values)).to(self._device)
        tokens = blip.image_tokens(pixels)
        if blip.config.parts.twin:
            return Seen(tokens, [])
        reader = blip.encoder if blip.config.parts.encoder else blip.decoder.bert
        return Seen(tokens, reader.cross(tokens))

    def encode_clips(self, pixel_values: F32) -> Seen:
        """The same of (B, F, 3, S, S) pixels: a clip is F · N tokens to read."""
        return self.encode(pixel_values)

    def start(self, cross: Seen, rows: int) -> Session:
        """Begin a search of R rows; see `runtime.engine.Captioner`."""
        return Room(_Session(self._blip, cross.cross), self.max_tokens)

    @torch.inference_mode()
    def ask(
        self, seen: Seen, input_ids: I32, attention_mask: I32, *, reads_padding: bool = False
    ) -> Seen:
        """(R, T) questions, a picture's adjacent, to what their answers are decoded from."""
        ids, mask = self._texts(input_ids, attention_mask)
        states = self._blip.ground(ids, mask, seen.cross)
        return Seen(states, self._blip.answer_cross(states, None if reads_padding else mask))

    @torch.inference_mode()
    def embed_image(self, seen: Seen) -> F32:
        """Unit vectors (B, E)."""
        return _array(self._blip.embed_image(seen.tokens))

    @torch.inference_mode()
    def embed_text(self, input_ids: I32, attention_mask: I32) -> F32:
        """(R, T) texts to unit vectors (R, E)."""
        return _array(self._blip.embed_text(*self._texts(input_ids, attention_mask)))

    @torch.inference_mode()
    def match(self, seen: Seen, input_ids: I32, attention_mask: I32) -> F32:
        """(R, 2) logits of texts about pictures, a picture's texts adjacent."""
        ids, mask = self._texts(input_ids, attention_mask)
        return _array(self._blip.itm_logits(ids, mask, seen.cross))

    @torch.inference_mode()
    def with_caption(self, seen: Seen, input_ids: I32, attention_mask: I32) -> Seen:
        """What a dialog is judged against: the pictures' captions, and then the pictures."""
        vision, text = self._blip.config.vision_config, self._blip.config.text_config
        if vision.hidden_size != text.hidden_size:
            raise ArtifactError(
                f"this model's pictures are {vision.hidden_size} wide and its texts "
                f"{text.hidden_size}: it cannot read them side by side, as dialogs need"
            )
        ids, mask = self._texts(input_ids, attention_mask)
        return Seen(seen.tokens, self._blip.dialog_cross(seen.tokens, ids, mask))

    @torch.inference_mode()
    def reason(self, seen: Seen, input_ids: I32, attention_mask: I32) -> F32:
        """(B, 2) logits of sentences about 2B pictures, the left ones first."""
        left, right = seen.tokens.chunk(2)
        ids, mask = self._texts(input_ids, attention_mask)
        return _array(self._blip.reason_logits(ids, mask, left, right))

    def _texts(self, input_ids: I32, attention_mask: I32) -> tuple[Tensor, Tensor]:
        return _ids(input_ids, self._device), _ids(attention_mask, self._device)


def _ids(values: I32, device: torch.device) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(values)).long().to(device)


def _array(values: Tensor) -> F32:
    array: F32 = values.float().cpu().numpy()
    return array


class _Session:
    def __init__(self, blip: Blip, cross: list[Cross]) -> None:
        self._decoder, self._cross = blip.decoder, cross
        self._past: list[tuple[Tensor, Tensor]] | None = None

    @torch.inference_mode()
    def step(self, input_ids: I32, beam_idx: I32) -> F32:
        device = self._decoder.bert.embeddings.position_embeddings.weight.device
        ids = _ids(input_ids, device)
        if self._past is not None:
            order = _ids(beam_idx, device)
            self._past = [(k[order], v[order]) for k, v in self._past]
        start = 0 if self._past is None else self._past[0][0].shape[2]
        mask = causal_mask(ids.shape[1], start, ids.device)
        hidden, self._past = self._decoder.bert(ids, mask, self._cross, self._past)
        return _array(self._decoder.logits(hidden[:, -1]))  # (R, V)
