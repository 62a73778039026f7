"""Training from pretrained towers: what they bring, what is said to be fresh, what is refused."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import pytest
import torch

from blip_edge import load
from blip_edge.artifact import read_provenance, sha256_file, sha256_folder
from blip_edge.data import Dataset
from blip_edge.errors import ArtifactError, UsageError
from blip_edge.models import load_model
from blip_edge.models.image_tower import read_image_tower
from blip_edge.models.text_tower import read_text_tower
from blip_edge.training import TrainRecipe, train

BARELY = TrainRecipe(
    steps=1,
    batch=2,
    lr=1e-9,
    weight_decay=0.0,
    patch_size=8,
    image_size=24,
    vision_layers=1,
    vision_width=16,
    vision_heads=2,
    text_layers=1,
    text_width=16,
    text_heads=2,
    embed_dim=8,
    vocab_size=80,
    max_positions=32,
    queue_size=8,
    dropout=0.2,
    num_beams=2,
    max_length=12,
)
SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
LETTERS = "abcdefghijklmnopqrstuvwxyz"


class Listener:
    """Keeps the lines that stay."""

    def __init__(self) -> None:
        self.said: list[str] = []

    def track(self, items: Any, description: str, *, total: int | None = None) -> Any:
        yield from items

    def note(self, text: str) -> None:
        pass

    def say(self, text: str) -> None:
        self.said.append(text)


@pytest.fixture
def vit(tmp_path: Path) -> Path:
    """A ViT of one layer at 4 x 4 patches of 8 pixels, with a classifier's head."""
    width = 64
    shapes = {
        "cls_token": (1, 1, width),
        "pos_embed": (1, 17, width),
        "patch_embed.proj.weight": (width, 3, 8, 8),
        "patch_embed.proj.bias": (width,),
        "norm.weight": (width,),
        "norm.bias": (width,),
        "head.weight": (10, width),
    }
    for name, out, into in (
        ("attn.qkv", 3 * width, width),
        ("attn.proj", width, width),
        ("mlp.fc1", 4 * width, width),
        ("mlp.fc2", width, 4 * width),
    ):
        shapes |= {f"blocks.0.{name}.weight": (out, into), f"blocks.0.{name}.bias": (out,)}
    for norm in ("norm1", "norm2"):
        shapes |= {f"blocks.0.{norm}.weight": (width,), f"blocks.0.{norm}.bias": (width,)}
    state = {name: torch.randn(shape) / 8 for name, shape in shapes.items()}
    torch.save({"model": state}, tmp_path / "vit.pth")
    return tmp_path / "vit.pth"


@pytest.fixture
def bert(tmp_path: Path) -> Path:
    """A BERT of two layers that spells every word."""
    transformers = pytest.importorskip("transformers")
    words = (*SPECIAL, *LETTERS, *(f"##{letter}" for letter in LETTERS))
    config = transformers.BertConfig(
        vocab_size=len(words),
        hidden_size=24,
        num_hidden_layers=2,
        num_attention_heads=3,
        intermediate_size=48,
        max_position_embeddings=64,
    )
    transformers.BertModel(config).save_pretrained(tmp_path / "bert")
    (tmp_path / "bert" / "vocab.txt").write_text("\n".join(words))
    return tmp_path / "bert"


