"""Pretrained towers: the network computes what they compute, and what does not fit is named."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from torch import Tensor

from blip_edge.errors import ArtifactError, UsageError
from blip_edge.models import Blip, BlipConfig, TextConfig, VisionConfig, build
from blip_edge.models.attention import padding_mask
from blip_edge.models.config import Architecture
from blip_edge.models.image_tower import read_image_tower
from blip_edge.models.text_tower import TextTower, read_text_tower

CLOSE = 1e-5
WIDTH, HEADS, LAYERS = 128, 2, 2
SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
WORDS = (*SPECIAL, *(f"w{number}" for number in range(35)))


def drawn(*shape: int) -> Tensor:
    """Numbers that keep signals at their size through a matrix."""
    return torch.randn(shape) * (1.5 / shape[-1] ** 0.5 if len(shape) > 1 else 0.2)


def vit(*, patch: int = 14, side: int = 3, scaled: bool = True) -> dict[str, Tensor]:
    """A state dict with timm's names; `scaled` ones have DINOv2's LayerScale and mask token."""
    torch.manual_seed(4)
    state = {
        "cls_token": torch.randn(1, 1, WIDTH),
        "pos_embed": torch.randn(1, side**2 + 1, WIDTH),
        "patch_embed.proj.weight": drawn(WIDTH, 3, patch, patch) / patch,
        "patch_embed.proj.bias": drawn(WIDTH),
        "norm.weight": 1 + drawn(WIDTH),
        "norm.bias": drawn(WIDTH),
    }
    for number in range(LAYERS):
        for name, out, into in (
            ("attn.qkv", 3 * WIDTH, WIDTH),
            ("attn.proj", WIDTH, WIDTH),
            ("mlp.fc1", 3 * WIDTH, WIDTH),
            ("mlp.fc2", WIDTH, 3 * WIDTH),
        ):
            state[f"blocks.{number}.{name}.weight"] = drawn(out, into)
            state[f"blocks.{number}.{name}.bias"] = drawn(out)
        for norm in ("norm1", "norm2"):
            state[f"blocks.{number}.{norm}.weight"] = 1 + drawn(WIDTH)
            state[f"blocks.{number}.{norm}.bias"] = drawn(WIDTH)
        if scaled:
            state[f"blocks.{number}.ls1.gamma"] = 1 + torch.randn(WIDTH) / 2
            state[f"blocks.{number}.ls2.gamma"] = 1 + torch.randn(WIDTH) / 2
    return state


def plain_vit(state: dict[str, Tensor], pictures: Tensor) -> Tensor:
    """(B, 3, S, S) to (B, N, D): what such a state dict means, written from the ViT paper."""

    def linear(name: str, x: Tensor) -> Tensor:
        return x @ state[f"{name}.weight"].T + state[f"{name}.bias"]

    def norm(name: str, x: Tensor) -> Tensor:
        mean, var = x.mean(-1, keepdim=True), x.var(-1, keepdim=True, unbiased=False)
        return (x - mean) / (var + 1e-6).sqrt() * state[f"{name}.weight"] + state[f"{name}.bias"]

    kernel, bias = (state[f"patch_embed.proj.{name}"] for name in ("weight", "bias"))
    x = F.conv2d(pictures, kernel, bias, stride=kernel.shape[-1]).flatten(2).transpose(1, 2)
    x = torch.cat([state["cls_token"].expand(len(x), -1, -1), x], dim=1) + state["pos_embed"]
    for number in range(LAYERS):
        block = f"blocks.{number}"
        qkv = linear(f"{block}.attn.qkv", norm(f"{block}.norm1", x)).split(WIDTH, dim=-1)
        seen = []
        for head in range(HEADS):
            q, k, v = (part[..., head * 64 : head * 64 + 64] for part in qkv)
            seen.append((q @ k.transpose(1, 2) / 8).softmax(-1) @ v)
        branch = linear(f"{block}.attn.proj", torch.cat(seen, dim=-1))
        x = x + branch * state.get(f"{block}.ls1.gamma", torch.ones(()))
        hidden = F.gelu(linear(f"{block}.mlp.fc1", norm(f"{block}.norm2", x)))
        branch = linear(f"{block}.mlp.fc2", hidden)
        x = x + branch * state.get(f"{block}.ls2.gamma", torch.ones(()))
    return norm("norm", x)


def around(vision: VisionConfig | None = None, text: TextConfig | None = None, **more: Any) -> Blip:
    """A fresh network with a tower's sizes."""
    vision = vision or VisionConfig(
        hidden_size=64, num_hidden_layers=1, num_attention_heads=1, intermediate_size=64
    )
    text = text or TextConfig(
        vocab_size=20, hidden_size=64, num_hidden_layers=1, num_attention_heads=1
    )
    text = replace(text, encoder_hidden_size=vision.hidden_size)
    torch.manual_seed(1)
    return build(BlipConfig(vision_config=vision, text_config=text, **more)).eval()


