"""`export`: a MODEL folder to a BUNDLE that was measured before it is there."""

import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, get_args

from blip_edge import __version__
from blip_edge.artifact import (
    Provenance,
    folder_bytes,
    sha256_folder,
    write_json,
    write_provenance,
    writing,
)
from blip_edge.data import Dataset
from blip_edge.errors import ToleranceError, UsageError, import_extra
from blip_edge.exporters.asked import examples
from blip_edge.exporters.autotune import autotune
from blip_edge.exporters.candidates import DECIDED, candidates, in_form
from blip_edge.exporters.card import card
from blip_edge.exporters.coreml_target import CoreMLTarget
from blip_edge.exporters.dynamic_targets import OnnxTarget, OpenVinoTarget
from blip_edge.exporters.executorch import BoundedDecoderGraph
from blip_edge.exporters.executorch_target import ExecuTorchTarget
from blip_edge.exporters.golden import write_golden
from blip_edge.exporters.graphs import Graph, StaticDecoderGraph, cache_layers
from blip_edge.exporters.huggingface import export_huggingface
from blip_edge.exporters.measure import Measured, measure
from blip_edge.exporters.parity import Gate
from blip_edge.exporters.possible import precision_of
from blip_edge.exporters.recipe import ExportRecipe, ExportTarget, Precision
from blip_edge.exporters.target import Maker
from blip_edge.exporters.task_metric import MetricGate
from blip_edge.models.cost import stage_costs
from blip_edge.models.folder import Model, load_model
from blip_edge.models.quantized import Form, Quantization, apply_quantization, is_table
from blip_edge.progress import SILENT, Progress
from blip_edge.runtime.asked import Asked
from blip_edge.runtime.engine import Task
from blip_edge.runtime.load import load_bundle
from blip_edge.runtime.manifest import (
    FORMAT_VERSION,
    Port,
    graph_files,
    graph_sha256,
    read_manifest,
)
from blip_edge.runtime.sums import write_sums
from blip_edge.training.engine import edge_model

__all__ = ["export", "reference_model"]

_TARGETS: dict[str, Maker] = {
    "onnx": OnnxTarget(),
    "openvino": OpenVinoTarget(),
    "coreml": CoreMLTarget(),
    "executorch": ExecuTorchTarget(),
}
_LIMITED = (BoundedDecoderGraph, StaticDecoderGraph)


def export(
    model: Path,
    output: Path,
    *,
    target: ExportTarget,
    recipe: ExportRecipe | None = None,
    data: Path | None = None,
    seed: int = 0,
    force: bool = False,
    progress: Progress = SILENT,
) -> Path:
    """Write a bundle for `target`; it is at `output` only if it computes what torch computes.

    Args:
        model: a MODEL folder.
        output: where the bundle will be.
        target: what will run it; "huggingface" writes a folder that `transformers` opens.
        recipe: precision, sizes and gates.
        data: a data set whose test split becomes the golden files, and on which the bundle must be
            as good as torch; when not given pictures are drawn and texts made up.
        seed: of the drawn pictures.
        force: replace `output` if it is ours.
        progress: who wants to know.

    Raises:
        UsageError: an unknown target, or a precision that the target has not.
        ArtifactError: the model cannot be exported, or not at this precision.
        MissingExtraError: the target's packages are not installed.
        ToleranceError: the bundle missed its gate; it is at `OUT.rejected`.
    """
    recipe = recipe or ExportRecipe()
    model, output = Path(model), Path(output)
    if target == "huggingface":
        if recipe.precision not in ("auto", "fp32"):
            raise UsageError(f"huggingface folders are fp32, not {recipe.precision}")
        return export_huggingface(model, output, force=force)
    if target not in _TARGETS:
        known = ", ".join(get_args(ExportTarget))
        raise UsageError(f"there is no target {target!r}; there are {known}")
    precision = precision_of(model, target, _TARGETS[target], recipe)

    order = _Order(model, target, precision, recipe, data, seed, progress)
    with writing(output, force=force, reads=(model, data)) as draft:
        form = _TARGETS[target].form(recipe) if precision == "int8" else DECIDED
        problems = _tuned(draft, order) if recipe.autotune else _build(draft, order, form)
        if problems:
            more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
            raise ToleranceError(f"{problems[0]}{more}")
    return output


@dataclass(frozen=True)
class _Order:
    """What was asked for, and is possible."""

    model: Path
    target: ExportTarget
    precision: Precision
    recipe: ExportRecipe
    data: Path | None
    seed: int
    progress: Progress


def _tuned(draft: Path, order: _Order) -> list[str]:
    """Bundles of all forms, of which the fastest goes into `draft`."""
    forms = candidates(Quantization.load(order.model), _measurable(order))
    return autotune(
        draft,
        forms,
        lambda folder, form: _build(folder, order, form),
        lambda form: reference_model(order.model, order.target, order.precision, form),
        load_model(order.model),
        order.recipe,
        order.progress,
    )


