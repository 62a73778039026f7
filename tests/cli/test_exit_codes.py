"""Every failure is one line on stderr, nothing on stdout, and the documented exit code."""

import errno
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.cli.conftest import TINY_WORLD
from tests.conftest import Run


def is_one_error_line(err: str) -> bool:
    return err.startswith("error: ") and err.count("\n") == 1


@pytest.mark.parametrize("json", [[], ["--json"]], ids=["text", "json"])
@pytest.mark.parametrize(
    ("argv", "code", "words"),
    [
        (["tran"], 2, "train"),
        (["data", "mak"], 2, "make"),
        (["train", "--dat", "x"], 2, "--data"),
        (["train", "--data", "x"], 2, "--output"),
        (["caption", "m", "a.jpg", "--beams", "0"], 2, "--beams"),
        (["caption", "m", "a.jpg", "--beams", "two"], 2, "--beams"),
        (["train", "--data", "x", "-o", "y", "--task", "sing"], 2, "--task"),
        (["train", "--data", "x", "-o", "y", "--seed", "-1"], 2, "--seed"),
        (["data", "make", "shapes", "-o", "{tmp}/d", "--set", "trian=3"], 2, "'train'"),
        (["data", "make", "shapes", "-o", "{tmp}/d", "--set", "train"], 2, "key=value"),
        (["data", "make", "shapes", "-o", "{tmp}/d", "--set", "colours=99"], 2, "colours"),
        (["data", "make", "shapes", "-o", "{tmp}/d", "--recipe", "nothing"], 2, "nothing"),
        (["recipe", "sing"], 2, "takes no recipe"),
        (["inspect", "{tmp}/missing"], 3, "missing"),
        (["inspect", "{tmp}"], 3, "is no model, bundle, data set, run or index"),
        (["caption", "{tmp}/missing", "a.jpg"], 3, "missing"),
        (["data", "check", "{tmp}"], 3, "dataset.json"),
        (["bench", "{tmp}/missing"], 3, "missing"),
    ],
)
def test_each_failure_has_its_code_and_one_line(
    run: Run, tmp_path: Path, argv: list[str], code: int, words: str, json: list[str]
) -> None:
    argv = [word.replace("{tmp}", str(tmp_path)) for word in argv]
    got, out, err = run(*argv, *json)
    assert (got, out) == (code, "")
    assert is_one_error_line(err)
    assert words in err


def test_nothing_is_overwritten_unasked(run: Run, data: Path) -> None:
    before = (data / "dataset.json").read_bytes()
    code, out, err = run("data", "make", "shapes", "-o", data, *TINY_WORLD)
    assert (code, out) == (3, "")
    assert "--force" in err
    assert (data / "dataset.json").read_bytes() == before
    assert run("data", "make", "shapes", "-o", data, *TINY_WORLD, "--force")[0] == 0


def test_force_spares_what_is_not_ours(run: Run, tmp_path: Path) -> None:
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "chapter1.txt").write_text("three years of work")
    argv = ("data", "make", "shapes", "-o", tmp_path / "thesis", *TINY_WORLD, "--force")
    assert run(*argv)[0] == 3
    assert (tmp_path / "thesis" / "chapter1.txt").is_file()


@pytest.mark.parametrize(
    "verb",
    [
        ("train", "--data", "{data}", "--init", "{model}"),
        ("distill", "{model}", "--data", "{data}"),
        ("prune", "{model}", "--data", "{data}"),
        ("quantize", "{model}", "--data", "{data}"),
        ("export", "{model}", "--target", "onnx"),
        ("export", "{model}", "--target", "huggingface"),
        ("import", "{model}"),
        ("index", "{model}", "{data}"),
    ],
    ids=lambda verb: verb[0],
)
def test_no_verb_replaces_the_model_that_it_reads(
    run: Run, data: Path, model: Path, verb: tuple[str, ...]
) -> None:
    words = [word.format(data=data, model=model) for word in verb]
    before = (model / "provenance.json").read_bytes()
    code, out, err = run(*words, "-o", model, "--force")
    assert (code, out) == (2, ""), err
    assert is_one_error_line(err) and "choose another output" in err
    assert (model / "provenance.json").read_bytes() == before


