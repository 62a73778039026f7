"""`import` of what is no checkpoint: exit code 3, one line that names it, nothing left behind."""

import json
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import Run

torch = pytest.importorskip("torch")

from safetensors.torch import save_file  # noqa: E402

from blip_edge.models import load_model  # noqa: E402
from tests import official  # noqa: E402

KEY = "visual_encoder.blocks.0.attn.qkv.weight"


class Bomb:
    """Unpickling it would write a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return (Path.touch, (self.path,))


def checkpoint(**changes: Any) -> dict[str, Any]:
    """An official captioner with weights changed; those set to None are left out."""
    whole = {**official.checkpoint("caption"), **changes}
    return {name: value for name, value in whole.items() if value is not None}


def broken(key: str, value: float) -> dict[str, Any]:
    weights = checkpoint()
    weights[key] = weights[key].clone()
    weights[key].view(-1)[5] = value
    return weights


def half(path: Path) -> None:
    official.write(path, checkpoint())
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def program(path: Path) -> None:
    """The marks of a TorchScript archive."""
    with zipfile.ZipFile(path, "w") as archive:
        for name in ("data.pkl", "constants.pkl", "version"):
            archive.writestr(f"model/{name}", b"3\n")


BAD: dict[str, tuple[Callable[[Path], object], str]] = {
    "truncated": (half, "cannot be read as weights: PytorchStreamReader failed"),
    "empty": (lambda path: path.write_bytes(b""), "is no file that torch.save wrote"),
    "a web page": (
        lambda path: path.write_text("<!DOCTYPE html>\n<title>404</title>\n"),
        "is no file that torch.save wrote",
    ),
    "a pointer": (
        lambda path: path.write_text("version https://git-lfs.github.com/spec/v1\n"),
        "is no file that torch.save wrote",
    ),
    "code": (
        lambda path: torch.save({"model": Bomb(path.with_name("exploded"))}, path),
        "what could run is not read",
    ),
    "a program": (program, "is a TorchScript program"),
    "a list": (lambda path: torch.save([1, 2], path), "holds no named weights"),
    "settings": (
        lambda path: torch.save({"lr": 0.1}, path),
        "holds more than named weights: lr",
    ),
    "a network of another kind": (
        lambda path: torch.save(
            {"conv1.weight": torch.zeros(64, 3, 7, 7), "layer1.0.bn1.bias": torch.zeros(64)}, path
        ),
        "is no BLIP checkpoint",
    ),
    "not a number": (
        lambda path: official.write(path, broken(KEY, float("nan"))),
        f"{KEY} holds values that are not finite numbers",
    ),
    "infinite": (
        lambda path: official.write(path, broken(KEY, float("inf"))),
        f"{KEY} holds values that are not finite numbers",
    ),
    "an oblong grid": (
        lambda path: official.write(
            path, checkpoint(**{"visual_encoder.pos_embed": torch.zeros(1, 13, 128)})
        ),
        "BLIP takes square pictures",
    ),
    "no positions": (
        lambda path: official.write(
            path, checkpoint(**{"visual_encoder.pos_embed": torch.zeros(1, 1, 128)})
        ),
        "image_size and patch_size must be positive",
    ),
    "too much": (
        lambda path: official.write(path, checkpoint(**{"fusion.gate": torch.zeros(3)})),
        "1 unexpected (fusion.gate)",
    ),
    "too little": (
        lambda path: official.write(
            path, checkpoint(**{"text_decoder.cls.predictions.transform.dense.bias": None})
        ),
        "1 missing (text_decoder.cls.predictions.transform.dense.bias)",
    ),
    "a layer of another width": (
        lambda path: official.write(
            path, checkpoint(**{"visual_encoder.blocks.1.mlp.fc1.weight": torch.zeros(500, 128)})
        ),
        "vision_model.encoder.layers.1.mlp.fc1.weight (500, 128) instead of (512, 128)",
    ),
    "a layer that is no number": (
        lambda path: official.write(
            path, checkpoint(**{"text_decoder.bert.encoder.layer.x.bias": torch.zeros(3)})
        ),
        "1 unexpected (text_decoder.bert.encoder.layer.x.bias)",
    ),
    "towers that do not fit": (
        lambda path: official.write(
            path,
            {
                **checkpoint(),
                **{
                    name: torch.zeros(128, 96)
                    for name in checkpoint()
                    if name.endswith(("crossattention.self.key.weight", "self.value.weight"))
                },
            },
        ),
        "encoder_hidden_size 96 is not vision_config.hidden_size 128",
    ),
    "untied": (
        lambda path: official.write(
            path, checkpoint(**{"text_decoder.cls.predictions.decoder.weight": torch.ones(60, 128)})
        ),
        "1 unlike the weight that they share (text_decoder.cls.predictions.decoder.weight)",
    ),
    "parts of no task": (
        lambda path: official.write(
            path, {**checkpoint(), "cls_head.0.weight": torch.zeros(128, 128)}
        ),
        "are those of no task",
    ),
}


@pytest.mark.parametrize("kind", BAD)
def test_a_file_that_is_no_checkpoint(run: Run, tmp_path: Path, kind: str) -> None:
    make, reason = BAD[kind]
    official.write_words(tmp_path / "vocab.txt")
    path = tmp_path / "model.pth"
    make(path)
    refused(run, path, tmp_path, str(path), reason)
    assert not (tmp_path / "exploded").exists()


def refused(run: Run, source: Path | str, tmp_path: Path, *reasons: str, flags: Any = ()) -> None:
    before = set(tmp_path.rglob("*"))
    code, out, err = run("import", source, "-o", tmp_path / "out", *flags)
    assert (code, out) == (3, "")
    lines = err.splitlines()
    assert lines[-1].startswith("error: ")
    assert len(lines) == 1, lines
    for reason in reasons:
        assert reason in err
    assert set(tmp_path.rglob("*")) == before


def test_a_file_that_is_missing(run: Run, tmp_path: Path) -> None:
    refused(run, tmp_path / "none.pth", tmp_path, "none.pth: there is no such file or folder")


@pytest.mark.parametrize(("count", "fits"), [(57, False), (58, True), (59, False), (60, False)])
def test_a_vocabulary_has_two_words_fewer(run: Run, tmp_path: Path, count: int, fits: bool) -> None:
    """The model embeds 60; [DEC] and [ENC] are the last two, and sixty of BERT's are too many."""
    path = official.write(tmp_path / "model.pth", checkpoint())
    words = official.write_words(tmp_path / "vocab.txt", count)
    if fits:
        assert run("import", path, "-o", tmp_path / "out", "--quiet")[0] == 0
        assert load_model(tmp_path / "out").tokenizer.dec == 58
        return
    refused(
        run,
        path,
        tmp_path,
        f"embeds 60 words, the vocabulary with [DEC] and [ENC] appended has {count + 2}",
    )
    refused(run, path, tmp_path, "--tokenizer", flags=("--tokenizer", words))