def _measurable(order: _Order) -> tuple[Form, ...]:
    """Forms that can be measured: OpenVINO does not read ONNX's dynamic layers."""
    forms = _TARGETS[order.target].forms
    if order.recipe.encoders == "openvino":
        return tuple(form for form in forms if form != "dynamic")
    return forms


def _build(draft: Path, order: _Order, form: str) -> list[str]:
    """Write the whole bundle into `draft`; what keeps it from being one is returned."""
    started = time.monotonic()
    model, target, precision, recipe = order.model, order.target, order.precision, order.recipe
    reference = reference_model(model, target, precision, form)
    graphs = _TARGETS[target].graphs(reference, recipe)
    reference = _within(reference, graphs)
    quantization = in_form(Quantization.load(model), form) if precision == "int8" else None
    document = _document(model, reference, graphs, target, precision, recipe, quantization)
    document["form"] = form
    for graph in order.progress.track(graphs, f"export {target}"):
        path = draft / document["graphs"][graph.name]["file"]
        _TARGETS[target].write(graph, path, precision, recipe)
    for name, where in _TARGETS[target].join(graphs, draft, recipe).items():
        document["graphs"][name] |= where
    reference.tokenizer.save(draft)
    _sign(draft, document)
    asked = {
        task: examples(task, order.data, recipe.golden, reference.tokenizer, seed=order.seed)
        for task in _TARGETS[target].tasks(reference)
    }
    metric = _metric_gate(order.data, recipe)
    found = _measure(
        *(draft, reference, graphs, asked, metric, order.progress),
        recipe=recipe,
        precision=precision,
    )
    _finish(draft, document, found)
    write_golden(draft, edge_model(reference), asked)
    told = {"target": target, "seed": order.seed, **asdict(recipe), "precision": precision}
    write_provenance(draft, _provenance(model, told, document, started))
    write_sums(draft)
    return found.problems


def reference_model(model: Path, target: str, precision: Precision, form: str = DECIDED) -> Model:
    """The network in torch as a bundle for `target` should compute it, in a form of `candidates`.

    Raises:
        ArtifactError: the folder is not a model, or the target has no graphs for its task.
    """
    if precision != "int8" or form == DECIDED:
        return _TARGETS[target].reference(load_model(model, quantized=precision == "int8"))
    loaded = load_model(model)
    apply_quantization(loaded.blip, in_form(Quantization.load(model), form), source=model)
    return _TARGETS[target].reference(loaded)


def _within(reference: Model, graphs: list[Graph]) -> Model:
    """`reference` with the search settings cut to what a static decoder holds."""
    static = next((g for g in graphs if isinstance(g, _LIMITED)), None)
    if static is None:
        return reference
    generation = reference.generation
    prompt = len(reference.tokenizer.prompt_ids(generation.prompt))
    if static.length <= prompt:
        raise UsageError(f"length {static.length} has no room after the prompt's {prompt} tokens")
    length = min(generation.max_length, static.length)
    fitted = generation.override(
        beams=min(generation.num_beams, static.rows),
        captions=min(generation.num_return_sequences, static.rows),
        min_length=min(generation.min_length, length),
        max_length=length,
    )
    return replace(reference, generation=fitted)


def _document(
    model: Path,
    reference: Model,
    graphs: list[Graph],
    target: str,
    precision: Precision,
    recipe: ExportRecipe,
    quantization: Quantization | None,
) -> dict[str, Any]:
    """manifest.json without what can only be measured."""
    layers = cache_layers(reference.blip)
    tokenizer, generation = reference.tokenizer, reference.generation
    prompt = [generation.bos_token_id, *tokenizer.prompt_ids(generation.prompt)[1:]]
    static = next((g for g in graphs if isinstance(g, _LIMITED)), None)
    return {
        "format_version": FORMAT_VERSION,
        "target": target,
        "precision": precision,
        "tasks": list(_TARGETS[target].tasks(reference)),
        "graphs": {
            g.name: _graph_row(g, reference, target, quantization) | _engine(g, recipe)
            for g in graphs
        },
        "parity": {},
        "gate": Gate.of(precision, recipe).to_json(),
        "agreement": {},
        "preprocess": {**reference.preprocess.to_json(), "resample_kernel": "pillow-bicubic"},
        "tokenizer": "tokenizer.json",
        "max_position_embeddings": reference.config.text_config.max_position_embeddings,
        "decode": {**generation.to_json(), "prompt_ids": prompt},
        "cache": {
            "layers": [vars(layer) for layer in layers],
            "static": static and {"rows": static.rows, "length": static.length},
        },
        "quality": _quality(quantization),
        "tuned": [],
        "task_metrics": {},
        "notes": [
            *_TARGETS[target].notes(precision, _forms(quantization)),
            *(note for graph in graphs for note in graph.notes),
        ],
        "ios": recipe.ios if target == "coreml" else None,
        "palette_bits": recipe.palette_bits,
        "source": {"model_sha256": sha256_folder(model), "versions": _versions(target, recipe)},
        "latency": [],
    }


