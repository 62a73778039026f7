"""Rank the answers that could be given in a dialog about a picture.

As BLIP is measured (paper, table 9): every option is read after the dialog so far, with the caption
and the picture in view, and ranked by the probability that it is true.
"""

# R rounds · C options of each

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray
from PIL import Image

from blip_edge.data import Dataset
from blip_edge.data.dialog_texts import dialog_texts
from blip_edge.data.rows import Dialog
from blip_edge.errors import ArtifactError
from blip_edge.evaluation.album import Album, Skipped
from blip_edge.evaluation.intervals import intervals, means
from blip_edge.evaluation.references import unique
from blip_edge.evaluation.result import EvalSettings, Evaluation
from blip_edge.metrics import Bootstrap, dialog, mean_rank, ndcg, ranks
from blip_edge.progress import SILENT, Progress
from blip_edge.text import Tokenizer

__all__ = ["Converses", "RoundId", "evaluate_visdial", "judge_dialogs", "read_dialogs"]

F32 = NDArray[np.float32]
RoundId = tuple[int, int]
"""A picture's `image_id`, and the round's number from 1."""


class Converses(Protocol):
    """Anything that judges dialogs; an `EdgeModel` does."""

    tokenizer: Tokenizer

    @property
    def dialog_length(self) -> int:
        """Tokens of a dialog that it can read."""
        ...

    def dialog_scores(self, image: Image.Image, caption: str, texts: Sequence[str], /) -> F32:
        """(R,) how true each of some dialogs is, of one picture and its caption."""
        ...


def evaluate_visdial(
    model: Converses,
    dataset: Dataset,
    split: str,
    how: EvalSettings,
    *,
    progress: Progress = SILENT,
) -> Evaluation:
    """MRR, R@1, R@5, R@10, mean rank, and NDCG where people judged, on `visdial_{split}.json`.

    Raises:
        ArtifactError: no such dialogs, or too many unreadable pictures.
    """
    dialogs = read_dialogs(dataset, split, how.limit)
    album = Album(dataset, len(dialogs), how.max_bad, how.crew)

    def ask(one: Dialog) -> list[tuple[RoundId, F32]]:
        picture = album.open(one.image)
        if picture is None:
            return []
        found: list[tuple[RoundId, F32]] = []
        for number, turn in enumerate(one.rounds):
            texts = dialog_texts(one, number, turn.options, model.tokenizer, model.dialog_length)
            scores = model.dialog_scores(picture, one.caption, texts)
            found.append(((one.image_id, number + 1), scores))
        return found

    scores = dict(how.crew.gathered(dialogs, ask, "conversing", progress))
    if not scores:
        raise ArtifactError(f"{dataset.folder}/visdial_{split}.json has no dialogs to look at")
    return judge_dialogs(split, dialogs, scores, ci=how.ci, skipped=album.skipped)


def read_dialogs(dataset: Dataset, split: str, limit: int | None = None) -> list[Dialog]:
    """The dialogs of a split, of which each is about another picture.

    Raises:
        ArtifactError: there are none, or two have the same `image_id`.
    """
    dialogs = dataset.dialogs(split)[:limit]
    return unique(dialogs, "image_id", dataset.folder / f"visdial_{split}.json")


def judge_dialogs(
    split: str,
    dialogs: Sequence[Dialog],
    scores: Mapping[RoundId, NDArray[np.generic]],
    *,
    ci: Bootstrap | None = None,
    skipped: tuple[Skipped, ...] = (),
) -> Evaluation:
    """The metrics of scores of each round's options, higher is better, by picture and round."""
    turns = {
        (one.image_id, number): turn
        for one in dialogs
        for number, turn in enumerate(one.rounds, 1)
        if (one.image_id, number) in scores
    }
    table = _filled([scores[key] for key in turns], -np.inf)
    places = ranks(table, [turn.gt for turn in turns.values()])
    metrics = {name: 100 * share for name, share in dialog(places).items()}
    metrics["mean_rank"] = mean_rank(places)
    figures = [means(_of_places(places), clusters=[image_id for image_id, _ in turns])]
    judged = [n for n, t in enumerate(turns.values()) if t.relevance and any(t.relevance)]
    if judged:
        given = [turn.relevance or () for turn in turns.values()]
        relevance = _filled([np.asarray(given[n]) for n in judged], 0.0, table.shape[1])
        gains = ndcg(table[judged], relevance)
        metrics["NDCG"] = 100 * float(gains.mean())
        owners = [image_id for image_id, _ in turns]
        figures.append(means({"NDCG": 100 * gains}, clusters=[owners[n] for n in judged]))
    return Evaluation(
        task="visdial",
        split=split,
        items=len(turns),
        metrics=metrics,
        predictions=_ranked(scores, turns),
        skipped=skipped,
        intervals=None if ci is None else intervals(ci, *figures),
    )


def _of_places(places: NDArray[np.intp]) -> dict[str, ArrayLike]:
    """What each round adds to the metrics of places, as they are printed."""
    hits = {f"R@{k}": 100 * (places <= k) for k in (1, 5, 10)}
    return {"MRR": 100 / places, **hits, "mean_rank": places}


def _ranked(
    scores: Mapping[RoundId, NDArray[np.generic]], rounds: Iterable[RoundId]
) -> list[dict[str, Any]]:
    """EvalAI's format: the rank of each option, from 1.

    Options of one score share the last of their places, so that a tie earns nothing there either.
    """
    return [
        {
            "image_id": image_id,
            "round_id": number,
            "ranks": np.searchsorted(np.sort(-own), -own, side="right").tolist(),
        }
        for image_id, number in rounds
        for own in [np.asarray(scores[image_id, number])]
    ]


def _filled(rows: Sequence[NDArray[np.generic]], value: float, width: int = 0) -> F32:
    """(R, C) of rows of different lengths."""
    table = np.full((len(rows), max(width, *map(len, rows))), value, dtype=np.float32)
    for number, row in enumerate(rows):
        table[number, : len(row)] = row
    return table
