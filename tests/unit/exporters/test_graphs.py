"""The graphs in torch, before any exporter touches them."""

import pytest
import torch

from blip_edge.exporters.graphs import DecoderGraph, Graph, StaticDecoderGraph, VisionGraph
from blip_edge.models import Blip, BlipConfig, TextConfig, VisionConfig, build

VOCABULARY, LENGTH, ROWS = 40, 9, 3
FIRST = {"Q": ROWS, "P": 0}  # free sizes of the first step


@pytest.fixture(scope="module")
def blip() -> Blip:
    """Layers of different heads and widths, weights large enough that a mistake shows."""
    torch.manual_seed(0)
    vision = VisionConfig(
        image_size=16,
        patch_size=8,
        hidden_size=24,
        num_hidden_layers=1,
        num_attention_heads=3,
        intermediate_size=32,
    )
    text = TextConfig(
        vocab_size=VOCABULARY,
        max_position_embeddings=LENGTH,
        hidden_size=16,
        encoder_hidden_size=24,
        num_hidden_layers=2,
        num_attention_heads=(2, 1),
        cross_attention_heads=(1, 2),
        intermediate_size=(24, 8),
        head_dim=8,
    )
    model = build(BlipConfig(vision_config=vision, text_config=text)).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.3)
    return model


@torch.no_grad()
def run(graph: Graph, feeds: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    assert list(feeds) == list(graph.inputs)
    outputs = dict(zip(graph.outputs, graph(*feeds.values()), strict=True))
    free = {name: p.shape for name, p in graph.outputs.items()}
    for name, tensor in outputs.items():
        fixed = [(a, s) for a, s in enumerate(free[name]) if isinstance(s, int)]
        assert all(tensor.shape[axis] == size for axis, size in fixed), name
    return outputs


@torch.no_grad()
def test_both_decoders_dictated_with_reorderings_equal_one_pass_of_the_model(blip: Blip) -> None:
    generator = torch.Generator().manual_seed(1)
    pixels = torch.randn(1, 3, 16, 16, generator=generator)
    cross = run(VisionGraph(blip), {"pixel_values": pixels})
    graphs = (DecoderGraph(blip), StaticDecoderGraph(blip, rows=ROWS, length=LENGTH))
    caches = [
        {
            name: torch.zeros([s if isinstance(s, int) else FIRST[s] for s in port.shape])
            for name, port in graph.inputs.items()
            if name.startswith("past_")
        }
        for graph in graphs
    ]
    said = torch.empty(ROWS, 0, dtype=torch.int32)  # what each row has heard, reordered alike
    for step in range(LENGTH):
        ids = torch.randint(0, VOCABULARY, (ROWS, 1), generator=generator, dtype=torch.int32)
        order = torch.randint(0, ROWS, (ROWS,), generator=generator, dtype=torch.int32)
        said = torch.cat([said[order.long()], ids], dim=1)
        tokens = blip.vision_model(pixels.expand(ROWS, -1, -1, -1))
        expected = blip.lm_logits(said, tokens)[:, -1]
        for number, graph in enumerate(graphs):
            start = {"position": torch.tensor([step], dtype=torch.int32)} if number else {}
            out = run(
                graph, {"input_ids": ids, **start, "beam_idx": order, **caches[number], **cross}
            )
            torch.testing.assert_close(out["logits"], expected, rtol=1e-4, atol=1e-5)
            caches[number] = {n: out[n.replace("past", "present")] for n in caches[number]}


@torch.no_grad()
def test_one_prompt_row_spreads_to_all_rows_of_the_next_step(blip: Blip) -> None:
    graph = DecoderGraph(blip)
    one = dict(zip(graph.inputs, graph.examples({"R": 1, "Q": 1, "T": 4, "P": 0}), strict=True))
    present = run(graph, one)
    three = one | {n: present[n.replace("past", "present")] for n in one if "past" in n}
    three["input_ids"] = torch.tensor([[1], [2], [3]], dtype=torch.int32)
    three["beam_idx"] = torch.zeros(3, dtype=torch.int32)
    logits = run(graph, three)["logits"]
    for row in range(3):
        alone = three | {"input_ids": three["input_ids"][row : row + 1]}
        alone["beam_idx"] = three["beam_idx"][:1]
        torch.testing.assert_close(logits[row : row + 1], run(graph, alone)["logits"])


def test_every_quantizable_layer_of_a_captioner_runs_in_exactly_one_graph(blip: Blip) -> None:
    from blip_edge.models.quantized import quantizable_layers

    graphs = (VisionGraph(blip), DecoderGraph(blip))
    for path in quantizable_layers(blip):
        assert sum(graph.runs(path) for graph in graphs) == 1, path
    cross = "text_decoder.bert.encoder.layer.0.crossattention.self"
    assert graphs[0].runs(f"{cross}.key") and graphs[1].runs(f"{cross}.query")
    assert not any(g.runs("text_encoder.encoder.layer.0.output.dense") for g in graphs)
