"""What matters least goes first: scores by hand, dead units at 0, and shares that are kept."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from blip_edge.distill.importance import Importance, LayerImportance, choose, measure
from blip_edge.distill.student import caption_loss
from blip_edge.models import Model
from blip_edge.training.batches import Batch


def scored(model: Model, batches: list[Batch]) -> Importance:
    return measure(
        model.blip, lambda batch: caption_loss(model.blip, model.tokenizer, "a ", batch), batches
    )


def layers(*scores: list[float]) -> Importance:
    """An importance whose every kind of unit scores the same, a list a layer."""
    found = [LayerImportance(*(torch.tensor(row) for _ in range(3))) for row in scores]
    return Importance(vision=found, text=found)


def test_every_unit_of_every_layer_is_scored(captioner: Model, batches: list[Batch]) -> None:
    importance = scored(captioner, batches)
    assert [tuple(map(len, vars(layer).values())) for layer in importance.vision] == [
        (4, 0, 48),
        (4, 0, 48),
    ]
    assert [tuple(map(len, vars(layer).values())) for layer in importance.text] == [(4, 4, 40)] * 2
    for layer in (*importance.vision, *importance.text):
        assert layer.heads.min() > 0 and layer.neurons.max() > 0
    assert all(parameter.grad is None for parameter in captioner.blip.parameters())


def test_a_score_is_what_the_formula_says(captioner: Model, batches: list[Batch]) -> None:
    """Sum over batches of |sum(weight · gradient)| over a head's columns."""
    blip = captioner.blip
    reader = blip.decoder.bert.blocks[1].crossattention.output.dense
    expected = torch.zeros(4)
    for batch in batches:
        blip.zero_grad()
        caption_loss(blip, captioner.tokenizer, "a ", batch).backward()
        assert reader.weight.grad is not None
        product = (reader.weight * reader.weight.grad).detach()
        expected += torch.stack([product[:, 4 * h : 4 * h + 4].sum().abs() for h in range(4)])
    torch.testing.assert_close(scored(captioner, batches).text[1].cross_heads, expected)


def test_a_score_foretells_what_silencing_costs(captioner: Model, batches: list[Batch]) -> None:
    """To first order: shrinking a head's output by a thousandth costs a thousandth of its score."""
    blip = captioner.blip.double()
    batch = batches[0]
    batch = Batch(batch.pixel_values.double(), batch.input_ids, batch.attention_mask, batch.picture)
    importance = scored(captioner, [batch])
    readers: list[tuple[Tensor, Tensor, int]] = [
        (blip.vision_model.blocks[0].self_attn.projection.weight, importance.vision[0].heads, 8),
        (blip.decoder.bert.blocks[0].attention.output.dense.weight, importance.text[0].heads, 4),
        (blip.vision_model.blocks[1].mlp.fc2.weight, importance.vision[1].neurons, 1),
    ]
    for weight, scores, width in readers:
        with torch.no_grad():
            before = caption_loss(blip, captioner.tokenizer, "a ", batch)
            weight[:, width : 2 * width] *= 0.999
            after = caption_loss(blip, captioner.tokenizer, "a ", batch)
            weight[:, width : 2 * width] /= 0.999
        assert abs(after - before).item() == pytest.approx(scores[1].item() / 1000, rel=0.05)


def test_a_head_that_nobody_reads_scores_nothing_and_goes_first(
    captioner: Model, batches: list[Batch]
) -> None:
    bert, vit = captioner.blip.decoder.bert, captioner.blip.vision_model
    with torch.no_grad():
        vit.blocks[0].self_attn.projection.weight[:, 16:24] = 0
        bert.blocks[1].crossattention.output.dense.weight[:, 0:4] = 0
        bert.blocks[0].output.dense.weight[:, 32:40] = 0
    importance = scored(captioner, batches)
    assert importance.vision[0].heads[2] == 0
    assert importance.text[1].cross_heads[0] == 0
    for even in (True, False):
        keep = choose(importance, heads=0.75, neurons=0.8, even=even)
        assert 2 not in keep.vision[0].heads
        assert 0 not in keep.text[1].cross_heads
        assert not set(range(32, 40)) & set(keep.text[0].neurons)


@settings(deadline=None)
@given(
    scores=st.lists(
        st.lists(st.floats(0, 9, width=32), min_size=1, max_size=40), min_size=1, max_size=4
    ),
    share=st.floats(0.05, 1.0),
    even=st.booleans(),
)
def test_every_layer_keeps_something_and_no_unit_twice(
    scores: list[list[float]], share: float, even: bool
) -> None:
    keep = choose(layers(*scores), heads=share, neurons=share, even=even)
    for number, row in enumerate(scores):
        for kept in (*keep.text[number], keep.vision[number].heads, keep.vision[number].neurons):
            assert kept and kept == sorted(set(kept)) and kept[-1] < len(row)
        neurons = len(keep.text[number].neurons)
        assert neurons % 8 == 0 or neurons == len(row)
        best = sorted((row[unit] for unit in keep.text[number].heads), reverse=True)
        assert best == sorted(row, reverse=True)[: len(best)], "a better head was cut"


@settings(deadline=None)
@given(st.lists(st.integers(1, 40), min_size=1, max_size=4), st.booleans())
def test_a_share_of_all_keeps_all(sizes: list[int], even: bool) -> None:
    keep = choose(layers(*([1.0] * size for size in sizes)), heads=1.0, neurons=1.0, even=even)
    for number, size in enumerate(sizes):
        everyone = list(range(size))
        assert keep.text[number] == (everyone, everyone, everyone)


def test_even_keeps_the_share_in_every_layer() -> None:
    scores = [[9.0] * 16, [1.0] * 16]
    keep = choose(layers(*scores), heads=0.5, neurons=0.5, even=True)
    assert [len(keep.text[number].heads) for number in (0, 1)] == [8, 8]
    assert [len(keep.vision[number].neurons) for number in (0, 1)] == [8, 8]


def test_uneven_keeps_the_share_of_all_where_it_matters() -> None:
    scores = [[9.0] * 16, [1.0] * 8 + [2.0] * 8]
    keep = choose(layers(*scores), heads=0.75, neurons=0.75, even=False)
    assert keep.vision[0].heads == list(range(16))
    assert keep.vision[1].heads == list(range(8, 16))
    assert keep.text[1].neurons == list(range(8, 16))


def test_units_that_score_alike_do_not_all_stay() -> None:
    """Dead units score 0 together; a threshold would keep every one of them."""
    keep = choose(layers([1.0, 0.0, 0.0, 0.0], [1.0, 0, 0, 0]), heads=0.5, neurons=0.5, even=False)
    assert sum(len(layer.heads) for layer in keep.text.values()) == 4
    assert all(0 in layer.heads for layer in keep.text.values())
