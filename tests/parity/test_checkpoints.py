"""Checkpoints of BLIP's authors come in with the numbers that they have elsewhere, and go on.

The same weights are put into the classes of `transformers`, or where those have none into our own
network, by names that stand in the tests.
"""

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from blip_edge.exporters.huggingface import export_huggingface
from blip_edge.models import Blip, BlipConfig, TextConfig, VisionConfig, load_model
from blip_edge.models.config import ARCHITECTURES
from blip_edge.models.importing import import_model
from tests import official
from tests.official import BASE, LARGE, Sizes

transformers = pytest.importorskip("transformers")

# float32 through a handful of layers in another order of operations.
CLOSE = 1e-4
# Seven layers: in the last one two pictures are merged by a matrix.
DEEP = replace(BASE, text_layers=7)
SIZES = {"base": BASE, "large": LARGE}


def close(got: Tensor, want: Tensor) -> None:
    assert want.std() > 0.05, "the weights are too small to show a mistake"
    torch.testing.assert_close(got, want, rtol=CLOSE, atol=CLOSE)


@pytest.fixture
def words(tmp_path: Path) -> Path:
    return official.write_words(tmp_path / "vocab.txt")


def imported(
    task: str, sizes: Sizes, folder: Path, *, as_task: str | None = None
) -> tuple[Blip, dict[str, Tensor]]:
    """What `import` makes of an official file of `task`, and what was in it."""
    weights = official.checkpoint(task, sizes)
    source = official.write(folder / f"{task}.pth", weights)
    import_model(source, folder / "model", task=as_task, tokenizer=folder / "vocab.txt", force=True)
    return load_model(folder / "model").blip, weights


def hugging_face(name: str, sizes: Sizes, weights: dict[str, Tensor], task: str) -> Any:
    """A class of `transformers` with the weights of an official file."""
    config = transformers.BlipConfig(
        vision_config={
            "hidden_size": sizes.vision,
            "num_hidden_layers": sizes.vision_layers,
            "num_attention_heads": sizes.vision // 64,
            "intermediate_size": 4 * sizes.vision,
            "image_size": sizes.image,
            "patch_size": sizes.patch,
            "layer_norm_eps": 1e-6,
        },
        text_config={
            "vocab_size": sizes.words,
            "hidden_size": sizes.text,
            "num_hidden_layers": sizes.text_layers,
            "num_attention_heads": sizes.text // 64,
            "intermediate_size": 4 * sizes.text,
            "max_position_embeddings": sizes.positions,
            "bos_token_id": sizes.words - 2,
            "sep_token_id": 3,
        },
        image_text_hidden_size=sizes.shared,
    )
    model = getattr(transformers, name)(config).eval()
    put(model, {theirs: weights[ours] for ours, theirs, _ in official.layout(task, sizes)})
    return model


@torch.no_grad()
def put(model: nn.Module, weights: dict[str, Tensor]) -> None:
    """Copy weights by name, and be sure that none of the model's is left out."""
    own = dict(model.named_parameters())
    assert own.keys() <= weights.keys(), own.keys() - weights.keys()
    for name, parameter in own.items():
        parameter.copy_(weights[name])


def pictures(sizes: Sizes, count: int = 3) -> Tensor:
    shape = (count, 3, sizes.image, sizes.image)
    return torch.randn(shape, generator=torch.Generator().manual_seed(1))


def texts(sizes: Sizes, rows: int = 3, tokens: int = 9) -> tuple[Tensor, Tensor]:
    """Right-padded ids of different lengths, and their mask."""
    ids = torch.randint(5, sizes.words, (rows, tokens), generator=torch.Generator().manual_seed(2))
    lengths = torch.tensor([tokens - 2 * row for row in range(rows)])
    mask = (torch.arange(tokens)[None] < lengths[:, None]).long()
    return ids * mask, mask


@pytest.mark.parametrize("task", ["caption", "pretrain"])
@pytest.mark.parametrize("size", SIZES)
@torch.no_grad()
def test_caption_logits(task: str, size: str, words: Path) -> None:
    sizes = SIZES[size]
    blip, weights = imported(task, sizes, words.parent)
    reference = hugging_face("BlipForConditionalGeneration", sizes, weights, task)
    ids, mask = texts(sizes)
    want = reference(input_ids=ids, attention_mask=mask, pixel_values=pictures(sizes)).logits
    got = blip.lm_logits(ids, blip.image_tokens(pictures(sizes)))
    close(got[mask == 1], want[mask == 1])


@pytest.mark.parametrize("task", ["retrieval", "pretrain"])
@pytest.mark.parametrize("size", SIZES)
@torch.no_grad()
def test_matching_logits_and_cosines(task: str, size: str, words: Path) -> None:
    sizes = SIZES[size]
    blip, weights = imported(task, sizes, words.parent)
    assert blip.temp.item() == weights["temp"].item()
    reference = hugging_face("BlipForImageTextRetrieval", sizes, weights, task)
    ids, mask = texts(sizes)
    asked = {"input_ids": ids, "attention_mask": mask, "pixel_values": pictures(sizes)}
    tokens = blip.image_tokens(pictures(sizes))
    want = reference(**asked, use_itm_head=False).itm_score
    close(blip.embed_image(tokens) @ blip.embed_text(ids, mask).T, want)
    want = reference(**asked).itm_score
    close(blip.itm_logits(ids, mask, blip.encoder.cross(tokens)), want)


