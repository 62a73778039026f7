"""Clips, asked of a model folder: against the classes of `transformers`, and against pictures."""

from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from blip_edge.errors import ArtifactError, UsageError
from blip_edge.models import save_model
from blip_edge.models.config import Architecture
from blip_edge.preprocess import Clip
from blip_edge.runtime.edge_model import EdgeModel
from blip_edge.runtime.loaded import Visual, alike
from blip_edge.training.engine import edge_model
from tests import tiny

TEXTS = ["a red circle moves left", "the blue square stays under a green circle", "it moves up"]
QUESTIONS = ["where does it move?", "what colour is the square?", "is the green circle red?"]


def picture(seed: int) -> Image.Image:
    pixels = np.random.default_rng(seed).integers(0, 255, (20, 30, 3), dtype=np.uint8)
    return Image.fromarray(pixels)


def close(got: Any, want: Any) -> None:
    """Equal but for float32's sums in another order."""
    np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-5)


FRAMES = tuple(picture(seed) for seed in range(3))
CLIP = Clip(FRAMES)


def asked(architecture: Architecture) -> tuple[Any, EdgeModel]:
    made = tiny.model([*TEXTS, *QUESTIONS] * 9, architecture)
    sizes = made.blip.config
    # The decoder of answers is as wide as its questions: `transformers` wants pictures to be, too.
    text = replace(sizes.text_config, hidden_size=sizes.vision_config.hidden_size)
    made = replace(made, blip=tiny.lively(replace(sizes, text_config=text)))
    with torch.no_grad():  # so that what is said depends on what is seen
        for name, weight in made.blip.named_parameters():
            if "crossattention" in name and weight.ndim == 2:
                weight.mul_(4)
    return made, edge_model(made)


def theirs(folder: Path, made: Any, name: str) -> Any:
    transformers = pytest.importorskip("transformers")
    save_model(folder, made)
    return getattr(transformers, name).from_pretrained(folder).eval()


def tokens_of(model: Any, made: Any, frames: tuple[Image.Image, ...]) -> Any:
    """(1, F · N, D): each frame goes through the tower alone, and then they stand side by side."""
    seen = [model.vision_model(torch.from_numpy(made.preprocess([frame])))[0] for frame in frames]
    return torch.cat(seen, dim=1)


@torch.no_grad()
def test_a_clip_is_embedded_as_the_mean_of_its_frames(tmp_path: Path) -> None:
    made, model = asked("BlipForImageTextRetrieval")
    reference = theirs(tmp_path, made, "BlipForImageTextRetrieval")
    starts = [tokens_of(reference, made, (frame,))[0, 0] for frame in FRAMES]
    mean = torch.stack([reference.vision_proj(start) for start in starts]).mean(0)
    want = (mean / mean.norm()).numpy()
    close(model.embed_image(CLIP), want)
    # Not the mean of the unit vectors, which is another direction.
    units = np.mean(model.embed_image([*FRAMES]), axis=0)
    assert float(units @ want) / float(np.linalg.norm(units)) < 0.9999


@torch.no_grad()
def test_texts_are_read_with_all_frames_in_view(tmp_path: Path) -> None:
    made, model = asked("BlipForImageTextRetrieval")
    reference = theirs(tmp_path, made, "BlipForImageTextRetrieval")
    tokens = tokens_of(reference, made, FRAMES)
    for text, got in zip(TEXTS, model.itm_logits(CLIP, TEXTS), strict=True):
        ids, mask = made.tokenizer.encode([text], max_length=35, first="enc")
        hidden = reference.text_encoder(
            torch.from_numpy(ids).long(),
            torch.from_numpy(mask).long(),
            encoder_hidden_states=tokens,
        )[0]
        want = reference.itm_head(hidden[:, 0])[0].numpy()
        close(got, want)
    spread = np.ptp(model.itm_logits(CLIP, TEXTS)[:, 1])
    assert spread > 0.1
    assert np.abs(model.itm_logits(FRAMES[0], TEXTS) - model.itm_logits(CLIP, TEXTS)).max() > 0.1


@torch.no_grad()
def test_questions_are_read_with_all_frames_in_view(tmp_path: Path) -> None:
    made, model = asked("BlipForQuestionAnswering")
    reference = theirs(tmp_path, made, "BlipForQuestionAnswering")
    how = made.generation
    tokens = tokens_of(reference, made, FRAMES)
    want = []
    for question in QUESTIONS:
        ids, mask = (
            torch.from_numpy(part).long()
            for part in made.tokenizer.encode([question], max_length=35, first="enc")
        )
        states = reference.text_encoder(ids, mask, encoder_hidden_states=tokens)[0]
        said = [how.bos_token_id]
        while len(said) < how.max_length and said[-1] != how.eos_token_id:
            logits = reference.text_decoder(
                torch.tensor([said]), encoder_hidden_states=states, encoder_attention_mask=mask
            ).logits[0, -1]
            if len(said) < how.min_length:
                logits[how.eos_token_id] = -torch.inf
            said.append(int(logits.argmax()))
        want.append(made.tokenizer.decode(said[1:]))
    got = [one.text for one in model.answer_each(CLIP, QUESTIONS, beams=1)]
    assert got == want
    assert len(set(want)) > 1
    assert got != [one.text for one in model.answer_each(FRAMES[0], QUESTIONS, beams=1)]


