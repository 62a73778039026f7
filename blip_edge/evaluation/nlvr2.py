"""Judge every sentence of a split about its two pictures."""

from collections.abc import Sequence
from typing import Protocol

import numpy as np
from PIL import Image

from blip_edge.data import Dataset
from blip_edge.data.rows import SentenceRow
from blip_edge.errors import ArtifactError
from blip_edge.evaluation.album import Album, Skipped, groups
from blip_edge.evaluation.intervals import intervals, means
from blip_edge.evaluation.references import unique
from blip_edge.evaluation.result import EvalSettings, Evaluation
from blip_edge.metrics import Bootstrap, consistency, judgements, sentence_of
from blip_edge.progress import SILENT, Progress
from blip_edge.runtime.results import Reason

__all__ = ["Judges", "evaluate_nlvr2", "judge_sentences", "read_sentences"]


class Judges(Protocol):
    """Anything that judges sentences about two pictures; an `EdgeModel` does."""

    def reason(
        self, left: list[Image.Image], right: list[Image.Image], sentence: list[str], /
    ) -> list[Reason]:
        """One verdict a sentence."""
        ...


def evaluate_nlvr2(
    model: Judges,
    dataset: Dataset,
    split: str,
    how: EvalSettings,
    *,
    progress: Progress = SILENT,
) -> Evaluation:
    """Accuracy on `nlvr_{split}.json`, and consistency where identifiers say what belongs together.

    Raises:
        ArtifactError: no such sentences, or too many unreadable pictures.
    """
    rows = read_sentences(dataset, split, how.limit)
    pictures = len({image for row in rows for image in row.images})
    album = Album(dataset, pictures, how.max_bad, how.crew)

    def ask(group: Sequence[SentenceRow]) -> list[tuple[str, bool]]:
        opened = [(row, album.open(row.images[0]), album.open(row.images[1])) for row in group]
        readable = [(row, a, b) for row, a, b in opened if a is not None and b is not None]
        if not readable:
            return []
        lefts, rights = [a for _, a, _ in readable], [b for _, _, b in readable]
        found = model.reason(lefts, rights, [row.sentence for row, _, _ in readable])
        return [
            (row.identifier, verdict.label == "True")
            for (row, _, _), verdict in zip(readable, found, strict=True)
        ]

    batches = list(groups(rows, how.batch))
    said = dict(how.crew.gathered(batches, ask, "judging", progress))
    if not said:
        raise ArtifactError(f"{dataset.folder}: no pair of pictures could be read")
    return judge_sentences(split, rows, said, ci=how.ci, skipped=album.skipped)


def read_sentences(dataset: Dataset, split: str, limit: int | None = None) -> list[SentenceRow]:
    """The sentences of a split, of which each identifier occurs once.

    Raises:
        ArtifactError: there are none, or an identifier occurs twice.
    """
    rows = dataset.sentences(split)[:limit]
    return unique(rows, "identifier", dataset.folder / f"nlvr_{split}.json")


def judge_sentences(
    split: str,
    rows: Sequence[SentenceRow],
    said: dict[str, bool],
    *,
    ci: Bootstrap | None = None,
    skipped: tuple[Skipped, ...] = (),
) -> Evaluation:
    """Accuracy of verdicts by identifier, and consistency where identifiers allow it."""
    right = judgements(said, {r.identifier: r.label for r in rows if r.identifier in said})
    scores = {"accuracy": right}
    if (whole := consistency(right.per_item)) is not None:
        scores["consistency"] = whole
    drawn = None
    if ci is not None:
        # The verdicts about one sentence are alike: sentences are drawn with all of theirs.
        owners = [sentence_of(key) or key for key in right.per_item] if whole else None
        figures = [
            means(
                {name: 100 * np.array(list(score.per_item.values()))},
                clusters=owners if score is right else None,
            )
            for name, score in scores.items()
        ]
        drawn = intervals(ci, *figures)
    return Evaluation(
        task="nlvr2",
        split=split,
        items=len(said),
        metrics={name: 100 * score.mean for name, score in scores.items()},
        predictions=[{"identifier": key, "label": str(one)} for key, one in said.items()],
        skipped=skipped,
        intervals=drawn,
    )
