"""VQAv2, and the questions of Visual Genome: questions about pictures and people's answers.

Formats that are read:

* VQAv2's `v2_OpenEnded_*_questions.json`: `questions` with `question_id`, `image_id`, `question`.
* VQAv2's `v2_*_annotations.json`: `annotations` with `question_id`, `answers[].answer`,
  `question_type`, `answer_type`, `multiple_choice_answer`. The test sets have none.
* Visual Genome's `question_answers.json`: a list of pictures with `id` and `qas`. It becomes a
  split of its own, `vg`, because its single answers weigh less than ten people's.
* BLIP's `vqa_*.json` and `vg_qa.json`: rows of `question_id`, `image`, `question`, `answer`.
* BLIP's `answer_list.json`: a list of texts. Without it the list is made of the answers that are
  the most frequent one of at least so many questions of train and val.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any

from blip_edge.data.draft import Draft, Entry, Row
from blip_edge.data.prepare.media import Pictures, coco_names
from blip_edge.data.prepare.sources import entries, has, load, split_of, spoken, unknown
from blip_edge.data.rows import Fields, QuestionRow
from blip_edge.errors import ArtifactError

__all__ = ["vqa"]

_FORMATS = (
    "VQAv2's questions, VQAv2's annotations, Visual Genome's question_answers.json, BLIP's rows, "
    "a list of answers"
)


def vqa(sources: Sequence[Path], pictures: Pictures, draft: Draft, *, min_answers: int = 9) -> None:
    """Write vqa_*.json and answer_list.json."""
    asked: dict[str, tuple[Path, Any]] = {}
    notes: dict[str, tuple[Path, Any]] = {}
    answers, listed = Counter[str](), None
    for path in sources:
        value = load(path)
        if has(value, "questions"):
            _put(asked, path, value)
        elif has(value, "annotations"):
            _put(notes, path, value)
        elif isinstance(value, list) and value and all(isinstance(item, str) for item in value):
            listed = _unique(path, value)
        elif isinstance(value, list) and any(has(item, "qas") for item in value):
            draft.rows("vqa_vg.json", _genome(path, value, pictures), total=len(value))
        elif isinstance(value, list):
            _rows(path, value, pictures, draft, answers)
        else:
            raise unknown(path, _FORMATS)
    for split in notes:
        if split not in asked:
            raise ArtifactError(f"{notes[split][0]} has answers, but no questions were given")
    for split in asked:
        _official(split, asked[split], notes.get(split), pictures, draft, answers)
    listed = listed or _frequent(answers, min_answers)
    if not listed:
        draft.progress.say(f"note: no answer is that of {min_answers} questions, to be ranked")
    else:
        draft.document("answer_list.json", listed, items=len(listed))


def _put(known: dict[str, tuple[Path, Any]], path: Path, value: Any) -> None:
    # test-dev is a part of test with the same pictures: a split of its own.
    dev = "test-dev" in path.stem or "test-dev" in str(value.get("data_subtype"))
    split = "testdev" if dev else split_of(path)
    if split in known:
        raise ArtifactError(f"{known[split][0]} and {path} are of one split; give one of them")
    known[split] = path, value


def _official(
    split: str,
    asked: tuple[Path, Any],
    notes: tuple[Path, Any] | None,
    pictures: Pictures,
    draft: Draft,
    answers: Counter[str],
) -> None:
    path, value = asked
    if notes is None and split in ("train", "val"):
        raise ArtifactError(f"{path} has no answers beside it; give the annotations of {split} too")
    by_question, errors = _annotations(*notes) if notes else (None, [])
    for row in (by_question or {}).values():
        answers[row["multiple_choice_answer"]] += 1
    year = "2015" if split.startswith("test") else "2014"
    read = partial(
        _question,
        notes=by_question,
        folder=f"{split.removesuffix('dev')}{year}",
        pictures=pictures,
    )
    questions = Fields(value, str(path)).items("questions")
    rows = chain(errors, entries(enumerate(questions), read, f"{path}: questions"))
    draft.rows(f"vqa_{split}.json", rows, total=len(questions))


def _annotations(path: Path, value: Any) -> tuple[dict[int, Row], list[Entry]]:
    """What is known of each question by its id, and the annotations that could not be read."""
    found: dict[int, Row] = {}

    def read(fields: Fields) -> Entry:
        answer = [part.text("answer") for part in fields.parts("answers")]
        if not answer:
            raise fields.wrong("answers", "is empty")
        row: Row = {"answer": answer}
        row |= {key: fields.text(key) for key in ("question_type", "answer_type")}
        row["multiple_choice_answer"] = fields.text("multiple_choice_answer")
        found[fields.integer("question_id")] = row
        return ()

    values = Fields(value, str(path)).items("annotations")
    read_all = entries(enumerate(values), read, f"{path}: annotations")
    return found, [entry for entry in read_all if entry]


def _question(
    fields: Fields, *, notes: dict[int, Row] | None, folder: str, pictures: Pictures
) -> Entry:
    number, image_id = fields.integer("question_id"), fields.integer("image_id")
    if notes is not None and number not in notes:
        raise fields.wrong("question_id", f"is {number}, of which there is no annotation")
    file = f"{folder}/COCO_{folder}_{image_id:012d}.jpg"
    row = {
        "question_id": number,
        "image": pictures.find(*coco_names(image_id, file)),
        "question": spoken(fields, "question", fields.text("question")),
        "dataset": "vqa",
    }
    return ({**row, **notes[number]} if notes is not None else row,)


def _genome(path: Path, value: list[Any], pictures: Pictures) -> Iterator[Entry]:
    """Visual Genome's questions, an entry each; its answers are sentences with a full stop."""

    def read(fields: Fields) -> Entry:
        answer = fields.text("answer").strip().rstrip(".").lower()
        image_id = fields.integer("image_id")
        row = {
            "question_id": fields.integer("qa_id"),
            "image": pictures.find(f"image/{image_id}.jpg"),
            "question": spoken(fields, "question", fields.text("question")),
            "answer": spoken(fields, "answer", answer),
            "dataset": "vg",
        }
        return (row,)

    for number, image in enumerate(value):
        try:
            asked = Fields(image, f"{path}: row {number}").items("qas")
        except ArtifactError as error:
            yield (error,)
            continue
        yield from entries(enumerate(asked), read, f"{path}: row {number}: qas")


