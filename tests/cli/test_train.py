"""`train` as a user types it: what it starts from, what it reads, what it refuses."""

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.cli.conftest import TINY_MODEL
from tests.conftest import Run
from tests.unit.training.tars import picture, write_tar
from tests.unit.training.together import together

torch = pytest.importorskip("torch")

WIDTH = 64


@pytest.fixture
def vit(tmp_path: Path) -> Path:
    """A DeiT of one layer at 2 x 2 patches of 16 pixels."""
    shapes = {
        "cls_token": (1, 1, WIDTH),
        "pos_embed": (1, 5, WIDTH),
        "patch_embed.proj.weight": (WIDTH, 3, 16, 16),
        "patch_embed.proj.bias": (WIDTH,),
        "head.weight": (10, WIDTH),
        "head.bias": (10,),
    }
    for name, out, into in (
        ("attn.qkv", 3 * WIDTH, WIDTH),
        ("attn.proj", WIDTH, WIDTH),
        ("mlp.fc1", 4 * WIDTH, WIDTH),
        ("mlp.fc2", WIDTH, 4 * WIDTH),
    ):
        shapes |= {f"blocks.0.{name}.weight": (out, into), f"blocks.0.{name}.bias": (out,)}
    for norm in ("blocks.0.norm1", "blocks.0.norm2", "norm"):
        shapes |= {f"{norm}.weight": (WIDTH,), f"{norm}.bias": (WIDTH,)}
    path = tmp_path / "vit.pth"
    torch.save({"model": {n: torch.randn(shape) / 8 for n, shape in shapes.items()}}, path)
    return path


def test_towers_are_named_on_the_command_line(
    run: Run, data: Path, vit: Path, tmp_path: Path
) -> None:
    code, out, err = run(
        *("train", "--data", data, "-o", tmp_path / "new", "--vision-init", vit), *TINY_MODEL
    )
    assert code == 0
    assert "32 px, 1 layer 64 wide" in out
    lines = err.splitlines()
    assert "left behind: classifier head, 2 tensors (head.weight, head.bias)" in lines
    assert "fresh: text tower" in lines


def test_another_picture_size(run: Run, model: Path, data: Path, tmp_path: Path) -> None:
    output = tmp_path / "tuned"
    how = ("--set", "steps=1", "--set", "batch=2", "--set", "image_size=48", "--quiet")
    assert run("train", "--data", data, "--init", model, "-o", output, *how)[0] == 0
    assert json.loads((output / "config.json").read_text())["vision_config"]["image_size"] == 48
    assert json.loads((output / "preprocessor_config.json").read_text())["size"]["height"] == 48


@pytest.mark.parametrize(
    ("flags", "code", "reason"),
    [
        (("--init", "{tmp}/m", "--vision-init", "{tmp}/vit.pth"), 2, "--init is a whole model"),
        (("--init", "{tmp}/m", "--text-init", "{tmp}/bert"), 2, "--init is a whole model"),
        (("--vision-init", "{tmp}/none.pth"), 3, "none.pth: there is no such file"),
        (("--text-init", "{tmp}/none"), 3, "none is not a folder"),
        (("--text-init", "{data}"), 3, "config.json is missing"),
        (("--vision-init", "{data}/dataset.json"), 3, "is no file that torch.save wrote"),
        (
            ("--vision-init", "{tmp}/vit.pth", "--set", "image_size=40"),
            2,
            "the nearest are 32 and 48",
        ),
    ],
)
def test_what_cannot_be_started_from(
    run: Run,
    data: Path,
    vit: Path,
    tmp_path: Path,
    flags: tuple[str, ...],
    code: int,
    reason: str,
) -> None:
    words = [word.replace("{tmp}", str(tmp_path)).replace("{data}", str(data)) for word in flags]
    before = set(tmp_path.rglob("*"))
    got, out, err = run("train", "--data", data, "-o", tmp_path / "x", *words)
    assert (got, out, err.count("\n")) == (code, "", 1)
    assert reason in err
    assert set(tmp_path.rglob("*")) == before


