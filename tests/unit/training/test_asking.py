"""A model folder asked for answers, matches and judgements: batches change nothing, legacy does."""

from itertools import product

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image

from blip_edge.errors import ArtifactError, UsageError
from blip_edge.models import Model
from blip_edge.models.config import Architecture
from blip_edge.runtime.edge_model import EdgeModel
from blip_edge.training.engine import edge_model
from tests import tiny

TEXTS = [
    "a red circle on the left",
    "the blue square under a green circle",
    "what is left of the red square ?",
    "is it right",
]
CLOSE = 1e-5  # float32, and sums in another order


def picture(seed: int) -> Image.Image:
    pixels = np.random.default_rng(seed).integers(0, 255, (20, 30, 3), dtype=np.uint8)
    return Image.fromarray(pixels)


PICTURES = [picture(seed) for seed in range(3)]


def made(architecture: Architecture) -> tuple[Model, EdgeModel]:
    model = tiny.model(TEXTS * 9, architecture)
    return model, edge_model(model)


def test_what_a_model_was_not_trained_for_is_refused_in_words() -> None:
    _, captioner = made("BlipForConditionalGeneration")
    with pytest.raises(ArtifactError, match="cannot answer questions; it was trained to caption"):
        captioner.answer(PICTURES[0], "is it red?")
    _, answerer = made("BlipForQuestionAnswering")
    with pytest.raises(ArtifactError, match="cannot caption pictures; it was trained to answer"):
        answerer.caption(PICTURES[0])
    with pytest.raises(ArtifactError, match="cannot judge sentences about two pictures"):
        answerer.reason(PICTURES[0], PICTURES[1], "both are red")
    _, pretrained = made("BlipForPreTraining")
    assert pretrained.caption(PICTURES[0]).text is not None
    assert len(pretrained.match(PICTURES[0], TEXTS)) == 4


class TestAnswers:
    QUESTIONS = ("is it red?", "what is left of the blue square?", "left or right?")

    def test_a_list_gives_what_each_question_alone_gives(self) -> None:
        _, model = made("BlipForQuestionAnswering")
        together = model.answer(PICTURES, list(self.QUESTIONS))
        for one, question, answer in zip(PICTURES, self.QUESTIONS, together, strict=True):
            alone = model.answer(one, question)
            assert alone.text == answer.text
            assert alone.score == pytest.approx(answer.score, abs=CLOSE)
            assert 0 < alone.score < 1

    def test_legacy_reads_the_padding_of_shorter_questions(self) -> None:
        _, model = made("BlipForQuestionAnswering")
        fixed = [one.score for one in model.answer(PICTURES, list(self.QUESTIONS))]
        legacy = [one.score for one in model.answer(PICTURES, list(self.QUESTIONS), legacy=True)]
        assert legacy[1] == pytest.approx(fixed[1], abs=CLOSE)  # the longest has none
        assert legacy[0] != pytest.approx(fixed[0], rel=1e-2)

    @torch.no_grad()
    def log_probability(self, model: Model, image: Image.Image, answer: str) -> tuple[float, float]:
        """Of an answer in one teacher-forced pass; and the smoothed loss, negated."""
        words, blip = model.tokenizer, model.blip
        ids, mask = (
            torch.from_numpy(values).long()
            for values in words.encode([self.QUESTIONS[0]], first="enc")
        )
        pixels = torch.from_numpy(model.preprocess([image]))
        states = blip.ground(ids, mask, blip.encoder.cross(blip.image_tokens(pixels)))
        said = torch.tensor([[words.dec, *words.answer_ids(answer)]])
        logits, _ = blip.decoder(said, blip.answer_cross(states, mask))
        losses = [
            F.cross_entropy(logits[0, :-1], said[0, 1:], reduction="sum", label_smoothing=smoothing)
            for smoothing in (0.0, 0.1)
        ]
        return -losses[0].item(), -losses[1].item()

    @pytest.mark.parametrize("legacy", [False, True])
    def test_a_list_is_ranked_by_the_decoders_own_probability(self, legacy: bool) -> None:
        model, asked = made("BlipForQuestionAnswering")
        answers = ["red", "blue square", "a green circle", "left", "red circle on the left"]
        ranked = asked.answer(PICTURES[0], self.QUESTIONS[0], answers, legacy=legacy)
        scores = {
            answer: self.log_probability(model, PICTURES[0], answer)[legacy] for answer in answers
        }
        assert [one.text for one in ranked] == sorted(answers, key=lambda one: -scores[one])
        shares = np.exp([scores[one.text] for one in ranked])
        assert [one.score for one in ranked] == pytest.approx(shares / shares.sum(), abs=CLOSE)
        assert asked.answer(PICTURES[:1], [self.QUESTIONS[0]], answers, legacy=legacy) == [ranked]

    def test_lists_that_do_not_pair_are_refused(self) -> None:
        _, model = made("BlipForQuestionAnswering")
        with pytest.raises(UsageError, match="1 questions for 3 pictures"):
            model.answer(PICTURES, ["is it red?"])
        with pytest.raises(UsageError, match="no answers to rank"):
            model.answer(PICTURES[0], "is it red?", [])
        assert model.answer([], []) == []


