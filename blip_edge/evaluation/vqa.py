"""Answer every question of a split and compare with what people answered."""

from collections import Counter
from collections.abc import Sequence
from typing import Any, Protocol

from PIL import Image

from blip_edge.data import Dataset
from blip_edge.data.rows import QuestionRow
from blip_edge.errors import ArtifactError
from blip_edge.evaluation.album import Album, Skipped, groups
from blip_edge.evaluation.intervals import intervals, means
from blip_edge.evaluation.references import unique
from blip_edge.evaluation.result import EvalSettings, Evaluation
from blip_edge.metrics import Bootstrap, Score, by_group, vqa_accuracy
from blip_edge.progress import SILENT, Progress

__all__ = ["Answers", "evaluate_vqa", "judge_answers", "read_questions", "result_id"]

# How many listed answers BLIP scores whole.
_K = 128
_METRIC = "vqa_accuracy"


class Answers(Protocol):
    """Anything that answers questions; an `EdgeModel` does."""

    def answer(
        self,
        image: list[Image.Image],
        question: list[str],
        answers: Sequence[str] | None = None,
        /,
        **how: int | None,
    ) -> list[Any]:
        """One `Answer` a question, or with `answers` a list of them, the likeliest first."""
        ...


def evaluate_vqa(
    model: Answers,
    dataset: Dataset,
    split: str,
    how: EvalSettings,
    *,
    progress: Progress = SILENT,
) -> Evaluation:
    """Accuracy on `vqa_{split}.json`; of a split whose answers are hidden, the answers alone.

    With an `answer_list.json` in the data set its answers are ranked, as BLIP is measured; without
    one the answers are generated.

    Raises:
        ArtifactError: no such questions, too few people's answers, or too many unreadable pictures.
    """
    rows = read_questions(dataset, split, how.limit)
    listed = dataset.answers() if dataset.has("answer_list.json") else None
    album = Album(dataset, len({row.image for row in rows}), how.max_bad, how.crew)

    def ask(group: Sequence[QuestionRow]) -> list[tuple[str, str]]:
        opened = [(row, album.open(row.image)) for row in group]
        readable = [(row, picture) for row, picture in opened if picture is not None]
        pictures = [picture for _, picture in readable]
        questions = [row.question for row, _ in readable]
        if not readable:
            return []
        if listed is None:
            found = model.answer(pictures, questions, None, beams=how.beams)
        else:
            ranked = model.answer(pictures, questions, listed, k=how.k or _K)
            found = [likeliest for likeliest, *_ in ranked]
        return [
            (row.question_id, answer.text) for (row, _), answer in zip(readable, found, strict=True)
        ]

    batches = list(groups(rows, how.batch))
    said = dict(how.crew.gathered(batches, ask, "answering", progress))
    if not said:
        raise ArtifactError(f"{dataset.folder}: no picture could be read")
    return judge_answers(dataset, split, rows, said, ci=how.ci, skipped=album.skipped)


def read_questions(dataset: Dataset, split: str, limit: int | None = None) -> list[QuestionRow]:
    """The questions of a split, of which each id occurs once.

    Raises:
        ArtifactError: there are none, or an id occurs twice.
    """
    rows = dataset.questions(split)[:limit]
    return unique(rows, "question_id", dataset.folder / f"vqa_{split}.json")


def judge_answers(
    dataset: Dataset,
    split: str,
    rows: Sequence[QuestionRow],
    said: dict[str, str],
    *,
    ci: Bootstrap | None = None,
    skipped: tuple[Skipped, ...] = (),
) -> Evaluation:
    """`vqa_accuracy` of answers by question id, and of each type where rows say theirs.

    Raises:
        ArtifactError: a question with too few people's answers.
    """
    asked = [row for row in rows if row.question_id in said]
    found: dict[str, Any] = {"metrics": {}}
    if any(row.answers for row in asked):
        found = _scored(dataset, asked, said, ci)
    else:
        where = dataset.folder / f"vqa_{split}.json"
        found["notes"] = (f"{where} has no answers: nothing can be scored",)
    return Evaluation(
        task="vqa",
        split=split,
        items=len(said),
        predictions=[{"question_id": result_id(key), "answer": one} for key, one in said.items()],
        skipped=skipped,
        **found,
    )


def _scored(
    dataset: Dataset, rows: Sequence[QuestionRow], said: dict[str, str], ci: Bootstrap | None
) -> dict[str, Any]:
    """The fields of an `Evaluation` that scoring fills."""
    try:
        score = vqa_accuracy(said, {row.question_id: row.answers for row in rows})
    except ValueError as error:
        raise ArtifactError(f"{dataset.folder}: question {error}") from None
    types = {
        "perAnswerType": {row.question_id: row.answer_type for row in rows},
        "perQuestionType": {row.question_id: row.question_type for row in rows},
    }
    found: dict[str, Any] = {
        "metrics": {_METRIC: 100 * score.mean},
        "groups": {name: of for name, by in types.items() if (of := _by_type(score, by))},
    }
    if ci is not None:
        values = [100 * score.per_item[row.question_id] for row in rows]
        figures = means({_METRIC: values}, clusters=[row.image for row in rows])
        found["intervals"] = intervals(ci, figures)
    return found


def _by_type(score: Score[str], types: dict[str, str | None]) -> dict[str, dict[str, float]]:
    """Accuracy and the number of questions of each type, in the order of names."""
    known = {key: kind for key, kind in types.items() if kind is not None}
    if not known:
        return {}
    accuracies = by_group({key: score.per_item[key] for key in known}, known)
    sizes = Counter(known.values())
    return {kind: {"items": sizes[kind], _METRIC: 100 * accuracies[kind]} for kind in sorted(sizes)}


def result_id(question_id: str) -> int | str:
    """An id as it stands in a results file: a number where it is one."""
    return int(question_id) if question_id.isascii() and question_id.isdigit() else question_id
