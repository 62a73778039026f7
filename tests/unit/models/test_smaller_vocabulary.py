"""A model of fewer words says, finds and judges what it did, as long as the words are there."""

from dataclasses import replace
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor, nn

from blip_edge.errors import ArtifactError
from blip_edge.generation import Generation
from blip_edge.models import Model, count_parameters, load_model, save_model
from blip_edge.models.config import ARCHITECTURES
from blip_edge.models.quantized import WeightOnlyLinear
from blip_edge.models.smaller_vocabulary import with_vocabulary
from blip_edge.preprocess import Preprocess
from blip_edge.text import Tokenizer
from blip_edge.training.engine import edge_model
from tests import tiny

KNOWN = ["a red circle on a table", "is it blue?", "two green stars", "yes no maybe", "kiwi jazz"]
FEWER = ["a red circle", "is it red?", "yes", "no"]
TASKS = ["caption", "retrieval", "vqa", "nlvr2", "pretrain"]
# One product of other sizes; sums inside it may be taken in another order.
CLOSE = 1e-5


@cache
def words() -> Tokenizer:
    """Ids like BERT's: [PAD] first, the other special tokens behind words that no text has."""
    letters = sorted(set("".join(KNOWN)) - {" "})
    whole = {word.strip("?") for text in KNOWN for word in text.split()} - set(letters)
    unused = [f"[unused{number}]" for number in range(5)]
    pieces = [*letters, *(f"##{letter}" for letter in letters), *sorted(whole)]
    with TemporaryDirectory() as scratch:
        path = Path(scratch) / "vocab.txt"
        path.write_text("\n".join(["[PAD]", *unused, "[UNK]", "[CLS]", "[SEP]", "[MASK]", *pieces]))
        return Tokenizer.from_vocab(path)


def of(task: str) -> Model:
    """A lively model of `words`."""
    tokenizer = words()
    sizes = tiny.config(ARCHITECTURES[task], vocab=tokenizer.vocab_size)
    text = replace(
        sizes.text_config,
        bos_token_id=tokenizer.dec,
        pad_token_id=tokenizer.pad,
        sep_token_id=tokenizer.sep,
    )
    answers = task == "vqa"
    generation = Generation(
        bos_token_id=tokenizer.dec,
        pad_token_id=tokenizer.pad,
        eos_token_id=tokenizer.sep,
        min_length=1 if answers else 3,
        max_length=9,
        prompt="" if answers else "a ",
    )
    blip = tiny.lively(replace(sizes, text_config=text))
    return Model(blip, tokenizer, Preprocess(size=24), generation)


def kept_of(model: Model) -> NDArray[np.int64]:
    return model.tokenizer.restricted([*FEWER, model.generation.prompt])[1]


def silenced(model: Model) -> Model:
    """`model`, which never says a word that is to go."""
    words = model.config.text_config.vocab_size
    lost = np.setdiff1d(np.arange(words), kept_of(model))
    with torch.no_grad():
        model.blip.decoder.cls.predictions.bias[torch.from_numpy(lost)] = -1e4
    return model


def ids(model: Model, first: str) -> tuple[Tensor, Tensor]:
    encoded: Any = model.tokenizer.encode(FEWER, first=first)  # type: ignore[arg-type]
    return torch.from_numpy(encoded[0]).long(), torch.from_numpy(encoded[1]).long()


def pictures() -> list[Image.Image]:
    noise = np.random.default_rng(0).integers(0, 256, (3, 24, 24, 3), dtype=np.uint8)
    return [Image.fromarray(pixels) for pixels in noise]


@torch.no_grad()
def outputs(model: Model) -> dict[str, Tensor]:
    """All that the network computes of texts; of logits, those of words by their ids."""
    blip, parts = model.blip, model.config.parts
    seen = blip.image_tokens(torch.randn(4, 3, 24, 24, generator=torch.Generator().manual_seed(1)))
    found = {}
    asked = ids(model, "enc")
    if model.config.captions:
        found["words"] = blip.lm_logits(ids(model, "dec")[0], seen)
    if parts.compares:
        found["itc"] = blip.embed_text(*ids(model, "cls")) @ blip.embed_image(seen).T
        found["itm"] = blip.itm_logits(*asked, blip.encoder.cross(seen))
        found["temperature"] = blip.temp
    if parts.twin:
        found["reason"] = blip.reason_logits(*asked, seen, seen.flip(0))
    if parts.decoder and not model.config.captions:
        states = blip.ground(*asked, blip.encoder.cross(seen))
        cross = blip.answer_cross(states, asked[1])
        found["words"] = blip.decoder(ids(model, "dec")[0], cross)[0]
    return found