@pytest.mark.parametrize("form", ["bare", "model", "state_dict", "safetensors"])
@pytest.mark.parametrize("scaled", [True, False], ids=["DINOv2", "DeiT"])
@torch.no_grad()
def test_the_image_tower_sees_what_a_plain_vit_sees(
    scaled: bool, form: str, tmp_path: Path
) -> None:
    state = vit(scaled=scaled)
    path = tmp_path / ("vit.safetensors" if form == "safetensors" else "vit.pth")
    if form == "safetensors":
        save_file(state, path)
    else:
        torch.save(state if form == "bare" else {form: state, "epoch": 3}, path)
    tower = read_image_tower(path)
    sizes = tower.config
    assert (sizes.image_size, sizes.patch_size, sizes.heads) == (42, 14, (HEADS,) * LAYERS)
    assert (sizes.intermediate_size, sizes.layer_norm_eps) == (3 * WIDTH, 1e-6)
    blip = around(tower.config)
    tower.plant(blip)
    # In double precision, so that what is left is the rounding of what was folded.
    pictures = torch.randn(2, 3, 42, 42).double()
    want = plain_vit({name: tensor.double() for name, tensor in state.items()}, pictures)
    assert want.std() > 0.5
    got = blip.double().image_tokens(pictures)
    torch.testing.assert_close(got, want, rtol=CLOSE, atol=CLOSE)


def test_a_tower_is_resized_to_the_pictures(tmp_path: Path) -> None:
    torch.save(vit(patch=16, side=4), tmp_path / "vit.pt")
    tower = read_image_tower(tmp_path / "vit.pt", image_size=96)
    assert (tower.stored, tower.config.num_tokens) == (17, 37)
    blip = around(tower.config)
    tower.plant(blip)
    assert blip.image_tokens(torch.zeros(1, 3, 96, 96)).shape == (1, 37, WIDTH)
    with pytest.raises(UsageError, match=r"patch_size 16; the nearest are 96 and 112"):
        read_image_tower(tmp_path / "vit.pt", image_size=100)


def test_what_only_a_classifier_needs_stays_behind(tmp_path: Path) -> None:
    heads = {
        "head.weight": torch.zeros(10, WIDTH),
        "head.bias": torch.zeros(10),
        "pre_logits.fc.weight": torch.zeros(WIDTH, WIDTH),
        "mask_token": torch.zeros(1, WIDTH),
    }
    torch.save(vit() | heads, tmp_path / "vit.pth")
    tower = read_image_tower(tmp_path / "vit.pth")
    assert tower.left == {
        "classifier head": ["head.weight", "head.bias", "pre_logits.fc.weight"],
        "mask token": ["mask_token"],
    }
    tower.plant(around(tower.config))


@pytest.mark.parametrize(
    ("extra", "reason"),
    [
        ({"register_tokens": torch.zeros(1, 4, WIDTH)}, r"register tokens \(register_tokens\)"),
        ({"reg_token": torch.zeros(1, 4, WIDTH)}, r"register tokens \(reg_token\)"),
        ({"dist_token": torch.zeros(1, 1, WIDTH)}, r"a distillation token \(dist_token\)"),
        ({"blocks.0.attn.q_norm.weight": torch.zeros(64)}, "norms of queries and keys"),
        ({"blocks.1.mlp.w12.weight": torch.zeros(64, WIDTH)}, r"SwiGLU\) \(blocks\.1\.mlp\.w12"),
        ({"norm_pre.weight": torch.zeros(WIDTH)}, "a norm before its layers"),
        ({"blocks.0.attn.bias_table": torch.zeros(9)}, r"1 unexpected .*bias_table"),
        ({"blocks.0.ls1.gamma": torch.zeros(3)}, r"ls1\.gamma \(3,\) does not fit .*attn\.proj"),
        ({"pos_embed": torch.zeros(1, 9, WIDTH)}, "9 tokens is no square grid and a class token"),
        ({"pos_embed": torch.zeros(1, 10, 100)}, "100 wide, no multiple of its heads' 64"),
        ({"pos_embed": torch.zeros(3)}, "no ViT of timm's names: it has no pos_embed of 3"),
        ({"pos_embed": None}, "no ViT of timm's names: it has no pos_embed"),
        ({"norm.weight": None}, r"1 missing \(vision_model\.post_layernorm\.weight\)"),
        ({"patch_embed.proj.weight": torch.zeros(WIDTH, 1, 14, 14)}, r"1, 14, 14\) instead of"),
        ({"norm.bias": torch.tensor([float("nan")])}, r"norm\.bias holds values that are not"),
    ],
)
def test_what_is_no_plain_vit_is_named(extra: dict[str, Any], reason: str, tmp_path: Path) -> None:
    state = {name: value for name, value in {**vit(), **extra}.items() if value is not None}
    torch.save(state, tmp_path / "vit.pth")
    with pytest.raises(ArtifactError, match=reason) as caught:
        tower = read_image_tower(tmp_path / "vit.pth")
        tower.plant(around(tower.config))
    assert str(tmp_path / "vit.pth") in str(caught.value)


