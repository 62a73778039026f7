"""Ranking of answers as BLIP does it, against the loss of the decoder in `transformers`."""

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from blip_edge.runtime.ranking import Ranked, rank
from tests.parity.captioners import BOS, EOS, GENERATION, PAD, VOCABULARY, session, tiny_blip


def answers(count: int, seed: int) -> list[list[int]]:
    """Different ones of one to five words; many share their first."""
    random = np.random.default_rng(seed)
    made: dict[tuple[int, ...], None] = {}
    while len(made) < count:
        made[tuple(random.integers(3, VOCABULARY - 2, size=random.integers(1, 6)).tolist())] = None
    return [[*words, EOS] for words in made]


def losses(model: Any, pixels: Tensor, candidates: list[list[int]], smoothing: float) -> Tensor:
    """(A,): the training loss of each answer, summed over its tokens."""
    longest = max(len(candidate) for candidate in candidates)
    rows = [[BOS, *one, *[PAD] * (longest - len(one))] for one in candidates]
    mask = [[1] * (len(one) + 1) + [0] * (longest - len(one)) for one in candidates]
    ids, attended = torch.tensor(rows), torch.tensor(mask)
    model.text_decoder.label_smoothing = smoothing
    with torch.no_grad():
        seen = model.vision_model(pixel_values=pixels).last_hidden_state
        output = model.text_decoder(
            input_ids=ids,
            attention_mask=attended,
            encoder_hidden_states=seen.expand(len(rows), -1, -1),
            labels=ids.masked_fill(attended == 0, -100),
            reduction="none",
        )
    loss: Tensor = output.loss
    return loss


def first_probabilities(model: Any, pixels: Tensor, candidates: list[list[int]]) -> Tensor:
    with torch.no_grad():
        logits = model(pixel_values=pixels, input_ids=torch.tensor([[BOS]])).logits[0, -1]
    found: Tensor = logits.softmax(dim=-1)[[candidate[0] for candidate in candidates]]
    return found


def ranked(model: Any, pixels: Tensor, candidates: list[list[int]], **how: Any) -> list[Ranked]:
    return rank(lambda rows: session(model, pixels, rows), candidates, GENERATION, **how)


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("seed", range(4))
def test_scores_and_order_are_those_of_the_loss(seed: int, smoothing: float) -> None:
    model, pixels, candidates = tiny_blip(seed), torch.randn(1, 3, 32, 32), answers(60, seed)
    expected = -losses(model, pixels, candidates, smoothing)
    how: dict[str, Any] = {"label_smoothing": smoothing, "max_rows": 16}
    found = ranked(model, pixels, candidates, **how)
    assert [one.index for one in found] == expected.argsort(descending=True).tolist()
    for one in found:
        assert one.log_prob == pytest.approx(float(expected[one.index]), abs=1e-3)

    likeliest = first_probabilities(model, pixels, candidates).argsort(descending=True, stable=True)
    kept = likeliest[:20].tolist()
    few = ranked(model, pixels, candidates, k=20, **how)
    assert [one.index for one in few] == sorted(kept, key=lambda n: -float(expected[n]))
    shares = torch.stack([expected[one.index] for one in few]).softmax(dim=0)
    assert [one.probability for one in few] == pytest.approx(shares.tolist(), abs=1e-4)