@pytest.mark.parametrize("task", TASKS)
def test_what_a_model_computes_stays(task: str) -> None:
    old = of(task)
    new = with_vocabulary(old, FEWER)
    before, after = outputs(old), outputs(new)
    assert before.keys() == after.keys()
    if "words" in before:
        before["words"] = before["words"][..., torch.from_numpy(kept_of(old))]
    for name, value in before.items():
        assert name == "temperature" or value.std() > 0.02, "too tame to show a mistake"
        torch.testing.assert_close(after[name], value, rtol=CLOSE, atol=CLOSE)


@pytest.mark.parametrize("task", TASKS)
def test_it_is_smaller_by_the_rows_of_the_words_that_went(task: str) -> None:
    old = of(task)
    new = with_vocabulary(old, FEWER)
    text = new.config.text_config
    gone = old.config.text_config.vocab_size - text.vocab_size
    assert gone > 20
    parts = old.config.parts
    shared = task == "pretrain"
    tables = 1 if shared else parts.encoder + parts.decoder
    floats = gone * (tables * text.hidden_size + parts.decoder)
    assert count_parameters(old.blip) - count_parameters(new.blip) == floats
    assert text.vocab_size == new.tokenizer.vocab_size == len(kept_of(old))


def test_ids_go_with_the_tokenizer_everywhere() -> None:
    new = with_vocabulary(of("caption"), FEWER)
    fewer, text, search = new.tokenizer, new.config.text_config, new.generation
    assert fewer.sep != words().sep
    assert (text.bos_token_id, text.sep_token_id) == (fewer.dec, fewer.sep)
    assert (search.bos_token_id, search.eos_token_id) == (fewer.dec, fewer.sep)
    assert text.pad_token_id == search.pad_token_id == fewer.pad


def test_shared_words_stay_shared_and_none_with_the_old_model() -> None:
    """Who trains a student must not train its teacher."""
    old = of("pretrain")
    before = {name: weight.clone() for name, weight in old.blip.state_dict().items()}
    new = with_vocabulary(old, FEWER)
    assert new.blip.encoder.embeddings is new.blip.decoder.bert.embeddings
    with torch.no_grad():
        for weight in new.blip.parameters():
            assert weight.requires_grad
            weight.add_(1)
    for name, weight in old.blip.state_dict().items():
        assert torch.equal(weight, before[name]), name


@pytest.mark.parametrize("task", ["caption", "pretrain"])
@pytest.mark.parametrize("beams", [1, 3])
def test_captions_are_the_same(task: str, beams: int) -> None:
    old = silenced(of(task))
    new = with_vocabulary(old, FEWER)
    said = [edge_model(model).caption(pictures(), beams=beams) for model in (old, new)]
    assert len({caption.text for caption in said[0]}) > 1, "too tame to show a mistake"
    assert [c.text for c in said[0]] == [c.text for c in said[1]]
    assert [c.score for c in said[1]] == pytest.approx([c.score for c in said[0]], rel=1e-4)
    kept = kept_of(old)
    for before, after in zip(*said, strict=True):
        assert kept[list(after.token_ids)].tolist() == list(before.token_ids)


def test_answers_are_the_same() -> None:
    """Said freely, or out of a list; of scores in a list the words that are kept decide."""
    old = silenced(of("vqa"))
    before, after = (edge_model(model) for model in (old, with_vocabulary(old, FEWER)))
    questions = ["Is it red?", "is it a circle", "red?"]
    assert [a.text for a in before.answer(pictures(), questions, beams=3)] == [
        a.text for a in after.answer(pictures(), questions, beams=3)
    ]
    for picture, question in zip(pictures(), questions, strict=True):
        ranked = [
            m.answer(picture, question, answers=["yes", "no", "red"]) for m in (before, after)
        ]
        assert [a.text for a in ranked[0]] == [a.text for a in ranked[1]]
        assert [a.score for a in ranked[1]] == pytest.approx([a.score for a in ranked[0]], rel=1e-4)