@pytest.fixture
def tars(tmp_path: Path) -> str:
    """Thirty pairs in three tars of unequal size, by the name that stands for all."""
    words = ["red", "green", "blue", "cat", "dog"]
    pairs = [(f"{n:03}", picture(9 * n), f"a {words[n % 5]} {words[n // 6]}") for n in range(30)]
    for shard, (first, last) in enumerate([(0, 2), (2, 19), (19, 30)]):
        write_tar(tmp_path / f"web-{shard}.tar", pairs[first:last])
    return str(tmp_path / "web-{0..2}.tar")


def provenance(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / "provenance.json").read_text())
    return found


@pytest.mark.parametrize("task", ["pretrain", "caption", "retrieval"])
def test_tars_instead_of_a_folder(run: Run, tars: str, tmp_path: Path, task: str) -> None:
    output = tmp_path / "new"
    epoch = ("--set", "steps=0", "--set", "epochs=2", "--set", "queue_size=8")
    code, _, err = run(
        *("train", "--task", task, "--data", tars, "-o", output, *TINY_MODEL, *epoch, "-q")
    )
    assert (code, err) == (0, "")
    made = provenance(output)
    again = ("train", "--task", task, "--data", tars, "-o", output, *TINY_MODEL, *epoch)
    assert run(*again, "--resume")[0] == 0, "it is finished"
    assert (made["data"]["items"], made["data"]["shards"]) == (30, 3)
    assert len(made["history"]) == 14, "two epochs of seven batches of four"
    vocabulary = json.loads((output / "tokenizer.json").read_text())["model"]["vocab"]
    assert "dog" in vocabulary


def test_tars_beside_a_folder(run: Run, data: Path, tars: str, tmp_path: Path) -> None:
    output = tmp_path / "new"
    how = (
        "--set",
        "steps=0",
        "--set",
        "batch=15",
        "--set",
        "eval_every=2",
        "--set",
        "vocab_size=400",
    )
    code, _, err = run(
        *("train", "--data", data, "--web", tars, "-o", output, *TINY_MODEL, *how, "-q")
    )
    assert (code, err) == (0, "")
    made = provenance(output)
    again = ("train", "--data", data, "-o", output, *TINY_MODEL, *how, "--resume")
    assert run(*again, "--web", tars)[0] == 0, "it is finished"
    assert run(*again)[0] == 2, "it is of other data"
    assert made["data"]["name"] == "shapes"
    assert made["data"]["web"]["items"] == 30
    losses = [point for point in made["history"] if "lm" in point]
    assert len(losses) == 6, "60 captions and 30 pairs"
    vocabulary = json.loads((output / "tokenizer.json").read_text())["model"]["vocab"]
    assert {"dog", "a"} < vocabulary.keys()


def test_damaged_pairs_are_listed_or_stop_the_run(run: Run, tars: str, tmp_path: Path) -> None:
    cut = tmp_path / "web-1.tar"
    cut.write_bytes(cut.read_bytes()[:-14000])
    write_tar(tmp_path / "web-0.tar", [("a", b"none", "a cat"), ("b", picture(1), " ... ")])
    argv = ("train", "--data", tars, *TINY_MODEL, "--set", "steps=8")
    code, out, err = run(*argv, "-o", tmp_path / "x", "-q")
    assert (code, out, err.count("\n")) == (3, "", 1)
    assert "more than max_bad = 0.01 allows; the last one: " in err
    assert not (tmp_path / "x").exists()
    code, _, err = run(*argv, "-o", tmp_path / "y", "--set", "max_bad=0.2")
    assert code == 0
    assert "warning: 3 pictures could not be read; see skipped.jsonl" in err
    lines = (tmp_path / "y" / "skipped.jsonl").read_text().splitlines()
    assert {Path(json.loads(line)["image"]).name for line in lines} == {"a", "b", "web-1.tar"}


