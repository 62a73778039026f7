"""The gate of an export: a finished draft, run by the real engines, against torch.

Each graph must give what it declares, and numbers; its outputs are compared one by one; then the
engine is dictated words for as long as the model has positions, rows changing places in between;
then both do what the model is for, on a few things and, with a data set, on so many that a metric
can be taken. A fault in a graph, in the way an engine keeps its cache, or in a runtime shows in one
of these, and the cheapest to understand comes first.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from blip_edge.exporters.feeds import Feeding
from blip_edge.exporters.graphs import Graph
from blip_edge.exporters.outputs import first_off, misdeclared, not_numbers
from blip_edge.exporters.parity import Difference, Gate, compare, make_forcing
from blip_edge.exporters.probes import PROBES, dictated
from blip_edge.exporters.running import Operators, open_graph
from blip_edge.exporters.task_metric import MetricGate, TaskMetric
from blip_edge.models.folder import Model
from blip_edge.progress import SILENT, Progress
from blip_edge.runtime.asked import Asked
from blip_edge.runtime.edge_model import EdgeModel
from blip_edge.runtime.engine import Limited, Task
from blip_edge.runtime.manifest import Manifest
from blip_edge.training.engine import edge_model

__all__ = ["Measured", "array_differences", "forced_difference", "measure", "said_alike"]

_ROWS = 3


@dataclass
class Measured:
    """What the gate found; `problems` is empty when the bundle is fit to be one."""

    parity: dict[str, dict[str, Difference]] = field(default_factory=dict)
    operators: dict[str, Operators] = field(default_factory=dict)
    agreement: dict[Task, tuple[int, int]] = field(default_factory=dict)
    """(how often both said the same, of how often) by task."""
    metrics: dict[Task, TaskMetric] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)


def measure(
    manifest: Manifest,
    bundle: EdgeModel,
    reference: Model,
    graphs: list[Graph],
    asked: Mapping[Task, Sequence[Asked]],
    *,
    gate: Gate,
    tokens: int,
    metric: MetricGate | None = None,
    progress: Progress = SILENT,
) -> Measured:
    """Measure a draft bundle against `reference`, which computes in torch what it should.

    Args:
        manifest: of the draft.
        bundle: the draft, opened.
        reference: the network that the graphs were made of.
        graphs: all of them, each after those that it reads from.
        asked: golden things to do, for every task of the bundle.
        gate: what differences may be.
        tokens: how many to dictate, at most.
        metric: the last gate, for bundles that pass the others.
        progress: who wants to know.
    """
    found, theirs = Measured(), edge_model(reference)
    first = next(iter(asked.values()))
    pixels = reference.preprocess(list(first[0].images))
    _graphs(found, manifest, graphs, Feeding(pixels, reference.tokenizer.vocab_size))
    if found.problems:
        return found  # an engine would stumble over such graphs, and say less
    for task, some in asked.items():
        if "decoder" in found.parity:
            forced = forced_difference(bundle, theirs, some[0], tokens=tokens)
            found.parity["decoder"]["teacher_forced_logits"] = forced
        found.parity[task] = array_differences(bundle, theirs, task, some)
        found.agreement[task] = said_alike(bundle, theirs, task, some)
    found.problems += _beyond(found.parity, gate)
    found.problems += _said_otherwise(found.agreement, exact=gate.max_abs_diff is not None)
    found.problems += _not_in_8_bits(found.operators, manifest)
    if metric is not None and not found.problems:
        for task in asked:
            one = metric.measure(task, bundle, theirs, progress)
            if one is not None:
                found.metrics[task] = one
                found.problems += metric.explain(task, one)
    return found


def _graphs(found: Measured, manifest: Manifest, graphs: list[Graph], feeding: Feeding) -> None:
    """Run each graph by itself; those that give no numbers of the declared form are problems."""
    undeclared, unreal = [], []
    for graph in graphs:
        feeds = feeding.of(graph)
        expected = feeding.answered(graph, feeds)
        declared = manifest.graph(graph.name)
        running = open_graph(manifest, graph.name)
        actual = running(feeds)
        undeclared += [f"{graph.name}: {what}" for what in misdeclared(declared, expected, actual)]
        unreal += [f"{graph.name} {what}" for what in not_numbers(actual)]
        if not undeclared and not unreal:
            found.parity[graph.name] = {n: compare(v, actual[n]) for n, v in expected.items()}
        found.operators[graph.name] = running.operators()
    found.problems += undeclared + unreal


def forced_difference(
    bundle: EdgeModel, reference: EdgeModel, asked: Asked, *, tokens: int
) -> Difference:
    """How far the logits are apart when both are dictated the same words in the same rows."""
    rows = _ROWS
    if isinstance(bundle.engine, Limited):
        rows, tokens = min(rows, bundle.engine.max_rows), min(tokens, bundle.engine.max_length)
    prompt: tuple[int, ...] = (reference.generation.bos_token_id,)
    if "caption" in reference.engine.tasks:
        prompt = tuple(reference.tokenizer.prompt_ids(reference.generation.prompt))
    vocabulary = reference.tokenizer.vocab_size
    forcing = make_forcing(prompt, rows=rows, tokens=tokens, vocabulary=vocabulary)
    expected, actual = (dictated(model, asked, forcing) for model in (reference, bundle))
    return compare(expected, actual)


def said_alike(
    bundle: EdgeModel, reference: EdgeModel, task: Task, asked: Sequence[Asked]
) -> tuple[int, int]:
    """(how often both say the same, of how often), with every number of beams that fits."""
    probe = PROBES[task]
    most = bundle.engine.max_rows if isinstance(bundle.engine, Limited) else _ROWS
    same = [
        probe.says(bundle, one, beams) == probe.says(reference, one, beams)
        for beams in probe.beams
        if beams is None or beams <= most
        for one in asked
    ]
    return sum(same), len(same)


def array_differences(
    bundle: EdgeModel, reference: EdgeModel, task: Task, asked: Sequence[Asked]
) -> dict[str, Difference]:
    """The largest difference of each array over `asked`."""
    probe = PROBES[task]
    found: dict[str, list[Difference]] = {}
    for one in asked:
        said = probe.says(reference, one, None)
        actual = probe.arrays(bundle, one, said)
        for name, value in probe.arrays(reference, one, said).items():
            found.setdefault(name, []).append(compare(value, actual[name]))
    return {
        name: Difference(max(d.max_abs_diff for d in some), min(d.psnr_db for d in some))
        for name, some in found.items()
    }


def _beyond(parity: dict[str, dict[str, Difference]], gate: Gate) -> list[str]:
    found = []
    for name, outputs in parity.items():
        off = {output: one for output, one in outputs.items() if not gate.passes(one)}
        where = first_off(outputs, off)
        found += [f"{name} {output}: {gate.explain(one)}{where}" for output, one in off.items()]
    return found


def _said_otherwise(agreement: dict[Task, tuple[int, int]], *, exact: bool) -> list[str]:
    return [
        f"{task}: {of - same} of {of} results differ from torch's, word for word"
        for task, (same, of) in agreement.items()
        if exact and same < of
    ]


def _not_in_8_bits(operators: dict[str, Operators], manifest: Manifest) -> list[str]:
    rows = manifest.document["graphs"]
    return [f"{n}: {what}" for n, one in operators.items() for what in one.missing(rows[n])]
