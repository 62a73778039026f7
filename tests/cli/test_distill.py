"""`distill` and `prune` as a user types them: what they make, and how they refuse."""

import json
import shutil
import tarfile
from pathlib import Path

import pytest

from tests.conftest import Run

pytest.importorskip("torch")

FEW = ("--set", "steps=1", "--set", "batch=4", "--set", "calibration=1")
SMALL = (*FEW, "--set", "text_neurons=16", "--set", "text_heads=1")


def facts(run: Run, folder: Path) -> dict[str, object]:
    code, out, err = run("inspect", folder, "--json")
    assert (code, err) == (0, "")
    found: dict[str, object] = json.loads(out)
    return found


def test_a_student_of_sizes_in_a_file(run: Run, data: Path, model: Path, tmp_path: Path) -> None:
    sizes = tmp_path / "small.toml"
    sizes.write_text("text_neurons = 16\ntext_heads = 1\n")
    argv = ("distill", model, "--data", data, *FEW, "-o", tmp_path / "x")
    code, out, err = run(*argv, "--student", sizes, "--json")
    assert (code, err) == (0, "")
    assert json.loads(out)
    config = json.loads((tmp_path / "x" / "config.json").read_text())
    assert config["text_config"]["intermediate_size"] == 16
    assert config["text_config"]["num_attention_heads"] == 1
    # What is set counts more than the file.
    more = (*argv[:-1], tmp_path / "y", "--set", "text_neurons=8")
    assert run(*more, "--student", sizes, "-q")[0] == 0
    config = json.loads((tmp_path / "y" / "config.json").read_text())
    assert config["text_config"]["intermediate_size"] == 8


def test_image_tokens_are_merged(run: Run, data: Path, model: Path, tmp_path: Path) -> None:
    argv = ("prune", model, "--data", data, *FEW, "--keep", "1", "--tokens", "0.6")
    code, _, err = run(*argv, "-q", "-o", tmp_path / "x")
    assert (code, err) == (0, "")
    config = json.loads((tmp_path / "x" / "config.json").read_text())
    assert config["vision_config"]["tokens_kept"] == [3]


@pytest.mark.parametrize("per", ["parameters", "macs"])
def test_a_model_is_pruned_per_what_is_asked(
    run: Run, data: Path, model: Path, tmp_path: Path, per: str
) -> None:
    argv = ("prune", model, "--data", data, *FEW, "--keep", "0.9", "--per", per)
    code, _, err = run(*argv, "-q", "-o", tmp_path / "x")
    assert (code, err) == (0, "")
    before, after = facts(run, model), facts(run, tmp_path / "x")
    assert after["parameters"] < before["parameters"]  # type: ignore[operator]


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        (("prune", "--keep", "0"), "keep must lie in (0, 1], got 0"),
        (("prune", "--keep", "1.5"), "keep must lie in (0, 1], got 1.5"),
        (("prune", "--tokens", "0"), "tokens must lie in (0, 1], got 0"),
        (("prune", "--tokens", "2"), "tokens must lie in (0, 1], got 2"),
        (("prune", "--keep", "0.01"), "raise keep"),
        (("prune", "--per", "bytes"), "--per"),
        (("prune", "--set", "said=2"), "said must lie between 0 and 1"),
        (("distill", "--student", "edge-xxl"), "named 'edge-xxl'; did you mean 'edge-xs'?"),
        (("distill", "--student", "missing.toml"), "missing.toml"),
        (("distill", "--set", "vision_width=32"), "vision_width = 32, but the teacher has 16"),
        (("distill", "--set", "text_layers=-1"), "text_layers must not be negative"),
        (("distill", "--set", "task_weight=-1"), "loss weights"),
        (("distill", "--device", "tpu"), "--device"),
    ],
)
def test_what_makes_no_sense_is_one_line(
    run: Run, data: Path, model: Path, tmp_path: Path, argv: tuple[str, ...], words: str
) -> None:
    verb, *rest = argv
    code, out, err = run(verb, model, "--data", data, *FEW, *rest, "-o", tmp_path / "x")
    assert (code, out) == (2, "")
    assert err.splitlines()[-1].startswith("error: ") and words in err
    assert not (tmp_path / "x").exists()


def test_a_vocabulary_that_cannot_spell_the_data(
    run: Run, data: Path, model: Path, tmp_path: Path
) -> None:
    """The words of another data set leave out letters that this one needs."""
    other = tmp_path / "other"
    shutil.copytree(data, other)
    for file in other.glob("*_train.json"):
        rows = json.loads(file.read_text())
        if file.name.startswith("caption"):
            file.write_text(json.dumps([{**row, "caption": "a red cat"} for row in rows]))
        else:
            file.unlink()
    argv = ("distill", model, "--data", data, *SMALL, "--vocab-from", other, "-o", tmp_path / "x")
    code, out, err = run(*argv)
    assert (code, out) == (3, "")
    assert "the vocabulary cannot spell" in err and str(other) in err
    assert not (tmp_path / "x").exists()
    # The data set's own words do.
    assert run(*argv[:-4], "--vocab-from", data, "-q", "-o", tmp_path / "y")[0] == 0


@pytest.mark.parametrize("verb", ["distill", "prune"])
def test_what_is_no_model_or_no_data(
    run: Run, data: Path, model: Path, tmp_path: Path, verb: str
) -> None:
    code, _, err = run(verb, tmp_path / "none", "--data", data, "-o", tmp_path / "x")
    assert code == 3 and "none" in err
    code, _, err = run(verb, model, "--data", tmp_path / "none", "-o", tmp_path / "x")
    assert code == 3 and "none" in err
    assert not (tmp_path / "x").exists()


@pytest.mark.parametrize("verb", ["distill", "prune"])
def test_the_next_step_is_not_told_to_read_tars(
    run: Run, data: Path, model: Path, tmp_path: Path, verb: str
) -> None:
    """`quantize` reads a dataset folder alone."""
    with tarfile.open(tmp_path / "pairs.tar", "w") as archive:
        for row in json.loads((data / "caption_train.json").read_text())[:8]:
            text = tmp_path / "row.json"
            text.write_text(json.dumps({"caption": row["caption"]}))
            key = row["image"].replace("/", "-").removesuffix(".png")
            archive.add(data / "images" / row["image"], f"{key}.png")
            archive.add(text, f"{key}.json")
    last = {}
    for source in (data, tmp_path / "pairs.tar"):
        output = tmp_path / f"from-{source.stem}"
        code, _, err = run(verb, model, "--data", source, *SMALL[:6], "-o", output)
        assert code == 0, err
        last[source.name] = err.splitlines()[-1]
    assert f"--data {data} -o" in last[data.name]
    assert "--data DATA -o" in last["pairs.tar"]


@pytest.mark.parametrize("verb", ["distill", "prune"])
def test_who_judges_dialogs_is_no_teacher(
    run: Run, data: Path, model: Path, tmp_path: Path, verb: str
) -> None:
    """A student would learn to retrieve, which its teacher was not tuned for."""
    path = model / "provenance.json"
    made = json.loads(path.read_text())
    path.write_text(json.dumps({**made, "recipe": {**made["recipe"], "task": "visdial"}}))
    code, out, err = run(verb, model, "--data", data, *FEW, "-o", tmp_path / "x")
    assert (code, out, err.count("\n")) == (3, "", 1)
    assert "dialogs" in err
    assert not (tmp_path / "x").exists()