@torch.no_grad()
def test_answer_logits(words: Path) -> None:
    blip, weights = imported("vqa", BASE, words.parent)
    reference = hugging_face("BlipForQuestionAnswering", BASE, weights, "vqa")
    ids, mask = texts(BASE)
    answers, seen = texts(BASE, tokens=6)
    tokens = reference.vision_model(pixel_values=pictures(BASE)).last_hidden_state
    states = reference.text_encoder(
        input_ids=ids, attention_mask=mask, encoder_hidden_states=tokens
    ).last_hidden_state
    want = reference.text_decoder(
        input_ids=answers, attention_mask=seen, encoder_hidden_states=states
    ).logits
    cross = blip.encoder.cross(blip.image_tokens(pictures(BASE)))
    # The padding of questions counts: that class does not hand on a mask of what it reads.
    asked = blip.answer_cross(blip.ground(ids, mask, cross))
    close(blip.decoder(answers, asked)[0][seen == 1], want[seen == 1])


@torch.no_grad()
def test_a_wide_image_tower_answers_as_the_same_weights_do_elsewhere(words: Path) -> None:
    """Its decoder reads questions, which are as wide as the text tower; no other class holds it."""
    blip, weights = imported("vqa", LARGE, words.parent)
    reference = ours("vqa", LARGE, weights)
    ids, mask = texts(LARGE)
    answers, seen = texts(LARGE, tokens=6)
    logits = []
    for model in (blip, reference):
        cross = model.encoder.cross(model.image_tokens(pictures(LARGE)))
        asked = model.answer_cross(model.ground(ids, mask, cross), mask)
        logits.append(model.decoder(answers, asked)[0][seen == 1])
    close(*logits)


@torch.no_grad()
def test_verdicts_on_two_pictures(words: Path) -> None:
    blip, weights = imported("nlvr2", DEEP, words.parent)
    reference = ours("nlvr2", DEEP, weights)
    ids, mask = texts(DEEP)
    verdicts = []
    for model in (blip, reference):
        left, right = model.image_tokens(pictures(DEEP, count=6)).split(3)
        verdicts.append(model.reason_logits(ids, mask, left, right))
    close(*verdicts)


def ours(task: str, sizes: Sizes, weights: dict[str, Tensor]) -> Blip:
    """Our network around an official file's weights, by names that stand in the tests."""
    config = BlipConfig(
        vision_config=VisionConfig(
            image_size=sizes.image,
            patch_size=sizes.patch,
            hidden_size=sizes.vision,
            num_hidden_layers=sizes.vision_layers,
            num_attention_heads=sizes.vision // 64,
            intermediate_size=4 * sizes.vision,
        ),
        text_config=TextConfig(
            vocab_size=sizes.words,
            max_position_embeddings=sizes.positions,
            hidden_size=sizes.text,
            encoder_hidden_size=sizes.vision,
            num_hidden_layers=sizes.text_layers,
            num_attention_heads=sizes.text // 64,
            intermediate_size=4 * sizes.text,
        ),
        architecture=ARCHITECTURES[task],
        image_text_hidden_size=sizes.shared,
    )
    blip = Blip(config).eval()
    put(blip, {theirs: weights[name] for name, theirs, _ in official.layout(task, sizes)})
    return blip


@pytest.mark.parametrize("task", official.TASKS)
@pytest.mark.parametrize("size", SIZES)
def test_every_weight_comes_in_unchanged(task: str, size: str, words: Path) -> None:
    blip, weights = imported(task, SIZES[size], words.parent)
    state = blip.state_dict()
    expected = {theirs: name for name, theirs, _ in official.layout(task, SIZES[size])}
    assert state.keys() - {"temp"} == expected.keys()
    for theirs, name in expected.items():
        assert torch.equal(state[theirs], weights[name]), name


@pytest.mark.parametrize("as_task", ["caption", "retrieval"])
@pytest.mark.parametrize("size", SIZES)
def test_a_pretrained_file_gives_its_parts(as_task: str, size: str, words: Path) -> None:
    blip, weights = imported("pretrain", SIZES[size], words.parent, as_task=as_task)
    assert blip.config.architecture == ARCHITECTURES[as_task]
    state = blip.state_dict()
    for name, theirs, _ in official.layout(as_task, SIZES[size]):
        assert torch.equal(state[theirs], weights[name]), name


@pytest.mark.parametrize("task", ["caption", "retrieval", "vqa"])
def test_from_the_authors_to_transformers_and_back(task: str, words: Path) -> None:
    """Official, ours, Hugging Face's, ours: bitwise, and the temperature comes along."""
    folder = words.parent
    before, _ = imported(task, BASE, folder)
    exported = export_huggingface(folder / "model", folder / "exported")
    opened, report = getattr(transformers, ARCHITECTURES[task]).from_pretrained(
        exported, output_loading_info=True
    )
    assert not report["missing_keys"] and not report["unexpected_keys"]
    opened.save_pretrained(folder / "saved")
    shutil.copy(exported / "tokenizer.json", folder / "saved")
    for source in (exported, folder / "saved"):
        back = load_model(import_model(source, folder / f"from-{source.name}"))
        assert replace(back.config, text_config=before.config.text_config) == before.config
        state, want = back.blip.state_dict(), before.state_dict()
        assert state.keys() == want.keys()
        for name, tensor in want.items():
            assert torch.equal(state[name], tensor), name


@pytest.mark.parametrize("task", ["pretrain", "nlvr2"])
def test_what_transformers_cannot_hold_comes_back_too(task: str, words: Path) -> None:
    folder = words.parent
    before, _ = imported(task, DEEP, folder)
    again = load_model(import_model(folder / "model", folder / "again"))
    assert again.config == before.config
    for name, tensor in before.state_dict().items():
        assert torch.equal(again.blip.state_dict()[name], tensor), name
