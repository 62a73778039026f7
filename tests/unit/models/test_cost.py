"""Operations and bytes of every stage, against what torch counts in the graphs that run them."""

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from blip_edge.errors import UsageError
from blip_edge.exporters.graphs.decoder import DecoderGraph
from blip_edge.exporters.graphs.graph import Graph, cache_layers
from blip_edge.exporters.graphs.texts import MatchGraph, QuestionGraph, ReasonGraph, TextGraph
from blip_edge.exporters.graphs.vision import VisionGraph
from blip_edge.models import Blip
from blip_edge.models.config import ARCHITECTURES, Architecture, BlipConfig
from blip_edge.models.cost import Cost, Lengths, caption_costs, stage_costs
from blip_edge.models.presets import preset
from blip_edge.models.weighing import Weights
from tests import tiny

EVERY = sorted(set(ARCHITECTURES.values()))
LENGTHS = Lengths(prompt=3, tokens=11)

GRAPHS: dict[str, Callable[[Blip], Graph]] = {
    "vision": VisionGraph,
    "prefill": DecoderGraph,
    "step": DecoderGraph,
    "text": TextGraph,
    "itm": MatchGraph,
    "question": QuestionGraph,
    "reason": ReasonGraph,
}


def uneven(architecture: Architecture) -> BlipConfig:
    """As pruning leaves a network: heads and neurons of each layer, and merged image tokens."""
    plain = tiny.config(architecture)
    return replace(
        plain,
        vision_config=replace(
            plain.vision_config,
            num_attention_heads=(3, 1),
            intermediate_size=(20, 8),
            head_dim=8,
            tokens_kept=(8, 5),
        ),
        text_config=replace(
            plain.text_config,
            num_attention_heads=(1, 4),
            cross_attention_heads=(2, 3),
            intermediate_size=(12, 30),
            head_dim=4,
            merge_from_layer=1,
        ),
    )


def sizes_of(stage: str) -> dict[str, int]:
    """What the free sizes are in a stage: R rows, T tokens, P past, N of a question."""
    tokens = {"prefill": LENGTHS.prompt, "step": 1}.get(stage, LENGTHS.tokens)
    past = LENGTHS.tokens - 1 if stage == "step" else 0
    return {"R": 1, "Q": 1, "T": tokens, "P": past, "N": LENGTHS.tokens}


@pytest.mark.parametrize("architecture", EVERY)
@pytest.mark.parametrize("made", [tiny.config, uneven])
def test_operations_are_those_that_torch_counts_in_the_graphs(
    made: Callable[[Architecture], BlipConfig], architecture: Architecture
) -> None:
    blip = tiny.lively(made(architecture))
    costs = stage_costs(blip.config, LENGTHS)
    for stage, cost in costs.items():
        graph = GRAPHS[stage](blip)
        examples = graph.examples(sizes_of(stage))
        with (
            torch.no_grad(),
            FlopCounterMode(display=False) as counted,
            sdpa_kernel(SDPBackend.MATH),
        ):
            graph(*examples)
        assert counted.get_total_flops() == 2 * cost.macs, stage


@pytest.mark.parametrize("architecture", EVERY)
@pytest.mark.parametrize("made", [tiny.config, uneven])
def test_a_stage_reads_the_weights_of_its_graph(
    made: Callable[[Architecture], BlipConfig], architecture: Architecture
) -> None:
    blip = tiny.lively(made(architecture))
    for stage, cost in stage_costs(blip.config, LENGTHS).items():
        graph = GRAPHS[stage](blip)
        looked_up = {"position_embeddings"} | ({"word_embeddings"} - _head(stage))
        read = {
            parameter
            for path, module in graph.named_modules(remove_duplicate=False)
            if graph.runs(path) and path.rsplit(".", 1)[-1] not in looked_up
            for parameter in module.parameters(recurse=False)
        }
        assert sum(parameter.numel() for parameter in read) == cost.weights.count, stage


def _head(stage: str) -> set[str]:
    """The decoder's head reads the whole word table; other stages look words up."""
    return {"word_embeddings"} if stage in ("prefill", "step") else set()


def test_a_step_moves_its_caches() -> None:
    blip = tiny.lively(uneven("BlipForConditionalGeneration"))
    step = stage_costs(blip.config, LENGTHS)["step"]
    tokens = blip.config.vision_config.num_output_tokens
    kept = sum(
        2 * layer.head_dim * (layer.self_heads * LENGTHS.tokens + layer.cross_heads * tokens)
        for layer in cache_layers(blip)
    )
    assert step.floats == kept
    assert step.bytes("fp32") == 4 * (step.weights.count + kept)
    # Keys and values stay in float32 whatever the weights are.
    assert step.bytes("fp16") == 2 * step.weights.count + 4 * kept


def test_blip_base_costs_what_is_known_of_it() -> None:
    costs = stage_costs(preset("base"))
    # 55.5 G of the image tower and 8.2 G of keys and values; 0.13 G a step.
    assert costs["vision"].macs == pytest.approx(63.7e9, rel=0.01)
    assert costs["step"].macs == pytest.approx(0.134e9, rel=0.01)
    assert costs["step"].weights.bytes("fp32") == pytest.approx(490e6, rel=0.02)


def test_a_caption_is_a_picture_a_prompt_and_a_step_for_each_token_but_the_last() -> None:
    config = tiny.config()
    vision, prefill, *steps = caption_costs(config, LENGTHS)
    costs = stage_costs(config, LENGTHS)
    assert (vision, prefill) == (costs["vision"], costs["prefill"])
    assert len(steps) == LENGTHS.tokens - LENGTHS.prompt - 1
    assert [one.macs for one in steps] == sorted({one.macs for one in steps})
    assert steps[-1].macs < costs["step"].macs


def test_texts_are_no_longer_than_the_tower_has_positions() -> None:
    config = tiny.config("BlipForPreTraining")
    short = replace(config, text_config=replace(config.text_config, max_position_embeddings=6))
    assert stage_costs(short, Lengths(tokens=60)) == stage_costs(short, Lengths(tokens=6))
    assert len(caption_costs(short)) == 3


def test_what_cannot_be_said_is_refused() -> None:
    with pytest.raises(UsageError, match="does not caption"):
        caption_costs(tiny.config("BlipForImageTextRetrieval"))
    with pytest.raises(UsageError, match="a prompt of 20 tokens leaves none of 20"):
        Lengths(prompt=20)


def test_stages_add_up() -> None:
    one, other = Cost(1, Weights(floats=2), 3), Cost(10, Weights(floats=20, layers=1), 30)
    assert one.then(other) == Cost(11, Weights(floats=22, layers=1), 33)