def test_a_clip_of_one_frame_is_a_picture_and_its_order_is_not_seen() -> None:
    _, model = asked("BlipForImageTextRetrieval")
    for clip, same in (
        (Clip(FRAMES[:1]), FRAMES[0]),
        (Clip(FRAMES[:1] * 4), FRAMES[0]),
        (CLIP, Clip(FRAMES[::-1])),
    ):
        close(model.embed_image(clip), model.embed_image(same))
        for one, other in zip(model.match(clip, TEXTS), model.match(same, TEXTS), strict=True):
            assert one.itm == pytest.approx(other.itm, abs=1e-5)
            assert one.itc == pytest.approx(other.itc, abs=1e-5)


def test_lists_of_clips_and_pictures_give_what_each_alone_gives() -> None:
    _, model = asked("BlipForImageTextRetrieval")
    mixed: list[Visual] = [
        CLIP,
        FRAMES[0],
        FRAMES[1],
        Clip(FRAMES[:2]),
        Clip(FRAMES[1:]),
        CLIP,
        FRAMES[2],
    ]
    together = model.embed_image(mixed)
    for alone, vector in zip(mixed, together, strict=True):
        close(model.embed_image(alone), vector)
    _, answerer = asked("BlipForQuestionAnswering")
    for seen, got in zip(mixed, answerer.answer(mixed, [QUESTIONS[0]] * 7), strict=True):
        want = answerer.answer(seen, QUESTIONS[0])
        assert got.text == want.text
        assert got.score == pytest.approx(want.score, rel=1e-4)


def test_several_questions_get_what_each_alone_gets() -> None:
    _, model = asked("BlipForQuestionAnswering")
    many = [QUESTIONS[number % 3] for number in range(70)]  # more than go through at once
    for one in (CLIP, FRAMES[0]):
        alone = {question: model.answer(one, question, beams=2) for question in QUESTIONS}
        for question, answer in zip(many, model.answer_each(one, many, beams=2), strict=True):
            assert answer.text == alone[question].text
            assert answer.score == pytest.approx(alone[question].score, rel=1e-4)
    listed = ["left", "red", "up"]
    assert {one.text for one in model.answer(CLIP, QUESTIONS[0], listed)} == set(listed)


def test_longer_texts_are_read_when_more_words_count() -> None:
    _, model = asked("BlipForImageTextRetrieval")
    long = " ".join(["red"] * 31)
    first = " ".join(["red"] * 30)
    assert (model.embed_text(long) == model.embed_text(first)).all()
    assert (model.embed_text(long, words=40) != model.embed_text(first)).any()
    read, cut = (model.itm_logits(CLIP, [long], words=words) for words in (40, 30))
    assert (read != cut).any()
    assert (cut == model.itm_logits(CLIP, [first])).all()


def test_an_engine_of_pictures_refuses_clips_in_words() -> None:
    _, model = asked("BlipForImageTextRetrieval")

    class Blind:
        """What an engine of a bundle may be."""

        tasks, max_images, max_tokens = ("retrieval",), 1, 48
        encode = staticmethod(model.engine.encode)
        embed_image = match = staticmethod(pytest.fail)

    bundle = EdgeModel(Blind(), model.tokenizer, model.preprocess, model.generation)  # type: ignore[arg-type]
    with pytest.raises(ArtifactError, match="sees pictures and no clips"):
        bundle.embed_image(CLIP)
    with pytest.raises(ArtifactError, match="sees pictures and no clips"):
        bundle.itm_logits(CLIP, TEXTS)


def test_a_clip_without_frames_is_refused() -> None:
    with pytest.raises(UsageError, match="at least one frame"):
        Clip(())


def test_frames_that_cannot_be_read_are_named(tmp_path: Path) -> None:
    _, model = asked("BlipForImageTextRetrieval")
    with pytest.raises(ArtifactError, match=r"gone\.png"):
        model.embed_image(Clip((FRAMES[0], tmp_path / "gone.png")))


@given(lengths=st.lists(st.integers(0, 4), max_size=12), size=st.integers(1, 9))
def test_what_is_encoded_at_once_is_of_one_shape_and_not_too_much(
    lengths: list[int], size: int
) -> None:
    """0 stands for a picture."""
    images: list[Visual] = [
        Clip(FRAMES[:1] * length) if length else FRAMES[0] for length in lengths
    ]
    parts = [lengths[some] for some in alike(images, size)]
    assert [length for part in parts for length in part] == lengths
    for part in parts:
        assert len(set(part)) == 1
        assert len(part) == 1 or len(part) * max(1, part[0]) <= size
    # No part could have taken the next one in.
    for part, after in pairwise(parts):
        assert part[0] != after[0] or (len(part) + 1) * max(1, part[0]) > size
