"""Our BLIP against the classes of `transformers`, on tiny random models, both ways."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from blip_edge.artifact import write_json
from blip_edge.models import Blip, BlipConfig, build
from blip_edge.models.weights import load_state, read_weights, save_weights
from blip_edge.training.losses import IGNORED, lm_loss

transformers = pytest.importorskip("transformers")

# float32 through a handful of layers in another order of operations.
CLOSE = 1e-5
VOCAB = 60


def close(got: Tensor, want: Tensor) -> None:
    torch.testing.assert_close(got, want, rtol=CLOSE, atol=CLOSE)


def hugging_face(name: str, *, vision_width: int = 48) -> Any:
    """A tiny model whose weights are large enough that a wrong mask or a lost layer shows."""
    torch.manual_seed(3)
    text = {
        "vocab_size": VOCAB,
        "hidden_size": 32,
        "encoder_hidden_size": vision_width,
        "num_hidden_layers": 3,
        "num_attention_heads": 4,
        "intermediate_size": 64,
        "max_position_embeddings": 24,
        "bos_token_id": 58,
        "sep_token_id": 3,
        "eos_token_id": 3,
    }
    vision = {
        "hidden_size": vision_width,
        "num_hidden_layers": 3,
        "num_attention_heads": vision_width // 8,
        "intermediate_size": 96,
        "image_size": 32,
        "patch_size": 8,
        "layer_norm_eps": 1e-6,
    }
    config = transformers.BlipConfig(
        text_config=text, vision_config=vision, image_text_hidden_size=16
    )
    config.architectures = [name]
    model = getattr(transformers, name)(config).eval()
    with torch.no_grad():
        for key, tensor in model.named_parameters():
            if "norm" not in key.lower():
                tensor.normal_(std=0.3)
            else:
                tensor.add_(torch.randn_like(tensor) * 0.2)
    return model


def ours(reference: Any) -> Blip:
    config = reference.config.to_dict()
    model = build(BlipConfig.from_json(config, source="config"))
    load_state(model, reference.state_dict(), source="transformers")
    return model.eval()


def pictures(count: int) -> Tensor:
    return torch.randn(count, 3, 32, 32, generator=torch.Generator().manual_seed(1))


def words(rows: int, tokens: int) -> tuple[Tensor, Tensor]:
    """Right-padded ids of different lengths, and their mask."""
    ids = torch.randint(5, VOCAB, (rows, tokens), generator=torch.Generator().manual_seed(2))
    lengths = torch.tensor([tokens - 2 * (row % 3) for row in range(rows)])
    mask = (torch.arange(tokens)[None] < lengths[:, None]).long()
    return ids * mask, mask


@torch.no_grad()
def test_captioner_gives_the_same_image_tokens_and_logits() -> None:
    reference = hugging_face("BlipForConditionalGeneration")
    model = ours(reference)
    ids, mask = words(3, 9)
    tokens = model.vision_model(pictures(3))
    expected = reference.vision_model(pictures(3)).last_hidden_state
    close(tokens, expected)
    want = reference.text_decoder(
        input_ids=ids, attention_mask=mask, encoder_hidden_states=expected
    ).logits
    got = model.lm_logits(ids, tokens)
    assert want[mask == 1].std() > 0.5, "the weights are too small to show a mistake"
    close(got[mask == 1], want[mask == 1])


@torch.no_grad()
def test_matcher_gives_the_same_similarities_and_itm_logits() -> None:
    reference = hugging_face("BlipForImageTextRetrieval")
    model = ours(reference)
    ids, mask = words(3, 9)
    tokens = model.vision_model(pictures(3))
    want = reference(
        input_ids=ids, pixel_values=pictures(3), attention_mask=mask, use_itm_head=False
    ).itm_score
    got = model.embed_image(tokens) @ model.embed_text(ids, mask).T
    close(got, want)
    want = reference(input_ids=ids, pixel_values=pictures(3), attention_mask=mask).itm_score
    close(model.itm_logits(ids, mask, model.encoder.cross(tokens)), want)


@torch.no_grad()
def test_answerer_gives_the_same_logits() -> None:
    reference = hugging_face("BlipForQuestionAnswering", vision_width=32)
    model = ours(reference)
    ids, mask = words(3, 9)
    answers, _ = words(3, 5)
    expected = reference.vision_model(pictures(3)).last_hidden_state
    question = reference.text_encoder(
        input_ids=ids, attention_mask=mask, encoder_hidden_states=expected, return_dict=False
    )[0]
    states = model.ground(ids, mask, model.encoder.cross(model.image_tokens(pictures(3))))
    close(states[mask == 1], question[mask == 1])
    # transformers 5 loses the mask of questions on the way to its decoder: with padding in a batch
    # it gives what we give without a mask, and with one only where there is no padding.
    want = reference.text_decoder(input_ids=answers, encoder_hidden_states=question).logits
    assert want.std() > 0.5, "the weights are too small to show a mistake"
    close(model.decoder(answers, model.answer_cross(question))[0], want)
    masked, _ = model.decoder(answers, model.answer_cross(states, mask))
    assert (masked - want).abs().max() > 0.1, "a wrong mask would not be seen"
    for row, length in enumerate(mask.sum(1)):
        alone = reference.text_decoder(
            input_ids=answers[row : row + 1],
            encoder_hidden_states=question[row : row + 1, :length],
        ).logits
        close(masked[row : row + 1], alone)


@torch.no_grad()
def test_the_language_model_loss_is_the_same() -> None:
    reference = hugging_face("BlipForConditionalGeneration")
    model = ours(reference)
    ids, mask = words(3, 9)
    labels = ids.masked_fill(mask == 0, IGNORED)
    want = reference(
        pixel_values=pictures(3), input_ids=ids, attention_mask=mask, labels=labels
    ).loss
    logits = model.lm_logits(ids, model.image_tokens(pictures(3)))
    close(lm_loss(logits, labels), want)


@torch.no_grad()
def test_cached_steps_equal_one_pass_and_beams_share_an_image() -> None:
    model = ours(hugging_face("BlipForConditionalGeneration"))
    ids, _ = words(4, 8)
    cross = model.decoder.bert.cross(model.vision_model(pictures(2)))  # 2 images x 2 beams
    whole, _ = model.decoder(ids, cross)
    first, past = model.decoder(ids[:, :3], cross)
    steps = [first]
    for position in range(3, 8):
        logits, past = model.decoder(ids[:, position : position + 1], cross, past)
        steps.append(logits)
    close(torch.cat(steps, dim=1), whole)
    repeated = model.vision_model(pictures(2)).repeat_interleave(2, dim=0)
    close(model.lm_logits(ids, repeated), whole)


@pytest.mark.parametrize(
    "name",
    ["BlipForConditionalGeneration", "BlipForImageTextRetrieval", "BlipForQuestionAnswering"],
)
def test_a_saved_model_opens_with_transformers(name: str, tmp_path: Path) -> None:
    reference = hugging_face(name, vision_width=32)
    model = ours(reference)
    save_weights(model, tmp_path / "model.safetensors")
    write_json(tmp_path / "config.json", model.config.to_json())
    opened, report = getattr(transformers, name).from_pretrained(tmp_path, output_loading_info=True)
    assert not report["missing_keys"] and not report["unexpected_keys"]
    for key, tensor in reference.state_dict().items():
        torch.testing.assert_close(opened.state_dict()[key], tensor, rtol=0, atol=0)


def test_pretraining_shares_all_but_self_attention_and_survives_a_round_trip(
    tmp_path: Path,
) -> None:
    config = ours(hugging_face("BlipForConditionalGeneration")).config
    both = BlipConfig(
        vision_config=config.vision_config,
        text_config=config.text_config,
        architecture="BlipForPreTraining",
        image_text_hidden_size=16,
    )
    model = build(both)
    assert both.model_type == "blip_edge"
    encoder, decoder = model.encoder, model.decoder.bert
    assert encoder.encoder.layer[0].output is decoder.encoder.layer[0].output
    name = "encoder.layer.0.attention.self.query.weight"
    assert not torch.equal(encoder.state_dict()[name], decoder.state_dict()[name])
    save_weights(model, tmp_path / "model.safetensors")
    again = build(both)
    load_state(again, read_weights(tmp_path / "model.safetensors"), source="model")
    for key, tensor in model.state_dict().items():
        torch.testing.assert_close(again.state_dict()[key], tensor, rtol=0, atol=0)