@pytest.mark.parametrize(
    ("document", "reason"),
    [
        ({"model": {"type": "BPE", "vocab": {"a": 0}}}, "is a BPE tokenizer"),
        ({"model": {"vocab": ["a"]}}, "is not a tokenizer"),
        ([], "is not a tokenizer"),
        ({"model": {"vocab": {"a": 0, "b": 2}}}, "its ids are not 0 to 1"),
        ({"model": {"vocab": {"a": 0}}}, "is not a BERT vocabulary: no [PAD]"),
        (
            {
                "model": {"vocab": {"a": 0}},
                "normalizer": {"type": "BertNormalizer", "lowercase": False},
            },
            "the vocabulary is cased",
        ),
    ],
)
def test_a_tokenizer_of_another_kind(run: Run, tmp_path: Path, document: Any, reason: str) -> None:
    path = official.write(tmp_path / "model.pth", checkpoint())
    (tmp_path / "tokenizer.json").write_text(json.dumps(document))
    refused(run, path, tmp_path, str(tmp_path / "tokenizer.json"), reason)


def test_a_vocabulary_that_repeats_itself_or_is_cased(run: Run, tmp_path: Path) -> None:
    path = official.write(tmp_path / "model.pth", checkpoint())
    words = official.write_words(tmp_path / "vocab.txt")
    (tmp_path / "tokenizer_config.json").write_text('{"do_lower_case": false}')
    refused(run, path, tmp_path, "tokenizer_config.json: the vocabulary is cased")
    (tmp_path / "tokenizer_config.json").unlink()
    words.write_text(words.read_text() + "\nof")
    refused(run, path, tmp_path, "vocab.txt lists 'of' twice")


@pytest.mark.parametrize(
    ("task", "reason"),
    [
        ("vqa", "has no text_encoder, which vqa needs"),
        ("retrieval", "has no text_encoder, which retrieval needs"),
        ("nlvr2", "has no text_encoder, which nlvr2 needs"),
    ],
)
def test_a_file_without_a_tasks_parts(run: Run, tmp_path: Path, task: str, reason: str) -> None:
    official.write_words(tmp_path / "vocab.txt")
    path = official.write(tmp_path / "model.pth", checkpoint())
    refused(run, path, tmp_path, reason, flags=("--task", task))


def test_a_pretrained_decoder_of_wide_pictures_reads_no_questions(run: Run, tmp_path: Path) -> None:
    """The original drops those keys by their shape, and the answers are random."""
    official.write_words(tmp_path / "vocab.txt")
    weights = official.checkpoint("pretrain", official.LARGE)
    path = official.write(tmp_path / "model.pth", weights)
    key = "text_decoder.bert.encoder.layer.0.crossattention.self.key.weight"
    refused(run, path, tmp_path, f"{key} (128, 192) instead of (128, 128)", flags=("--task", "vqa"))


@pytest.fixture
def folder(run: Run, tmp_path: Path) -> Path:
    """What `import` wrote, to be damaged."""
    official.write_words(tmp_path / "vocab.txt")
    path = official.write(tmp_path / "model.pth", checkpoint())
    assert run("import", path, "-o", tmp_path / "whole", "--quiet")[0] == 0
    return tmp_path / "whole"


