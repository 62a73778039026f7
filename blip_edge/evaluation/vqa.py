"""Answer every question of a split and compare with what people answered."""

from collections.abc import Sequence
from typing import Any, Protocol

from PIL import Image

from blip_edge.data import Dataset
from blip_edge.data.rows import QuestionRow
from blip_edge.errors import ArtifactError
from blip_edge.evaluation.album import Album, groups
from blip_edge.evaluation.result import EvalSettings, Evaluation
from blip_edge.metrics import vqa_accuracy
from blip_edge.progress import SILENT, Progress

__all__ = ["Answers", "evaluate_vqa", "vqa_metrics"]

# How many listed answers BLIP scores whole.
_K = 128


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
    rows = dataset.questions(split)[: how.limit]
    if not rows:
        raise ArtifactError(f"{dataset.folder}/vqa_{split}.json has no rows")
    listed = dataset.answers() if dataset.has("answer_list.json") else None
    album = Album(dataset, len({row.image for row in rows}), how.max_bad)
    said: dict[str, str] = {}
    for group in progress.track(list(groups(rows, how.batch)), "answering"):
        opened = [(row, album.open(row.image)) for row in group]
        readable = [(row, picture) for row, picture in opened if picture is not None]
        pictures = [picture for _, picture in readable]
        questions = [row.question for row, _ in readable]
        if not readable:
            continue
        if listed is None:
            found = model.answer(pictures, questions, None, beams=how.beams)
        else:
            found = model.answer(pictures, questions, listed, k=how.k or _K)
        for (row, _), answer in zip(readable, found, strict=True):
            said[row.question_id] = (answer if listed is None else answer[0]).text
    return Evaluation(
        task="vqa",
        split=split,
        items=len(said),
        metrics=vqa_metrics(said, rows, dataset),
        predictions=[{"question_id": _number(key), "answer": one} for key, one in said.items()],
        skipped=album.skipped,
    )


def vqa_metrics(
    said: dict[str, str], rows: Sequence[QuestionRow], dataset: Dataset
) -> dict[str, float]:
    """`vqa_accuracy` of answers by question id; nothing where people's answers are hidden.

    Raises:
        ArtifactError: a question with too few people's answers.
    """
    people = {row.question_id: row.answers for row in rows if row.question_id in said}
    if not any(people.values()):
        return {}
    try:
        return {"vqa_accuracy": 100 * vqa_accuracy(said, people).mean}
    except ValueError as error:
        raise ArtifactError(f"{dataset.folder}: question {error}") from None


def _number(question_id: str) -> int | str:
    return int(question_id) if question_id.isascii() and question_id.isdigit() else question_id
