"""What export must know of a target; one class a target says it."""

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import ClassVar, Protocol

from blip_edge.exporters.graphs import Graph
from blip_edge.exporters.recipe import ExportRecipe, Precision
from blip_edge.models.folder import Model
from blip_edge.models.quantized import Form
from blip_edge.runtime.engine import Task

__all__ = ["Maker"]


class Maker(Protocol):
    """How bundles for one target are made."""

    ending: ClassVar[str]
    """Of a graph's file."""
    precisions: ClassVar[tuple[Precision, ...]]
    """The first is what a model that was not quantized gets."""
    forms: ClassVar[tuple[Form, ...]]
    """In which quantized layers can be measured here, if any."""
    packages: ClassVar[Mapping[str, str]]
    """What graphs are written with, and the extra of ours that brings each."""

    def form(self, recipe: ExportRecipe) -> str:
        """In which form of `candidates` quantized layers are exported, if measuring is not asked
        for."""
        ...

    def reference(self, loaded: Model) -> Model:
        """The network in torch as a bundle should compute it, of the model as it was read.

        Raises:
            ArtifactError: there are no graphs for what the model does.
        """
        ...

    def tasks(self, reference: Model) -> tuple[Task, ...]:
        """What a bundle of `reference` is for."""
        ...

    def graphs(self, reference: Model, recipe: ExportRecipe) -> list[Graph]:
        """All graphs, each after those that it reads from.

        Raises:
            UsageError: the recipe asks for sizes that the model cannot have.
        """
        ...

    def write(self, graph: Graph, path: Path, precision: Precision, recipe: ExportRecipe) -> None:
        """Write `graph` to `path`."""
        ...

    def join(
        self, graphs: Sequence[Graph], folder: Path, recipe: ExportRecipe
    ) -> dict[str, dict[str, str]]:
        """Put graphs that were written to `folder` into one file where the recipe asks for it.

        Returns:
            `file` and `function` of every graph that has moved, by its name.
        """
        ...

    def notes(self, precision: Precision, forms: Collection[Form]) -> list[str]:
        """What whoever reads the manifest should know, of a model whose layers have these forms."""
        ...
