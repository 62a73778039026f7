"""One step of the search for words: captions from a picture, answers from a question."""

# R rows = B x beams · Q rows of the step before · T text tokens · P past tokens
# N tokens that cross-attention reads · V vocabulary · H heads · K width of a head

from torch import Tensor, nn

from blip_edge.exporters.graphs.graph import (
    Graph,
    cache_layers,
    cross_ports,
    paired,
    projections,
)
from blip_edge.models.attention import Cross, causal_mask
from blip_edge.models.blip import Blip
from blip_edge.runtime.manifest import LayerCache, Port

__all__ = ["DecoderGraph"]


class DecoderGraph(Graph):
    """One step with free R, Q, T and P.

    P = 0 is the first step, so that one graph does both. Q may differ from R, so that a prompt that
    all beams share runs as one row, and the next step spreads its cache. What is read of a picture
    has a fixed length; of a question, a free one.
    """

    name = "decoder"

    def __init__(self, blip: Blip) -> None:
        super().__init__(blip, *_parts(blip))
        layers = cache_layers(blip)
        self.inputs = {
            "input_ids": Port(("R", "T"), "int32"),
            "beam_idx": Port(("R",), "int32"),
            **_past_ports("past", layers, ("Q", "P")),
            **cross_ports(blip.config.text_config, "cross", _tokens(blip)),
        }
        self.outputs = {
            "logits": Port(("R", blip.config.text_config.vocab_size), "float32"),
            **_past_ports("present", layers, ("R", "P + T")),
        }

    def forward(self, input_ids: Tensor, beam_idx: Tensor, *caches: Tensor) -> tuple[Tensor, ...]:
        """Logits (R, V) after the last token, then present_key_i and present_value_i in turn.

        Args:
            input_ids: (R, T) tokens to append.
            beam_idx: (R,) the row of the past that each row continues.
            caches: past_key_i, past_value_i (Q, H, P, K) of each layer in turn, then cross_key_i
                (1, H, K, N), cross_value_i (1, H, N, K) of each layer in turn.
        """
        past, cross = _halves(paired(caches))
        past = [(k.index_select(0, beam_idx), v.index_select(0, beam_idx)) for k, v in past]
        mask = causal_mask(input_ids.shape[1], past[0][0].shape[2], input_ids.device)
        bert = self.decoder.bert
        hidden, present = bert(input_ids, mask, [Cross(*pair) for pair in cross], past)
        logits = self.decoder.logits(hidden[:, -1:])[:, 0]
        return (logits, *(tensor for pair in present for tensor in pair))


_Pairs = list[tuple[Tensor, Tensor]]


def _halves(pairs: _Pairs) -> tuple[_Pairs, _Pairs]:
    """The past of each layer, and what each layer reads."""
    return pairs[: len(pairs) // 2], pairs[len(pairs) // 2 :]


def _parts(blip: Blip) -> tuple[list[str], list[nn.Module], list[nn.Module]]:
    return ["text_decoder"], [blip.decoder], projections(blip.decoder.bert)


def _tokens(blip: Blip) -> int | str:
    return blip.config.vision_config.num_output_tokens if blip.config.captions else "N"


def _past_ports(
    prefix: str, layers: list[LayerCache], sizes: tuple[int | str, int | str]
) -> dict[str, Port]:
    rows, length = sizes
    return {
        f"{prefix}_{what}_{i}": Port((rows, layer.self_heads, length, layer.head_dim), "float32")
        for i, layer in enumerate(layers)
        for what in ("key", "value")
    }
