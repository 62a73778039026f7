"""The whole pipeline in order, on drawn pictures: what every verb does, once, in one folder.

A run folder holds what each stage wrote, `stages.json` with a key for each finished stage, and at
the end `summary.json` and `report.html`. A stage's key is a digest over its recipe, the seed, the
version and the keys of the stages that it reads, so that a run that was killed goes on where it
was, and a changed recipe repeats what depends on it and nothing else.
"""

import hashlib
import json
import resource
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from blip_edge import __version__
from blip_edge.artifact import read_json, write_json
from blip_edge.benchmarks import BenchRecipe, bench, machine, report_run, save
from blip_edge.data import CaptionRow, Dataset
from blip_edge.data.shapes import ShapesRecipe, judge, make, read_scenes
from blip_edge.distill import DistillRecipe, PruneRecipe, distill, prune
from blip_edge.errors import ArtifactError, UsageError
from blip_edge.evaluation import evaluate
from blip_edge.evaluation.asked import asked_of
from blip_edge.exporters import ExportRecipe, export, verify
from blip_edge.models import count_parameters, load_model
from blip_edge.progress import SILENT, Progress
from blip_edge.quantize import QuantizeRecipe, quantize
from blip_edge.recipe import load
from blip_edge.runtime.manifest import graph_bytes
from blip_edge.training import TrainRecipe, train

__all__ = ["quickstart"]

_STATE, _SUMMARY, _REPORT = "stages.json", "summary.json", "report.html"
_RECIPES: dict[str, tuple[type[Any], str, str]] = {
    "data": (ShapesRecipe, "data", "shapes-easy"),
    "pretrained": (TrainRecipe, "train", "shapes-pretrain"),
    "teacher": (TrainRecipe, "train", "shapes-caption"),
    "student": (DistillRecipe, "distill", "shapes-student"),
    "pruned": (PruneRecipe, "distill", "shapes-prune"),
    "int8": (QuantizeRecipe, "quantize", "shapes-int8"),
    "export": (ExportRecipe, "exporters", "shapes-export"),
    "bench": (BenchRecipe, "benchmarks", "quick"),
}
_MODELS = ("teacher", "student", "pruned", "int8")
_TARGETS = ("onnx", "openvino", "coreml")
_SAMPLES, _WRONG = 8, 2
_SETTINGS = ("threads", "image_size", "decode", "recipe", "page_cache")


def quickstart(
    output: Path,
    *,
    overrides: Sequence[str] = (),
    seed: int = 0,
    force: bool = False,
    progress: Progress = SILENT,
) -> dict[str, Any]:
    """Run the pipeline in `output`, or go on with it, and return its summary.

    Args:
        output: the run folder; one that this function began is continued.
        overrides: `stage.key=value` over the shipped recipes, such as `teacher.steps=500`.
        seed: of every stage.
        force: start over instead of continuing.

    Raises:
        ArtifactError: `output` is a folder of something else.
        UsageError: an override of a stage or key that there is not.
    """
    recipes = _recipes(overrides)
    run = _Run(Path(output), seed, force, progress)
    at = run.folder
    run.stage("data", recipes["data"], [], lambda to, **kw: make(to, recipes["data"], **kw))
    run.stage(
        "pretrained",
        recipes["pretrained"],
        ["data"],
        lambda to, **kw: train(at / "data", to, recipes["pretrained"], **kw),
    )
    run.stage(
        "teacher",
        recipes["teacher"],
        ["data", "pretrained"],
        lambda to, **kw: train(at / "data", to, recipes["teacher"], init=at / "pretrained", **kw),
    )
    for name, parent, shrink in (
        ("student", "teacher", distill),
        ("pruned", "student", prune),
        ("int8", "pruned", quantize),
    ):
        run.stage(
            name,
            recipes[name],
            ["data", parent],
            lambda to, shrink=shrink, parent=parent, name=name, **kw: shrink(
                at / parent, at / "data", to, recipes[name], **kw
            ),
        )
    bundles = _bundles(run, recipes["export"])
    for name in (*_MODELS, *_TARGETS):
        _evaluate(run, name)
    run.note("bench", recipes["bench"], list(bundles), lambda: _bench(run, bundles, recipes))
    run.note("summary", None, list(run.keys), lambda: _conclude(run, recipes))
    summary: dict[str, Any] = read_json(at / _SUMMARY)
    return summary


