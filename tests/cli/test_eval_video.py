"""eval of clips, as a user types it: a drawn world with clips, and models that know nothing."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, get_args

import pytest

from tests.conftest import Run

if TYPE_CHECKING:
    from blip_edge.models.config import Architecture

CLIPS = 4
RETRIEVAL = {
    *(f"txt_{name}" for name in ("r1", "r5", "r10", "r_mean")),
    *(f"vid_{name}" for name in ("r1", "r5", "r10", "r_mean", "mdR")),
    "r_mean",
}
WORLD = (
    *("--train", "4", "--val", "2", "--test", "2", "--objects", "1"),
    *("--set", "unseen=0", "--set", "web=0", "--set", "dialogs=0", "--set", "image_size=24"),
    *("--set", f"clips={CLIPS}", "--set", "frames=5"),
)


@pytest.fixture
def world(run: Run, tmp_path: Path) -> Path:
    output = tmp_path / "world"
    code, _, err = run("data", "make", "shapes", "-o", output, *WORLD, "--quiet")
    assert (code, err) == (0, "")
    return output


def folder(tmp_path: Path, architecture: "Architecture") -> Path:
    pytest.importorskip("torch")
    from blip_edge.models import save_model
    from tests import tiny

    path = tmp_path / architecture
    path.mkdir()
    texts = ["a red circle moves left", "a blue square stays", "where does it move?"]
    save_model(path, tiny.model(texts * 9, architecture))
    return path


@pytest.fixture
def matcher(tmp_path: Path) -> Path:
    return folder(tmp_path, "BlipForImageTextRetrieval")


@pytest.fixture
def answerer(tmp_path: Path) -> Path:
    return folder(tmp_path, "BlipForQuestionAnswering")


def test_clips_are_found_by_texts(run: Run, matcher: Path, world: Path) -> None:
    asked = ("eval", matcher, "--task", "video-retrieval", "--data", world)
    code, out, err = run(*asked, "--json")
    assert (code, err) == (0, "")
    found = json.loads(out)
    assert (found["task"], found["split"], found["items"]) == ("video-retrieval", "test", CLIPS)
    assert set(found["metrics"]) == RETRIEVAL
    assert found["metrics"]["vid_r5"] == found["metrics"]["txt_r10"] == 100
    assert 1 <= found["metrics"]["vid_mdR"] <= CLIPS
    code, out, _ = run(*asked, "--frames", 2, "--sampling", "legacy", "--k", 1)
    assert code == 0
    assert "vid_mdR" in out


def test_questions_about_clips_are_answered(
    run: Run, answerer: Path, world: Path, tmp_path: Path
) -> None:
    file = tmp_path / "said.json"
    asked = ("eval", answerer, "--task", "video-qa", "--data", world, "--frames", 2)
    code, out, err = run(*asked, "--json", "-o", file)
    assert (code, err) == (0, "")
    found = json.loads(out)
    assert (found["task"], found["items"]) == ("video-qa", 3 * CLIPS)
    assert list(found["metrics"]) == ["accuracy"]
    rows = json.loads(file.read_text())
    assert {tuple(row) for row in rows} == {("question_id", "answer")}
    lines = (world / "video_qa_test.jsonl").read_text().splitlines()
    truth = [json.loads(line) for line in lines]
    right = [{"question_id": row["question_id"], "answer": row["answer"].upper()} for row in truth]
    file.write_text(json.dumps(right))
    scored = ("eval", "--predictions", file, "--task", "video-qa", "--data", world, "--json")
    code, out, err = run(*scored)
    assert (code, err) == (0, "")
    assert json.loads(out)["metrics"] == {"accuracy": 100.0}


def test_more_frames_give_other_answers(run: Run, answerer: Path, world: Path) -> None:
    answers = []
    for frames in (1, 5):
        file = world.parent / f"{frames}.json"
        asked = ("eval", answerer, "--task", "video-qa", "--data", world, "-o", file, "--quiet")
        assert run(*asked, "--frames", frames)[0] == 0
        answers.append(file.read_text())
    assert answers[0] != answers[1]


@pytest.mark.parametrize("bad", ["gone", "damaged"])
def test_a_clip_that_cannot_be_read_is_one_line(
    run: Run, matcher: Path, world: Path, bad: str
) -> None:
    path = sorted((world / "videos").iterdir())[0]
    if bad == "gone":
        path.unlink()
    else:
        path.write_bytes(b"no clip")
    code, out, err = run("eval", matcher, "--task", "video-retrieval", "--data", world)
    assert (code, out, err.count("\n")) == (3, "", 1)
    assert "1 of 4 clips cannot be read, which is too many" in err
    assert path.stem in err


@pytest.mark.parametrize("task", ["video-retrieval", "video-qa"])
def test_a_model_for_another_task_is_refused(run: Run, model: Path, world: Path, task: str) -> None:
    code, out, err = run("eval", model, "--task", task, "--data", world)
    assert (code, out, err.count("\n")) == (3, "", 1)
    assert "it was trained to caption pictures" in err


@pytest.mark.parametrize("task", ["video-retrieval", "video-qa"])
def test_a_data_set_without_clips_is_refused(
    run: Run, matcher: Path, data: Path, task: str
) -> None:
    code, out, err = run("eval", matcher, "--task", task, "--data", data)
    assert (code, out, err.count("\n")) == (3, "", 1)
    assert f"{task.replace('-', '_')}_test.jsonl" in err


@pytest.mark.parametrize("flags", [("--frames", "0"), ("--sampling", "random")])
def test_flags_that_make_no_sense_are_refused(
    run: Run, matcher: Path, world: Path, flags: tuple[str, ...]
) -> None:
    asked = ("eval", matcher, "--task", "video-retrieval", "--data", world, *flags)
    code, out, err = run(*asked)
    assert (code, out) == (2, "")
    assert flags[0] in err


def test_every_task_can_be_typed() -> None:
    from typing import get_type_hints

    from blip_edge.cli.judge import evaluate
    from blip_edge.evaluation import TASKS

    assert get_args(get_type_hints(evaluate)["task"]) == TASKS