class TestMatches:
    @torch.no_grad()
    def test_the_numbers_are_the_networks(self) -> None:
        model, asked = made("BlipForImageTextRetrieval")
        blip, words = model.blip, model.tokenizer
        for image, legacy in product(PICTURES[:2], (False, True)):
            tokens = blip.image_tokens(torch.from_numpy(model.preprocess([image])))
            for text, found in zip(TEXTS, asked.match(image, TEXTS, legacy=legacy), strict=True):
                ids, mask = (torch.from_numpy(v).long() for v in words.encode([text]))
                cosine = (blip.embed_image(tokens) @ blip.embed_text(ids, mask).T).item()
                ids[:, 0] = words.cls if legacy else words.enc
                logits = blip.itm_logits(ids, mask, blip.encoder.cross(tokens))
                assert found.text == text
                assert found.itc == pytest.approx(cosine, abs=CLOSE)
                assert found.itm == pytest.approx(logits.softmax(-1)[0, 1].item(), abs=CLOSE)

    def test_legacy_starts_otherwise_and_is_seen(self) -> None:
        _, asked = made("BlipForImageTextRetrieval")
        fixed, legacy = (asked.match(PICTURES[0], TEXTS, legacy=flag) for flag in (False, True))
        assert [one.itc for one in fixed] == [one.itc for one in legacy]
        assert max(abs(a.itm - b.itm) for a, b in zip(fixed, legacy, strict=True)) > 1e-3

    def test_a_list_of_pictures_gives_a_list_of_lists(self) -> None:
        _, asked = made("BlipForImageTextRetrieval")
        assert asked.match(PICTURES, TEXTS) == [asked.match(one, TEXTS) for one in PICTURES]
        many = TEXTS * 40  # more than go through the network at once
        found = asked.match(PICTURES[0], many)
        for one, again in zip(found, found[:4] * 40, strict=True):
            assert one.itm == pytest.approx(again.itm, abs=CLOSE)

    def test_embeddings_are_what_matches_compare(self) -> None:
        _, asked = made("BlipForImageTextRetrieval")
        images, texts = asked.embed_image(PICTURES), asked.embed_text(TEXTS)
        assert images.shape == (3, 8) and texts.shape == (4, 8)
        np.testing.assert_allclose(asked.embed_image(PICTURES[1]), images[1], atol=CLOSE)
        np.testing.assert_allclose(asked.embed_text(TEXTS[2]), texts[2], atol=CLOSE)
        matches = asked.match(PICTURES, TEXTS)
        cosines = [[one.itc for one in of_picture] for of_picture in matches]
        np.testing.assert_allclose(images @ texts.T, cosines, atol=CLOSE)

    def test_nothing_to_compare_is_refused(self) -> None:
        _, asked = made("BlipForImageTextRetrieval")
        with pytest.raises(UsageError, match="no texts"):
            asked.match(PICTURES[0], [])
        with pytest.raises(UsageError, match="no texts"):
            asked.embed_text([])
        with pytest.raises(UsageError, match="no pictures"):
            asked.embed_image([])
        assert asked.match([], TEXTS) == []