def _forms(quantization: Quantization | None) -> set[Form]:
    return {layer.form for layer in quantization.layers.values()} if quantization else set()


def _quality(quantization: Quantization | None) -> dict[str, Any] | None:
    """The metric that `quantize` measured, in float and in 8 bits, and on what."""
    if quantization is None or quantization.metric is None:
        return None
    return {**quantization.metric, "data": quantization.data}


def _provenance(
    model: Path, told: dict[str, Any], document: dict[str, Any], started: float
) -> Provenance:
    return Provenance(
        verb="export",
        recipe=told,
        parents=[{"path": str(model), "sha256": document["source"]["model_sha256"]}],
        version=__version__,
        seconds=round(time.monotonic() - started, 2),
    )


def _graph_row(
    graph: Graph, reference: Model, target: str, quantization: Quantization | None
) -> dict[str, Any]:
    decided = quantization.layers.items() if quantization else ()
    layers = [
        decision.name
        for path, decision in decided
        if decision.decision == "int8" and graph.runs(path) and not is_table(path)
    ]
    return {
        "file": f"{graph.name}.{_TARGETS[target].ending}",
        "sha256": "",
        "bytes": 0,
        # What other graphs multiply depends on the text.
        "macs": stage_costs(reference.config)["vision"].macs if graph.name == "vision" else None,
        "inputs": _ports(graph.inputs),
        "outputs": _ports(graph.outputs),
        "int8_layers": len(layers),
        "forms": dict(Counter(layers)),
        "ops": {},
    }


def _engine(graph: Graph, recipe: ExportRecipe) -> dict[str, str]:
    """Who runs a graph, where that is not the target."""
    encodes = graph.name != "decoder"
    return {"engine": "openvino"} if encodes and recipe.encoders == "openvino" else {}


def _ports(ports: dict[str, Port]) -> dict[str, Any]:
    return {n: {"shape": list(port.shape), "dtype": port.dtype} for n, port in ports.items()}


def _versions(target: str, recipe: ExportRecipe) -> dict[str, str]:
    """What made the bundle; asked for first, so that a missing package is told at once."""
    found = {"blip-edge": __version__}
    packages = dict(_TARGETS[target].packages)
    if recipe.encoders == "openvino":
        packages["openvino"] = "openvino"
    for name, extra in packages.items():
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            import_extra(name, extra)  # says what to install
            found[name] = "unknown"
    return found


def _sign(draft: Path, document: dict[str, Any]) -> None:
    """Note digests and sizes of what was written, so that the draft opens as a bundle."""
    for row in document["graphs"].values():
        path = draft / row["file"]
        row["sha256"] = graph_sha256(path)
        row["bytes"] = sum(
            folder_bytes(part) if part.is_dir() else part.stat().st_size
            for part in graph_files(path)
        )
    write_json(draft / "manifest.json", document)


def _metric_gate(data: Path | None, recipe: ExportRecipe) -> MetricGate | None:
    if data is None or not recipe.gate_items:
        return None
    return MetricGate(Dataset.open(data), recipe.gate_items, recipe.metric_share)


def _measure(
    draft: Path,
    reference: Model,
    graphs: list[Graph],
    asked: Mapping[Task, Sequence[Asked]],
    metric: MetricGate | None,
    progress: Progress,
    *,
    recipe: ExportRecipe,
    precision: Precision,
) -> Measured:
    manifest = read_manifest(draft)
    positions = reference.config.text_config.max_position_embeddings
    return measure(
        manifest,
        load_bundle(manifest),
        reference,
        graphs,
        asked,
        gate=Gate.of(precision, recipe),
        tokens=min(recipe.teacher_forced, positions),
        metric=metric,
        progress=progress,
    )


def _finish(draft: Path, document: dict[str, Any], found: Measured) -> None:
    document["parity"] = {
        graph: {output: difference.to_json() for output, difference in outputs.items()}
        for graph, outputs in found.parity.items()
    }
    document["agreement"] = {
        task: {"same": same, "compared": compared}
        for task, (same, compared) in found.agreement.items()
    }
    document["task_metrics"] = {task: one.to_json() for task, one in found.metrics.items()}
    for graph, operators in found.operators.items():
        document["graphs"][graph]["ops"] = operators.to_json()
    write_json(draft / "manifest.json", document)
    (draft / "README.md").write_text(card(draft.name, document), encoding="utf-8")
