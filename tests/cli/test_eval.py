"""`eval` as it is typed: intervals, results files, hidden truth, two processes, and bad input."""

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from tests.cli.evaluating import TASKS, evaluate
from tests.conftest import Run

torch = pytest.importorskip("torch")

from blip_edge.data import Dataset  # noqa: E402
from blip_edge.data.shapes import make  # noqa: E402
from blip_edge.models import save_model  # noqa: E402
from blip_edge.models.config import ARCHITECTURES  # noqa: E402
from tests import tiny  # noqa: E402

ROOT = Path(__file__).parents[2]
# More test pictures than are held in memory at a time, so that two processes share them unequally.
PICTURES = 36


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A drawn world, and for each task a model of it that knows nothing."""
    folder = tmp_path_factory.mktemp("eval")
    recipe = replace(tiny.WORLD, test=PICTURES)
    dataset = make(folder / "data", recipe, seed=2)
    texts = [text for row in dataset.captions("train") for text in row.captions]
    texts += [row.question for row in dataset.questions("train")] + dataset.answers()
    for task in (*TASKS, "nlvr2"):
        (folder / f"model-{task}").mkdir()
        save_model(folder / f"model-{task}", tiny.model(texts, ARCHITECTURES[task]))
    return folder


def asked(folder: Path, task: str) -> tuple[str | Path, ...]:
    return ("eval", folder / f"model-{task}", "--task", task, "--data", folder / "data")


def test_intervals_are_printed_beside_the_figures(run: Run, folder: Path) -> None:
    code, out, err = run(*asked(folder, "retrieval"), "--ci", "--limit", 9, "--quiet")
    assert (code, err) == (0, "")
    rows = {line.split()[0]: line.split()[1:] for line in out.splitlines()}
    assert rows["items"] == ["9"]
    assert len(rows["r_mean"]) == 4 and rows["r_mean"][2] == "to"
    value, low, _, high = rows["r_mean"]
    assert float(low) <= float(value) <= float(high)
    plain = run(*asked(folder, "retrieval"), "--limit", 9, "--quiet")[1]
    assert {line.split()[0]: line.split()[1:] for line in plain.splitlines()} == {
        name: cells[:1] for name, cells in rows.items()
    }


def test_the_seed_draws_them(run: Run, folder: Path) -> None:
    def intervals(seed: int) -> Any:
        how = ("--limit", 9, "--ci", "--seed", seed, "--json")
        return json.loads(run(*asked(folder, "retrieval"), *how)[1])["intervals"]

    assert intervals(1) == intervals(1) != intervals(2)
    code, _, err = run(*asked(folder, "retrieval"), "--ci", "--seed", -1)
    assert code == 2 and "--seed" in err and err.count("\n") == 1


def test_questions_by_type(run: Run, folder: Path) -> None:
    found = json.loads(run(*asked(folder, "vqa"), "--json")[1])
    answers = found["groups"]["perAnswerType"]
    assert set(answers) <= {"number", "other", "yes/no"}
    assert sum(row["items"] for row in answers.values()) == found["items"]
    mean = sum(row["items"] * row["vqa_accuracy"] for row in answers.values()) / found["items"]
    assert mean == pytest.approx(found["metrics"]["vqa_accuracy"])
    shown = run(*asked(folder, "vqa"), "--quiet")[1]
    assert "perAnswerType" in shown
    assert "how many" in shown


@pytest.mark.parametrize("task", ["caption", "vqa", "nlvr2"])
def test_a_results_file_scores_as_the_model_did(
    run: Run, folder: Path, tmp_path: Path, task: str
) -> None:
    said = tmp_path / "new" / "said.json"
    where = ("--task", task, "--data", folder / "data", "--ci", "--json")
    code, found, err = run("eval", folder / f"model-{task}", *where, "-o", said)
    assert (code, err) == (0, "")
    assert run("eval", "--predictions", said, *where) == (0, found, "")
    before = said.read_text()
    code, out, err = run("eval", folder / f"model-{task}", *where, "-o", said)
    assert (code, out) == (3, "")
    assert err == f"error: {said} already exists; pass --force to replace it\n"
    assert run("eval", folder / f"model-{task}", *where, "-o", said, "--force")[0] == 0
    assert said.read_text() == before


@pytest.fixture
def nocaps(run: Run, tmp_path: Path) -> Path:
    """The benchmark's files with six pictures, whose test captions are hidden."""
    source = tmp_path / "source"
    (source / "pictures").mkdir(parents=True)
    domains = ["in-domain", "near-domain", "out-domain"]
    for split in ("val", "test"):
        images: list[dict[str, Any]] = [
            {"id": n, "file_name": f"{split}{n}.png", "domain": domain, "open_images_id": "x"}
            for n, domain in enumerate(domains)
        ]
        for image in images:
            Image.new("RGB", (30, 20), "red").save(source / "pictures" / image["file_name"])
        said = [{"id": n, "image_id": n, "caption": f"a red one {n}"} for n in range(3)]
        about = {"images": images, **({"annotations": said} if split == "val" else {})}
        (source / f"nocaps_{split}.json").write_text(json.dumps(about))
    output = tmp_path / "nocaps"
    files = (source / "nocaps_val.json", source / "nocaps_test.json")
    prepare = ("data", "prepare", "nocaps", *files, "--images", source / "pictures")
    assert run(*prepare, "-o", output, "--quiet")[0] == 0
    return output