def test_wide_heads_are_those_of_published_towers(tmp_path: Path) -> None:
    """ViT-H's heads are 80 wide, which no tensor says."""
    state = vit()
    wide = {"pos_embed": torch.zeros(1, 10, 1280)}
    torch.save(state | wide, tmp_path / "vit.pth")
    assert read_image_tower(tmp_path / "vit.pth").config.heads == (16,) * LAYERS


transformers = pytest.importorskip("transformers")


def bert(folder: Path, kind: str = "BertForMaskedLM") -> Any:
    """A tiny BERT as `save_pretrained` leaves it, and its vocabulary."""
    torch.manual_seed(5)
    config = transformers.BertConfig(
        vocab_size=len(WORDS),
        hidden_size=24,
        num_hidden_layers=LAYERS,
        num_attention_heads=3,
        intermediate_size=40,
        max_position_embeddings=32,
        layer_norm_eps=1e-7,
    )
    model = getattr(transformers, kind)(config).eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            noise = torch.randn_like(parameter)
            parameter.copy_(1 + noise / 5 if "LayerNorm.weight" in name else noise / 3)
    model.save_pretrained(folder)
    (folder / "vocab.txt").write_text("\n".join(WORDS))
    return model


def planted(tower: TextTower, architecture: Architecture) -> Blip:
    blip = around(text=tower.config, architecture=architecture)
    tower.plant(blip)
    return blip


def texts() -> tuple[Tensor, Tensor]:
    """Right-padded ids of different lengths, and their mask."""
    ids = torch.randint(5, len(WORDS), (3, 9), generator=torch.Generator().manual_seed(2))
    mask = (torch.arange(9)[None] < torch.tensor([[9], [7], [4]])).long()
    return ids * mask, mask


@pytest.mark.parametrize("kind", ["BertModel", "BertForMaskedLM", "BertForPreTraining"])
@pytest.mark.parametrize(
    "architecture",
    ["BlipForImageTextRetrieval", "BlipForPreTraining", "BlipForQuestionAnswering"],
)
@torch.no_grad()
def test_the_text_tower_reads_what_bert_reads(
    kind: str, architecture: Architecture, tmp_path: Path
) -> None:
    reference = bert(tmp_path, kind)
    tower = read_text_tower(tmp_path)
    assert (tower.config.heads, tower.config.layer_norm_eps) == ((3,) * LAYERS, 1e-7)
    blip = planted(tower, architecture)
    ids, mask = texts()
    plain = getattr(reference, "bert", reference)
    want = plain(input_ids=ids, attention_mask=mask).last_hidden_state[mask == 1]
    assert want.std() > 0.5
    stacks = [blip.encoder]
    if blip.text_decoder is not None:
        stacks.append(blip.decoder.bert)
    for stack in stacks:
        got = stack(ids, padding_mask(mask))[0][mask == 1]
        torch.testing.assert_close(got, want, rtol=CLOSE, atol=CLOSE)


@torch.no_grad()
def test_the_decoder_says_what_bert_would_fill_in(tmp_path: Path) -> None:
    reference = bert(tmp_path)
    tower = read_text_tower(tmp_path)
    blip = planted(tower, "BlipForConditionalGeneration")
    ids, mask = texts()
    want = reference(input_ids=ids, attention_mask=mask).logits[mask == 1]
    hidden, _ = blip.decoder.bert(ids, padding_mask(mask))
    got = blip.decoder.logits(hidden)[mask == 1]
    assert (tower.has_head, got.shape[-1]) == (True, len(WORDS) + 2)
    torch.testing.assert_close(got[:, : len(WORDS)], want, rtol=CLOSE, atol=1e-4)


def test_cross_attention_new_words_and_a_missing_head_are_fresh(tmp_path: Path) -> None:
    bert(tmp_path, "BertModel")
    tower = read_text_tower(tmp_path)
    untouched = dict(around(text=tower.config).named_parameters())
    blip = planted(tower, "BlipForConditionalGeneration")
    assert (tower.appended, tower.has_head) == (True, False)
    assert (tower.words.dec, tower.words.enc) == (len(WORDS), len(WORDS) + 1)
    same = {name for name, p in blip.named_parameters() if torch.equal(p, untouched[name])}
    assert same == {
        name
        for name in untouched
        if name.startswith("vision_model.") or ".crossattention." in name or ".cls." in name
    }
    rows = blip.decoder.bert.embeddings.word_embeddings.weight[len(WORDS) :]
    assert 0.005 < rows.std() < 0.05


