"""How good answers are, measured as the field measures them; numpy at most.

    scores = cider({1: "a dog on a mat"}, {1: ["a dog lies on a mat", "the dog is on its mat"]})
    print(100 * scores.mean)
    print(Bootstrap().mean(list(scores.per_item.values())))

What is scored text by text takes what was said and what is known by id and gives a `Score`; what is
found by ranking takes tables of scores and gives places. All figures are in the metric's own unit,
shares between 0 and 1 but for CIDEr and for ranks. What the product prints and stores is 100 times
that, as papers do; only ranks stay as they are.

METEOR and SPICE are in `metrics.java`, because they need programs that are not ours.
"""

from blip_edge.metrics.attributes import (
    average_precisions,
    drawn_precision,
    mean_average_precision,
    precision_by_group,
)
from blip_edge.metrics.auc import drawn_auc, roc_auc
from blip_edge.metrics.bleu import bleu, bleu_counts, bleu_of
from blip_edge.metrics.cider import cider
from blip_edge.metrics.exact import exact_match
from blip_edge.metrics.interval import Bootstrap, Interval
from blip_edge.metrics.nlvr2 import consistency, judgements, sentence_of
from blip_edge.metrics.ptb import words
from blip_edge.metrics.ranks import mean_rank, median_rank, ranks, recall
from blip_edge.metrics.retrieval import recalls, retrieval, text_ranks
from blip_edge.metrics.rouge import rouge_l
from blip_edge.metrics.score import Score, by_group
from blip_edge.metrics.visdial import dialog, ndcg
from blip_edge.metrics.vqa import vqa_accuracy

__all__ = [
    "Bootstrap",
    "Interval",
    "Score",
    "average_precisions",
    "bleu",
    "bleu_counts",
    "bleu_of",
    "by_group",
    "cider",
    "consistency",
    "dialog",
    "drawn_auc",
    "drawn_precision",
    "exact_match",
    "judgements",
    "mean_average_precision",
    "mean_rank",
    "median_rank",
    "ndcg",
    "precision_by_group",
    "ranks",
    "recall",
    "recalls",
    "retrieval",
    "roc_auc",
    "rouge_l",
    "sentence_of",
    "text_ranks",
    "vqa_accuracy",
    "words",
]