@pytest.mark.parametrize(
    ("failure", "words"),
    [
        (OSError(errno.ENOSPC, "No space left on device", "x.npy"), "x.npy: the disk is full"),
        (PermissionError(errno.EACCES, "Permission denied", "x.npy"), "Permission denied"),
        (MemoryError(), "out of memory"),
    ],
    ids=["disk", "permission", "memory"],
)
def test_a_machine_that_gives_out_is_no_bug(
    run: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, failure: Exception, words: str
) -> None:
    def full(*_: object, **__: object) -> None:
        raise failure

    monkeypatch.setattr("blip_edge.data.shapes.make", full)
    code, out, err = run("data", "make", "shapes", "-o", tmp_path / "d")
    assert (code, out) == (3, "")
    assert is_one_error_line(err)
    assert words in err


def test_a_bug_keeps_its_traceback(
    run: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def broken(*_: object, **__: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr("blip_edge.data.shapes.make", broken)
    with pytest.raises(ZeroDivisionError):
        run("data", "make", "shapes", "-o", tmp_path / "d")


def test_debugging_brings_the_traceback_back(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    from blip_edge.errors import ArtifactError

    monkeypatch.setenv("BLIP_EDGE_DEBUG", "1")
    with pytest.raises(ArtifactError):
        run("inspect", "missing")


@pytest.mark.parametrize(
    "verb", ["quickstart", "train", "distill", "prune", "quantize", "export", "import"]
)
def test_without_torch_the_extra_is_named(verb: str, tmp_path: Path) -> None:
    argv = {
        "quickstart": [],
        "train": ["--data", "d"],
        "import": ["m"],
        "export": ["m", "--target", "onnx"],
    }.get(verb, ["m", "--data", "d"])
    program = (
        "import sys; sys.modules['torch'] = None; from blip_edge.cli import main; "
        f"sys.argv = ['blip-edge', {verb!r}, *{argv!r}, '-o', 'out']; main()"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, cwd=tmp_path, check=False
    )
    assert done.returncode == 4, done.stderr
    assert is_one_error_line(done.stderr)
    assert "pip install 'blip-edge[train]'" in done.stderr


@pytest.mark.skipif(os.name == "nt", reason="Windows has no signals to send")
@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM", "SIGHUP"])
def test_interrupting_ends_with_130_and_leaves_nothing(tmp_path: Path, name: str) -> None:
    command = [sys.executable, "-m", "blip_edge", "data", "make", "shapes", "-o", f"{tmp_path}/d"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        for _ in range(600):
            if any(tmp_path.glob(".d-*/d/images/*")):
                break
            time.sleep(0.05)
        process.send_signal(getattr(signal, name))
        out, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert out == b""
    assert err.decode().splitlines()[-1] == "interrupted"
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("file", "text"),
    [
        ("dataset.json", "[]"),
        ("dataset.json", '{"counts": [1]}'),
        ("index.json", "[]"),
        ("index.json", '{"images": 4}'),
        ("summary.json", "[]"),
        ("summary.json", '{"stages": []}'),
        ("summary.json", '{"stages": {"teacher": 3}}'),
    ],
)
def test_a_file_that_is_not_as_written_is_told_in_a_line(
    run: Run, tmp_path: Path, file: str, text: str
) -> None:
    (tmp_path / file).write_text(text)
    code, out, err = run("inspect", tmp_path)
    assert (code, out) == (3, "")
    assert is_one_error_line(err) and str(tmp_path) in err


@pytest.mark.parametrize(
    ("file", "text"),
    [
        ("config.json", "[]"),
        ("config.json", '{"vision_config": [1]}'),
        ("metrics.json", "[1]"),
        ("metrics.json", '{"metrics": [1]}'),
    ],
)
def test_a_models_file_that_is_not_as_written_is_told_in_a_line(
    run: Run, model: Path, file: str, text: str
) -> None:
    (model / file).write_text(text)
    code, out, err = run("inspect", model)
    assert (code, out) == (3, "")
    assert is_one_error_line(err) and str(model) in err


def test_a_model_that_names_itself_as_its_parent_is_told_once(run: Run, model: Path) -> None:
    file = model / "provenance.json"
    made = json.loads(file.read_text())
    made["parents"] = [{"path": str(model), "sha256": "0" * 64}]
    file.write_text(json.dumps(made))
    code, out, _ = run("inspect", model)
    assert code == 0 and out.count("made by") == 1
