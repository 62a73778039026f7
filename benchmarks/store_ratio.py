"""A student taught by its teacher, and the same one taught by a store of what the teacher told.

    python benchmarks/store_ratio.py TEACHER DATA        # -> distill/store.json, distill/README.md
        [--recipe NAME] [--set key=value]... [--steps N] [--seed N] [--device D]
    python benchmarks/store_ratio.py --table             # the record into the page

Both run `distill` with views = 1 for N steps, the second once the store is filled. The record has
seconds of the steps alone, their ratio, what filling took, and both curves.
"""

import argparse
import time
from collections.abc import Iterable, Iterator
from dataclasses import asdict, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, TypeVar

from runs import ROOT, between, read

from blip_edge.artifact import folder_bytes, read_provenance, sha256_folder, write_json
from blip_edge.benchmarks.machine import machine
from blip_edge.distill import DistillRecipe, distill
from blip_edge.models import load_model
from blip_edge.recipe import load

T = TypeVar("T")

RECORD = ROOT / "distill" / "store.json"
PAGE = ROOT / "distill" / "README.md"
BEGIN = "<!-- store: written by benchmarks/store_ratio.py -->\n"
END = "<!-- /store -->\n"

# Words that a run's bars begin with.
STEPS, ASKING = "distill", "words of the teacher"


class Watch:
    """Seconds of each part of a run, by its bar's words."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    def track(
        self, items: Iterable[T], description: str, *, total: int | None = None
    ) -> Iterator[T]:
        """Yield `items`, and add up the time until the last one is done with."""
        begun = time.perf_counter()
        try:
            yield from items
        finally:
            passed = time.perf_counter() - begun
            self.seconds[description] = self.seconds.get(description, 0.0) + passed

    def note(self, text: str) -> None:
        """Nobody looks on."""

    def say(self, text: str) -> None:
        """Warnings are worth a line."""
        print(text, flush=True)

    def of(self, start: str) -> float:
        """Seconds of the parts whose words begin so."""
        return sum(value for words, value in self.seconds.items() if words.startswith(start))


def measured(
    teacher: Path, data: Path, recipe: DistillRecipe, *, seed: int, device: Any
) -> dict[str, Any]:
    """Seconds, curves and how far they are apart."""
    runs: dict[str, Watch] = {}
    curves: dict[str, list[dict[str, float]]] = {}
    with TemporaryDirectory(prefix="store-ratio-") as name:
        folder = Path(name)
        store = folder / "store"
        # The store is filled by a run of its own, as by an earlier student.
        for run, kept in (("online", None), ("filling", store), ("stored", store)):
            runs[run] = Watch()
            how: dict[str, Any] = {"seed": seed, "device": device, "progress": runs[run]}
            out = distill(teacher, data, folder / run, recipe, store=kept, **how)
            curves[run] = read_provenance(out).history
        size = folder_bytes(store)
    del curves["filling"]
    seconds = {run: round(runs[run].of(STEPS), 3) for run in curves}
    return {
        "ratio": round(seconds["stored"] / seconds["online"], 4),
        "seconds": {**seconds, "filling": round(runs["filling"].of(ASKING), 3)},
        "asked_again": bool(runs["stored"].of(ASKING)),
        "store_bytes": size,
        "largest_gap": gaps(curves["online"], curves["stored"]),
        "curves": curves,
    }


def gaps(one: list[dict[str, float]], other: list[dict[str, float]]) -> dict[str, float]:
    """By loss: how far two curves are apart at most."""
    names = [name for name in one[0] if name != "step"]
    pairs = list(zip(one, other, strict=True))
    return {name: max(abs(a[name] - b[name]) for a, b in pairs) for name in names}


def with_table(page: str, kept: dict[str, Any]) -> str:
    """`page` with what a record says between its two marks."""
    return between(page, BEGIN, END, told(kept))


def told(kept: dict[str, Any]) -> str:
    """A record, in a paragraph."""
    seconds, gap = kept["seconds"], max(kept["largest_gap"].values())
    return (
        f"{kept['recipe']['steps']} steps of a captioner's student take {seconds['online']:.0f} s "
        f"with the teacher and {seconds['stored']:.0f} s with a filled store, that is "
        f"**{kept['ratio']:.2f}** of it; filling it once took {seconds['filling']:.0f} s and "
        f"{kept['store_bytes'] / 1e6:.0f} MB. No loss of the two curves is further apart than "
        f"{gap:.4f} (half precision, and the {kept['top']} largest logits).\n"
    )


def main() -> None:
    """Measure, write the record and the page; or the page alone."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("teacher", type=Path, nargs="?")
    parser.add_argument("data", type=Path, nargs="?")
    parser.add_argument("--table", action="store_true", help="only write the page")
    parser.add_argument("--recipe", help="of distill; the defaults if not given")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE")
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--device", default="auto", choices=("auto", "cpu", "cuda", "mps"))
    given = parser.parse_args()
    if given.table == (given.data is not None):
        parser.error("give either a teacher and data, or --table")
    if not given.table:
        write_json(RECORD, record(given))
    page = PAGE.read_text(encoding="utf-8")
    PAGE.write_text(with_table(page, read(RECORD)), encoding="utf-8")


def record(given: argparse.Namespace) -> dict[str, Any]:
    """What was measured, and of what."""
    recipe = load(DistillRecipe, "distill", given.recipe, given.set)
    plain = {"hidden_weight": 0.0, "attention_weight": 0.0}  # no store holds layers
    recipe = replace(recipe, steps=given.steps, views=recipe.views or 1, **plain)
    return {
        "machine": asdict(machine()),
        "teacher": {
            "sha256": sha256_folder(given.teacher),
            "architecture": load_model(given.teacher).config.architecture,
        },
        "recipe": {"name": given.recipe, "set": given.set, "steps": given.steps},
        "top": recipe.top,
        **measured(given.teacher, given.data, recipe, seed=given.seed, device=given.device),
    }


if __name__ == "__main__":
    main()
