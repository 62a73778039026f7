"""The form of an int8 bundle that is the fastest on this machine: all are made and measured.

Which form a runtime multiplies fast differs from runtime to runtime, processor to processor and
graph to graph, and reading says little of it. A form must pass the gates of every bundle, and be as
near to the float model as what was decided, because it was not what `quantize` judged.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from blip_edge.artifact import read_json, write_json
from blip_edge.exporters.card import card
from blip_edge.exporters.golden import read_golden
from blip_edge.exporters.parity import compare
from blip_edge.exporters.probes import PROBES
from blip_edge.exporters.recipe import ExportRecipe
from blip_edge.exporters.stopwatch import Work, race
from blip_edge.models.folder import Model
from blip_edge.preprocess import open_image
from blip_edge.progress import Progress
from blip_edge.runtime.asked import Asked
from blip_edge.runtime.edge_model import EdgeModel
from blip_edge.runtime.engine import F32
from blip_edge.runtime.load import load_bundle
from blip_edge.runtime.loaded import Picture
from blip_edge.runtime.manifest import graph_bytes, read_manifest
from blip_edge.runtime.sums import write_sums
from blip_edge.training.engine import edge_model

__all__ = ["Tuned", "autotune"]


@dataclass(frozen=True)
class Tuned:
    """A form that was tried."""

    form: str
    p50_ms: float | None
    """Of all golden tasks once, dictated; the median over rounds. None: it was not fit."""
    bytes: int
    """Of the graphs."""
    float_psnr_db: float
    """How near to the float model it is in torch, its farthest output counted."""
    problem: str
    """The first gate that it missed; "" if none."""
    chosen: bool


def autotune(
    draft: Path,
    forms: Sequence[str],
    build: Callable[[Path, str], list[str]],
    reference: Callable[[str], Model],
    original: Model,
    recipe: ExportRecipe,
    progress: Progress,
) -> list[str]:
    """Leave the fastest bundle in `draft`, or the first, with its problems, if none is fit.

    Args:
        draft: an empty folder; candidates are made beside it.
        forms: to try, what was decided first.
        build: writes a bundle of a form into a folder and says what is wrong with it.
        reference: the network in torch of a form.
        original: the float model.
        recipe: `tune_rounds` and `tune_loss` count.
        progress: who wants to know.
    """
    folders = {form: draft.parent / f"candidate-{number}" for number, form in enumerate(forms)}
    problems: dict[str, list[str]] = {}
    for form, folder in folders.items():
        progress.say(f"autotune: {form}")
        folder.mkdir()
        problems[form] = build(folder, form)
    work = _work(folders[forms[0]])
    near = _nearness(forms, reference, original, work)
    least = near[forms[0]] - recipe.tune_loss
    for form in forms:
        if near[form] < least:
            problems[form].append(
                f"{near[form]:.1f} dB from the float model, what was decided {near[forms[0]]:.1f}"
            )
    fit = [form for form in forms if not problems[form]]
    bundles = {form: load_bundle(read_manifest(folders[form])) for form in fit}
    taken = race(bundles, work, rounds=recipe.tune_rounds)
    chosen = min(taken, key=lambda form: taken[form], default=forms[0])
    rows = [
        Tuned(
            form=form,
            p50_ms=round(taken[form], 3) if form in taken else None,
            bytes=graph_bytes(read_json(folders[form] / "manifest.json")),
            float_psnr_db=round(near[form], 2),
            problem=next(iter(problems[form]), ""),
            chosen=form == chosen,
        )
        for form in forms
    ]
    _ship(folders[chosen], draft, rows)
    times = ", ".join(f"{form} {ms:.3g} ms" for form, ms in taken.items())
    progress.say(f"autotune: {chosen} of {times}" if fit else "autotune: no form is fit")
    return problems[chosen]


def _work(bundle: Path) -> Work:
    found = []
    for entry in read_golden(bundle):
        images = tuple(map(_opened, entry.asked.images))
        found.append((entry.task, Asked(images, entry.asked.texts), entry.said))
    return found


def _opened(image: Picture) -> Picture:
    """What is read from a file only once."""
    return open_image(image) if isinstance(image, Path) else image


def _nearness(
    forms: Sequence[str], reference: Callable[[str], Model], original: Model, work: Work
) -> Mapping[str, float]:
    """The least signal to noise, in dB, of what each form gives against the float model."""
    expected = _outputs(edge_model(original), work)
    found = {}
    for form in forms:
        actual = _outputs(edge_model(reference(form)), work)
        pairs = zip(expected, actual, strict=True)
        found[form] = min(
            compare(value, given[name]).psnr_db
            for want, given in pairs
            for name, value in want.items()
        )
    return found


def _outputs(model: EdgeModel, work: Work) -> list[dict[str, F32]]:
    return [PROBES[task].arrays(model, asked, said) for task, asked, said in work]


def _ship(folder: Path, draft: Path, rows: Sequence[Tuned]) -> None:
    """Move the bundle in `folder` to `draft`, with a word on the others."""
    for part in folder.iterdir():
        part.rename(draft / part.name)
    document = read_json(draft / "manifest.json")
    document["tuned"] = [asdict(row) for row in rows]
    write_json(draft / "manifest.json", document)
    (draft / "README.md").write_text(card(draft.name, document), encoding="utf-8")
    write_sums(draft)