def _rows(
    path: Path, value: list[Any], pictures: Pictures, draft: Draft, answers: Counter[str]
) -> None:
    """BLIP's own rows: only the pictures are looked for."""
    genome = any(has(row, "dataset") and row["dataset"] == "vg" for row in value)
    split = "vg" if genome else split_of(path)

    def read(fields: Fields) -> Entry:
        row = QuestionRow.read(fields)
        spoken(fields, "question", row.question)
        if not row.answers and split != "test":
            raise fields.wrong("answer", "is missing")
        if row.answers and split in ("train", "val"):
            answers[Counter(row.answers).most_common(1)[0][0]] += 1
        kept: Row = {"question_id": row.question_id, "image": pictures.find(row.image)}
        kept |= {"question": row.question, "dataset": "vg" if split == "vg" else "vqa"}
        return ({**kept, "answer": list(row.answers)} if row.answers else kept,)

    draft.rows(f"vqa_{split}.json", entries(enumerate(value), read, str(path)), total=len(value))


def _unique(path: Path, answers: list[str]) -> list[str]:
    twice = [answer for answer, count in Counter(answers).items() if count > 1]
    if twice:
        raise ArtifactError(f"{path} holds {twice[0]!r} more than once; answers are ranked once")
    if "" in (answer.strip() for answer in answers):
        raise ArtifactError(f"{path} holds an empty answer")
    return answers


def _frequent(answers: Counter[str], least: int) -> list[str]:
    """The answers of at least `least` questions, the most frequent first."""
    kept = [(count, answer) for answer, count in answers.items() if count >= least]
    return [answer for _, answer in sorted(kept, key=lambda pair: (-pair[0], pair[1]))]
