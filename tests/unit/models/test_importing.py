"""Folders of `transformers` become MODEL folders, or are refused by name."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from blip_edge import load
from blip_edge.errors import ArtifactError
from blip_edge.models.folder import load_model
from blip_edge.models.importing import import_model

transformers = pytest.importorskip("transformers")

BERT = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
WORDS = (*BERT, "a", "picture", "of", "red", "green", "square")
SIZES: dict[str, Any] = {
    "hidden_size": 16,
    "intermediate_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
}


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """A tiny captioner as `save_pretrained` leaves it, with BERT's kind of vocabulary."""
    torch.manual_seed(0)
    config = transformers.BlipConfig(
        vision_config={**SIZES, "image_size": 32, "patch_size": 16, "initializer_range": 0.1},
        text_config={
            **SIZES,
            "vocab_size": len(WORDS) + 2,
            "encoder_hidden_size": 16,
            "max_position_embeddings": 32,
        },
    )
    folder = tmp_path / "downloaded"
    transformers.BlipForConditionalGeneration(config).save_pretrained(folder)
    (folder / "vocab.txt").write_text("\n".join(WORDS))
    return folder


def test_the_network_is_the_same_and_captions(source: Path, tmp_path: Path) -> None:
    folder = import_model(source, tmp_path / "model")
    theirs = transformers.BlipForConditionalGeneration.from_pretrained(source).eval()
    ours = load_model(folder)
    assert ours.tokenizer.dec == ours.config.text_config.bos_token_id == len(WORDS)
    state = theirs.state_dict()
    assert all(torch.equal(state[name], t) for name, t in ours.blip.state_dict().items())
    picture = Image.fromarray(np.full((20, 30, 3), 99, dtype=np.uint8))
    assert load(folder).caption(picture, max_length=8).token_ids[0] == len(WORDS)


def test_a_tokenizer_json_without_blips_tokens_gets_them(source: Path, tmp_path: Path) -> None:
    bert = {"model": {"type": "WordPiece", "vocab": {word: n for n, word in enumerate(WORDS)}}}
    (source / "tokenizer.json").write_text(json.dumps(bert))
    (source / "vocab.txt").unlink()
    words = load_model(import_model(source, tmp_path / "model")).tokenizer
    assert (words.dec, words.enc) == (len(WORDS), len(WORDS) + 1)
    assert words.encode(["a red square"])[0].shape == (1, 5)


def test_what_was_imported_can_be_imported_again(source: Path, tmp_path: Path) -> None:
    once = import_model(source, tmp_path / "once")
    twice = import_model(once, tmp_path / "twice")
    for name in ("model.safetensors", "tokenizer.json", "config.json"):
        assert (once / name).read_bytes() == (twice / name).read_bytes()


def test_pickled_weights_are_read_without_running_them(source: Path, tmp_path: Path) -> None:
    state = transformers.BlipForConditionalGeneration.from_pretrained(source).state_dict()
    (source / "model.safetensors").unlink()
    torch.save(state, source / "pytorch_model.bin")
    import_model(source, tmp_path / "model")
    torch.save({"weight": _Bomb()}, source / "pytorch_model.bin")
    with pytest.raises(ArtifactError, match=r"pytorch_model\.bin cannot be read"):
        import_model(source, tmp_path / "other")
    assert not (tmp_path / "other").exists()


class _Bomb:
    def __reduce__(self) -> tuple[Any, ...]:
        return (pytest.fail, ("unpickled",))


def test_a_vocabulary_of_another_model_is_refused(source: Path, tmp_path: Path) -> None:
    (source / "vocab.txt").write_text("\n".join([*WORDS, "blue"]))
    with pytest.raises(ArtifactError, match="--tokenizer"):
        import_model(source, tmp_path / "model")


@pytest.mark.parametrize("file", ["config.json", "model.safetensors", "vocab.txt"])
def test_what_is_missing_is_named(source: Path, tmp_path: Path, file: str) -> None:
    (source / file).unlink()
    with pytest.raises(ArtifactError, match=file.replace(".", r"\.")):
        import_model(source, tmp_path / "model")
    assert not (tmp_path / "model").exists()