class _Run:
    """A run folder, and which of its stages are finished."""

    def __init__(self, folder: Path, seed: int, force: bool, progress: Progress) -> None:
        self.folder, self.seed, self.progress = folder, seed, progress
        self.keys: dict[str, str] = {}
        taken = folder.is_file() or (folder.is_dir() and any(folder.iterdir()))
        if taken and not (folder / _STATE).is_file():
            raise ArtifactError(f"{folder} is no quickstart run; choose a new folder with -o")
        self.done: dict[str, Any] = {}
        if (folder / _STATE).is_file() and not force:
            self.done = read_json(folder / _STATE)
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise ArtifactError(f"{folder} cannot be made: {error.strerror or error}") from None
        write_json(folder / _STATE, self.done)

    def stage(
        self, name: str, recipe: object, reads: Sequence[str], work: Callable[..., object]
    ) -> None:
        """Write the folder `name` with `work`, unless it is there for the same key."""

        def write() -> None:
            self.progress.say(f"{name}")
            work(self.folder / name, seed=self.seed, force=True, progress=self.progress)

        self.note(name, recipe, reads, write, there=(self.folder / name).is_dir())

    def note(
        self,
        name: str,
        recipe: Any,
        reads: Sequence[str],
        work: Callable[[], object],
        *,
        there: bool = True,
    ) -> None:
        """Do `work` once for a key, and note when it is finished."""
        parts = {
            "version": __version__,
            "name": name,
            "recipe": None if recipe is None else asdict(recipe),
            "seed": self.seed,
            "reads": [self.keys[read] for read in reads],
        }
        key = hashlib.sha256(json.dumps(parts).encode()).hexdigest()
        self.keys[name] = key
        if there and self.done.get(name, {}).get("key") == key:
            return
        started = time.monotonic()
        work()
        self.done[name] = {"key": key, "seconds": round(time.monotonic() - started, 1)}
        write_json(self.folder / _STATE, self.done)


def _recipes(overrides: Sequence[str]) -> dict[str, Any]:
    given: dict[str, list[str]] = {stage: [] for stage in _RECIPES}
    for text in overrides:
        stage, dot, rest = text.partition(".")
        if not dot or stage not in given:
            known = ", ".join(_RECIPES)
            raise UsageError(f"quickstart takes STAGE.key=value of {known}, got {text!r}")
        given[stage].append(rest)
    return {
        stage: load(cls, home, name, given[stage]) for stage, (cls, home, name) in _RECIPES.items()
    }


def _bundles(run: _Run, recipe: ExportRecipe) -> dict[str, Path]:
    """Every bundle by its stage: the int8 model on each target, the others on ONNX to be timed."""
    wanted = [(f"onnx-{name}", name, "onnx") for name in _MODELS if name != "int8"]
    wanted += [(target, "int8", target) for target in _TARGETS]
    for stage, model, target in wanted:

        def write(to: Path, *, model: str = model, target: Any = target, **kw: Any) -> None:
            source = run.folder / model
            export(source, to, target=target, recipe=recipe, data=run.folder / "data", **kw)
            verify(to, source, progress=run.progress)

        run.stage(stage, recipe, ["data", model], write)
    return {stage: run.folder / stage for stage, _, _ in wanted}