@pytest.mark.parametrize(
    ("words", "code", "reason"),
    [
        (("--data", "{tars}", "--task", "vqa"), 2, "tars hold pairs: pretrain, caption, retrieval"),
        (("--data", "{data}", "--web", "{tars}", "--task", "nlvr2"), 2, "nlvr2 cannot"),
        (("--data", "{tars}", "--set", "eval_every=1"), 2, "eval_every needs a val split"),
        (("--data", "{data}", "--set", "web_parts=5"), 2, "web_parts is of tars (--web)"),
        (("--data", "{tars}", "--set", "web_parts=4"), 2, "3 shards cannot be read in 4 parts"),
        (("--data", "{tars}", "--set", "web_parts=0"), 2, "web_parts must be at least 1"),
        (("--data", "{tmp}/none-{0..2}.tar"), 3, "none-0.tar is missing"),
        (("--data", "{data}", "--web", "{tmp}/none.tar"), 3, "none.tar is missing"),
        (("--data", "{tmp}/nothing"), 3, "nothing is not a folder"),
        (
            ("--data", "{data}", "--web", "{tmp}/empty.tar"),
            3,
            "empty.tar: the tars of epoch 0 hold",
        ),
    ],
)
def test_tars_that_cannot_be_read(
    run: Run, data: Path, tars: str, tmp_path: Path, words: tuple[str, ...], code: int, reason: str
) -> None:
    write_tar(tmp_path / "empty.tar", [])
    names = {"{tars}": tars, "{data}": str(data), "{tmp}": str(tmp_path)}
    argv = [next((w.replace(k, v) for k, v in names.items() if k in w), w) for w in words]
    before = set(tmp_path.rglob("*"))
    got, out, err = run("train", "-o", tmp_path / "x", *TINY_MODEL, *argv, "-q")
    assert (got, out, err.count("\n")) == (code, "", 1), err
    assert reason in err
    assert set(tmp_path.rglob("*")) == before


@pytest.mark.slow
def test_a_killed_run_on_tars_ends_with_the_same_bytes(
    run: Run, data: Path, tars: str, tmp_path: Path
) -> None:
    """Alone and as two processes, in the middle of an epoch."""
    cut = tmp_path / "web-2.tar"
    cut.write_bytes(cut.read_bytes()[:-14000])
    argv = [*("train", "--task", "pretrain", "--data", str(data), "--web", tars, *TINY_MODEL)]
    argv += ["--set", "steps=20", "--set", "save_every=1", "--set", "queue_size=8", "-q"]
    argv += ["--set", "min_crop=0.5", "--set", "workers=1", "--set", "max_bad=0.1", "-o"]
    runs: list[Any] = []
    for world in (1, 2):
        whole, torn = (str(tmp_path / f"{name}-{world}") for name in ("whole", "torn"))
        runs += [
            {"argv": [*argv, whole], "world": world},
            {"argv": [*argv, torn], "world": world, "until": f"{torn}.checkpoints/step-00000001*"},
            {"argv": [*argv, torn, "--resume"], "world": world},
        ]
    done = together(tmp_path / "runs", runs)
    codes = [found["codes"] for found in done]
    assert codes == [[0], [-9], [0], [0, 0], [-9, -9], [0, 0]], done
    for world in (1, 2):
        ended, resumed = (tmp_path / f"{name}-{world}" for name in ("whole", "torn"))
        for name in ("model.safetensors", "skipped.jsonl"):
            assert (ended / name).read_bytes() == (resumed / name).read_bytes(), name
    weights = [(tmp_path / f"whole-{world}" / "model.safetensors") for world in (1, 2)]
    assert weights[0].read_bytes() != weights[1].read_bytes()


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a CUDA device")
def test_a_device_that_is_not_there(run: Run, data: Path, tmp_path: Path) -> None:
    argv = ("train", "--data", data, "-o", tmp_path / "x", *TINY_MODEL, "--device")
    code, out, err = run(*argv, "cuda")
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert "--device cuda: torch finds none on this machine" in err
    assert not (tmp_path / "x").exists()
    assert run(*argv, "tpu")[0] == 2
    assert run(*argv, "cpu", "-q")[0] == 0


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.slow
def test_the_published_pretraining_runs_on_cuda(run: Run, data: Path, tmp_path: Path) -> None:
    """Its sizes and its precision; fewer pictures, steps and remembered features."""
    code, _, err = run(
        *("train", "--recipe", "pretrain-14m-base", "--device", "cuda", "--data", data),
        *("-o", tmp_path / "x", "--set", "steps=3", "--set", "batch=4", "--set", "queue_size=64"),
        *("--set", "save_every=0", "-q"),
    )
    assert (code, err) == (0, "")
    assert len(provenance(tmp_path / "x")["history"]) == 3


