"""Core ML programs of one bundle as functions of one file, so that it holds common weights once.

From iOS 18 on; coremltools finds the weights that are equal.

    https://apple.github.io/coremltools/docs-guides/source/multifunction-models.html
"""

import shutil
from collections.abc import Sequence
from pathlib import Path

from blip_edge.exporters.coreml_fixes import converting
from blip_edge.exporters.coreml_words import ABOUT, sign
from blip_edge.exporters.graphs import Graph

__all__ = ["join_functions"]


def join_functions(graphs: Sequence[Graph], folder: Path) -> dict[str, dict[str, str]]:
    """Make one file of graphs that share layers, instead of the file that each has.

    Args:
        graphs: all of a bundle, each written to `folder`/NAME.mlpackage; others stay as they are.
        folder: where the files are, and will be.

    Returns:
        `{"file", "function"}` of each graph that has moved, by name.

    Raises:
        MissingExtraError: coremltools is not installed.
    """
    moved = {}
    for some in _sharing(graphs):
        file = f"{'_'.join(graph.name for graph in some)}.mlpackage"
        _write(some, folder, folder / file)
        for graph in some:
            shutil.rmtree(_alone(folder, graph))
            moved[graph.name] = {"file": file, "function": graph.name}
    return moved


def _alone(folder: Path, graph: Graph) -> Path:
    return folder / f"{graph.name}.mlpackage"


def _write(graphs: Sequence[Graph], folder: Path, path: Path) -> None:
    draft = path.with_stem(f"{path.stem}-draft")
    with converting() as tools:
        functions = tools.utils.MultiFunctionDescriptor()
        for graph in graphs:
            functions.add_function(str(_alone(folder, graph)), "main", graph.name)
        functions.default_function_name = graphs[0].name
        tools.utils.save_multifunction(functions, str(draft))
        # What the files said about themselves is lost on the way.
        program = tools.models.MLModel(str(draft), skip_model_load=True)
        sign(program, " ".join(ABOUT[graph.name] for graph in graphs), graphs[0].facts)
        program.save(str(path))
    shutil.rmtree(draft)


def _sharing(graphs: Sequence[Graph]) -> list[list[Graph]]:
    """Those that share weights with another, together, in their order."""
    found: list[tuple[set[int], list[Graph]]] = []
    for graph in graphs:
        weights, together = _weights(graph), [graph]
        for seen, others in [one for one in found if one[0] & weights]:
            found.remove((seen, others))
            weights, together = weights | seen, others + together
        found.append((weights, together))
    return [together for _, together in found if len(together) > 1]


def _weights(graph: Graph) -> set[int]:
    return {
        id(weight)
        for path, module in graph.named_modules()
        if graph.runs(path)
        for weight in module.parameters(recurse=False)
    }