def test_what_stays_behind_of_a_bert(tmp_path: Path) -> None:
    bert(tmp_path, "BertForPreTraining")
    assert {reason: len(names) for reason, names in read_text_tower(tmp_path).left.items()} == {
        "pooler": 2,
        "head for the next sentence": 2,
        "segments but the first": 1,
    }


def test_names_of_a_first_release_and_pickles(tmp_path: Path) -> None:
    """Files converted from TensorFlow's call a norm's weights gamma and beta."""
    bert(tmp_path)
    new = read_text_tower(tmp_path)
    old = load_file(tmp_path / "model.safetensors")
    for name in list(old):
        renamed = name.replace("Norm.weight", "Norm.gamma").replace("Norm.bias", "Norm.beta")
        old[renamed] = old.pop(name)
    old["bert.embeddings.position_ids"] = torch.arange(32)[None]
    old["cls.predictions.decoder.weight"] = old["bert.embeddings.word_embeddings.weight"]
    (tmp_path / "model.safetensors").unlink()
    torch.save(old, tmp_path / "pytorch_model.bin")
    again = read_text_tower(tmp_path)
    assert again.tensors.keys() == new.tensors.keys()
    for name, tensor in new.tensors.items():
        if name != "embeddings.word_embeddings.weight":  # two of its rows are drawn
            assert torch.equal(again.tensors[name], tensor), name


def configured(**changes: Any) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        path = folder / "config.json"
        values = json.loads(path.read_text()) | changes
        path.write_text(json.dumps({n: v for n, v in values.items() if v is not None}))

    return change


def stored(**changes: Any) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        path = folder / "model.safetensors"
        tensors = load_file(path) | {name.replace("__", "."): v for name, v in changes.items()}
        save_file({name: v for name, v in tensors.items() if v is not None}, path)

    return change


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (configured(model_type="roberta"), "model_type 'roberta' is not 'bert'"),
        (configured(hidden_act="relu"), "hidden_act 'relu'; BLIP's is gelu"),
        (configured(position_embedding_type="relative_key"), "BLIP's is absolute"),
        (configured(num_attention_heads=None), "num_attention_heads None is not a whole number"),
        (configured(num_attention_heads=5), "hidden_size 24 does not split into 5 heads"),
        (configured(layer_norm_eps="small"), "layer_norm_eps 'small' is not a number"),
        (configured(num_hidden_layers=3), r"missing \(text_decoder\.bert\.encoder\.layer\.2\."),
        (configured(hidden_size=48), r"LayerNorm\.weight \(24,\) instead of \(48,\)"),
        (configured(vocab_size=41), "embeds 43 words, the vocabulary .* has 42"),
        (stored(pooled=torch.zeros(3)), r"1 unexpected \(text_decoder\.bert\.pooled\)"),
        (stored(cls__predictions__bias=None), r"1 missing \(text_decoder\.cls\.predictions\.bias"),
        (
            stored(cls__predictions__decoder__weight=torch.zeros(len(WORDS), 24)),
            r"decoder\.weight is unlike embeddings\.word_embeddings\.weight",
        ),
        (
            stored(bert__embeddings__token_type_embeddings__weight=torch.zeros(2, 7)),
            r"token_type_embeddings\.weight \(2, 7\) does not fit",
        ),
        (
            stored(bert__embeddings__LayerNorm__bias=torch.full((24,), float("nan"))),
            r"LayerNorm\.bias holds values that are not finite",
        ),
        (lambda folder: (folder / "config.json").unlink(), r"config\.json is missing"),
        (lambda folder: (folder / "model.safetensors").unlink(), "holds no weights"),
        (lambda folder: (folder / "vocab.txt").unlink(), r"vocab\.txt cannot be read"),
        (
            lambda folder: (folder / "tokenizer_config.json").write_text(
                '{"do_lower_case": false}'
            ),
            "the vocabulary is cased",
        ),
    ],
)
def test_what_is_no_bert_is_named(
    damage: Callable[[Path], object], reason: str, tmp_path: Path
) -> None:
    bert(tmp_path)
    damage(tmp_path)
    with pytest.raises(ArtifactError, match=reason) as caught:
        planted(read_text_tower(tmp_path), "BlipForConditionalGeneration")
    assert str(tmp_path) in str(caught.value)


def test_a_text_tower_is_a_folder(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match=r"none is not a folder; give one with a BERT's"):
        read_text_tower(tmp_path / "none")
