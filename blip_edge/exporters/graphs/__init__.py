"""The networks that are exported: small modules around Blip with declared inputs and outputs.

`vision` runs once per picture and ends in the keys and values that cross-attention reads, so that
nothing about the picture is computed at a token or for a text. What a model has beside it follows
from what it was trained for.
"""

from blip_edge.exporters.graphs.decoder import DecoderGraph
from blip_edge.exporters.graphs.graph import Graph, cache_layers
from blip_edge.exporters.graphs.image import ImageVisionGraph
from blip_edge.exporters.graphs.static import (
    StatefulDecoderGraph,
    StaticDecoderGraph,
    StaticQuestionGraph,
    fixed,
)
from blip_edge.exporters.graphs.texts import MatchGraph, QuestionGraph, ReasonGraph, TextGraph
from blip_edge.exporters.graphs.vision import VisionGraph
from blip_edge.models.blip import Blip

__all__ = [
    "DecoderGraph",
    "Graph",
    "ImageVisionGraph",
    "MatchGraph",
    "QuestionGraph",
    "ReasonGraph",
    "StatefulDecoderGraph",
    "StaticDecoderGraph",
    "StaticQuestionGraph",
    "TextGraph",
    "VisionGraph",
    "cache_layers",
    "fixed",
    "graphs_of",
]


def graphs_of(blip: Blip) -> list[Graph]:
    """All graphs of a model, sizes of texts and searches free, each after those it reads from."""
    parts = blip.config.parts
    graphs: list[Graph] = [VisionGraph(blip)]
    if parts.compares:
        graphs += [TextGraph(blip), MatchGraph(blip)]
    if parts.twin:
        graphs.append(ReasonGraph(blip))
    if parts.decoder and not blip.config.captions:
        graphs.append(QuestionGraph(blip))
    if parts.decoder:
        graphs.append(DecoderGraph(blip))
    return graphs