@pytest.mark.parametrize(
    ("tower", "change", "reason"),
    [
        ("text_config", {"num_hidden_layers": 3}, "missing (text_decoder.bert.encoder.layer.2."),
        ("text_config", {"vocab_size": 61}, "embeds 61 words, the vocabulary has 60"),
        ("text_config", {"intermediate_size": 500}, "(512,) instead of (500,)"),
        ("vision_config", {"num_hidden_layers": 1}, "unexpected (vision_model.encoder.layers.1."),
        ("vision_config", {"patch_size": 16}, "instead of (128, 3, 16, 16)"),
        ("vision_config", {"num_attention_heads": 3}, "does not split into 3 heads"),
        ("vision_config", {"hidden_act": "relu"}, "hidden_act 'relu'"),
    ],
)
def test_a_config_that_contradicts_its_tensors(
    run: Run, folder: Path, tmp_path: Path, tower: str, change: Any, reason: str
) -> None:
    config = json.loads((folder / "config.json").read_text())
    config[tower] |= change
    (folder / "config.json").write_text(json.dumps(config))
    refused(run, folder, tmp_path, str(folder), reason)


def test_safetensors_with_what_is_no_number(run: Run, folder: Path, tmp_path: Path) -> None:
    model = load_model(folder)
    weights = {name: tensor.clone() for name, tensor in model.blip.state_dict().items()}
    weights["vision_model.post_layernorm.bias"][3] = float("nan")
    save_file(weights, folder / "model.safetensors")
    refused(run, folder, tmp_path, "model.safetensors: vision_model.post_layernorm.bias holds")


def test_what_is_left_behind_is_said(run: Run, tmp_path: Path) -> None:
    official.write_words(tmp_path / "vocab.txt")
    path = official.write(tmp_path / "model.pth", official.checkpoint("pretrain"))
    code, out, err = run("import", path, "--task", "caption", "-o", tmp_path / "out")
    assert code == 0
    assert "BlipForConditionalGeneration" in out
    assert "left behind: momentum copies, " in err
    assert "left behind: queues, 3 tensors (image_queue, text_queue, queue_ptr)" in err
    assert err.splitlines()[-1].startswith("next: blip-edge export ")


@pytest.mark.parametrize(
    ("task", "verb"),
    [("pretrain", "train"), ("retrieval", "match"), ("vqa", "vqa"), ("nlvr2", "reason")],
)
def test_each_task_says_what_to_type_next(run: Run, tmp_path: Path, task: str, verb: str) -> None:
    official.write_words(tmp_path / "vocab.txt")
    path = official.write(tmp_path / "model.pth", official.checkpoint(task))
    code, _, err = run("import", path, "-o", tmp_path / "out", "--image-size", 48)
    assert code == 0
    assert err.splitlines()[-1].startswith(f"next: blip-edge {verb} ")
    assert load_model(tmp_path / "out").preprocess.size == 48


def test_a_picture_size_is_a_multiple_of_the_patch_size(run: Run, tmp_path: Path) -> None:
    official.write_words(tmp_path / "vocab.txt")
    path = official.write(tmp_path / "model.pth", checkpoint())
    code, _, err = run("import", path, "-o", tmp_path / "out", "--image-size", 50)
    assert code == 2
    assert "the nearest are 48 and 56" in err


def exported(run: Run, tmp_path: Path, task: str, sizes: official.Sizes) -> tuple[int, str]:
    official.write_words(tmp_path / "vocab.txt")
    path = official.write(tmp_path / "model.pth", official.checkpoint(task, sizes))
    assert run("import", path, "-o", tmp_path / "model", "--quiet")[0] == 0
    code, _, err = run(
        *("export", tmp_path / "model", "--target", "huggingface"), "-o", tmp_path / "out"
    )
    return code, err


@pytest.mark.parametrize("task", ["caption", "retrieval", "vqa"])
def test_models_that_transformers_holds_are_exported(run: Run, tmp_path: Path, task: str) -> None:
    pytest.importorskip("transformers")
    assert exported(run, tmp_path, task, official.BASE)[0] == 0
    assert (tmp_path / "out" / "provenance.json").is_file()


@pytest.mark.parametrize(
    ("task", "sizes", "reason"),
    [
        ("pretrain", official.BASE, "transformers has no class of pre-trained BLIP"),
        ("nlvr2", official.BASE, "no class of BLIP that looks at two pictures"),
        ("vqa", official.LARGE, "image tower is 192 wide and the text tower 128"),
    ],
)
def test_models_that_transformers_does_not_hold_are_refused(
    run: Run, tmp_path: Path, task: str, sizes: official.Sizes, reason: str
) -> None:
    pytest.importorskip("transformers")
    code, err = exported(run, tmp_path, task, sizes)
    assert (code, err.count("\n")) == (3, 1)
    assert reason in err
    assert not (tmp_path / "out").exists()
