"""A bundle's graphs as an engine: every task but the search for words, whatever runs the graphs.

What `vision` gives of a picture, or `question` of a question, stays in the target's own tensors
and becomes the input of the next graph as it is.
"""

from collections.abc import Callable, Mapping
from typing import Any, Protocol

import numpy as np

from blip_edge.errors import ArtifactError
from blip_edge.runtime.engine import F32, I32, Task
from blip_edge.runtime.manifest import Graph, Manifest

__all__ = ["GraphEngine", "Runner", "Values"]

# B images · R texts · T text tokens · S image side · E width of the shared space
Values = dict[str, Any]
"""Tensors of the target by name."""


class Runner(Protocol):
    """A graph that is open."""

    def __call__(self, feeds: Mapping[str, Any], /) -> Values:
        """Every output by name; arrays and the target's own tensors are taken."""
        ...


class GraphEngine:
    """What a bundle can do follows from its manifest.

    Args:
        manifest: of the bundle.
        open_graph: opens one graph on the target.
        array: a target's tensor as an array that nothing will change.
    """

    def __init__(
        self,
        manifest: Manifest,
        open_graph: Callable[[Graph], Runner],
        array: Callable[[Any], F32] = np.asarray,
    ) -> None:
        self._manifest, self._array = manifest, array
        self._runners: dict[str, Any] = {
            name: open_graph(graph) for name, graph in manifest.graphs.items()
        }
        self.tasks: tuple[Task, ...] = manifest.tasks
        self.max_tokens = manifest.max_tokens
        # Two where sentences about two pictures are judged, at once or each by itself.
        pictures = manifest.graph("vision").inputs.values()
        self.max_images = sum(int(port.shape[0]) for port in pictures)

    def run(self, name: str, feeds: Mapping[str, Any]) -> Values:
        """Outputs of a graph, given more than its inputs perhaps."""
        inputs = self._manifest.graph(name).inputs
        outputs: Values = self.runner(name)({port: feeds[port] for port in inputs})
        return outputs

    def runner(self, name: str) -> Any:
        """The open graph of that name: what `open_graph` gave.

        Raises:
            ArtifactError: the bundle has none.
        """
        self._manifest.graph(name)
        return self._runners[name]

    def encode(self, pixel_values: F32) -> Values:
        """(B, 3, S, S) pixels to keys and values, and the pictures' vectors if the model has them.

        They may live in the runtime's own buffers, which the next `encode` overwrites.
        """
        return self.run("vision", {"pixel_values": np.ascontiguousarray(pixel_values)})

    def ask(
        self, seen: Values, input_ids: I32, attention_mask: I32, *, reads_padding: bool = False
    ) -> Values:
        """A question (1, T) to what its answer is decoded from; alone it has no padding to read."""
        asked = self.run("question", {**seen, **_text(input_ids, attention_mask)})
        return {name.replace("question_", "cross_"): value for name, value in asked.items()}

    def embed_image(self, seen: Values) -> F32:
        """Unit vectors (B, E)."""
        return self._array(seen["image_embeds"])

    def embed_text(self, input_ids: I32, attention_mask: I32) -> F32:
        """(R, T) texts to unit vectors (R, E)."""
        return self._array(self.run("text", _text(input_ids, attention_mask))["text_embeds"])

    def match(self, seen: Values, input_ids: I32, attention_mask: I32) -> F32:
        """(R, 2) logits of texts about the one picture."""
        read = self.run("itm", {**seen, **_text(input_ids, attention_mask)})
        return self._array(read["itm_logits"])

    def with_caption(self, seen: Values, input_ids: I32, attention_mask: I32) -> Values:
        """Dialogs are read with their caption as well as the picture: no graph does that.

        Raises:
            ArtifactError: always.
        """
        raise ArtifactError(
            f"{self._manifest.folder}: bundles do not read dialogs; ask the model folder"
        )

    def reason(self, seen: Values, input_ids: I32, attention_mask: I32) -> F32:
        """(1, 2) logits of a sentence about the two pictures."""
        judged = self.run("reason", {**seen, **_text(input_ids, attention_mask)})
        return self._array(judged["reason_logits"])


def _text(input_ids: I32, attention_mask: I32) -> dict[str, I32]:
    return {
        "input_ids": np.ascontiguousarray(input_ids, dtype=np.int32),
        "attention_mask": np.ascontiguousarray(attention_mask, dtype=np.int32),
    }
