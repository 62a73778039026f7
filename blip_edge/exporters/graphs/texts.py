"""Texts by themselves, and texts that are read with pictures in view."""

# R texts · T text tokens · N image tokens · H heads · K width of a head · E width of the shared
# space

from torch import Tensor

from blip_edge.exporters.graphs.graph import (
    Graph,
    cross_ports,
    flat,
    paired,
    projections,
    text_ports,
)
from blip_edge.models.attention import Cross, TwinCross
from blip_edge.models.blip import Blip
from blip_edge.runtime.manifest import Port

__all__ = ["MatchGraph", "QuestionGraph", "ReasonGraph", "TextGraph"]


class TextGraph(Graph):
    """(R, T) ids that start with [CLS] to unit vectors (R, E)."""

    name = "text"

    def __init__(self, blip: Blip) -> None:
        looks = [layer.crossattention for layer in blip.encoder.blocks]
        used = [blip.encoder, blip.text_proj]
        super().__init__(blip, ["text_encoder", "text_proj"], used, looks)
        self.inputs = text_ports("R")
        self.outputs = {"text_embeds": Port(("R", blip.config.image_text_hidden_size), "float32")}

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> tuple[Tensor]:
        """Unit vectors (R, E)."""
        return (self.embed_text(input_ids, attention_mask),)


class MatchGraph(Graph):
    """(R, T) ids that start with [ENC], all about one picture, to logits (R, 2), 1 = match."""

    name = "itm"

    def __init__(self, blip: Blip) -> None:
        used, once = [blip.encoder, blip.itm_head], projections(blip.encoder)
        super().__init__(blip, ["text_encoder", "itm_head"], used, once)
        self.inputs = text_ports("R") | _pictures(blip, "cross")
        self.outputs = {"itm_logits": Port(("R", 2), "float32")}

    def forward(self, input_ids: Tensor, attention_mask: Tensor, *cross: Tensor) -> tuple[Tensor]:
        """Logits (R, 2)."""
        seen = [Cross(*pair) for pair in paired(cross)]
        return (self.itm_logits(input_ids, attention_mask, seen),)


class QuestionGraph(Graph):
    """A question (1, T) that starts with [ENC] to the keys and values its answer is decoded from.

    One question at a time: none is padded, so that the decoder needs no mask.
    """

    name = "question"

    def __init__(self, blip: Blip) -> None:
        used = [blip.encoder, *projections(blip.decoder.bert)]
        once = projections(blip.encoder)
        super().__init__(blip, ["text_encoder", "text_decoder"], used, once)
        self.inputs = text_ports(1) | _pictures(blip, "cross")
        self.outputs = cross_ports(blip.config.text_config, "question", "T")

    def forward(
        self, input_ids: Tensor, attention_mask: Tensor, *cross: Tensor
    ) -> tuple[Tensor, ...]:
        """question_key_i (1, H, K, T) and question_value_i (1, H, T, K) of each layer i in turn."""
        seen = [Cross(*pair) for pair in paired(cross)]
        return flat(self.answer_cross(self.ground(input_ids, attention_mask, seen)))


class ReasonGraph(Graph):
    """A sentence (1, T) that starts with [ENC] about two pictures to logits (1, 2), 1 = true."""

    name = "reason"

    def __init__(self, blip: Blip) -> None:
        used, once = [blip.encoder, blip.cls_head], projections(blip.encoder)
        super().__init__(blip, ["text_encoder", "cls_head"], used, once)
        self.inputs = text_ports(1) | _pictures(blip, "left") | _pictures(blip, "right")
        self.outputs = {"reason_logits": Port((1, 2), "float32")}

    def forward(self, input_ids: Tensor, attention_mask: Tensor, *cross: Tensor) -> tuple[Tensor]:
        """Logits (1, 2)."""
        seen = [Cross(*pair) for pair in paired(cross)]
        layers = len(seen) // 2
        both = [TwinCross(*pair) for pair in zip(seen[:layers], seen[layers:], strict=True)]
        return (self.judge(input_ids, attention_mask, both),)


def _pictures(blip: Blip, prefix: str) -> dict[str, Port]:
    tokens = blip.config.vision_config.num_output_tokens
    return cross_ports(blip.config.text_config, prefix, tokens)
