"""Folders of `transformers` become MODEL folders, or are refused by name."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from torch import Tensor

from blip_edge import load
from blip_edge.artifact import read_provenance
from blip_edge.errors import ArtifactError
from blip_edge.models import hub
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
CLASSES = (
    "BlipForConditionalGeneration",
    "BlipForQuestionAnswering",
    "BlipForImageTextRetrieval",
)
HEAD = "text_decoder.cls.predictions"


def saved(folder: Path, name: str = CLASSES[0]) -> Path:
    """A tiny model as `save_pretrained` leaves it, with BERT's kind of vocabulary."""
    torch.manual_seed(0)
    config = transformers.BlipConfig(
        vision_config={**SIZES, "image_size": 32, "patch_size": 16, "initializer_range": 0.1},
        text_config={
            **SIZES,
            "vocab_size": len(WORDS) + 2,
            "encoder_hidden_size": 16,
            "max_position_embeddings": 32,
        },
        image_text_hidden_size=8,
    )
    getattr(transformers, name)(config).save_pretrained(folder)
    (folder / "vocab.txt").write_text("\n".join(WORDS))
    return folder


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """A tiny captioner."""
    return saved(tmp_path / "downloaded")


def weights(folder: Path) -> dict[str, Tensor]:
    return load_file(folder / "model.safetensors")


def change(path: Path, edit: Callable[[Any], None]) -> None:
    """Edit a JSON document in place."""
    document = json.loads(path.read_text())
    edit(document)
    path.write_text(json.dumps(document))


def same(folder: Path, expected: dict[str, Tensor]) -> None:
    state = load_model(folder).blip.state_dict()
    assert state.keys() - {"temp"} <= expected.keys()
    for name, tensor in state.items():
        assert name == "temp" or torch.equal(tensor, expected[name]), name


def test_the_network_is_the_same_and_captions(source: Path, tmp_path: Path) -> None:
    folder = import_model(source, tmp_path / "model")
    theirs = transformers.BlipForConditionalGeneration.from_pretrained(source).eval()
    ours = load_model(folder)
    assert ours.tokenizer.dec == ours.config.text_config.bos_token_id == len(WORDS)
    state = theirs.state_dict()
    assert all(torch.equal(state[name], t) for name, t in ours.blip.state_dict().items())
    picture = Image.fromarray(np.full((20, 30, 3), 99, dtype=np.uint8))
    assert load(folder).caption(picture, max_length=8).token_ids[0] == len(WORDS)


@pytest.mark.parametrize("name", CLASSES)
def test_every_class_comes_in(name: str, tmp_path: Path) -> None:
    source = saved(tmp_path / "downloaded", name)
    folder = import_model(source, tmp_path / "model")
    assert load_model(folder).config.architecture == name
    same(folder, weights(source))


@pytest.mark.parametrize("tied", ["neither", "both", "bias", "weight"])
def test_tied_weights_may_be_stored_or_not(source: Path, tmp_path: Path, tied: str) -> None:
    stored = weights(source)
    copies = {
        "weight": stored["text_decoder.bert.embeddings.word_embeddings.weight"].clone(),
        "bias": stored[f"{HEAD}.bias"].clone(),
    }
    kept = {"neither": (), "both": tuple(copies)}.get(tied, (tied,))
    extra = {f"{HEAD}.decoder.{name}": copies[name] for name in kept}
    save_file(stored | extra, source / "model.safetensors")
    same(import_model(source, tmp_path / "model"), stored)


def test_older_files_number_positions_and_older_configs_say_less(
    source: Path, tmp_path: Path
) -> None:
    stored = weights(source)
    numbers = {"text_decoder.bert.embeddings.position_ids": torch.arange(32)[None]}
    save_file(stored | numbers, source / "model.safetensors")

    def edit(config: Any) -> None:
        del config["text_config"]["encoder_hidden_size"]
        del config["vision_config"]["layer_norm_eps"]  # it is the default of their class

    change(source / "config.json", edit)
    folder = import_model(source, tmp_path / "model")
    same(folder, stored)
    assert load_model(folder).config.vision_config.layer_norm_eps == 1e-5


def test_a_config_without_a_purpose_needs_one(source: Path, tmp_path: Path) -> None:
    change(source / "config.json", lambda config: config.pop("architectures"))
    with pytest.raises(ArtifactError, match=r"config\.json: architecture None"):
        import_model(source, tmp_path / "model")
    same(import_model(source, tmp_path / "model", task="caption"), weights(source))
    with pytest.raises(ArtifactError, match=r"missing .*text_encoder"):
        import_model(source, tmp_path / "other", task="vqa")


