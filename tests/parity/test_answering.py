"""Our answers against `BlipForQuestionAnswering.generate`, token for token.

`transformers` lets the decoder read the padding of a question, as BLIP's own program does; that is
`legacy` here. By default an answer does not depend on its question's neighbours.
"""

from typing import Any

import numpy as np
import pytest
import torch
from transformers import BlipConfig, BlipForQuestionAnswering

from blip_edge.generation import Generation
from blip_edge.models import BlipConfig as OurConfig
from blip_edge.models.weights import restore
from blip_edge.runtime.decoding import search
from blip_edge.runtime.engine import F32, I32
from blip_edge.training.engine import TorchEngine

BOS, EOS, PAD, VOCABULARY, PAIRS = 38, 2, 0, 40, 8


def answerer(seed: int) -> Any:
    """A tiny answerer whose answers vary."""
    torch.manual_seed(seed)
    sizes = {
        "hidden_size": 32,
        "intermediate_size": 48,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
    }
    config = BlipConfig(
        text_config={
            **sizes,
            "vocab_size": VOCABULARY,
            "max_position_embeddings": 32,
            "bos_token_id": BOS,
            "sep_token_id": EOS,
            "eos_token_id": EOS,
            "pad_token_id": PAD,
        },
        vision_config={**sizes, "image_size": 32, "patch_size": 8, "initializer_range": 0.02},
    )
    config.architectures = ["BlipForQuestionAnswering"]
    model: Any = BlipForQuestionAnswering(config)
    model.eval()
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if weight.dim() > 1:
                weight.mul_(16 if "crossattention" in name else 8)
        model.text_decoder.cls.predictions.bias[EOS] = 1.0
    return model


def questions() -> tuple[I32, I32]:
    """Right-padded ids of different lengths, and their mask."""
    ids = np.random.default_rng(3).integers(5, 38, (PAIRS, 9), dtype=np.int32)
    lengths = 9 - np.arange(PAIRS) % 6
    mask = (np.arange(9)[None] < lengths[:, None]).astype(np.int32)
    return ids * mask, mask


def pictures() -> F32:
    return np.random.default_rng(4).normal(size=(PAIRS, 3, 32, 32)).astype(np.float32)


def ours(
    engine: TorchEngine, rows: slice, beams: int, *, legacy: bool, width: int = 9
) -> list[tuple[int, ...]]:
    ids, mask = (values[rows, :width] for values in questions())
    asked = engine.ask(engine.encode(pictures()[rows]), ids, mask, reads_padding=legacy)
    how = Generation(
        bos_token_id=BOS,
        eos_token_id=EOS,
        pad_token_id=PAD,
        num_beams=beams,
        min_length=1,
        max_length=10,
        prompt="",
    )
    prompt = np.full((len(ids), 1), BOS, dtype=np.int32)
    found = search(engine.start(asked, len(ids) * beams), prompt, how)
    return [best.token_ids for best, *_ in found]


def theirs(model: Any, rows: slice, beams: int) -> list[tuple[int, ...]]:
    ids, mask = (torch.from_numpy(values[rows]).long() for values in questions())
    found = model.generate(
        input_ids=ids,
        attention_mask=mask,
        pixel_values=torch.from_numpy(pictures()[rows]),
        num_beams=beams,
        min_length=1,
        max_length=10,
        do_sample=False,
    ).tolist()
    cut = []
    for row in found:
        ends = [n for n, token in enumerate(row) if token == EOS]
        cut.append(tuple(row[: ends[0] + 1] if ends else row))
    return cut


@pytest.mark.parametrize("beams", [1, 3])
@pytest.mark.parametrize("seed", [0, 1])
def test_the_ids_are_those_of_transformers_and_no_longer_depend_on_neighbours(
    seed: int, beams: int
) -> None:
    model = answerer(seed)
    config = OurConfig.from_json(model.config.to_dict(), source="config")
    engine = TorchEngine(restore(config, model.state_dict(), source="transformers"))
    everyone = slice(0, PAIRS)
    legacy = ours(engine, everyone, beams, legacy=True)
    assert legacy == theirs(model, everyone, beams)
    fixed = ours(engine, everyone, beams, legacy=False)
    lengths = questions()[1].sum(1)
    alone = [
        ours(engine, slice(n, n + 1), beams, legacy=False, width=lengths[n])[0]
        for n in range(PAIRS)
    ]
    assert fixed == alone
    assert len(set(fixed)) > 3, "the answers are too much alike to show a mistake"


def test_the_padding_makes_a_difference_that_is_seen() -> None:
    model = answerer(0)
    config = OurConfig.from_json(model.config.to_dict(), source="config")
    engine = TorchEngine(restore(config, model.state_dict(), source="transformers"))
    everyone = slice(0, PAIRS)
    assert ours(engine, everyone, 3, legacy=True) != ours(engine, everyone, 3, legacy=False)
