"""BLIP base at its full size against `transformers`: what tiny networks may hide shows here."""

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from transformers import BlipConfig, BlipForConditionalGeneration

from blip_edge.generation import Generation
from blip_edge.models import Blip
from blip_edge.models import BlipConfig as OurConfig
from blip_edge.models.weights import restore
from blip_edge.runtime.decoding import search
from blip_edge.training.engine import TorchEngine
from blip_edge.training.losses import lm_loss

pytestmark = pytest.mark.slow

PROMPT = [30522, 1037, 3861, 1997]  # [DEC] a picture of
SIZE, PICTURES = 224, 2
# float32 through 24 layers; what is compared is of the order of 1.
CLOSE = 1e-4


@pytest.fixture(scope="module")
def reference() -> Any:
    """Weights large enough that pictures and words matter, small enough to stay in range."""
    torch.manual_seed(1)
    with torch.device("meta"):
        model: Any = BlipForConditionalGeneration(
            BlipConfig(
                vision_config={"image_size": SIZE, "layer_norm_eps": 1e-6},
                text_config={"num_attention_heads": 12},
            )
        )
    model.to_empty(device="cpu").tie_weights()
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if "norm" in name.lower():
                weight.fill_(1.0 if name.endswith("weight") else 0.0)
            elif weight.dim() > 1:
                weight.normal_(std=0.04 if "vision" in name else 0.06)
            else:
                weight.normal_(std=0.02)
        for tower in (model.text_decoder.bert.embeddings,):
            tower.position_ids.copy_(torch.arange(512)[None])
        model.text_decoder.cls.predictions.bias[102] = 2.0
    model.config.architectures = ["BlipForConditionalGeneration"]
    return model.eval()


@pytest.fixture(scope="module")
def ours(reference: Any) -> Blip:
    config = OurConfig.from_json(reference.config.to_dict(), source="config")
    return restore(config, reference.state_dict(), source="transformers").eval()


def pixels() -> Tensor:
    return torch.randn(PICTURES, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(2))


def close(got: Tensor, want: Tensor) -> None:
    torch.testing.assert_close(got, want, rtol=CLOSE, atol=CLOSE)


@torch.no_grad()
def test_image_tokens_logits_and_loss_are_the_same(reference: Any, ours: Blip) -> None:
    ids = torch.randint(1000, 30000, (PICTURES, 12), generator=torch.Generator().manual_seed(3))
    mask = torch.ones_like(ids)
    tokens = ours.image_tokens(pixels())
    close(tokens, reference.vision_model(pixels()).last_hidden_state)
    want = reference(pixel_values=pixels(), input_ids=ids, attention_mask=mask, labels=ids)
    logits = ours.lm_logits(ids, tokens)
    assert want.logits.std() > 0.5, "the weights are too small to show a mistake"
    close(logits, want.logits)
    close(lm_loss(logits, ids), want.loss)


@pytest.mark.parametrize("beams", [1, 3])
def test_captions_are_the_same_to_the_token(reference: Any, ours: Blip, beams: int) -> None:
    how = Generation(
        bos_token_id=30522,
        eos_token_id=102,
        pad_token_id=0,
        num_beams=beams,
        min_length=5,
        max_length=20,
    )
    prompt = torch.tensor([[*PROMPT, 102]] * PICTURES)  # generate() drops the last
    want = reference.generate(
        pixel_values=pixels(),
        input_ids=prompt,
        num_beams=beams,
        min_length=5,
        max_length=20,
        do_sample=False,
    )
    engine = TorchEngine(ours)
    session = engine.start(engine.encode(pixels().numpy()), PICTURES * beams)
    found = search(session, np.array([PROMPT] * PICTURES, dtype=np.int32), how)
    got = [best.token_ids for best, *_ in found]
    assert got == [tuple(row[: len(mine)]) for row, mine in zip(want.tolist(), got, strict=True)]
    assert got[0] != got[1], "the captions are too much alike to show a mistake"