def test_pictures_and_texts_match_as_they_did() -> None:
    old = of("retrieval")
    before, after = (
        edge_model(model).match(pictures()[0], FEWER)
        for model in (old, with_vocabulary(old, FEWER))
    )
    for name in ("itc", "itm"):
        assert [getattr(match, name) for match in after] == pytest.approx(
            [getattr(match, name) for match in before], rel=1e-4, abs=1e-6
        )


def test_words_of_the_prompt_stay() -> None:
    old = of("caption")
    old = replace(old, generation=replace(old.generation, prompt="two green "))
    new = with_vocabulary(old, ["yes"])
    assert new.tokenizer.decode(new.tokenizer.prompt_ids("two green ")) == "two green"
    assert len(new.tokenizer.prompt_ids("two green ")) == len(
        old.tokenizer.prompt_ids("two green ")
    )


def test_spare_rows_of_an_embedding_go() -> None:
    """Some embeddings have more rows than there are words, for the sake of kernels."""
    old = of("caption")
    words = old.tokenizer.vocab_size + 5
    sizes = replace(old.config, text_config=replace(old.config.text_config, vocab_size=words))
    spare = replace(old, blip=tiny.lively(sizes))
    new = with_vocabulary(spare, FEWER)
    assert new.config.text_config.vocab_size == new.tokenizer.vocab_size


def test_a_network_in_8_bits_is_refused() -> None:
    old = of("caption")
    path = "vision_model.encoder.layers.0.mlp.fc1"
    layer = old.blip.get_submodule(path)
    assert isinstance(layer, nn.Linear)
    old.blip.set_submodule(path, WeightOnlyLinear.from_linear(layer))
    with pytest.raises(ArtifactError, match=r"whose vocabulary is cut does not fit .*fc1\.weight"):
        with_vocabulary(old, FEWER)


@pytest.mark.parametrize("task", TASKS)
def test_saved_and_loaded_it_is_the_same(task: str, tmp_path: Path) -> None:
    new = with_vocabulary(of(task), FEWER)
    save_model(tmp_path, new)
    again = load_model(tmp_path)
    assert (again.config.text_config, again.generation) == (new.config.text_config, new.generation)
    before, after = outputs(new), outputs(again)
    for name, value in before.items():
        torch.testing.assert_close(after[name], value, rtol=0, atol=0)


def test_hugging_face_reads_the_folder_with_the_same_ids(tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers")
    new = with_vocabulary(of("caption"), FEWER)
    save_model(tmp_path, new)

    for name in ("AutoTokenizer", "BertTokenizerFast"):
        theirs = getattr(transformers, name).from_pretrained(tmp_path)
        assert len(theirs) == new.tokenizer.vocab_size
        for text in (*FEWER, "a caries [SEP] Red?", "kiwi"):
            ours = new.tokenizer.encode([text])[0][0].tolist()
            assert theirs(text)["input_ids"] == ours, (name, text)
        assert (theirs.bos_token_id, theirs.pad_token_id, theirs.sep_token_id) == (
            *(new.tokenizer.dec, new.tokenizer.pad, new.tokenizer.sep),
        )
    network = transformers.BlipForConditionalGeneration.from_pretrained(tmp_path).eval()
    pixels = torch.randn(len(FEWER), 3, 24, 24)
    asked, mask = ids(new, "dec")
    with torch.no_grad():
        seen = network.vision_model(pixel_values=pixels).last_hidden_state
        logits = network.text_decoder(
            input_ids=asked, attention_mask=mask, encoder_hidden_states=seen, is_decoder=True
        ).logits
        ours_ = new.blip.lm_logits(asked, new.blip.image_tokens(pixels))
    real = mask.bool()
    torch.testing.assert_close(logits[real], ours_[real], rtol=1e-4, atol=1e-4)