def test_a_model_of_another_purpose_is_refused(source: Path, tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match=r"is a BlipForConditionalGeneration, retrieval needs"):
        import_model(source, tmp_path / "model", task="retrieval")


def test_a_tokenizer_json_without_blips_tokens_gets_them(source: Path, tmp_path: Path) -> None:
    bert = {"model": {"type": "WordPiece", "vocab": {word: n for n, word in enumerate(WORDS)}}}
    (source / "tokenizer.json").write_text(json.dumps(bert))
    (source / "vocab.txt").unlink()
    words = load_model(import_model(source, tmp_path / "model")).tokenizer
    assert (words.dec, words.enc) == (len(WORDS), len(WORDS) + 1)
    assert words.encode(["a red square"])[0].shape == (1, 5)


@pytest.mark.parametrize("newer", [False, True], ids=["preprocessor", "processor"])
def test_what_is_done_to_pictures_is_read_wherever_it_is_kept(
    source: Path, tmp_path: Path, newer: bool
) -> None:
    settings: Any = {"image_mean": [0.5] * 3, "image_std": [0.25] * 3, "resample": 3}
    settings["size"] = {"height": 384, "width": 384}
    (source / "preprocessor_config.json").unlink(missing_ok=True)
    name = "processor_config.json" if newer else "preprocessor_config.json"
    (source / name).write_text(json.dumps({"image_processor": settings} if newer else settings))
    found = load_model(import_model(source, tmp_path / "model")).preprocess
    assert (found.mean, found.std) == ((0.5,) * 3, (0.25,) * 3)


def test_what_was_imported_can_be_imported_again(source: Path, tmp_path: Path) -> None:
    once = import_model(source, tmp_path / "once")
    twice = import_model(once, tmp_path / "twice")
    for name in ("model.safetensors", "tokenizer.json", "config.json"):
        assert (once / name).read_bytes() == (twice / name).read_bytes()


def test_pickled_weights_are_read_without_running_them(source: Path, tmp_path: Path) -> None:
    state = transformers.BlipForConditionalGeneration.from_pretrained(source).state_dict()
    (source / "model.safetensors").unlink()
    torch.save(state, source / "pytorch_model.bin")
    same(import_model(source, tmp_path / "model"), state)
    torch.save({"weight": _Bomb()}, source / "pytorch_model.bin")
    with pytest.raises(ArtifactError, match=r"pytorch_model\.bin holds .*what could run is not"):
        import_model(source, tmp_path / "other")
    assert not (tmp_path / "other").exists()


class _Bomb:
    def __reduce__(self) -> tuple[Any, ...]:
        return (pytest.fail, ("unpickled",))


def shard(source: Path, *, pickled: bool = False) -> Path:
    """Spread the weights of `source` over two files; returns their index."""
    stored, name = weights(source), "pytorch_model.bin" if pickled else "model.safetensors"
    (source / "model.safetensors").unlink()
    stem, ending = name.split(".")
    where: dict[str, str] = {}
    for number in (1, 2):
        file = f"{stem}-0000{number}-of-00002.{ending}"
        part = {key: stored[key] for key in sorted(stored)[number - 1 :: 2]}
        where |= dict.fromkeys(part, file)
        torch.save(part, source / file) if pickled else save_file(part, source / file)
    index = source / f"{name}.index.json"
    index.write_text(json.dumps({"metadata": {}, "weight_map": where}))
    return index


@pytest.mark.parametrize("pickled", [False, True], ids=["safetensors", "pickled"])
def test_weights_may_be_spread_over_files(source: Path, tmp_path: Path, pickled: bool) -> None:
    expected = weights(source)
    shard(source, pickled=pickled)
    folder = import_model(source, tmp_path / "model")
    same(folder, expected)
    assert len(read_provenance(folder).parents) == 2


@pytest.mark.parametrize(
    ("file", "reason"),
    [
        ("../downloaded/model-00001-of-00002.safetensors", "leaves the folder"),
        ("/etc/passwd", "leaves the folder"),
        ("model-00003-of-00002.safetensors", "00003-of-00002.safetensors: there is no such file"),
        (3, "does not say in which file"),
    ],
)
def test_an_index_names_files_of_its_folder(
    source: Path, tmp_path: Path, file: Any, reason: str
) -> None:
    index = shard(source)
    change(index, lambda document: document["weight_map"].update({"x": file}))
    with pytest.raises(ArtifactError, match=reason):
        import_model(source, tmp_path / "model")