def _evaluate(run: _Run, name: str) -> None:
    """Measure a model or bundle on unseen scenes, and a model on unseen compositions too."""
    splits = ["test", "test_unseen"] if name in _MODELS else ["test"]

    def write() -> None:
        run.progress.say(f"evaluate {name}")
        found = {}
        for split in splits:
            result = evaluate(
                run.folder / name, run.folder / "data", split=split, progress=run.progress
            )
            found[split] = {**result.as_json(), "predictions": result.predictions}
        (run.folder / "evaluation").mkdir(exist_ok=True)
        write_json(run.folder / "evaluation" / f"{name}.json", found)

    file = run.folder / "evaluation" / f"{name}.json"
    run.note(f"evaluate {name}", None, ["data", name], write, there=file.is_file())


def _bench(run: _Run, bundles: dict[str, Path], recipes: dict[str, Any]) -> None:
    run.progress.say("bench")
    data, recipe = Dataset.open(run.folder / "data"), recipes["bench"]
    asked = list(asked_of(data, "caption", recipe.images))
    records = bench(list(bundles.values()), recipe=recipe, asked=asked, progress=run.progress)
    save(records, run.folder / "bench.json")


def _conclude(run: _Run, recipes: dict[str, Any]) -> None:
    """Write summary.json out of what the stages left, and the page that shows it."""
    latency = {row["name"]: row for row in read_json(run.folder / "bench.json")}
    stages = {name: _stage_row(run, name, latency) for name in _MODELS}
    bundles = {name: _bundle_row(run, name, latency) for name in _TARGETS}
    seconds = sum(stage["seconds"] for stage in run.done.values())
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    summary = {
        "title": "blip-edge quickstart",
        "stages": stages,
        "bundles": bundles,
        "goals": _goals(stages),
        "samples": _samples(run),
        "data": _data_row(run, recipes["data"]),
        "machine": machine().to_json(),
        "measurement": {key: latency["onnx"]["settings"][key] for key in _SETTINGS},
        "notes": _notes(recipes),
        "seed": run.seed,
        "steps": [{"name": name, "seconds": row["seconds"]} for name, row in run.done.items()],
        "seconds": round(seconds, 1),
        "peak_memory_bytes": peak * (1 if sys.platform == "darwin" else 1024),
        "report": str(run.folder / _REPORT),
    }
    write_json(run.folder / _SUMMARY, summary)
    report_run(run.folder, run.folder / _REPORT)


def _notes(recipes: dict[str, Any]) -> list[str]:
    data, net = recipes["data"], recipes["pretrained"]
    return [
        "quickstart draws an easy world of its own, so that it is done in minutes on two cores: at "
        f"most {data.objects} thing a picture, {data.image_size} pixels, "
        f"{(net.image_size // net.patch_size) ** 2} patches, short sentences. It shows that every "
        "stage works and what it costs, not how well BLIP captions photographs.",
        "truth is the share of captions that parse wholly, state at least three facts, and are "
        "right in all of them. Test scenes never occur in training; unseen compositions are "
        "colours on shapes that training never shows together.",
        "The pictures shown are the first of the test split; the last ones were chosen because a "
        "model says something wrong of them.",
        "A stage's latency is that of its ONNX bundle. Off a Mac, Core ML packages are evaluated "
        "by a program, operator by operator: their captions count, their time means nothing.",
    ]


def _metrics(run: _Run, name: str, split: str = "test") -> dict[str, Any]:
    found = read_json(run.folder / "evaluation" / f"{name}.json")
    metrics: dict[str, Any] = found[split]["metrics"]
    return metrics


def _times(latency: dict[str, Any], bundle: str) -> dict[str, Any]:
    return {key: latency[bundle][key] for key in ("p50_ms", "p90_ms")}


def _stage_row(run: _Run, name: str, latency: dict[str, Any]) -> dict[str, Any]:
    folder, metrics = run.folder / name, _metrics(run, name)
    size = (folder / "model.safetensors").stat().st_size
    if (folder / "quantization.json").is_file():
        size = read_json(folder / "quantization.json")["weight_bytes"]
    return {
        "parameters": count_parameters(load_model(folder).blip),
        "bytes": size,
        **{key: metrics[key] for key in _SHOWN},
        "truth_unseen": _metrics(run, name, "test_unseen")["truth"],
        **_times(latency, "onnx" if name == "int8" else f"onnx-{name}"),
    }


