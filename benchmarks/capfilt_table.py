"""The table of what CapFilt brings, from its record."""

import statistics
from collections.abc import Sequence
from itertools import product
from typing import Any, NamedTuple

from runs import ROOT, between

__all__ = ["PAGE", "table", "with_table"]

PAGE = ROOT / "train" / "README.md"
BEGIN = "<!-- capfilt: written by benchmarks/capfilt_grid.py -->\n"
END = "<!-- /capfilt -->\n"
NOT_RUN = "not run"


class Claim(NamedTuple):
    """Rows of which both together have to be the best, and above the noisy texts."""

    noisy: str
    both: str
    others: tuple[str, ...]
    of: str
    called: str = "both"


CLAIMS = (
    Claim("noisy", "both", ("filter", "captioner"), "the first four"),
    Claim("noisy", "sure", ("filter", "captioner", "both"), "the first five", "both, if sure,"),
    Claim("longer", "longer-both", ("longer-filter",), "those of 5,000 steps"),
)
METRICS = {"truth": (100, "captions wholly true"), "r_mean": (1, "retrieval, mean R@K")}


def table(kept: dict[str, Any], rows: Sequence[Any], seeds: Sequence[int]) -> str:
    """All rows, in Markdown; those with several seeds by their mean and all they gave."""
    heads = [words for _, words in METRICS.values()]
    lines = [
        f"| learned from | texts of the web kept | new ones kept | {' | '.join(heads)} |",
        "|---|---|---|" + "---|" * len(heads),
        *(_line(row, kept, seeds) for row in rows),
        "",
        *_told(kept, seeds),
    ]
    return "\n".join(lines) + "\n"


def _line(row: Any, kept: dict[str, Any], seeds: Sequence[int]) -> str:
    found = [
        cell for seed in seeds if (cell := kept["cells"].get(f"{row.name}-{seed}")) is not None
    ]
    if not found:
        return f"| {row.what} | {NOT_RUN} | | {' | ' * (len(METRICS) - 1)}|"
    texts = found[0].get("texts", {})
    kinds = [_texts(texts.get(source)) for source in ("web", "synthetic")]
    cells = [_value(found, name, scale) for name, (scale, _) in METRICS.items()]
    return f"| {row.what} | {' | '.join([*kinds, *cells])} |"


def _texts(found: dict[str, Any] | None) -> str:
    """How many stay, and how many of those are right."""
    if not found or not found["texts"]:
        return ""
    told = f"{found['kept']:,} of {found['texts']:,}"
    right = found.get("truth", {}).get("right_of_kept")
    return told if right is None else f"{told}; {right:.1%} right"


def _value(found: Sequence[dict[str, Any]], name: str, scale: int) -> str:
    values = [scale * cell["metrics"][name]["value"] for cell in found]
    if len(values) == 1:
        low, high = (scale * bound for bound in found[0]["metrics"][name]["interval"])
        return f"{values[0]:.1f} ({low:.1f} to {high:.1f})"
    each = ", ".join(f"{value:.1f}" for value in values)
    return f"**{statistics.fmean(values):.1f}** ({each})"


def _told(kept: dict[str, Any], seeds: Sequence[int]) -> list[str]:
    """What was asked of the filter and of both together, and whether it came."""
    areas = [
        cell["texts"]["web"]["truth"]["roc_auc"]
        for seed in seeds
        if (cell := kept["cells"].get(f"both-{seed}"))
    ]
    lines = []
    if areas:
        met = "" if min(areas) >= 0.97 else " (missed)"
        each = ", ".join(f"{area:.3f}" for area in areas)
        lines.append(f"- ROC-AUC of the filter on the web's texts, goal 0.97: {each}{met}")
    lines += [*_sureness(kept, seeds), *_length(kept, seeds)]
    for claim, (name, (scale, words)) in product(CLAIMS, METRICS.items()):
        rows = (claim.noisy, claim.both, *claim.others)
        if (means := _means(kept, rows, name, scale, seeds)) is None:
            continue
        noisy, both, *others = means
        met = "" if all(both > other for other in (noisy, *others)) else " (missed)"
        lines.append(
            f"- {words}: {claim.called} {both:.1f} against {noisy:.1f} on the noisy texts, "
            f"goal best of {claim.of}{met}"
        )
    return lines


def _sureness(kept: dict[str, Any], seeds: Sequence[int]) -> list[str]:
    """Who tells right new texts from wrong ones."""
    known = [
        cell["texts"]["synthetic"]["truth"]
        for seed in seeds
        if (cell := kept["cells"].get(f"sure-{seed}"))
    ]
    told = [
        ", ".join(f"{truth[key]:.2f}" for truth in known)
        for key in ("confidence_roc_auc", "roc_auc")
    ]
    said = f"- ROC-AUC on new texts: their captioner's confidence {told[0]}, the filter {told[1]}"
    return [said] if known else []


def _length(kept: dict[str, Any], seeds: Sequence[int]) -> list[str]:
    """Whether it is the length of the training that filtered texts gain by (table 12)."""
    if (means := _means(kept, ("longer", "filter"), "truth", 100, seeds)) is None:
        return []
    longer, filtered = means
    return [
        f"- captions wholly true: 5,000 steps on the noisy texts {longer:.1f}, goal below the "
        f"filter alone in 2,000, {filtered:.1f}{'' if longer < filtered else ' (missed)'}"
    ]


def _means(
    kept: dict[str, Any], rows: Sequence[str], name: str, scale: int, seeds: Sequence[int]
) -> list[float] | None:
    """Of each row over the seeds that all of them were run with."""
    cells = kept["cells"]
    found = [
        [scale * cells[f"{row}-{seed}"]["metrics"][name]["value"] for row in rows]
        for seed in seeds
        if all(f"{row}-{seed}" in cells for row in rows)
    ]
    return [statistics.fmean(values) for values in zip(*found, strict=True)] if found else None


def with_table(page: str, kept: dict[str, Any], rows: Sequence[Any], seeds: Sequence[int]) -> str:
    """`page` with the table of a record between its two marks."""
    return between(page, BEGIN, END, table(kept, rows, seeds))