def test_an_index_and_its_files_agree(source: Path, tmp_path: Path) -> None:
    index = shard(source)
    first, second = (f"model-0000{n}-of-00002.safetensors" for n in (1, 2))
    change(index, lambda document: document["weight_map"].update({"x.weight": first}))
    with pytest.raises(ArtifactError, match=r"index\.json names x\.weight"):
        import_model(source, tmp_path / "model")
    save_file(load_file(source / first), source / second)
    with pytest.raises(ArtifactError, match=rf"{second}: .* is in another file"):
        import_model(source, tmp_path / "model")


def test_a_vocabulary_of_another_model_is_refused(source: Path, tmp_path: Path) -> None:
    (source / "vocab.txt").write_text("\n".join([*WORDS, "blue"]))
    with pytest.raises(ArtifactError, match="--tokenizer"):
        import_model(source, tmp_path / "model")


@pytest.mark.parametrize("file", ["config.json", "model.safetensors"])
def test_what_is_missing_is_named(source: Path, tmp_path: Path, file: str) -> None:
    (source / file).unlink()
    with pytest.raises(ArtifactError, match=file.replace(".", r"\.")):
        import_model(source, tmp_path / "model")
    assert not (tmp_path / "model").exists()


class Hub:
    """The hub as a folder: `owner/name` is a folder below it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.asked: list[tuple[str, list[str]]] = []

    def __call__(self, repository: str, *, allow_patterns: list[str]) -> str:
        self.asked.append((repository, allow_patterns))
        if not (self.folder / repository).is_dir():
            raise OSError("Repository Not Found\nfor url …")
        cache = self.folder / "cache" / repository
        cache.mkdir(parents=True, exist_ok=True)
        for pattern in allow_patterns:
            for path in (self.folder / repository).glob(pattern):
                (cache / path.name).write_bytes(path.read_bytes())
        return str(cache)


@pytest.fixture
def shelf(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Hub:
    huggingface_hub = pytest.importorskip("huggingface_hub")
    found = Hub(tmp_path / "hub")
    monkeypatch.setattr(huggingface_hub, "snapshot_download", found)
    return found


@pytest.mark.parametrize("kind", ["one file", "shards", "pickled shards"])
def test_a_name_on_the_hub_is_fetched(kind: str, tmp_path: Path, shelf: Hub) -> None:
    source = saved(shelf.folder / "owner" / "blip")
    expected = weights(source)
    (source / "tf_model.h5").write_bytes(b"not wanted")
    if kind != "one file":
        shard(source, pickled=kind == "pickled shards")
    folder = import_model("owner/blip", tmp_path / "model")
    same(folder, expected)
    assert {parent["path"] for parent in read_provenance(folder).parents} == {"owner/blip"}
    assert not (shelf.folder / "cache" / "owner" / "blip" / "tf_model.h5").exists()


def test_a_name_that_is_nowhere_is_said(tmp_path: Path, shelf: Hub) -> None:
    with pytest.raises(ArtifactError, match=r"no file or folder owner/none; .*Not Found$"):
        import_model("owner/none", tmp_path / "model")
    with pytest.raises(ArtifactError, match="there is no such file or folder"):
        import_model("no/such/place", tmp_path / "model")
    assert [name for name, _ in shelf.asked] == ["owner/none"]


def test_names_on_the_hub() -> None:
    assert hub.is_hub_id("Salesforce/blip-image-captioning-base")
    for other in ("blip", "a/b/c", "../blip", "/blip", "a/..", "~/blip", "a/b.pth/"):
        assert not hub.is_hub_id(other), other


def test_without_a_vocabulary_berts_is_fetched(source: Path, tmp_path: Path, shelf: Hub) -> None:
    (source / "vocab.txt").unlink()
    with pytest.raises(ArtifactError, match=r"--tokenizer vocab\.txt .*Not Found"):
        import_model(source, tmp_path / "model")
    bert = shelf.folder / "google-bert" / "bert-base-uncased"
    bert.mkdir(parents=True)
    (bert / "vocab.txt").write_text("\n".join(WORDS))
    folder = import_model(source, tmp_path / "model")
    assert load_model(folder).tokenizer.enc == len(WORDS) + 1
