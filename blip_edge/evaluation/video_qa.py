"""Answer every question about clips with a model that has learnt from pictures alone.

As BLIP is measured on MSRVTT-QA and MSVD-QA (paper, section 5.6 and table 11): a question is read
with 16 frames of its clip in view, side by side, and the answer is generated. A clip is encoded
once for all its questions.
"""

from collections.abc import Sequence
from typing import Any, Protocol

from blip_edge.data import Dataset
from blip_edge.data.rows import ClipQuestionRow
from blip_edge.errors import ArtifactError
from blip_edge.evaluation.album import Skipped
from blip_edge.evaluation.intervals import intervals, means
from blip_edge.evaluation.references import unique
from blip_edge.evaluation.result import EvalSettings, Evaluation
from blip_edge.evaluation.video import Reel
from blip_edge.evaluation.vqa import result_id
from blip_edge.metrics import Bootstrap, exact_match
from blip_edge.preprocess import Clip
from blip_edge.progress import SILENT, Progress

__all__ = ["AnswersEach", "evaluate_video_qa", "judge_clip_answers", "read_clip_questions"]

_FRAMES = 16
_METRIC = "accuracy"


class AnswersEach(Protocol):
    """Anything that answers several questions about one clip; an `EdgeModel` does."""

    def answer_each(
        self, image: Clip, questions: Sequence[str], /, **how: int | None
    ) -> Sequence[Any]:
        """One `Answer` a question."""
        ...


def evaluate_video_qa(
    model: AnswersEach,
    dataset: Dataset,
    split: str,
    how: EvalSettings,
    *,
    progress: Progress = SILENT,
) -> Evaluation:
    """Accuracy on `video_qa_{split}.jsonl`: answers that are the right one, lower-cased.

    Raises:
        ArtifactError: no such questions, or too many unreadable clips.
        MissingExtraError: there are videos, and PyAV is not installed.
    """
    rows = read_clip_questions(dataset, split, how.limit)
    of_clip: dict[str, list[ClipQuestionRow]] = {}
    for row in rows:
        of_clip.setdefault(row.clip, []).append(row)
    reel = Reel(dataset, len(of_clip), how, frames=_FRAMES)

    def ask(clip: str) -> list[tuple[str, str]]:
        opened = reel.open(clip)
        if opened is None:
            return []
        asked = of_clip[clip]
        found = model.answer_each(opened, [row.question for row in asked], beams=how.beams)
        return [(row.question_id, one.text) for row, one in zip(asked, found, strict=True)]

    said = dict(how.crew.gathered(list(of_clip), ask, "answering", progress))
    if not said:
        raise ArtifactError(f"{dataset.folder}: no clip could be read")
    return judge_clip_answers(split, rows, said, ci=how.ci, skipped=reel.skipped)


def read_clip_questions(
    dataset: Dataset, split: str, limit: int | None = None
) -> list[ClipQuestionRow]:
    """The questions of a split, of which each id occurs once.

    Raises:
        ArtifactError: there are none, or an id occurs twice.
    """
    rows = dataset.clip_questions(split)[:limit]
    return unique(rows, "question_id", dataset.folder / f"video_qa_{split}.jsonl")


def judge_clip_answers(
    split: str,
    rows: Sequence[ClipQuestionRow],
    said: dict[str, str],
    *,
    ci: Bootstrap | None = None,
    skipped: tuple[Skipped, ...] = (),
) -> Evaluation:
    """`accuracy` of answers by question id; questions that have none do not count."""
    asked = [row for row in rows if row.question_id in said]
    score = exact_match(said, {row.question_id: row.answer for row in asked})
    figures = means(
        {_METRIC: [100 * score.per_item[row.question_id] for row in asked]},
        clusters=[row.clip for row in asked],
    )
    return Evaluation(
        task="video-qa",
        split=split,
        items=len(asked),
        metrics={_METRIC: 100 * score.mean},
        predictions=[
            {"question_id": result_id(row.question_id), "answer": said[row.question_id]}
            for row in asked
        ],
        skipped=skipped,
        intervals=None if ci is None else intervals(ci, figures),
    )