def test_nocaps(run: Run, folder: Path, nocaps: Path, tmp_path: Path) -> None:
    model = ("eval", folder / "model-caption", "--data", nocaps, "--task", "caption")
    code, out, err = run(*model, "--split", "val")
    assert code == 0
    assert "without SPICE: " in err or "SPICE" in out
    lines = [line.split() for line in out.splitlines()]
    assert [line[:2] for line in lines[-5:]] == [
        ["perDomain", "items"],
        ["in-domain", "1"],
        ["near-domain", "1"],
        ["out-domain", "1"],
        ["overall", "3"],
    ]
    said = tmp_path / "submission.json"
    code, out, err = run(*model, "--split", "test", "-o", said)
    assert (code, out.split()) == (0, ["items", "3"])
    assert "caption_test.json has no captions: nothing can be scored" in err
    [note] = json.loads(run(*model, "--split", "test", "--json")[1])["notes"]
    assert "nothing can be scored" in note, "--json shows no stderr"
    rows = json.loads(said.read_text())
    assert [sorted(row) for row in rows] == [["caption", "image_id"]] * 3
    assert [row["image_id"] for row in rows] == [0, 1, 2]


@pytest.mark.slow
def test_two_processes_find_what_one_does(folder: Path) -> None:
    if not torch.distributed.is_available() or not torch.distributed.is_gloo_available():
        pytest.skip("this torch was built without gloo")
    evaluate(folder, "one")
    ports = ("--nnodes", "1", "--standalone", "--nproc_per_node", "2")
    command = ("-m", "torch.distributed.run", *ports, "-m", "tests.cli.evaluating", str(folder))
    quiet = {**os.environ, "OMP_NUM_THREADS": "1"}
    subprocess.run([sys.executable, *command], cwd=ROOT, env=quiet, check=True, timeout=300)
    for task in TASKS:
        one = json.loads((folder / f"one-{task}.json").read_text())
        assert one == json.loads((folder / f"rank 0-{task}.json").read_text())
        assert one["items"] >= PICTURES
        assert (folder / f"rank 1-{task}.json").read_text() == "", "the first speaks for all"
        assert not (folder / f"rank 1-{task}-said.json").exists()
        both = [folder / f"{name}-{task}-said.json" for name in ("one", "rank 0")]
        assert both[0].read_bytes() == both[1].read_bytes()


