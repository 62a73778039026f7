"""Answers, judgements and dialogs: losses and gradients against `transformers` or the formulas."""

from dataclasses import replace
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from blip_edge.models import Blip, BlipConfig
from blip_edge.models.config import Architecture
from blip_edge.models.weights import load_state
from blip_edge.text import Tokenizer
from blip_edge.training.batches import DialogBatch, Nlvr2Batch, VqaBatch
from blip_edge.training.objectives import DialogObjective, Nlvr2Objective, VqaObjective
from blip_edge.training.recipe import TrainRecipe
from tests import tiny
from tests.parity import formulas
from tests.parity.formulas import Row

transformers = pytest.importorskip("transformers")

TEXTS = ["is the cat on the mat", "what is red", "a cat", "red", "yes it is", "two dogs and a mat"]
WORDS = Tokenizer.train(TEXTS, 60)
# float32, in another order of operations; double precision where both sides are ours.
CLOSE, CLOSER = 1e-5, 1e-9


def pictures(count: int, seed: int = 1) -> Tensor:
    return torch.randn(count, 3, 24, 24, generator=torch.Generator().manual_seed(seed)).double()


def encoded(*texts: str) -> tuple[Tensor, Tensor, list[list[int]]]:
    """Padded ids, their mask, and the ids without padding."""
    ids, mask = (torch.from_numpy(values).long() for values in WORDS.encode(texts))
    return ids, mask, [row[: int(n)].tolist() for row, n in zip(ids, mask.sum(1), strict=True)]


def rows(pixels: Tensor, texts: list[list[int]]) -> list[Row]:
    return [
        Row(i, picture, ids) for i, (picture, ids) in enumerate(zip(pixels, texts, strict=True))
    ]


def same_gradients(got: Tensor, ours: nn.Module, want: Tensor, theirs: nn.Module) -> None:
    """Of every parameter of ours, by name."""
    close = CLOSE if want.dtype == torch.float32 else CLOSER
    torch.testing.assert_close(got, want, rtol=close, atol=close)
    expected = dict(theirs.named_parameters())
    names, parameters = zip(*ours.named_parameters(), strict=True)
    mine = torch.autograd.grad(got, parameters, materialize_grads=True, allow_unused=True)
    other = torch.autograd.grad(
        want, [expected[name] for name in names], materialize_grads=True, allow_unused=True
    )
    assert sum(gradient.any().item() for gradient in other) > 40
    for name, gradient, wanted in zip(names, mine, other, strict=True):
        torch.testing.assert_close(
            gradient, wanted, rtol=close, atol=close, msg=partial("{}: {}".format, name)
        )


def hugging_face_answerer() -> Any:
    torch.manual_seed(3)
    sizes = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4}
    config = transformers.BlipConfig(
        text_config={
            **sizes,
            "intermediate_size": 40,
            "vocab_size": WORDS.vocab_size,
            "max_position_embeddings": 24,
            "bos_token_id": WORDS.dec,
            "pad_token_id": WORDS.pad,
            "sep_token_id": WORDS.sep,
            "label_smoothing": 0.1,
        },
        vision_config={
            **sizes,
            "intermediate_size": 48,
            "image_size": 24,
            "patch_size": 8,
            "layer_norm_eps": 1e-6,
        },
    )
    config.architectures = ["BlipForQuestionAnswering"]
    model: Any = transformers.BlipForQuestionAnswering(config).eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "norm" in name.lower():
                parameter.add_(torch.randn_like(parameter) * 0.2)
            else:
                parameter.normal_(std=0.3)
    return model


def test_answers_cost_what_transformers_says_one_by_one() -> None:
    """`transformers` has no weights, takes means over tokens, and lets answers see padding.

    Asked for one answer of one question at a time, its mean times the tokens is what BLIP sums.
    """
    reference = hugging_face_answerer()
    ours = Blip(BlipConfig.from_json(reference.config.to_dict(), source="config")).eval()
    load_state(ours, reference.state_dict(), source="transformers")
    ids, mask, questions = encoded("is the cat on the mat", "what is red")
    answer_ids, answer_mask, answers = encoded("a cat", "red", "yes it is")
    of, weights, pixels = [0, 1, 0], [0.6, 1.0, 0.3], pictures(2).float()
    batch = VqaBatch(
        pixels, ids, mask, answer_ids, answer_mask, torch.tensor(of), torch.tensor(weights)
    )
    got = VqaObjective(ours, WORDS, TrainRecipe())(batch, 0)["lm"]
    want = torch.zeros(())
    for question, answer, weight in zip(of, answers, weights, strict=True):
        asked = torch.tensor([[WORDS.enc, *questions[question][1:]]])
        labels = torch.tensor([[WORDS.dec, *answer[1:]]])
        mean = reference(asked, pixels[question : question + 1], labels=labels).loss
        want = want + weight * mean * (len(answer) - 1) / 2
    same_gradients(got, ours, want, reference)


def lively(architecture: Architecture, **text: Any) -> Blip:
    sizes = tiny.config(architecture, vocab=WORDS.vocab_size)
    return tiny.lively(replace(sizes, text_config=replace(sizes.text_config, **text))).double()


def test_judging_two_pictures_is_the_formula() -> None:
    # One layer averages what it saw in the two pictures, the next merges it.
    blip = lively("BlipForImagesAndTextClassification", merge_from_layer=1)
    ids, mask, texts = encoded("two dogs and a mat", "a cat", "what is red")
    left, right, labels = pictures(3), pictures(3, seed=2), [1, 0, 1]
    batch = Nlvr2Batch(left, right, ids, mask, torch.tensor(labels))
    got = Nlvr2Objective(blip, WORDS)(batch, 0)["cls"]
    want = formulas.nlvr2(blip, rows(left, texts), rows(right, texts), labels, WORDS.enc)
    same_gradients(got, blip, want, blip)


def test_true_and_sampled_answers_of_a_dialog_are_the_formula() -> None:
    blip = lively("BlipForImageTextRetrieval", hidden_size=32)
    caption_ids, caption_mask, captions = encoded("two dogs and a mat", "a cat")
    # What was said, the question, and the true answer or another one.
    said = [
        "what is red a cat",
        "what is red red",
        "is the cat two dogs and a mat",
        "is the cat red",
    ]
    ids, mask, texts = encoded(*said)
    pixels, labels = pictures(2), torch.tensor([0, 1, 1, 0])
    batch = DialogBatch(pixels, caption_ids, caption_mask, ids, mask, labels)
    got = DialogObjective(blip, WORDS)(batch, 0)["itm"]
    candidates = [texts[:2], texts[2:]]
    want = formulas.dialog(blip, rows(pixels, captions), candidates, [1, 0], WORDS.enc)
    same_gradients(got, blip, want, blip)
