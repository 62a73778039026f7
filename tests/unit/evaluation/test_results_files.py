"""Results files: what a model said, written, scored again, and spoiled in every way."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from blip_edge.data import Dataset
from blip_edge.errors import ArtifactError, UsageError
from blip_edge.evaluation import (
    Bootstrap,
    EvalSettings,
    Evaluation,
    evaluate_loaded,
    score_predictions,
    write_results,
)
from tests.unit.evaluation.conftest import write
from tests.unit.evaluation.rule import COLOURS, Rule

FIELDS = {
    "caption": {"image_id", "caption"},
    "vqa": {"question_id", "answer"},
    "nlvr2": {"identifier", "label"},
    "visdial": {"image_id", "round_id", "ranks"},
}
CI = Bootstrap(resamples=20)


def evaluated(data: Dataset, task: str, **how: Any) -> Evaluation:
    return evaluate_loaded(Rule(wrong="blue"), data, task, "test", EvalSettings(ci=CI, **how))


@pytest.mark.parametrize("task", FIELDS)
def test_what_was_written_scores_the_same(talk: Dataset, tmp_path: Path, task: str) -> None:
    """Without the pictures, and in another order; dialogs tie here, which must earn nothing."""
    found, path = evaluated(talk, task), tmp_path / "new" / "results.json"
    write_results(found, path)
    rows = json.loads(path.read_text())
    assert all(set(row) == FIELDS[task] for row in rows)
    path.write_text(json.dumps(rows[::-1]))
    for picture in (talk.folder / "images").iterdir():
        picture.unlink()
    assert score_predictions(path, talk.folder, task=task, how=EvalSettings(ci=CI)) == found


def test_first_rows_score_the_same_with_the_same_limit(data: Dataset, tmp_path: Path) -> None:
    found, path = evaluated(data, "vqa", limit=2), tmp_path / "results.json"
    write_results(found, path)
    how = EvalSettings(ci=CI, limit=2)
    assert score_predictions(path, data.folder, task="vqa", how=how) == found
    with pytest.raises(ArtifactError, match="no answer for question_id 2 and 1 more"):
        score_predictions(path, data.folder, task="vqa")


@pytest.mark.parametrize("task", FIELDS)
def test_what_a_file_says_beyond_the_limit_is_left_out(
    talk: Dataset, tmp_path: Path, task: str
) -> None:
    """A file about the whole split is not called one about another split."""
    path, how = tmp_path / "results.json", EvalSettings(ci=CI, limit=2)
    write_results(evaluated(talk, task), path)
    assert score_predictions(path, talk.folder, task=task, how=how) == evaluated(
        talk, task, limit=2
    )
    rows = json.loads(path.read_text())
    stranger = rows[0] | {key: 77 for key in rows[0] if key in ("image_id", "question_id")}
    path.write_text(json.dumps([*rows, stranger | {"identifier": "test-7-0-0"}]))
    with pytest.raises(ArtifactError, match=r"not in .*_test\.json"):
        score_predictions(path, talk.folder, task=task, how=how)


def test_a_file_without_what_was_skipped_says_why_it_is_not_scored(
    data: Dataset, tmp_path: Path
) -> None:
    (data.folder / "images" / "white.png").write_bytes(b"no picture")
    path = tmp_path / "results.json"
    write_results(evaluated(data, "vqa", max_bad=0.5), path)
    with pytest.raises(ArtifactError, match=r"question_id 3, .* that eval could not read"):
        score_predictions(path, data.folder, task="vqa")


def test_ranks_are_places_of_the_options_and_ties_share_the_last(talk: Dataset) -> None:
    class Guesses(Rule):
        def dialog_scores(self, image: Image.Image, caption: str, texts: Any, /) -> Any:
            return np.array([0.5, 0.9, 0.5, 0.1], dtype=np.float32)

    found = evaluate_loaded(Guesses(), talk, "visdial", "test", EvalSettings())
    first = {"image_id": 0, "round_id": 1, "ranks": [3, 1, 3, 4]}
    assert found.predictions[0] == first
    assert found.metrics["mean_rank"] == (3 + 1 + 3 + 4) / 4


def test_verdicts_as_the_official_program_reads_them(data: Dataset, tmp_path: Path) -> None:
    found, path = evaluated(data, "nlvr2"), tmp_path / "results.csv"
    write_results(found, path)
    assert path.read_text() == "test-0-0-0,True\ntest-0-1-0,False\ntest-0-2-0,False\n"
    how = EvalSettings(ci=CI)
    assert score_predictions(path, data.folder, task="nlvr2", how=how) == found
    path.write_text("test-0-0-0,true\ntest-0-1-0,FALSE\n\ntest-0-2-0,False\n")
    assert score_predictions(path, data.folder, task="nlvr2", how=how) == found
    with pytest.raises(UsageError, match=r"predictions of vqa are written as \.json"):
        write_results(evaluated(data, "vqa"), tmp_path / "results.csv", force=True)


def test_nothing_is_overwritten_unasked(data: Dataset, tmp_path: Path) -> None:
    found, path = evaluated(data, "vqa"), tmp_path / "results.json"
    path.write_text("mine")
    with pytest.raises(ArtifactError, match=r"results\.json already exists; pass --force"):
        write_results(found, path)
    assert path.read_text() == "mine"
    write_results(found, path, force=True)
    assert len(json.loads(path.read_text())) == 4
    with pytest.raises(ArtifactError, match="is a folder"):
        (tmp_path / "folder.json").mkdir()
        write_results(found, tmp_path / "folder.json", force=True)


def test_a_write_that_fails_leaves_the_old_file(data: Dataset, tmp_path: Path) -> None:
    path = tmp_path / "results.json"
    path.write_text("mine")
    broken = evaluated(data, "vqa")
    broken.predictions.append({"question_id": 9, "answer": float("nan")})
    with pytest.raises(ValueError, match="JSON compliant"):
        write_results(broken, path, force=True)
    assert path.read_text() == "mine"
    assert [one.name for one in tmp_path.iterdir() if one.name.startswith(".")] == []
    with pytest.raises(ArtifactError, match="cannot be written"):
        write_results(evaluated(data, "vqa"), path / "below.json")


Rows = list[dict[str, Any]]
Spoil = Callable[[Rows], object]


def _and(**fields: Any) -> Spoil:
    """The rows, and the first again with other fields."""
    return lambda rows: [*rows, rows[0] | fields]


def _but(**fields: Any) -> Spoil:
    """The rows, with other fields in the last."""
    return lambda rows: [*rows[:-1], rows[-1] | fields]


def _spoiled() -> Iterator[Any]:
    def case(task: str, name: str, complaint: str, spoil: Spoil) -> Any:
        return pytest.param(task, complaint, spoil, id=f"{task}, {name}")

    for task, key in {"vqa": "question_id", "nlvr2": "identifier", "visdial": "image_id"}.items():
        yield case(task, "missing", f"no (answer|label|ranks) for {key}", lambda rows: rows[1:])
        yield case(task, "twice", "occurs twice, again in row", _and())
        yield case(task, "no list", "is not a list of", lambda rows: {"rows": rows})
        yield case(task, "no object", "row 0 is not an object", lambda rows: [1, *rows])
        yield case(task, "no id", f'row 0 has no "{key}"', lambda rows: [{}, *rows])
        yield case(task, "unknown", r"77.* not in .*_test\.json", _and(**{key: 77}))
    yield case("nlvr2", "maybe", "the label 'maybe'", _but(label="maybe"))
    for ranks in ([1, 2, 3], [0, 1, 2, 3], [1, 2, 3, 5], [1, 2, 3, 4, 5]):
        complaint = '"ranks" are not 4 ranks from 1 to 4'
        yield case("visdial", f"ranks {ranks}", complaint, _but(ranks=ranks))
    yield case("visdial", "text", "row 3.*ranks", _but(ranks="1 2 3 4"))
    yield case("visdial", "round", "0, 2 not in", _and(round_id=2))


@pytest.mark.parametrize(("task", "complaint", "spoil"), list(_spoiled()))
def test_spoiled_files_are_named_with_what_is_wrong(
    talk: Dataset, tmp_path: Path, task: str, complaint: str, spoil: Spoil
) -> None:
    path = tmp_path / "results.json"
    path.write_text(json.dumps(spoil(evaluated(talk, task).predictions)))
    with pytest.raises(ArtifactError, match=complaint) as error:
        score_predictions(path, talk.folder, task=task)
    assert str(path) in str(error.value)


@pytest.mark.parametrize(
    ("task", "file", "key"),
    [
        ("vqa", "vqa_test.json", "question_id"),
        ("nlvr2", "nlvr_test.json", "identifier"),
    ],
)
def test_an_id_for_two_rows_is_refused(data: Dataset, task: str, file: str, key: str) -> None:
    """One would silently answer for the other."""
    rows = json.loads((data.folder / file).read_text())
    write(data.folder, file, [*rows, rows[0]])
    with pytest.raises(ArtifactError, match=rf"{file}: {key} .* stands in 2 rows"):
        evaluated(data, task)


def test_what_has_no_format_of_the_field_is_still_written(data: Dataset, tmp_path: Path) -> None:
    fields = {
        "retrieval": {"image", "caption"},
        "pairs": {"image", "text", "score"},
        "attributes": {"image", "bbox", "att_scores"},
    }
    for task, names in fields.items():
        write_results(evaluated(data, task), tmp_path / f"{task}.json")
        rows = json.loads((tmp_path / f"{task}.json").read_text())
        assert len(rows) >= len(COLOURS)
        assert set(rows[0]) == names
        with pytest.raises(UsageError, match="what can: caption, vqa, nlvr2, visdial"):
            score_predictions(tmp_path / f"{task}.json", data.folder, task=task)
