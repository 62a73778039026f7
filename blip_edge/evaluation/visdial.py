"""Rank the answers that could be given in a dialog about a picture.

As BLIP is measured (paper, table 9): every option is read after the dialog so far, with the caption
and the picture in view, and ranked by the probability that it is true.
"""

# R rounds · C options of each

from collections.abc import Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from blip_edge.data import Dataset
from blip_edge.data.dialog_texts import dialog_texts
from blip_edge.data.rows import Round
from blip_edge.errors import ArtifactError
from blip_edge.evaluation.album import Album
from blip_edge.evaluation.result import EvalSettings, Evaluation
from blip_edge.metrics import dialog, mean_rank, ndcg, ranks
from blip_edge.progress import SILENT, Progress
from blip_edge.text import Tokenizer

__all__ = ["Converses", "evaluate_visdial"]

F32 = NDArray[np.float32]


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
    dialogs = dataset.dialogs(split)[: how.limit]
    album = Album(dataset, len(dialogs), how.max_bad)
    rounds: list[Round] = []
    scores: list[F32] = []
    for one in progress.track(dialogs, "conversing"):
        picture = album.open(one.image)
        if picture is None:
            continue
        for number, turn in enumerate(one.rounds):
            texts = dialog_texts(one, number, turn.options, model.tokenizer, model.dialog_length)
            rounds.append(turn)
            scores.append(model.dialog_scores(picture, one.caption, texts))
    if not rounds:
        raise ArtifactError(f"{dataset.folder}/visdial_{split}.json has no dialogs to look at")
    table = _filled(scores, -np.inf)
    places = ranks(table, [turn.gt for turn in rounds])
    metrics = {name: 100 * share for name, share in dialog(places).items()}
    metrics["mean_rank"] = mean_rank(places)
    judged = [n for n, turn in enumerate(rounds) if turn.relevance and any(turn.relevance)]
    if judged:
        relevance = _filled([np.asarray(rounds[n].relevance) for n in judged], 0.0, table.shape[1])
        metrics["NDCG"] = 100 * float(ndcg(table[judged], relevance).mean())
    return Evaluation(
        task="visdial",
        split=split,
        items=len(rounds),
        metrics=metrics,
        predictions=[],
        skipped=album.skipped,
    )


def _filled(rows: Sequence[NDArray[np.generic]], value: float, width: int = 0) -> F32:
    """(R, C) of rows of different lengths."""
    table = np.full((len(rows), max(width, *map(len, rows))), value, dtype=np.float32)
    for number, row in enumerate(rows):
        table[number, : len(row)] = row
    return table