@pytest.mark.parametrize("task", ["caption", "pretrain"])
def test_a_model_of_two_towers(
    task: Literal["caption", "pretrain"], vit: Path, bert: Path, world: Dataset, tmp_path: Path
) -> None:
    listener = Listener()
    folder = train(
        *(world.folder, tmp_path / "x", replace(BARELY, task=task)),
        vision_init=vit,
        text_init=bert,
        progress=listener,
    )
    model = load_model(folder)
    vision, text = model.config.vision_config, model.config.text_config
    assert (vision.image_size, vision.hidden_size, vision.num_hidden_layers) == (24, 64, 1)
    assert (text.hidden_size, text.heads, text.encoder_hidden_size) == (24, (3, 3), 64)
    assert (text.hidden_dropout_prob, text.max_position_embeddings) == (0.2, 64)
    assert model.tokenizer.dec == text.bos_token_id == text.vocab_size - 2 == 57
    state = model.blip.state_dict()
    image = read_image_tower(vit, image_size=24).tensors
    words = {f"text_decoder.bert.{n}": t for n, t in read_text_tower(bert).tensors.items()}
    for name, tensor in (image | words).items():
        if "word_embeddings" in name:
            tensor, state[name] = tensor[:-2], state[name][:-2]
        torch.testing.assert_close(state[name], tensor, rtol=0, atol=1e-6)
    projections = ", projections and matching head" if task == "pretrain" else ""
    assert listener.said == [
        "left behind: classifier head, 1 tensor (head.weight)",
        "left behind: pooler, 2 tensors (pooler.dense.bias, pooler.dense.weight)",
        "left behind: segments but the first, 1 tensor (embeddings.token_type_embeddings.weight)",
        "position embeddings: 17 interpolated to 10",
        f"fresh: cross-attention, [DEC] and [ENC], language-model head{projections}",
    ]
    assert read_provenance(folder).parents == [
        {"path": str(vit), "sha256": sha256_file(vit)},
        {"path": str(bert), "sha256": sha256_folder(bert)},
    ]


def test_a_towers_own_picture_size(vit: Path, world: Dataset, tmp_path: Path) -> None:
    listener, recipe = Listener(), replace(BARELY, image_size=0)
    folder = train(world.folder, tmp_path / "x", recipe, vision_init=vit, progress=listener)
    model = load_model(folder)
    assert model.preprocess.size == model.config.vision_config.image_size == 32
    assert model.config.text_config.hidden_size == 16
    assert listener.said[-1] == "fresh: text tower"
    ids, _ = model.tokenizer.encode([row.captions[0] for row in world.captions("train")])
    assert model.tokenizer.unk not in ids


def test_a_text_tower_alone(bert: Path, world: Dataset, tmp_path: Path) -> None:
    listener = Listener()
    folder = train(world.folder, tmp_path / "x", BARELY, text_init=bert, progress=listener)
    model = load_model(folder)
    assert model.config.vision_config.hidden_size == 16
    assert listener.said[-1].startswith("fresh: image tower, cross-attention, ")
    picture = world.image_path(world.captions("test")[0].image)
    assert load(folder).caption(picture).token_ids[0] == model.tokenizer.dec


def test_the_same_seed_draws_the_same(
    vit: Path, bert: Path, world: Dataset, tmp_path: Path
) -> None:
    made = [
        train(
            *(world.folder, tmp_path / name, BARELY),
            vision_init=vit,
            text_init=bert,
            seed=seed,
        )
        for name, seed in (("a", 1), ("b", 1), ("c", 2))
    ]
    first, again, other = ((path / "model.safetensors").read_bytes() for path in made)
    assert first == again != other


def test_a_whole_model_and_towers_do_not_go_together(vit: Path, world: Dataset) -> None:
    with pytest.raises(UsageError, match=r"--init is a whole model; give it or towers"):
        train(world.folder, vit.parent / "x", BARELY, init=vit.parent, vision_init=vit)


def test_pictures_that_do_not_split_into_a_towers_patches(
    vit: Path, world: Dataset, tmp_path: Path
) -> None:
    with pytest.raises(UsageError, match="patch_size 8; the nearest are 24 and 32"):
        train(world.folder, tmp_path / "x", replace(BARELY, image_size=30), vision_init=vit)
    assert not (tmp_path / "x").exists()


def test_a_tower_of_another_kind_leaves_nothing_behind(
    bert: Path, world: Dataset, tmp_path: Path
) -> None:
    values = json.loads((bert / "config.json").read_text())
    (bert / "config.json").write_text(json.dumps({**values, "num_hidden_layers": 3}))
    with pytest.raises(ArtifactError, match=r"missing \(text_decoder\.bert\.encoder\.layer\.2\."):
        train(world.folder, tmp_path / "x", BARELY, text_init=bert)
    assert {path.name for path in tmp_path.iterdir()} == {"bert"}