# Bad input --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("answers", "complaint"),
    [
        (["red", "blue", "red"], "holds 'red' more than once; an answer is ranked once"),
        (["red", ""], "is not a JSON list of strings with something in them"),
        ([], "is not a JSON list of strings with something in them"),
        ({"red": 1}, "is not a JSON list of strings with something in them"),
    ],
)
def test_lists_of_answers_that_cannot_be_ranked(
    run: Run, folder: Path, tmp_path: Path, answers: object, complaint: str
) -> None:
    listed = tmp_path / "answer_list.json"
    listed.write_text(json.dumps(answers))
    picture = next((folder / "data" / "images").rglob("*.png"))
    vqa = ("vqa", folder / "model-vqa", picture, "what is it?", "--answers", listed)
    assert run(*vqa) == (3, "", f"error: {listed} {complaint}\n")
    for part in (folder / "data").iterdir():
        if part.name != "answer_list.json":
            (tmp_path / part.name).symlink_to(part)
    where = ("eval", folder / "model-vqa", "--task", "vqa", "--data", tmp_path)
    assert run(*where) == (3, "", f"error: {listed} {complaint}\n")


@pytest.mark.parametrize("task", ["retrieval", "vqa"])
def test_k_beyond_what_there_is_reads_all(run: Run, folder: Path, task: str) -> None:
    where = (*asked(folder, task), "--limit", 4, "--json")
    everything = {"retrieval": 4 * 5, "vqa": len(Dataset.open(folder / "data").answers())}
    all_of_it = run(*where, "--k", everything[task])
    assert all_of_it[0] == 0
    assert run(*where, "--k", 10**9) == all_of_it


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        ("[{", "is not valid JSON"),
        ('"a dog"', 'is not a list of {"image_id", "caption"}'),
        ("[]", "has no caption for image_id"),
        ('[{"image_id": 7, "caption": "a"}]', "image_id 7 not in"),
        ('[{"image_id": 7, "caption": "a"}, {"image_id": 7, "caption": "b"}]', "occurs twice"),
        ('[{"image_id": 7}]', 'row 0 has no "caption"'),
    ],
)
def test_results_that_cannot_be_scored(
    run: Run, folder: Path, tmp_path: Path, content: str, complaint: str
) -> None:
    path = tmp_path / "results.json"
    path.write_text(content)
    code, out, err = run("eval", "--predictions", path, "--data", folder / "data")
    assert (code, out, err.count("\n")) == (3, "", 1)
    assert str(path) in err
    assert complaint in err


@pytest.mark.parametrize(
    ("task", "flag", "value"),
    [
        ("caption", "--k", 3),
        ("caption", "--frames", 2),
        ("retrieval", "--beams", 2),
        ("retrieval", "--sampling", "uniform"),
        ("vqa", "--repetition-penalty", 1.1),
        ("nlvr2", "--k", 3),
        ("visdial", "--beams", 2),
        ("attributes", "--frames", 2),
        ("pairs", "--k", 3),
        ("video-retrieval", "--beams", 2),
        ("video-qa", "--k", 3),
    ],
)
def test_a_flag_that_a_task_does_not_hear_is_refused(
    run: Run, folder: Path, task: str, flag: str, value: object
) -> None:
    """Who reads no complaint believes that the figure is one with that flag."""
    where = ("eval", folder / "model-caption", "--task", task, "--data", folder / "data")
    code, out, err = run(*where, flag, value)
    assert (code, out) == (2, "")
    assert err.startswith(f"error: {flag} does nothing for --task {task}; it is for ")


def test_flags_that_do_not_go_together(run: Run, folder: Path, tmp_path: Path) -> None:
    path, data = tmp_path / "results.json", ("--data", folder / "data")
    heard: list[tuple[str, Any]] = [("--beams", 2), ("--k", 3), ("--repetition-penalty", 1.1)]
    heard += [("--frames", 2), ("--sampling", "uniform"), ("--threads", 1), ("-o", path)]
    for flag, value in heard:
        code, _, err = run("eval", "--predictions", path, *data, flag, value)
        assert code == 2 and err.startswith(f"error: {flag} goes with a MODEL")
    code, _, err = run("eval", folder / "model-vqa", *data, "--task", "vqa", "-o", "said.txt")
    assert (code, "predictions of vqa are written as .json" in err) == (2, True)
    code, _, err = run("eval", "--predictions", path, *data, "--task", "pairs")
    assert (code, "what can: caption, vqa, nlvr2, visdial" in err) == (2, True)
