"""How well captions agree with what people say of the pictures.

On a drawn world captions are also held against the scenes; where pictures have domains (nocaps),
each domain has figures of its own, as the benchmark's server gives them.
"""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from blip_edge.data.shapes import Scene, judge
from blip_edge.errors import ArtifactError, MissingExtraError
from blip_edge.evaluation.album import Skipped
from blip_edge.evaluation.intervals import Figures, intervals, means
from blip_edge.evaluation.references import CaptionSet, ImageId, Sample
from blip_edge.evaluation.result import Evaluation
from blip_edge.metrics import (
    Bootstrap,
    Interval,
    Score,
    bleu,
    bleu_counts,
    bleu_of,
    cider,
    rouge_l,
    words,
)
from blip_edge.metrics.java import spice, spice_missing
from blip_edge.metrics.score import MAX_ORDER

__all__ = ["judge_captions"]

Said = dict[ImageId, str]
References = dict[ImageId, tuple[str, ...]]


def judge_captions(
    captions: CaptionSet,
    said: Mapping[ImageId, str],
    *,
    ci: Bootstrap | None = None,
    skipped: tuple[Skipped, ...] = (),
) -> Evaluation:
    """The metrics of what was said, over the pictures of which something was said.

    CIDEr, BLEU, ROUGE-L and SPICE are 100 times the metric's own unit, as papers print them. On a
    drawn world also `truth` (the share, between 0 and 1, of captions that are true of the scene),
    `facts_per_caption` and `distinct_captions`. Of a split whose captions are hidden there are no
    metrics.

    Raises:
        ArtifactError: some pictures have captions to compare with, and others have not.
    """
    samples = [sample for sample in captions.samples if sample.image_id in said]
    ours = {sample.image_id: said[sample.image_id] for sample in samples}
    found: dict[str, Any] = {"notes": (f"{captions.where} has no captions: nothing can be scored",)}
    if _known(captions.where, samples):
        found = _scored(captions, samples, ours, ci)
    return Evaluation(
        task="caption",
        split=captions.split,
        items=len(ours),
        metrics=found.pop("metrics", {}),
        predictions=[{"image_id": key, "caption": text} for key, text in ours.items()],
        skipped=skipped,
        **found,
    )


def _known(where: object, samples: Sequence[Sample]) -> bool:
    """Whether the captions are there to compare with."""
    without = [sample.image for sample in samples if not sample.references]
    if without and len(without) < len(samples):
        raise ArtifactError(f"{where}: {without[0]} has no captions, which other pictures have")
    return not without


def _scored(
    captions: CaptionSet, samples: Sequence[Sample], said: Said, ci: Bootstrap | None
) -> dict[str, Any]:
    """The fields of an `Evaluation` that scoring fills."""
    meant = {sample.image_id: sample.references for sample in samples}
    scores = {"CIDEr": cider(said, meant)}
    scores |= {f"BLEU-{n}": score for n, score in enumerate(bleu(said, meant), 1)}
    scores["ROUGE-L"] = rouge_l(said, meant)
    domains = {sample.image_id: sample.domain for sample in samples if sample.domain is not None}
    notes = _emptied(captions, samples)
    if domains:
        # Part of nocaps' tables; elsewhere it would cost more than the figures before it.
        try:
            scores["SPICE"] = _spice(said, meant)
        except MissingExtraError as missing:
            notes.append(f"without SPICE: {missing}")
    metrics = {name: 100 * score.mean for name, score in scores.items()}
    verdicts: dict[str, list[float]] = {}
    if captions.scenes is not None:
        verdicts = _truth([(said[one.image_id], captions.scenes[one.image]) for one in samples])
        metrics |= {name: sum(values) / len(values) for name, values in verdicts.items()}
        metrics["distinct_captions"] = len(set(said.values()))
    drawn = None
    if ci is not None:
        drawn = _intervals(ci, scores, verdicts, _bleu_figures(said, meant))
        drawn = {name: drawn[name] for name in metrics if name in drawn}
    groups = {"perDomain": _by_domain(said, meant, domains, scores)} if domains else {}
    return {"metrics": metrics, "intervals": drawn, "groups": groups, "notes": tuple(notes)}


def _truth(said: list[tuple[str, Scene]]) -> dict[str, list[float]]:
    verdicts = [judge(caption, scene) for caption, scene in said]
    return {
        "truth": [float(verdict.true) for verdict in verdicts],
        "facts_per_caption": [float(verdict.facts) for verdict in verdicts],
    }


def _spice(said: Said, meant: References) -> Score[ImageId]:
    if (why := spice_missing()) is not None:
        raise MissingExtraError(why)
    return spice(said, meant)


def _bleu_figures(said: Said, meant: References) -> Figures:
    """BLEU of resamples: it is a figure of the set's counts, and no mean."""
    orders = range(MAX_ORDER)
    return Figures(
        bleu_counts(said, meant).astype(np.float64),
        {f"BLEU-{n + 1}": partial(_bleu, order=n) for n in orders},
    )


def _bleu(sums: NDArray[np.float64], *, order: int) -> NDArray[np.float64]:
    return 100 * bleu_of(sums)[:, order]


def _intervals(
    ci: Bootstrap,
    scores: Mapping[str, Score[ImageId]],
    verdicts: Mapping[str, list[float]],
    bleus: Figures,
) -> dict[str, Interval]:
    values: dict[str, ArrayLike] = {
        name: 100 * np.array(list(score.per_item.values()))
        for name, score in scores.items()
        if name not in bleus.of_sums
    }
    return intervals(ci, means({**values, **verdicts}), bleus)


def _by_domain(
    said: Said,
    meant: References,
    domains: Mapping[ImageId, str],
    scores: Mapping[str, Score[ImageId]],
) -> dict[str, dict[str, float]]:
    """CIDEr, and SPICE where it is there, of each domain and overall.

    A domain is scored as a set of its own: what is rare is what is rare in it.
    """
    found: dict[str, dict[str, float]] = {}
    for domain in [*sorted(set(domains.values())), None]:
        ids = [key for key in said if domain is None or domains.get(key) == domain]
        few = cider({key: said[key] for key in ids}, {key: meant[key] for key in ids})
        row = {"items": len(ids), "CIDEr": 100 * few.mean}
        if "SPICE" in scores:
            row["SPICE"] = 100 * sum(scores["SPICE"].per_item[key] for key in ids) / len(ids)
        found[domain or "overall"] = row
    return found


def _emptied(captions: CaptionSet, samples: Sequence[Sample]) -> list[str]:
    """A line about captions of which no word is left, if there are any."""
    empty = [
        sample.image
        for sample in samples
        for text in sample.references
        # Splitting into words is slow, and whatever has a letter has one.
        if not any(map(str.isalnum, text)) and not words(text)
    ]
    if not empty:
        return []
    more = f" and {len(empty) - 1} more" if len(empty) > 1 else ""
    return [f"{captions.where}: a caption of {empty[0]}{more} has no words, and agrees with none"]