def test_texts_longer_than_the_tower_can_hold_are_cut() -> None:
    long = "red " * 400
    _, matcher = made("BlipForImageTextRetrieval")
    assert len(matcher.match(PICTURES[0], [long, "red"])) == 2
    with pytest.raises(ArtifactError, match="32 wide and its texts 16"):
        matcher.dialog_scores(PICTURES[0], long, [long])
    _, answerer = made("BlipForQuestionAnswering")
    assert answerer.answer(PICTURES[0], long).score > 0
    _, reasoner = made("BlipForImagesAndTextClassification")
    assert reasoner.reason(PICTURES[0], PICTURES[1], long * 3).score >= 0.5


class TestReasons:
    SENTENCES = ("the left one is red", "both are circles", "a green square is on the right")

    def test_the_label_has_the_larger_probability(self) -> None:
        model, asked = made("BlipForImagesAndTextClassification")
        found = asked.reason(PICTURES[0], PICTURES[1], self.SENTENCES[0])
        pixels = torch.from_numpy(model.preprocess(PICTURES[:2]))
        ids, mask = (
            torch.from_numpy(v).long()
            for v in model.tokenizer.encode([self.SENTENCES[0]], first="enc")
        )
        with torch.no_grad():
            left, right = (model.blip.image_tokens(side) for side in pixels.split(1))
            shares = model.blip.reason_logits(ids, mask, left, right).softmax(-1)[0]
        assert found.label == str(bool(shares[1] > shares[0]))
        assert found.score == pytest.approx(shares.max().item(), abs=CLOSE)

    def test_a_list_gives_what_each_alone_gives(self) -> None:
        _, asked = made("BlipForImagesAndTextClassification")
        lefts, rights = PICTURES, PICTURES[::-1]
        together = asked.reason(lefts, rights, list(self.SENTENCES))
        for left, right, sentence, one in zip(lefts, rights, self.SENTENCES, together, strict=True):
            alone = asked.reason(left, right, sentence)
            assert alone.label == one.label
            assert alone.score == pytest.approx(one.score, abs=CLOSE)

    def test_legacy_lets_chance_swap_the_sides(self) -> None:
        _, asked = made("BlipForImagesAndTextClassification")
        a, b = PICTURES[0], PICTURES[1]
        straight = asked.reason(a, b, "the left one is right")
        swapped = asked.reason(b, a, "the right one is left")
        assert straight.score != pytest.approx(swapped.score, abs=1e-4)
        seen = {
            asked.reason(a, b, "the left one is right", legacy=True, seed=seed).score
            for seed in range(8)
        }
        assert seen == {straight.score, swapped.score}

    def test_sides_that_do_not_pair_are_refused(self) -> None:
        _, asked = made("BlipForImagesAndTextClassification")
        with pytest.raises(UsageError, match="2 left and 1 right pictures for 1 sentences"):
            asked.reason(PICTURES[:2], PICTURES[:1], ["both are red"])


class TestSampling:
    def test_what_is_drawn_depends_on_the_seed_and_the_picture_alone(self) -> None:
        _, asked = made("BlipForConditionalGeneration")
        together = asked.captions(PICTURES, 4, sample=True, seed=5)
        for one, drawn in zip(PICTURES, together, strict=True):
            alone = asked.captions(one, 4, sample=True, seed=5)
            assert [c.token_ids for c in alone] == [c.token_ids for c in drawn]
        other = asked.captions(PICTURES, 4, sample=True, seed=6)
        assert [c.token_ids for c in other[0]] != [c.token_ids for c in together[0]]

    def test_the_nucleus_is_blips_unless_told_otherwise(self) -> None:
        _, asked = made("BlipForConditionalGeneration")
        usual = asked.captions(PICTURES[0], 8, sample=True)
        assert usual == asked.captions(PICTURES[0], 8, sample=True, top_p=0.9)
        assert usual != asked.captions(PICTURES[0], 8, sample=True, top_p=1.0)

    def test_tokens_are_told_as_they_come(self) -> None:
        _, asked = made("BlipForConditionalGeneration")
        told: dict[int, list[int]] = {0: [], 1: [], 2: []}
        captions = asked.caption(PICTURES, beams=1, on_token=lambda n, token: told[n].append(token))
        for number, one in enumerate(captions):
            generated = one.token_ids[-len(one.log_probs) :]
            assert tuple(told[number]) == generated
        with pytest.raises(UsageError, match="one beam and one caption"):
            asked.caption(PICTURES[0], beams=2, on_token=lambda n, token: None)