def test_curves_are_written_for_tensorboard(run: Run, data: Path, tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    accumulator: Any = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    how = ("--set", "steps=4", "--set", "eval_every=2", "--set", "lr=0.01", "--set", "warmup=2")
    argv = ("train", "--data", data, *TINY_MODEL, *how, "-q", "--log-dir")
    code, _, err = run(*argv, tmp_path / "logs" / "one", "-o", tmp_path / "new")
    assert (code, err) == (0, "")
    events = accumulator.EventAccumulator(str(tmp_path / "logs" / "one")).Reload()
    assert set(events.Tags()["scalars"]) == {"lm", "lr", "metric", "samples/s"}
    read = {tag: events.Scalars(tag) for tag in ("lm", "lr", "metric", "samples/s")}
    history = provenance(tmp_path / "new")["history"]
    for tag in ("lm", "metric"):
        kept = [(point["step"], point[tag]) for point in history if tag in point]
        assert [(event.step, event.value) for event in read[tag]] == [
            (step, pytest.approx(value, abs=1e-4)) for step, value in kept
        ]
    assert [event.value for event in read["lr"]] == pytest.approx([0.005, 0.01, 0.01, 0.005])
    assert all(event.value > 0 for event in read["samples/s"])
    (tmp_path / "file").touch()
    code, out, err = run(*argv, tmp_path / "file", "-o", tmp_path / "other")
    assert (code, out, err.count("\n")) == (3, "", 1)
    assert "file cannot be written" in err


def test_without_tensorboard_it_is_said_what_to_install(
    run: Run, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "tensorboard", None)
    argv = ("train", "--data", data, "-o", tmp_path / "x", *TINY_MODEL)
    code, out, err = run(*argv, "--log-dir", tmp_path / "logs")
    assert (code, out, err.count("\n")) == (4, "", 1)
    assert "pip install 'blip-edge[logs]'" in err
    assert not (tmp_path / "x").exists()
    assert not (tmp_path / "logs").exists()


def test_another_recipe_does_not_go_on(run: Run, data: Path, tmp_path: Path) -> None:
    """Neither with what was killed nor with what is finished."""
    output, how = tmp_path / "m", ("--set", "save_every=1", "-q")
    argv = ("train", "--data", data, "-o", output, *TINY_MODEL, *how)
    assert run(*argv)[0] == 0
    code, out, err = run(*argv, "--set", "lr=0.5", "--set", "batch=3", "--resume")
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert "another recipe: batch, lr differ" in err
    # One that was stopped: its picture is lost after the first checkpoint.
    killed = tmp_path / "killed"
    longer = ("train", "--data", data, "-o", killed, *TINY_MODEL, *how, "--set", "steps=30")
    for path in sorted((data / "images" / "train").iterdir())[:1]:
        path.write_bytes(b"")
    assert run(*longer)[0] == 3
    assert list((tmp_path / "killed.checkpoints").iterdir())
    code, out, err = run(*longer, "--resume", "--set", "lr=0.5", "--set", "workers=2")
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert "is of another run: lr was 0.0001 and is 0.5; continue" in err, "workers are free"
    assert list((tmp_path / "killed.checkpoints").iterdir())
    code, out, err = run(*longer, "--resume", "--set", "batch=3", "--set", "lr=0.5")
    assert "is of another run: batch was 4 and is 3, lr was 0.0001 and is 0.5" in err


def test_a_run_that_too_many_damaged_pictures_stopped_goes_on(
    run: Run, data: Path, tmp_path: Path
) -> None:
    """Days of training would be lost otherwise; the error says how."""
    first, *_ = sorted((data / "images" / "train").iterdir())
    first.write_bytes(b"")
    how = ("--set", "steps=30", "--set", "save_every=1")
    argv = ("train", "--data", data, "-o", tmp_path / "m", *TINY_MODEL, *how)
    code, _, err = run(*argv, "-q")
    assert (code, err.count("\n")) == (3, 1)
    assert err.rstrip().endswith("; raise max_bad and go on with --resume")
    code, _, err = run(*argv, "--resume", "--set", "max_bad=0.5")
    assert code == 0, err
    assert "continuing after step" in err
    assert first.name in (tmp_path / "m" / "skipped.jsonl").read_text()


@pytest.mark.parametrize(
    ("task", "gone", "reason"),
    [
        ("caption", "caption_train.json", "caption_train.json is missing"),
        ("retrieval", "caption_train.json", "caption_train.json is missing"),
        ("vqa", "vqa_train.json", "no questions to train on"),
        ("nlvr2", "nlvr_train.json", "nlvr_train.json is missing"),
        ("visdial", "visdial_train.json", "visdial_train.json is missing"),
    ],
)
def test_a_folder_without_the_tasks_rows(
    run: Run, data: Path, tmp_path: Path, task: str, gone: str, reason: str
) -> None:
    (data / gone).unlink(missing_ok=True)
    code, out, err = run("train", "--task", task, "--data", data, "-o", tmp_path / "x", *TINY_MODEL)
    assert (code, out, err.count("\n")) == (3, "", 1)
    assert reason in err
    assert not (tmp_path / "x").exists()


def test_captions_without_words_are_left_out_or_stop_the_run(
    run: Run, data: Path, tmp_path: Path
) -> None:
    rows = json.loads((data / "caption_train.json").read_text())
    rows[3]["caption"] = " ...!"
    (data / "caption_train.json").write_text(json.dumps(rows))
    argv = ("train", "--data", data, *TINY_MODEL, "-o")
    code, out, err = run(*argv, tmp_path / "x")
    assert (code, out, err.count("\n")) == (3, "", 1)
    assert "1 of 60 rows" in err and "its caption ' ...!' has no words" in err
    code, _, err = run(*argv, tmp_path / "y", "--set", "max_bad=0.05")
    assert code == 0
    assert "warning: 1 rows had nothing to learn; see skipped.jsonl" in err
    (line,) = (tmp_path / "y" / "skipped.jsonl").read_text().splitlines()
    assert json.loads(line)["image"] == rows[3]["image"]


@pytest.mark.parametrize(
    ("task", "file", "rows", "reason"),
    [
        ("caption", "caption_val.json", None, "caption_val.json is missing"),
        ("nlvr2", "nlvr_dev.json", None, "nlvr_dev.json is missing"),
        ("vqa", "vqa_val.json", None, "vqa_val.json is missing"),
        ("vqa", "answer_list.json", ["yes", "no", "yes"], "answer_list.json"),
        ("vqa", "answer_list.json", {"yes": 1}, "answer_list.json is not a"),
    ],
)
def test_what_a_run_is_chosen_by_is_looked_at_before_the_first_step(
    run: Run, data: Path, tmp_path: Path, task: str, file: str, rows: Any, reason: str
) -> None:
    (data / file).unlink(missing_ok=True)
    if rows is not None:
        (data / file).write_text(json.dumps(rows))
    how = ("--set", "eval_every=1", "--set", "save_every=1", "-o", tmp_path / "x")
    code, out, err = run("train", "--task", task, "--data", data, *TINY_MODEL, *how)
    assert (code, out, err.count("\n")) == (3, "", 1), err
    assert reason in err
    assert not list(tmp_path.glob("x*")), "no step was made, so there is no checkpoint"