_SHOWN = ("CIDEr", "truth", "facts_per_caption", "distinct_captions")


def _bundle_row(run: _Run, name: str, latency: dict[str, Any]) -> dict[str, Any]:
    manifest, metrics = read_json(run.folder / name / "manifest.json"), _metrics(run, name)
    differences = [
        output["max_abs_diff"] for graph in manifest["parity"].values() for output in graph.values()
    ]
    notes = latency[name]["notes"]
    return {
        "precision": manifest["precision"],
        "bytes": graph_bytes(manifest),
        **{key: metrics[key] for key in _SHOWN},
        **_times(latency, name),
        "max_abs_diff": max(differences),
        **({"note": " ".join(notes)} if notes else {}),
    }


def _goals(stages: dict[str, Any]) -> list[dict[str, Any]]:
    teacher, student, int8 = (stages[name] for name in ("teacher", "student", "int8"))
    goals = [
        ("teacher: truth on unseen scenes", 0.80, teacher["truth"], True),
        (
            "student: share of the teacher's parameters",
            1 / 3,
            _share("parameters", student, teacher),
            False,
        ),
        ("student: share of the teacher's CIDEr", 0.95, _share("CIDEr", student, teacher), True),
        ("student: share of the teacher's truth", 0.95, _share("truth", student, teacher), True),
        ("int8: share of the student's CIDEr", 0.98, _share("CIDEr", int8, student), True),
        ("int8: share of the student's truth", 0.98, _share("truth", int8, student), True),
    ]
    return [
        {
            "name": name,
            "goal": f"{'at least' if least else 'at most'} {goal:.2f}",
            "measured": round(measured, 4),
            "met": measured >= goal if least else measured <= goal,
        }
        for name, goal, measured, least in goals
    ]


def _share(key: str, part: dict[str, Any], whole: dict[str, Any]) -> float:
    return float(part[key] / whole[key]) if whole[key] else 0.0


def _data_row(run: _Run, recipe: ShapesRecipe) -> dict[str, Any]:
    data = Dataset.open(run.folder / "data")
    return {"name": data.name, "sha256": data.digest(), "counts": data.counts, **asdict(recipe)}


def _samples(run: _Run) -> list[dict[str, Any]]:
    """Test pictures of distinct scenes with what each model says of them.

    They are the first ones, and at the end a few more of which something wrong is said.
    """
    data = Dataset.open(run.folder / "data")
    scenes = read_scenes(run.folder / "data", "test")
    said: dict[str, dict[str, str]] = {}
    for name in ("teacher", "student", "onnx"):
        found = read_json(run.folder / "evaluation" / f"{name}.json")["test"]
        said[name] = {str(row["image_id"]): row["caption"] for row in found["predictions"]}

    def sample(row: CaptionRow) -> dict[str, Any]:
        texts = {name: captions[str(row.image_id)] for name, captions in said.items()}
        return {
            "image": str(Path("data") / data.image_root / row.image),
            "reference": min(row.captions, key=len),
            "captions": {
                name: {"text": text, "true": judge(text, scenes[row.image]).true}
                for name, text in texts.items()
            },
        }

    shown = [sample(row) for row in data.captions("test")]
    first = _distinct(shown)[: _SAMPLES - _WRONG]
    wrong = [s for s in shown if not all(says["true"] for says in s["captions"].values())]
    return first + _distinct([s for s in wrong if s not in first])[:_WRONG]


def _distinct(samples: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The first sample of each scene, as its shortest caption tells scenes apart."""
    found: dict[str, dict[str, Any]] = {}
    for sample in samples:
        found.setdefault(sample["reference"], sample)
    return list(found.values())
