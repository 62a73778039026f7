"""The gate of an export: a finished draft, run by the real engines, against torch.

Each graph is compared output by output; then the engine is dictated words for as long as the model
has positions, rows changing places in between, and finally captions are searched for. A fault in a
graph, in the way an engine keeps its cache, or in a runtime shows in one of the three.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from blip_edge.exporters.graphs import Graph, StaticDecoderGraph, VisionGraph
from blip_edge.exporters.parity import Difference, Gate, compare, forced_logits, make_forcing
from blip_edge.exporters.running import Operators, open_graph
from blip_edge.models.folder import Model
from blip_edge.runtime.edge_model import EdgeModel
from blip_edge.runtime.engine import F32, Limited
from blip_edge.runtime.loaded import Picture
from blip_edge.runtime.manifest import Manifest
from blip_edge.training.engine import edge_model

__all__ = ["Measured", "forced_difference", "measure", "same_captions"]

_ROWS, _TOKENS, _STEPS = 3, 2, 3
_BEAMS = (1, 3)


@dataclass
class Measured:
    """What the gate found; `problems` is empty when the bundle is fit to be one."""

    parity: dict[str, dict[str, Difference]] = field(default_factory=dict)
    operators: dict[str, Operators] = field(default_factory=dict)
    captions: int = 0
    same_captions: int = 0
    problems: list[str] = field(default_factory=list)


def measure(
    manifest: Manifest,
    bundle: EdgeModel,
    reference: Model,
    graphs: list[Graph],
    images: list[Image.Image],
    *,
    gate: Gate,
    tokens: int,
) -> Measured:
    """Measure a draft bundle against `reference`, which computes in torch what it should.

    Args:
        manifest: of the draft.
        bundle: the draft, opened.
        reference: the network that the graphs were made of.
        graphs: vision and decoder.
        images: golden pictures.
        gate: what differences may be.
        tokens: how many to dictate, at most.
    """
    found = Measured()
    pixels = reference.preprocess(images[:1])
    cross: dict[str, F32] = {}
    for graph in graphs:
        feeds = {"pixel_values": pixels} if isinstance(graph, VisionGraph) else _step(graph, cross)
        expected = _torch(graph, feeds)
        running = open_graph(manifest.target, manifest.graph(graph.name))
        actual = running(feeds)
        found.parity[graph.name] = {n: compare(v, actual[n]) for n, v in expected.items()}
        found.operators[graph.name] = running.operators()
        cross = cross or expected
    forced = forced_difference(bundle, edge_model(reference), pixels, tokens=tokens)
    found.parity["decoder"]["teacher_forced_logits"] = forced
    for name, outputs in found.parity.items():
        found.problems += [
            f"{name} {output}: {gate.explain(difference)}"
            for output, difference in outputs.items()
            if not gate.passes(difference)
        ]
    _check_captions(found, bundle, reference, images, exact=gate.max_abs_diff is not None)
    _check_operators(found, manifest, graphs)
    return found


def forced_difference(
    bundle: EdgeModel, reference: EdgeModel, pixels: F32, *, tokens: int
) -> Difference:
    """How far the logits are apart when both are dictated the same words in the same rows."""
    rows = _ROWS
    if isinstance(bundle.engine, Limited):
        rows, tokens = min(rows, bundle.engine.max_rows), min(tokens, bundle.engine.max_length)
    prompt = tuple(reference.tokenizer.prompt_ids(reference.generation.prompt))
    vocabulary = reference.tokenizer.vocab_size
    forcing = make_forcing(prompt, rows=rows, tokens=tokens, vocabulary=vocabulary)
    expected, actual = (forced_logits(m.captioner, pixels, forcing) for m in (reference, bundle))
    return compare(expected, actual)


def same_captions(
    bundle: EdgeModel, reference: EdgeModel, images: Sequence[Picture]
) -> tuple[int, int]:
    """(how many captions have the same token ids, of how many), greedy and with three beams."""
    most = bundle.engine.max_rows if isinstance(bundle.engine, Limited) else max(_BEAMS)
    pairs = [
        (mine.token_ids, theirs.token_ids)
        for beams in _BEAMS
        if beams <= most
        for mine, theirs in zip(
            bundle.caption(list(images), beams=beams),
            reference.caption(list(images), beams=beams),
            strict=True,
        )
    ]
    return sum(mine == theirs for mine, theirs in pairs), len(pairs)


def _check_captions(
    found: Measured,
    bundle: EdgeModel,
    reference: Model,
    images: list[Image.Image],
    *,
    exact: bool,
) -> None:
    found.same_captions, found.captions = same_captions(bundle, edge_model(reference), images)
    if exact and found.same_captions < found.captions:
        found.problems.append(
            f"{found.captions - found.same_captions} of {found.captions} captions differ from "
            "torch's, token for token"
        )


def _check_operators(found: Measured, manifest: Manifest, graphs: list[Graph]) -> None:
    for graph in graphs:
        counted = found.operators[graph.name]
        claimed = int(manifest.document["graphs"][graph.name]["int8_layers"])
        if counted.int8 < claimed:
            found.problems.append(
                f"{graph.name}: only {counted.int8} of {claimed} layers run in 8 bits"
            )


@torch.inference_mode()
def _torch(graph: Graph, feeds: dict[str, NDArray[Any]]) -> dict[str, F32]:
    outputs = graph(*(torch.from_numpy(feeds[name]) for name in graph.inputs))
    return {name: out.numpy() for name, out in zip(graph.outputs, outputs, strict=True)}


def _step(graph: Graph, cross: dict[str, F32]) -> dict[str, NDArray[Any]]:
    """Inputs of a step in the middle of a caption, of other sizes than it was traced with."""
    random = np.random.default_rng(0)
    vocabulary = int(graph.outputs["logits"].shape[1])
    static = isinstance(graph, StaticDecoderGraph)
    rows, tokens = (graph.rows, 1) if isinstance(graph, StaticDecoderGraph) else (_ROWS, _TOKENS)
    sizes = {"Q": rows, "P": 0}
    feeds: dict[str, NDArray[Any]] = {
        name: np.zeros(
            [s if isinstance(s, int) else sizes[s] for s in port.shape], dtype=np.float32
        )
        for name, port in graph.inputs.items()
        if name.startswith("past_")
    }
    feeds |= cross
    for step in range(_STEPS):
        if step:
            done = _torch(graph, feeds)
            feeds |= {n: done[n.replace("past", "present")] for n in feeds if n.startswith("past_")}
        feeds["input_ids"] = random.integers(0, vocabulary, (rows, tokens), dtype=np.int32)
        feeds["beam_idx"] = random.integers(0, rows, rows, dtype=np.int32)
        if static:
            feeds["position"] = np.array([step], dtype=np.int32)
    return feeds
